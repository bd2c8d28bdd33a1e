"""What is loaded by name, from several threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiny_dashboard.demo import FOLDER
from tiny_dashboard.hub import load_config, load_tokenizer

# An app asks so: its examples' tokenizer for the first visitor, its models in the background, transformers not there
# yet. The threads take turns quickly, since what is shown here depended on the moment.
TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from tiny_dashboard.hub import load_config, load_model, load_tokenizer
sys.setswitchinterval(1e-6)
start = Barrier(3)
def load(call, name):
    start.wait()
    return call(name)
calls = [(load_tokenizer, "tokenizer"), (load_model, "base"), (load_config, "chat")]
with ThreadPoolExecutor(3) as pool:
    made = [pool.submit(load, call, f"{sys.argv[1]}/{name}") for call, name in calls]
print(*(type(future.result()).__name__ for future in made))
"""


def test_first_loads_at_once():
    done = subprocess.run([sys.executable, "-c", TOGETHER, str(FOLDER)], capture_output=True, text=True)
    assert done.stdout.split()[1:] == ["LlamaForCausalLM", "LlamaConfig"], done.stderr


@pytest.mark.parametrize("load", [load_tokenizer, load_config])
@pytest.mark.parametrize("name", ["../nothing", "no/such/folder"])
def test_a_path_at_which_nothing_is_gets_no_lecture_on_names(load, name):
    with pytest.raises(FileNotFoundError, match=f"no folder {name}, and nothing on the Hub can be called so"):
        load(name)

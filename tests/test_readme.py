"""The README is true: its examples run as written, and it names what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=200)


def test_offline_example_runs_as_written(tmp_path):
    (block,) = [b for b in BLOCKS if "OfflineFeatureCentricDashboard(" in b]
    done = run(block, tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "cats.html").read_text(encoding="utf-8")
    assert " sat</i>" in page
    assert page.count("<i") >= 6


def test_online_example_runs_as_written(tmp_path):
    (block,) = [b for b in BLOCKS if "CrosscoderOnlineFeatureDashboard(" in b]
    done = run(block + "\nprint(result.activations.shape, len(result.tokens), len(top))", tmp_path)
    assert done.returncode == 0, done.stderr
    rows, columns, n_tokens, n_top = map(int, re.findall(r"\d+", done.stdout))
    assert rows == n_tokens and columns == n_top == 3


def test_client_example_runs_as_written(app_url):
    from gradio_client import Client

    (block,) = [b for b in BLOCKS if "gradio_client" in b]
    names: dict = {}
    exec(block.replace("http://127.0.0.1:7860", app_url), names)
    assert isinstance(names["client"], Client)


def test_every_command_is_named():
    from typer.main import get_command

    from tiny_dashboard.cli import cli

    for name in get_command(cli).commands:
        assert f"tiny-dashboard {name} " in README, name


@pytest.mark.parametrize("path", re.findall(r"`((?:tiny_dashboard|scripts|docs)/[\w/.]+)`|\]\((docs/[\w.-]+)\)", README))
def test_every_file_it_names_is_there(path):
    name = next(filter(None, path))
    assert (Path(__file__).parent.parent / name).exists(), name

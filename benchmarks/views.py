"""An app of 26 views against one of a single view: until it serves, and what it holds then; each in a process anew."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tiny_dashboard.demo import FOLDER

N_VIEWS, ROUNDS = 26, 3
LIMIT = 1.2  # of the time and of the memory of a single view
_OPEN = """
import json, resource, sys, time
begun = time.perf_counter()
from tiny_dashboard import launch
app = launch(sys.argv[1], prevent_thread_lock=True, quiet=True)
took = time.perf_counter() - begun
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
app.close()
print(json.dumps([took, memory, "torch" in sys.modules]))
"""


def _config(folder: Path, n_views: int) -> Path:
    lines = [f'models = ["{FOLDER}/base", "{FOLDER}/chat"]', f'tokenizer = "{FOLDER}/tokenizer"', "layer = 2"]
    for number in range(n_views):
        lines += ["[[view]]", f'name = "view {number}"', f'examples = "{FOLDER}/examples"']
        lines += [f'dictionary = "{FOLDER}/crosscoder"']
    path = folder / f"{n_views}.toml"
    path.write_text("\n".join(lines))
    return path


def _measure(config: Path) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", _OPEN, config], capture_output=True, text=True, check=True)
    seconds, megabytes, has_torch = json.loads(done.stdout.splitlines()[-1])
    assert not has_torch, "an app that nobody has asked for a model holds torch"
    return seconds, megabytes


def run() -> None:
    with tempfile.TemporaryDirectory() as made:
        # Two views, since a single one loads its models at once.
        few, many = _config(Path(made), 2), _config(Path(made), N_VIEWS)
        pairs = [(_measure(few), _measure(many)) for _ in range(ROUNDS)]
    for place, (what, unit) in enumerate((("until it serves", "s"), ("memory then", "MB"))):
        of_few, of_many = (sorted(pair[side][place] for pair in pairs)[ROUNDS // 2] for side in (0, 1))
        print(
            f"{what}: {N_VIEWS} views {of_many:.2f} {unit}, 2 views {of_few:.2f} {unit}, "
            f"ratio {of_many / of_few:.2f} (limit {LIMIT}); no model is loaded"
        )

"""Other tools on the same model, SAE and tokens, in one run: `python -m benchmarks.peers --python VENV/bin/python`.

The first 512 features of the demo's SAE on SmolLM2-135M-Instruct (`scripts/real_model` fetches it), and 32 texts of 128
tokens. The others want packages that cannot stand beside ours (numpy 1, transformers 4), so that they run in an
environment of their own: `pip install sae-dashboard sae-vis frozendict tabulate circuitsvis "pyarrow<21"`. What each
does in its time differs: see README.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from benchmarks.peer_runs import N_FEATURES
from scripts.demo.smollm import CACHED, load
from tiny_dashboard.demo import FOLDER
from tiny_dashboard.sources import open_examples

N_TEXTS, N_TOKENS, LAYERS, FEATURE = 32, 128, 13, 493
RUNS = Path(__file__).with_name("peer_runs.py")


def prepare(work: Path) -> None:
    """Model, SAE, tokens, the same as texts, and the feature of which a page is made."""
    model, tokenizer = load(LAYERS)
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(work / "model")
    for file in CACHED.glob("tokenizer*"):  # as it was published: older versions of transformers read it too
        shutil.copy(file, work / "model")
    cut_sae(work / "sae")
    examples, rows = open_examples(FOLDER / "smollm" / "examples"), []
    ids: list[int] = []
    for feature in examples:
        ids += examples[feature][0].token_ids or []
        row = ids[:N_TOKENS]
        if len(row) == N_TOKENS:
            ids = []
            if tokenizer(tokenizer.decode(row))["input_ids"] == row:  # all read the same
                rows.append(row)
        if len(rows) == N_TEXTS:
            break
    (work / "tokens.json").write_text(json.dumps(rows))
    (work / "texts.json").write_text(json.dumps([tokenizer.decode(row) for row in rows]))
    (work / "feature").write_text(str(FEATURE))


def cut_sae(folder: Path) -> None:
    """The SAE's first features as one of its own: some tools take minutes for all."""
    whole = FOLDER / "smollm" / "sae"
    tensors = load_file(whole / "sae_weights.safetensors")
    kept = {
        name: (t[:, :N_FEATURES] if name == "W_enc" else t if name == "b_dec" else t[:N_FEATURES])
        for name, t in tensors.items()
    }
    folder.mkdir()
    save_file({name: t.contiguous() for name, t in kept.items()}, folder / "sae_weights.safetensors")
    config = json.loads((whole / "cfg.json").read_text()) | {"d_sae": N_FEATURES}
    (folder / "cfg.json").write_text(json.dumps(config))


def measure(name: str, python: str, work: Path) -> dict[str, Any]:
    """What one tool took, in a process of its own; or why it does not run."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    command = [python, str(RUNS), name, str(work)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of the environment that the other tools are in")
    options = parser.parse_args()
    if not CACHED.exists():
        sys.exit("the model is not here; scripts/real_model fetches it")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        for name in ("ours", "sae_dashboard", "sae_vis", "circuitsvis"):
            found = measure(name, sys.executable if name == "ours" else options.python, work)
            if "error" in found:
                print(f"{name}: {found['error']}", flush=True)
                continue
            if taken := found.get("examples"):
                print(
                    f"{name}: examples of {N_FEATURES} features over {N_TEXTS * N_TOKENS:,} tokens: "
                    f"{taken['seconds']:.1f} s, {taken['peak'] / 2**20:,.0f} MiB at the peak",
                    flush=True,
                )
            print(
                f"{name}: a page of one feature, {found['shows']} examples: {1000 * found['page']['seconds']:.1f} ms, "
                f"{found['bytes'] / 1e3:,.0f} kB{', and a script from elsewhere' if found.get('loads') else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()

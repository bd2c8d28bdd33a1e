"""Model side: what feature activations cost beside the bare forward passes that they need."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.models.activations import get_activations
from tiny_dashboard.models.featurizer import Featurizer


def _ratio(function, base, repeats: int = 25) -> float:
    """Time of `function` over that of `base`: the fastest of runs taken in turns, so that both meet the same noise."""
    times: dict[str, list[float]] = {"function": [], "base": []}
    for _ in range(repeats):
        for name, call in (("function", function), ("base", base)):
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return min(times["function"]) / min(times["base"])


def chosen_features(n_tokens: int = 256, width: int = 192, n_features: int = 16384) -> float:
    """Analysing a text for 4 chosen features of a crosscoder, divided by the bare forward passes to that layer."""
    config = LlamaConfig(
        vocab_size=4096, hidden_size=width, num_hidden_layers=4, num_attention_heads=6, intermediate_size=4 * width
    )
    pair = [AutoModelForCausalLM.from_config(config).eval() for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        tensors = {
            "encoder.weight": torch.randn(2, width, n_features),
            "encoder.bias": torch.zeros(n_features),
            "decoder.weight": torch.randn(2, n_features, width),
            "threshold": torch.tensor(10.0),
        }
        save_file(tensors, Path(folder) / "model.safetensors")
        featurizer = Featurizer(pair, load_dictionary(folder, device="cpu"), layer=2)
    ids = torch.randint(0, 4096, (n_tokens,)).tolist()
    return _ratio(
        lambda: featurizer.read(ids).values([3, 77, 500, 9000]),
        lambda: [get_activations(model, ids, 2) for model in pair],
    )


ROWS = """
import json, sys, time
from pathlib import Path
import torch
from tiny_dashboard.dictionaries import load_dictionary
import safetensors
def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
torch.set_num_threads(1)
x = torch.randn(64, int(sys.argv[3]))
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before, start = memory(), time.perf_counter()
dictionary = load_dictionary(sys.argv[1], device="cpu")
dictionary.encode(x, [3, 70000, 99999, 131071] if sys.argv[2] == "rows" else None)
print(json.dumps([time.perf_counter() - start, memory() - before]))
"""


def rows_only(width: int = 768, n_features: int = 131072) -> dict[str, dict[str, float]]:
    """Four of 131,072 features against all, from opening the file to the values of 64 tokens, in fresh processes.

    Returns:
        for encoders stored by feature and by width: seconds and MiB of memory for four features and for all.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        by_feature, by_width = Path(folder) / "by_feature", Path(folder) / "by_width"
        weights = torch.randn(n_features, width)
        bias = torch.zeros(n_features)
        b_dec = torch.zeros(width)
        by_feature.mkdir()
        by_width.mkdir()
        rows = {"encoder.weight": weights, "decoder.weight": weights.T.contiguous()}
        save_file(rows | {"encoder.bias": bias, "decoder.bias": b_dec}, by_feature / "model.safetensors")
        columns = {"W_enc": weights.T.contiguous(), "W_dec": weights, "b_enc": bias, "b_dec": b_dec}
        save_file(columns, by_width / "sae_weights.safetensors")
        (by_width / "cfg.json").write_text(json.dumps({"architecture": "standard", "apply_b_dec_to_input": False}))
        del weights, rows, columns
        for name, place in (("by feature", by_feature), ("by width", by_width)):
            result = {}
            for how in ("rows", "all"):
                command = [sys.executable, "-c", ROWS, str(place), how, str(width)]
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                result[f"{how} s"], result[f"{how} MiB"] = json.loads(answer)
            found[name] = result
    return found


def run() -> None:
    for n_tokens in (64, 256, 1024):
        ratio = chosen_features(n_tokens)
        print(f"4 chosen features of a text of {n_tokens} tokens / the bare forward passes: {ratio:.2f} (limit 1.2)")
    for name, cost in rows_only().items():
        print(
            f"4 of 131,072 features, stored {name}, against all: {1000 * cost['rows s']:.0f} ms and "
            f"{cost['rows MiB']:.0f} MiB, against {1000 * cost['all s']:.0f} ms and {cost['all MiB']:.0f} MiB"
        )


if __name__ == "__main__":
    run()

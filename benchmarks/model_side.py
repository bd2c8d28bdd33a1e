"""Model side: what feature activations cost beside the bare forward passes that they need."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from tiny_dashboard.activations import get_activations
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.featurizer import Featurizer


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
        lambda: featurizer.features(ids, [3, 77, 500, 9000]),
        lambda: [get_activations(model, ids, 2) for model in pair],
    )

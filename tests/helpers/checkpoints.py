"""Checkpoints with random weights, and the check of one against what it must encode."""

import json
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file

from tiny_dashboard.dictionaries import load_dictionary

L, W, N = 2, 6, 11  # models, width, features
rng = np.random.default_rng(0)


def draw(*shape, scale=1.0):
    return (rng.normal(size=shape) * scale).astype(np.float32)


def relu(x):
    return np.maximum(x, 0)


def save(folder, tensors, config=None, name="model.safetensors", config_name="config.json"):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: torch.as_tensor(value) for key, value in tensors.items()}
    file = folder / name
    if file.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in tensors.items()}, file)
    elif file.suffix == ".npz":
        np.savez(file, **{key: value.numpy() for key, value in tensors.items()})
    else:
        torch.save(tensors, file)
    if config is not None:
        (folder / config_name).write_text(json.dumps(config))
    return folder


def check(source, x, expected, **options):
    """The full encode against the expected values, and chosen features against the full encode."""
    dictionary = load_dictionary(source, device="cpu", **options)
    full = dictionary.encode(torch.as_tensor(x))
    assert full.dtype == torch.float32
    np.testing.assert_allclose(full.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert 0 < (full > 0).float().mean() < 1  # the inputs test both sides of the activation function
    with patch(
        "tiny_dashboard.dictionaries.checkpoint.EAGER_BYTES", 0
    ):  # as a large file: rows are read when asked for
        fresh = load_dictionary(source, device="cpu", **options)
    for chosen in ([7], [3, 0, 3, 10], list(range(dictionary.n_features)), []):
        np.testing.assert_allclose(
            fresh.encode(torch.as_tensor(x), chosen).numpy(), expected[..., chosen], rtol=1e-5, atol=1e-5
        )
    torch.testing.assert_close(fresh.to("cpu").encode(torch.as_tensor(x)), full)
    return dictionary


NORM_IDS = {"CROSSCODER": 1, "SAE": 2, "MIXED": 3, "NONE": 4, "DECOUPLED": 5}


def crosscoder_tensors(kind="CROSSCODER", *, normalised=False, threshold=None):
    tensors = {
        "encoder.weight": draw(L, W, N),
        "encoder.bias": draw(N),
        "decoder.weight": draw(L, N, W),
        "decoder.bias": draw(L, W),
        "code_normalization_id": np.array(NORM_IDS[kind]),
        "activation_mean": draw(L, W) if normalised else np.full((L, W), np.nan, np.float32),
        "activation_std": np.abs(draw(L, W)) + 0.5 if normalised else np.full((L, W), np.nan, np.float32),
        "activation_global_scale": np.array([0.7, 0.4], np.float32) if normalised else np.ones(L, np.float32),
        "target_rms": np.array(1.0, np.float32),
    }
    if threshold is not None:
        tensors |= {"threshold": np.array(threshold, np.float32), "k": np.array(3, np.int32)}
    return tensors

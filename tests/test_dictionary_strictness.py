"""A checkpoint is read exactly, or refused: every tensor and every key that may change the numbers is accounted for."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from tiny_dashboard import load_dictionary

W, N = 16, 48


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def write(folder, tensors, config=None, name="model.safetensors", config_name="config.json"):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    save_file(tensors, folder / name) if name.endswith("safetensors") else torch.save(tensors, folder / name)
    if config is not None:
        (folder / config_name).write_text(json.dumps(config))
    return folder


LINEAR = {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "decoder.weight": draw(W, N), "decoder.bias": draw(W)}
PLAIN = {"W_enc": draw(W, N), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W)}
X = draw(11, W)


def test_a_threshold_that_is_kept_as_its_logarithm(tmp_path):
    threshold = torch.rand(N) + 0.5
    folder = write(
        tmp_path,
        LINEAR | {"log_jumprelu_threshold": threshold.log()},
        {"sae_type": "sae", "act_fn": "jumprelu", "hook_point_in": "blocks.7.hook_resid_post"},
        "sae_weights.safetensors",
    )
    dictionary = load_dictionary(folder, device="cpu")
    pre = X @ LINEAR["encoder.weight"].T + LINEAR["encoder.bias"]
    torch.testing.assert_close(dictionary.encode(X), pre * (pre > threshold))
    assert (dictionary.family, dictionary.layer) == ("OpenMOSS", 7)
    (folder / "config.json").write_text(json.dumps({"sae_type": "molt"}))
    with pytest.raises(ValueError, match="sae_type 'molt' without a GLU encoder is not read"):
        load_dictionary(folder, device="cpu")


@pytest.mark.parametrize(
    ("more", "config", "said"),
    [
        ({"mystery_gain": draw(N)}, None, r"does not account for mystery_gain \[48\].*ignore=\['mystery_gain', …\]"),
        ({"threshold": draw(N)}, None, r"does not account for threshold \[48\]"),
        ({}, {"activation_fn": "gelu", "lr": 1}, r"does not account for activation_fn = 'gelu'"),
    ],
)
def test_what_no_family_accounts_for_is_named(tmp_path, more, config, said):
    folder = write(tmp_path, LINEAR | more, config)
    with pytest.raises(ValueError, match=said):
        load_dictionary(folder, device="cpu")
    pre = (X @ LINEAR["encoder.weight"].T + LINEAR["encoder.bias"]).relu()
    read = load_dictionary(folder, device="cpu", ignore=["mystery_gain", "activation_fn", "threshold"])
    torch.testing.assert_close(read.encode(X), pre)


def test_a_config_that_is_not_saelens_is_not_read_as_its(tmp_path):
    folder = write(tmp_path, PLAIN, {"sae_type": "topk", "top_k": 5}, "sae.pt")
    with pytest.raises(ValueError, match="of no known family"):
        load_dictionary(folder, device="cpu")


def test_the_forks_classes_in_their_hub_form(tmp_path):
    threshold = torch.rand(N)
    jump = write(tmp_path / "jump", PLAIN | {"threshold": threshold}, {"activation_dim": W, "dict_size": N})
    pre = X @ PLAIN["W_enc"] + PLAIN["b_enc"]
    expected = (pre * (pre > threshold)).relu() * PLAIN["W_dec"].norm(dim=1)
    torch.testing.assert_close(load_dictionary(jump, device="cpu").encode(X), expected)
    off = {f"activation_{name}": torch.full((W,), torch.nan) for name in ("mean", "std")}
    batch = {name: LINEAR[name] for name in ("encoder.weight", "encoder.bias", "decoder.weight")} | off
    batch |= {"b_dec": draw(W), "k": torch.tensor(4), "threshold": torch.tensor(0.7), "target_rms": torch.tensor(1.0)}
    folder = write(tmp_path / "batch", batch, {"activation_dim": W, "dict_size": N, "k": 4})
    pre = ((X - batch["b_dec"]) @ batch["encoder.weight"].T + batch["encoder.bias"]).relu()
    torch.testing.assert_close(load_dictionary(folder, device="cpu").encode(X), pre * (pre > 0.7))
    top = {name: LINEAR[name] for name in ("encoder.weight", "encoder.bias", "decoder.weight")} | {"b_dec": draw(W)}
    with pytest.raises(ValueError, match="does not say how many features are active; give k="):
        load_dictionary(write(tmp_path / "top", top, name="ae.pt"), device="cpu")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_transcoders_of_circuit_tracer(tmp_path, turned, skip):
    decoder = draw(N, W)
    tensors = {"W_enc": draw(N, W), "W_dec": decoder.T if turned else decoder, "b_enc": draw(N), "b_dec": draw(W)}
    tensors |= {"W_skip": draw(W, W)} if skip else {}
    dictionary = load_dictionary(write(tmp_path, tensors, name="layer_3.safetensors"), device="cpu")
    torch.testing.assert_close(dictionary.encode(X), (X @ tensors["W_enc"].T + tensors["b_enc"]).relu())
    torch.testing.assert_close(dictionary.decoder([5])[0, 0], decoder[5])
    assert (dictionary.family, dictionary.layer, dictionary.hook_point) == ("circuit-tracer transcoder", 3, "mlp_in")


def test_an_embedding_is_refused(tmp_path):
    folder = write(
        tmp_path / "embedding" / "width_4k", {key.lower(): v for key, v in PLAIN.items()} | {"threshold": draw(N)}
    )
    with pytest.raises(ValueError, match="reads the embedding"):
        load_dictionary(folder, device="cpu")


@pytest.mark.parametrize("normalise", ["layer_norm", "constant_norm_rescale"])
def test_steering_adds_what_the_decode_adds(tmp_path, normalise):
    config = {"architecture": "standard", "normalize_activations": normalise, "apply_b_dec_to_input": False}
    folder = write(tmp_path, PLAIN, config, "sae_weights.safetensors", "cfg.json")
    dictionary = load_dictionary(folder, device="cpu")
    hidden = draw(3, W) * 30
    size = (
        hidden.std(-1, keepdim=True) if normalise == "layer_norm" else hidden.norm(dim=-1, keepdim=True) / math.sqrt(W)
    )
    written = dictionary.writes([3])[0, 0] * dictionary.token_scale(hidden)
    torch.testing.assert_close(written, PLAIN["W_dec"][3] * size)

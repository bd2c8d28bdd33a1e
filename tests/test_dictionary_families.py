"""The SAE and transcoder families against their formulas, computed here by independent numpy code."""

import json

import numpy as np
import pytest
import torch

from tests.helpers.checkpoints import N, W, check, draw, relu, save
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.dictionaries.checkpoint import parse_hook

X = draw(40, W)


def norm_x(x):
    x = x - x.mean(-1, keepdims=True)
    return x / (x.std(-1, keepdims=True, ddof=1) + 1e-5)


def top(values, k, key=None):
    """Keep the k largest of each row."""
    out = np.zeros_like(values)
    for row, (value, by) in enumerate(zip(values, values if key is None else key, strict=True)):
        kept = np.argsort(-by)[:k]
        out[row, kept] = value[kept]
    return out


def jump(pre, threshold):
    return np.where(pre > threshold, relu(pre), 0)


def norms(rows):
    return np.sqrt((rows**2).sum(-1))


# --- SAELens ------------------------------------------------------------------------------------------------------


def saelens_tensors():
    return {
        "W_enc": draw(W, N),
        "W_dec": draw(N, W),
        "b_enc": draw(N),
        "b_dec": draw(W),
        "threshold": np.abs(draw(N)),
        "b_gate": draw(N),
        "b_mag": draw(N),
        "r_mag": draw(N, scale=0.3),
    }


def saelens_expected(t, architecture, x, *, centred=False, normalise="none", rescale=False, k=3):
    if normalise == "layer_norm":
        x = norm_x(x)
    elif normalise == "constant_norm_rescale":
        x = x / norms(x)[:, None] * np.sqrt(W)
    x = x - t["b_dec"] if centred else x
    pre = x @ t["W_enc"] + t["b_enc"]
    scaled = pre * norms(t["W_dec"]) if rescale else pre
    if architecture == "gated":
        raw = x @ t["W_enc"]
        return np.where(raw + t["b_gate"] > 0, relu(np.exp(t["r_mag"]) * raw + t["b_mag"]), 0)
    return {
        "standard": lambda: relu(pre),
        "jumprelu": lambda: jump(pre, t["threshold"]),
        "topk": lambda: relu(top(scaled, k)),
        "abstopk": lambda: top(scaled, k, np.abs(scaled)),
    }[architecture]()


def of_kind(t, architecture):
    """The tensors that a checkpoint of that architecture holds."""
    gates = ("b_gate", "b_mag", "r_mag")
    drop = ("b_enc", "threshold") if architecture == "gated" else gates
    drop = drop if architecture == "gated" or "jumprelu" in architecture else (*gates, "threshold")
    return {name: value for name, value in t.items() if name not in drop}


def saelens(folder, t, **config):
    t = of_kind(t, config.get("architecture", "standard"))
    config = {"d_in": W, "d_sae": N, "apply_b_dec_to_input": False, "metadata": {}} | config
    return save(folder, t, config, name="sae_weights.safetensors", config_name="cfg.json")


@pytest.mark.parametrize("normalise", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "abstopk", "gated"])
def test_saelens(tmp_path, architecture, centred, normalise):
    t = saelens_tensors()
    options = {"apply_b_dec_to_input": centred, "normalize_activations": normalise, "k": 3}
    meta = {"hook_name": "blocks.7.hook_resid_pre", "model_name": "gpt2-small", "prepend_bos": True}
    folder = saelens(tmp_path, t, architecture=architecture, metadata=meta, **options)
    save(folder, {"sparsity": draw(N)}, name="sparsity.safetensors")  # lies beside it, and is not the dictionary
    dictionary = check(folder, X, saelens_expected(t, architecture, X, centred=centred, normalise=normalise))
    assert (dictionary.layer, dictionary.hook_point, dictionary.prepend_bos) == (7, "resid_pre", True)
    assert dictionary.models == ("gpt2-small",)
    np.testing.assert_allclose(dictionary.decoder([4, 2])[:, 0], t["W_dec"][[4, 2]])


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_saelens_topk_by_decoder_norm(tmp_path, architecture):
    t = saelens_tensors()
    folder = saelens(tmp_path, t, architecture=architecture, k=3, rescale_acts_by_decoder_norm=True)
    dictionary = check(folder, X, saelens_expected(t, architecture, X, rescale=True))
    np.testing.assert_allclose(norms(dictionary.writes([1, 6]).numpy()).ravel(), 1, rtol=1e-5)


def test_saelens_transcoder_and_older_configs(tmp_path):
    t = saelens_tensors()
    meta = {"hook_name": "blocks.3.ln2.hook_normalized", "hook_name_out": "blocks.3.hook_mlp_out"}
    t_out = t | {"W_dec": draw(N, W + 2), "b_dec": draw(W + 2)}  # its output may have another width
    for architecture, plain in (
        ("jumprelu_skip_transcoder", "jumprelu"),
        ("jumprelu_transcoder", "jumprelu"),
        ("transcoder", "standard"),
        ("skip_transcoder", "standard"),
    ):
        folder = saelens(tmp_path / architecture, t_out, architecture=architecture, metadata=meta)
        dictionary = check(folder, X, saelens_expected(t, plain, X))
        assert (dictionary.hook_point, dictionary.writes_at) == ("mlp_in_normalized", "mlp_out")
        assert dictionary.decoder([1]).shape == (1, 1, W + 2)
    # Before version 6 the metadata lay at the top, top-k was an activation function and b_dec was taken off by default.
    old = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}, "hook_name": "blocks.2.attn.hook_z"}
    folder = save(tmp_path / "old", of_kind(t, "topk"), old, name="sae_weights.safetensors", config_name="cfg.json")
    dictionary = check(folder, X, saelens_expected(t, "topk", X, centred=True))
    assert (dictionary.layer, dictionary.hook_point) == (2, "z")
    heads = torch.tensor(X).unflatten(-1, (2, 3))
    torch.testing.assert_close(dictionary.encode(heads), dictionary.encode(torch.tensor(X)))


def test_saelens_without_config(tmp_path):
    t = saelens_tensors()
    for architecture in ("gated", "jumprelu", "standard"):
        tensors = of_kind(t, architecture)
        folder = save(tmp_path / architecture, tensors, name="sae_weights.safetensors")
        check(folder, X, saelens_expected(t, architecture, X, centred=True))


def test_saelens_unfolded_scale_is_an_option(tmp_path):
    t = saelens_tensors()
    options = {"architecture": "standard", "normalize_activations": "expected_average_only_in"}
    folder = saelens(tmp_path, t, apply_b_dec_to_input=True, **options)
    dictionary = check(folder, X, relu((X * 0.5 - t["b_dec"]) @ t["W_enc"] + t["b_enc"]), input_scale=0.5)
    assert "scaled by 0.5" in dictionary.notes[0]


# --- Gemma Scope --------------------------------------------------------------------------------------------------


def test_gemma_scope(tmp_path):
    t = of_kind(saelens_tensors(), "jumprelu")
    expected = jump(X @ t["W_enc"] + t["b_enc"], t["threshold"])
    for repo, place, model in (
        ("gemma-scope-2b-pt-res", "resid_post", "google/gemma-2-2b"),
        ("gemma-scope-9b-pt-att", "z", "google/gemma-2-9b"),
        ("gemma-scope-9b-it-mlp", "mlp_out", "google/gemma-2-9b-it"),
        ("gemma-scope-2b-pt-transcoders", "mlp_in_normalized", "google/gemma-2-2b"),
    ):
        folder = tmp_path / repo / "layer_12" / "width_16k" / "average_l0_41"
        dictionary = check(save(folder, t, name="params.npz"), X, expected)
        assert (dictionary.layer, dictionary.hook_point, dictionary.models) == (12, place, (model,))


def test_gemma_scope_2(tmp_path):
    lower = {"w_enc": draw(W, N), "w_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W), "threshold": np.abs(draw(N))}
    lower["affine_skip_connection"] = draw(W, W)
    expected = jump(X @ lower["w_enc"] + lower["b_enc"], lower["threshold"])
    for site, hook, place in (
        ("resid_post", "model.layers.9.output", "resid_post"),
        ("attn_out", "model.layers.9.self_attn.o_proj.input", "z"),
        ("mlp_out", "model.layers.9.post_feedforward_layernorm.output", "mlp_out"),
        ("transcoder", "model.layers.9.pre_feedforward_layernorm.output", "mlp_in"),
    ):
        folder = tmp_path / "gemma-scope-2-270m-pt" / site / "layer_9_width_16k_l0_small"
        save(folder, lower, name="params.safetensors")
        without = check(folder, X, expected)
        save(folder, lower, {"hf_hook_point_in": hook}, name="params.safetensors")
        for dictionary in (without, check(folder, X, expected)):
            assert (dictionary.layer, dictionary.hook_point, dictionary.models) == (9, place, ("google/gemma-3-270m",))


# --- dictionary_learning, and jkminder's fork ---------------------------------------------------------------------

CLASSES = ["AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"]


def learning_tensors(name):
    if name in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        t = {"W_enc": draw(W, N), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W)}
    else:
        t = {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "decoder.weight": draw(W, N)}
        t |= {"AutoEncoder": {"bias": draw(W)}, "AutoEncoderNew": {"decoder.bias": draw(W)}}.get(name, {})
    if name == "GatedAutoEncoder":
        del t["encoder.bias"]
        t |= {"decoder_bias": draw(W), "r_mag": draw(N, scale=0.3), "gate_bias": draw(N), "mag_bias": draw(N)}
    if name in ("AutoEncoderTopK", "BatchTopKSAE"):
        t |= {"b_dec": draw(W)}
    if "TopK" in name:
        t |= {"threshold": np.array(0.8, np.float32), "k": np.array(3)}
    if name == "JumpReluAutoEncoder":
        t |= {"threshold": np.abs(draw(N))}
    if name == "MatryoshkaBatchTopKSAE":
        t |= {"group_sizes": np.array([4, N - 4])}
    return t


def learning_expected(t, name, x, *, by_norm):
    encoder = t["W_enc"] if "W_enc" in t else t["encoder.weight"].T
    decoder = t["W_dec"] if "W_dec" in t else t["decoder.weight"].T
    centre = {"AutoEncoder": "bias", "GatedAutoEncoder": "decoder_bias"}.get(name, "b_dec" if "TopK" in name else None)
    raw = (x - t[centre] if centre else x) @ encoder
    if name == "GatedAutoEncoder":
        f = np.where(raw + t["gate_bias"] > 0, relu(np.exp(t["r_mag"]) * raw + t["mag_bias"]), 0)
    else:
        pre = raw + (t["b_enc"] if "b_enc" in t else t["encoder.bias"])
        f = (
            relu(top(pre, 3))
            if name == "AutoEncoderTopK"
            else jump(pre, t["threshold"])
            if "threshold" in t
            else relu(pre)
        )
    return f * norms(decoder) if by_norm else f


@pytest.mark.parametrize("name", [*CLASSES, "GatedAutoEncoder", "JumpReluAutoEncoder"])
def test_dictionary_learning(tmp_path, name):
    t = learning_tensors(name)
    trainer = {
        "dict_class": name,
        "k": 3,
        "layer": 8,
        "lm_name": "EleutherAI/pythia-70m",
        "submodule_name": "resid_post_layer_8",
    }
    original = save(tmp_path / "pt", t, {"trainer": trainer, "buffer": {"ctx_len": 128}}, name="ae.pt")
    by_norm = learning_expected(t, name, X, by_norm=True)
    plain = learning_expected(t, name, X, by_norm=False)
    dictionary = check(original, X, by_norm if name == "AutoEncoder" else plain)
    assert (dictionary.layer, dictionary.hook_point, dictionary.models) == (8, "resid_post", ("EleutherAI/pythia-70m",))
    fork = save(tmp_path / "fork", t, {"dict_class": name, "k": 3})
    check(fork, X, by_norm if name in ("GatedAutoEncoder", "JumpReluAutoEncoder") else plain)
    check(original, X, by_norm, scale_by_decoder_norm=True)
    check(fork, X, plain, scale_by_decoder_norm=False)
    decoder = t["W_dec"] if "W_dec" in t else t["decoder.weight"].T
    np.testing.assert_allclose(dictionary.decoder([3, 9])[:, 0], decoder[[3, 9]])


def test_dictionary_learning_without_config(tmp_path):
    for name in ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        t = learning_tensors(name)
        check(save(tmp_path / name, t, name="ae.pt"), X, learning_expected(t, name, X, by_norm=name == "AutoEncoder"))
    t = learning_tensors("BatchTopKSAE")  # its tensors are also those of a newer AutoEncoderTopK
    with pytest.raises(ValueError, match="give dict_class=, one of AutoEncoder"):
        load_dictionary(save(tmp_path / "both", t, name="ae.pt"))
    for name in ("BatchTopKSAE", "AutoEncoderTopK"):
        check(tmp_path / "both", X, learning_expected(t, name, X, by_norm=False), dict_class=name)


def test_fork_normalises_inputs(tmp_path):
    t = learning_tensors("BatchTopKSAE")
    mean, off = draw(W), np.full(W, np.nan, np.float32)
    stored = {"activation_std": np.ones(W, np.float32), "activation_global_scale": np.array(0.6, np.float32)}
    config = {"dict_class": "BatchTopKSAE", "k": 3}
    folder = save(tmp_path, t | stored | {"activation_mean": mean}, config)
    dictionary = check(folder, X, learning_expected(t, "BatchTopKSAE", (X - mean) * 0.6, by_norm=False))
    np.testing.assert_allclose(dictionary.writes([2])[0, 0], t["decoder.weight"][:, 2] / 0.6, rtol=1e-5)
    save(tmp_path, t | stored | {"activation_mean": off}, config)
    check(tmp_path, X, learning_expected(t, "BatchTopKSAE", X, by_norm=False))


# --- the other families -------------------------------------------------------------------------------------------


def test_ckkissane(tmp_path):
    t = {"W_enc": draw(2, W, N), "W_dec": draw(N, 2, W), "b_enc": draw(N), "b_dec": draw(2, W)}
    x = draw(30, 2, W)
    folder = tmp_path / "blocks.14.hook_resid_pre"
    save(folder, t, {"model_name": "gemma-2-2b"}, name="cc_weights.pt", config_name="cfg.json")

    def expected(base, chat):
        return relu(base * x[:, 0] @ t["W_enc"][0] + chat * x[:, 1] @ t["W_enc"][1] + t["b_enc"])

    dictionary = check(folder, x, expected(0.2758961493, 0.2442285250))
    assert (dictionary.layer, dictionary.hook_point, dictionary.n_models) == (14, "resid_pre", 2)
    assert "0.2759, 0.2442" in dictionary.notes[0]
    np.testing.assert_allclose(dictionary.writes([5])[0, 1], t["W_dec"][5, 1] / 0.2442285250, rtol=1e-5)
    assert "1, 1" in check(folder, x, expected(1, 1), input_scale=(1, 1)).notes[0]
    with pytest.raises(ValueError, match="1 factors; expected one for each of 2"):
        load_dictionary(folder, input_scale=(1,))


@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify(tmp_path, transcode):
    n = 12
    t = {"encoder.weight": draw(n, W), "encoder.bias": draw(n), "W_dec": draw(n, W), "b_dec": draw(W)}
    pre = (X if transcode else X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    grouped = pre.reshape(len(X), 3, 4)
    groupmax = np.where(grouped == grouped.max(-1, keepdims=True), relu(grouped), 0).reshape(len(X), n)
    for activation, expected in (("topk", relu(top(pre, 3))), ("groupmax", groupmax)):
        config = {"k": 3, "d_in": W, "activation": activation, "transcode": transcode}
        folder = save(tmp_path / "layers.5.mlp", t, config, name="sae.safetensors", config_name="cfg.json")
        dictionary = check(folder, X, expected, **({} if activation == "topk" else {"k": 3}))
        assert (dictionary.layer, dictionary.hook_point) == (5, "mlp_in" if transcode else "mlp_out")
    save(tmp_path / "layers.5.mlp", t, {"k": 3, "activation": "gelu"}, name="sae.safetensors", config_name="cfg.json")
    with pytest.raises(ValueError, match="activation 'gelu' is unknown; expected topk or groupmax"):
        load_dictionary(tmp_path)


def test_openai(tmp_path):
    t = {"pre_bias": draw(W), "latent_bias": draw(N), "encoder.weight": draw(N, W), "decoder.weight": draw(W, N)}

    def load(**extras):
        tensors = {name: torch.tensor(value) for name, value in t.items()}
        torch.save(tensors | extras, tmp_path / "6.pt")
        return tmp_path / "6.pt"

    def pre(x):
        return (x - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]

    check(load(), X, relu(pre(X)))
    check(load(activation="Identity"), X, pre(X))
    state = {"k": 3, "postact_fn": "ReLU"}
    check(load(activation="TopK", activation_state_dict=state), X, relu(top(pre(norm_x(X)), 3)))
    state = {"k": 9, "postact_fn": "Identity"}
    check(load(activation="TopK", activation_state_dict=state), X, top(pre(norm_x(X)), 9))
    with pytest.raises(ValueError, match="activation 'Swish' .* expected ReLU, Identity or TopK"):
        load_dictionary(load(activation="Swish"))
    with pytest.raises(ValueError, match="no k for TopK"):
        load_dictionary(load(activation="TopK"))


def test_goodfire(tmp_path):
    t = {"encoder_linear.weight": draw(N, W), "encoder_linear.bias": draw(N), "decoder_linear.weight": draw(W, N)}
    folder = save(tmp_path, t, name="Llama-3.1-8B-Instruct-SAE-l19.pth")
    dictionary = check(folder, X, relu(X @ t["encoder_linear.weight"].T + t["encoder_linear.bias"]))
    assert (dictionary.layer, dictionary.models) == (19, ("meta-llama/Llama-3.1-8B-Instruct",))


def test_llama_scope(tmp_path):
    t = {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "decoder.weight": draw(W, N), "decoder.bias": draw(W)}
    config = {
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "hook_point_in": "blocks.19.hook_mlp_out",
        "dataset_average_activation_norm": {"in": 5.0, "out": 4.0},
        "sparsity_include_decoder_norm": False,
    }
    s = np.sqrt(W) / 5.0
    folder = tmp_path / "Llama3_1-8B-Base-L19M-8x"
    save(folder / "checkpoints", t, name="final.safetensors")
    (folder / "hyperparams.json").write_text(json.dumps(config))
    pre = X @ t["encoder.weight"].T + t["encoder.bias"] / s
    dictionary = check(folder, X, jump(pre, 0.5))
    assert (dictionary.layer, dictionary.hook_point, dictionary.models) == (19, "mlp_out", ("meta-llama/Llama-3.1-8B",))
    assert "openmoss" in dictionary.notes[0]
    check(folder, X, jump(pre, 0.5) * s, convention="saelens")
    (folder / "hyperparams.json").write_text(json.dumps(config | {"sparsity_include_decoder_norm": True}))
    scaled = pre * norms(t["decoder.weight"].T) * (4.0 / 5.0)
    check(folder, X, jump(scaled, 0.5))
    check(folder, X, jump(pre, 0.5) * s, convention="saelens")
    with pytest.raises(ValueError, match="convention 'other' is unknown; expected openmoss or saelens"):
        load_dictionary(folder, convention="other")


def test_qwen_scope(tmp_path):
    t = {"W_enc": draw(N, W), "W_dec": draw(W, N), "b_enc": draw(N), "b_dec": draw(W)}
    pre = X @ t["W_enc"].T + t["b_enc"]
    folder = save(tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3", t, name="layer15.sae.pt")
    dictionary = check(folder, X, relu(top(pre, 3)))
    assert (dictionary.layer, dictionary.models) == (15, ("Qwen/Qwen3-1.7B-Base",))
    with pytest.raises(ValueError, match="has no L0_<k>; give k="):
        load_dictionary(save(tmp_path / "other", t, name="layer15.sae.pt"))
    check(tmp_path / "other", X, relu(top(pre, 5)), k=5)


# --- what can be wrong --------------------------------------------------------------------------------------------


def test_saelens_errors(tmp_path):
    t = saelens_tensors()
    for change, message in (
        ({"architecture": "laplace"}, "architecture 'laplace' is unknown; expected one of standard, jumprelu"),
        ({"architecture": "temporal"}, "is a temporal SAE: its code of a token depends on the tokens before it"),
        ({"architecture": "topk"}, "topk SAE has no k"),
        ({"normalize_activations": "covariance_whitening"}, "normalize_activations 'covariance_whitening' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            load_dictionary(saelens(tmp_path, t, **change))
    del t["threshold"]
    with pytest.raises(ValueError, match="'threshold' is missing in sae_weights.safetensors; it holds W_dec"):
        load_dictionary(saelens(tmp_path, t, architecture="jumprelu"))


def test_family_can_be_forced(tmp_path):
    t = {"W_enc": draw(W, W), "W_dec": draw(W, W), "b_enc": draw(W), "b_dec": draw(W)}  # square: either way round
    folder = save(tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3", t, name="layer15.sae.pt")
    assert load_dictionary(folder, family="Qwen Scope").family == "Qwen Scope"
    with pytest.raises(ValueError, match="'encoder_linear.weight' is missing"):
        load_dictionary(folder, family="Goodfire")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blocks.12.hook_resid_post", (12, "resid_post")),
        ("blocks.0.hook_resid_pre", (0, "resid_pre")),
        ("blocks.3.attn.hook_z", (3, "z")),
        ("blocks.3.hook_attn_out", (3, "attn_out")),
        ("blocks.3.hook_mlp_in", (3, "resid_mid")),  # TransformerLens's lies before the norm
        ("blocks.3.mlp.hook_in", (3, "mlp_in")),
        ("blocks.3.ln2.hook_normalized", (3, "mlp_in_normalized")),
        ("layers.10", (10, "resid_post")),
        ("h.2", (2, "resid_post")),
        ("gpt_neox.layers.4.attention", (4, "attn_out")),
        ("transformer.h.2.mlp", (2, "mlp_out")),
        ("model.layers.1.self_attn", (1, "attn_out")),
        ("attention_out_layer_7", (7, "attn_out")),
        ("mlp_out_layer_7", (7, "mlp_out")),
        ("blocks.3.hook_resid_mid", (3, "resid_mid")),
        ("model.layers.3.post_attention_layernorm", (3, "model.layers.3.post_attention_layernorm")),
        ("", (None, None)),
    ],
)
def test_parse_hook(name, expected):
    assert parse_hook(name) == expected

"""Families of 2025 and 2026 against their formulas in numpy: OpenMOSS, BatchTopK, parts of models of several layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml

from tests.helpers.checkpoints import N, W, check, draw, relu, save
from tests.test_dictionary_families import jump, norm_x, norms, top
from tiny_dashboard.dictionaries import load_dictionary

X = draw(40, W)
HOOK = "blocks.5.hook_resid_post"
PLAIN = {"W_enc": draw(W, N), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W)}


# --- OpenMOSS -----------------------------------------------------------------------------------------------------


def openmoss(folder, act_fn, *, kind="sae", by_norm=True, norm="inference", shape=()):
    t = {"W_E": draw(*shape, W, N), "b_E": draw(*shape, N), "W_D": draw(*shape, N, W), "b_D": draw(*shape, W)}
    hooks = [f"blocks.{5 + place}.hook_resid_post" for place in range(*shape or (1,))]
    config = {"sae_type": kind, "d_model": W, "expansion_factor": N / W, "act_fn": act_fn, "norm_activation": norm}
    config |= {"sparsity_include_decoder_norm": by_norm, "top_k": 3, "use_glu_encoder": False, "use_decoder_bias": True}
    config |= {"jumprelu_threshold_window": 2.0, "use_triton_kernel": False, "dtype": "torch.float32", "device": "cpu"}
    config |= {"sparsity_threshold_for_triton_spmm_kernel": 0.996}
    config |= (
        {"hook_points": hooks} if kind == "crosscoder" else {"hook_point_in": hooks[0], "hook_point_out": hooks[0]}
    )
    if act_fn == "jumprelu":
        t |= {"activation_function.log_jumprelu_threshold": draw(N, scale=0.3)}
    averages = {hook: np.float32(3 + place) for place, hook in enumerate(hooks)}
    t |= {f"dataset_average_activation_norm.{hook}": value for hook, value in averages.items()}
    save(folder, t, config, name="sae_weights.safetensors")
    return t, np.array([np.sqrt(W) / value for value in averages.values()], np.float32)


def openmoss_expected(t, act_fn, pre, size):
    if act_fn == "jumprelu":
        return relu(pre) * (pre * size > np.exp(t["activation_function.log_jumprelu_threshold"]))
    return relu(pre) * (top(relu(pre) * size, 3) > 0) if act_fn == "topk" else relu(pre)


@pytest.mark.parametrize("norm", ["inference", "dataset-wise", "token-wise"])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_openmoss(tmp_path, act_fn, by_norm, norm):
    t, scales = openmoss(tmp_path, act_fn, by_norm=by_norm, norm=norm)
    scale = {"inference": 1, "dataset-wise": scales[0], "token-wise": np.sqrt(W) / norms(X)[:, None]}[norm]
    pre = X * scale @ t["W_E"] + t["b_E"]
    dictionary = check(tmp_path, X, openmoss_expected(t, act_fn, pre, norms(t["W_D"]) if by_norm else 1))
    assert (dictionary.family, dictionary.layer, dictionary.hook_point) == ("OpenMOSS", 5, "resid_post")
    written = dictionary.writes([4])[0, 0]
    if norm == "dataset-wise":
        written = written * scales[0]
    np.testing.assert_allclose(written, t["W_D"][4], rtol=1e-5)


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_openmoss_crosscoder(tmp_path, act_fn):
    t, scales = openmoss(tmp_path, act_fn, kind="crosscoder", norm="dataset-wise", shape=(3,))
    x = draw(30, 3, W)
    pre = np.einsum("bld,ldD->bD", x * scales[:, None], t["W_E"]) + t["b_E"].sum(0)
    each = [openmoss_expected(t, act_fn, pre, norms(rows)) for rows in t["W_D"]]
    dictionary = check(tmp_path, x, np.max(each, 0))
    assert (dictionary.n_models, dictionary.layer) == (3, None)
    assert dictionary.hook_point.startswith("blocks.5.hook_resid_post, blocks.6")  # no one place in one layer


def test_openmoss_refuses_what_depends_on_more_than_the_token(tmp_path):
    for act_fn, norm, said in (
        ("batchtopk", "inference", "what batchtopk keeps of a token depends on the other tokens"),
        ("relu", "batch-wise", "norm_activation is 'batch-wise'; expected inference, token-wise, or dataset-wise"),
    ):
        openmoss(tmp_path, act_fn, norm=norm)
        with pytest.raises(ValueError, match=said):
            load_dictionary(tmp_path)


# --- BatchTopK ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("kind", ["vanilla", "topk", "batchtopk", "jumprelu"])
def test_batch_topk(tmp_path, kind, normed):
    config = {"seed": 49, "sae_type": kind, "act_size": W, "dict_size": N, "top_k": 3, "top_k_aux": 5, "aux_penalty": 1}
    config |= {"input_unit_norm": normed, "hook_point": "blocks.8.hook_resid_pre", "model_name": "gpt2-small"}
    config |= {"bandwidth": 0.001, "dtype": "torch.float32"}
    t = PLAIN | ({"jumprelu.log_threshold": draw(N, scale=0.3)} if kind == "jumprelu" else {})
    if kind.endswith("topk"):
        save(tmp_path, t, config, name="sae.pt")
        with pytest.raises(ValueError, match=f"b_enc is not 0: this repository's {kind} does not train it"):
            load_dictionary(tmp_path, **({"threshold": 0.8} if kind == "batchtopk" else {}))
        t = t | {"b_enc": np.zeros(N, np.float32)}
    save(tmp_path, t, config, name="sae.pt")
    x = norm_x(X) if normed else X
    pre = relu((x - t["b_dec"]) @ t["W_enc"])
    if kind == "batchtopk":
        with pytest.raises(ValueError, match="depends on the other tokens of its batch, and it stores no threshold"):
            load_dictionary(tmp_path)
        dictionary = check(tmp_path, X, jump(pre, 0.8), threshold=0.8)
    else:
        with_bias = relu(((x if kind == "jumprelu" else x - t["b_dec"]) @ t["W_enc"]) + t["b_enc"])
        expected = {"vanilla": lambda: with_bias, "topk": lambda: top(pre, 3)}.get(
            kind, lambda: jump(with_bias, np.exp(t["jumprelu.log_threshold"]))
        )()
        dictionary = check(tmp_path, X, expected)
    assert (dictionary.layer, dictionary.hook_point, dictionary.models) == (8, "resid_pre", ("gpt2-small",))
    assert (dictionary.token_scale is not None) == normed


# --- a layer of a model of several --------------------------------------------------------------------------------


def test_cross_layer_transcoders(tmp_path):
    t = {layer: {"W_enc": draw(N, W), "b_enc": draw(N), "b_dec": draw(W)} for layer in range(3)}
    t[1]["threshold"] = np.abs(draw(N))
    for layer, tensors in t.items():
        named = {f"{name}_{layer}": value for name, value in tensors.items()}
        save(tmp_path, named, name=f"W_enc_{layer}.safetensors")
        save(tmp_path, {f"W_dec_{layer}": draw(N, 3 - layer, W)}, name=f"W_dec_{layer}.safetensors")
    with pytest.raises(
        ValueError, match="there is no config.yaml beside W_enc_0.safetensors; give feature_input_hook="
    ):
        load_dictionary(tmp_path, layer=0)
    config = {"model_name": "google/gemma-2-2b", "model_kind": "cross_layer_transcoder", "scan": "x/y"}
    config |= {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    for layer, tensors in t.items():
        pre = X @ tensors["W_enc"].T + tensors["b_enc"]
        dictionary = check(tmp_path, X, jump(pre, tensors["threshold"]) if layer == 1 else relu(pre), layer=layer)
        assert (dictionary.layer, dictionary.hook_point) == (layer, "resid_mid")
        assert dictionary.models == ("google/gemma-2-2b",)
    with pytest.raises(ValueError, match="this cross-layer transcoder checkpoint has no decoder"):
        dictionary.writes([0])
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config.yaml is not YAML"):
        load_dictionary(tmp_path, layer=1)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("folder", "hook", "layers", "point"),
    [
        ("crosscoder/layer_5_9_12_15_width_1m_l0_big", "model.layers.{5,9,12,15}.output", (5, 9, 12, 15), "resid_post"),
        ("clt/width_262k_l0_big", "model.layers.{all}.pre_feedforward_layernorm.output", range(4), "mlp_in"),
    ],
)
def test_gemma_scope_2_of_several_layers(tmp_path, folder, hook, layers, point, told):
    config = {"model_name": "google/gemma-3-270m-pt", "architecture": "jump_relu", "affine_connection": False}
    config |= {"hf_hook_point_in": hook, "hf_hook_point_out": hook, "width": 4 * N, "type": "clt", "l0": 150}
    place = tmp_path / "gemma-scope-2-270m-pt" / folder
    for index, layer in enumerate(layers):
        t = {
            "w_enc": draw(W, N),
            "w_dec": draw(N, 4, W),
            "b_enc": draw(N),
            "b_dec": draw(W),
            "threshold": np.abs(draw(N)),
        }
        save(place, t, config if told else None, name=f"params_layer_{index}.safetensors")
        expected = jump(X @ t["w_enc"] + t["b_enc"], t["threshold"])
        dictionary = check(place / f"params_layer_{index}.safetensors", X, expected)
        assert (dictionary.layer, dictionary.hook_point) == (layer, point)
        assert dictionary.models == ("google/gemma-3-270m",)
    assert load_dictionary(place, layer=layers[2]).layer == layers[2]


# --- where it reads -----------------------------------------------------------------------------------------------


def test_circuit_tracer_says_where_it_reads(tmp_path):
    t = {"W_enc": draw(N, W), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W)}
    t |= {"activation_function.threshold": np.abs(draw(N))}
    folder = save(tmp_path, t, name="layer_7.safetensors")
    expected = jump(X @ t["W_enc"].T + t["b_enc"], t["activation_function.threshold"])
    dictionary = check(folder, X, expected)
    assert dictionary.hook_point == "mlp_in" and "no config.yaml" in dictionary.notes[0]
    config = {"model_name": "meta-llama/Llama-3.2-1B", "model_kind": "transcoder_set", "transcoders": ["…"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"feature_input_hook": "hook_resid_mid"}))
    dictionary = check(folder, X, expected)
    assert (dictionary.layer, dictionary.hook_point, dictionary.writes_at) == (7, "resid_mid", "mlp_out")
    assert dictionary.models == ("meta-llama/Llama-3.2-1B",) and not dictionary.notes


def test_the_name_of_a_module_goes_before_transformer_lenss(tmp_path):
    meta = {"hook_name": "blocks.3.hook_mlp_in", "hf_hook_name": "model.layers.3.pre_feedforward_layernorm.output"}
    config = {"architecture": "transcoder", "d_in": W, "metadata": meta}
    folder = save(tmp_path, PLAIN, config, name="sae_weights.safetensors", config_name="cfg.json")
    assert load_dictionary(folder).hook_point == "mlp_in"


# --- matching pursuit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("least", "most", "stop"), [(0.5, None, True), (0.0, 4, False), (1.5, 9, False)])
def test_matching_pursuit(tmp_path, least, most, stop):
    rows = draw(N, W)
    t = {"W_dec": rows / norms(rows)[:, None], "b_dec": draw(W)}
    config = {"architecture": "matching_pursuit", "d_in": W, "d_sae": N, "apply_b_dec_to_input": True}
    config |= {"residual_threshold": least, "max_iterations": most, "stop_on_duplicate_support": stop}
    config |= {"normalize_activations": "layer_norm", "metadata": {"hook_name": HOOK}}
    save(tmp_path, t, config, name="sae_weights.safetensors", config_name="cfg.json")
    expected = np.zeros((len(X), N), np.float32)
    for codes, rest in zip(expected, norm_x(X) - t["b_dec"], strict=True):  # token by token
        for _ in range(most or W):
            best = int(np.argmax(t["W_dec"] @ rest))
            value = max(0.0, float(t["W_dec"][best] @ rest))
            known = codes[best] != 0 or value == 0
            codes[best] += value
            rest = rest - value * t["W_dec"][best]
            if (stop and known) or (least > 0 and np.linalg.norm(rest) < least):
                break
    dictionary = check(tmp_path, X, expected)
    assert (dictionary.layer, dictionary.hook_point) == (5, "resid_post")
    stacked = torch.tensor(X).reshape(4, 10, W)
    torch.testing.assert_close(dictionary.encode(stacked)[1, 2], dictionary.encode(stacked[1, 2]))


# --- the configs that lie on the Hub ------------------------------------------------------------------------------

ROWS = {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "decoder.weight": draw(W, N), "decoder.bias": draw(W)}
TURNED = {"W_enc": PLAIN["W_enc"].T.copy(), "W_dec": PLAIN["W_dec"].T.copy(), "b_enc": draw(N), "b_dec": draw(W)}
PUBLISHED = {  # family: where its files lie, the tensors, and the keys of a published config, as far as they may matter
    "Llama Scope": (
        "checkpoints/final.safetensors", "hyperparams.json", ROWS,
        {"hook_point_in": "blocks.24.hook_resid_post", "hook_point_out": "blocks.24.hook_resid_post", "top_k": 50,
         "use_decoder_bias": True, "apply_decoder_bias_to_pre_encoder": False, "expansion_factor": 32, "d_model": W,
         "act_fn": "jumprelu", "jump_relu_threshold": 0.75, "norm_activation": "dataset-wise", "use_glu_encoder": False,
         "dataset_average_activation_norm": {"in": 29.125, "out": 29.125}, "decoder_exactly_fixed_norm": False,
         "sparsity_include_decoder_norm": True, "init_decoder_norm": 0.5, "init_encoder_norm": None,
         "init_encoder_with_decoder_transpose": True, "lp": 1, "k_warmup_steps": 78125, "use_batch_norm_mse": True},
    ),
    "ckkissane crosscoder": (
        "blocks.14.hook_resid_pre/cc_weights.pt", "blocks.14.hook_resid_pre/cfg.json",
        {"W_enc": draw(2, W, N), "W_dec": draw(N, 2, W), "b_enc": draw(N), "b_dec": draw(2, W)},
        {"seed": 49, "l1_coeff": 2, "d_in": W, "dict_size": N, "enc_dtype": "fp32", "model_name": "gemma-2-2b",
         "site": "resid_pre", "dec_init_norm": 0.08, "hook_point": "blocks.14.hook_resid_pre"},
    ),
    "Qwen Scope": (
        "layer5.sae.pt", "config.json", TURNED,
        {"model_type": "topk_sae", "base_model": "Qwen/Qwen3-1.7B-Base", "d_model": W, "d_sae": N, "k": 3,
         "num_layers": 28, "hook_point": "resid_post", "dtype": "float32"},
    ),
    "SAELens": (
        "sae_weights.safetensors", "cfg.json", PLAIN | {"scaling_factor": np.ones(N, np.float32)},
        {"architecture": "standard", "activation_fn_str": "relu", "activation_fn_kwargs": {}, "d_in": W, "d_sae": N,
         "hook_name": "blocks.25.hook_resid_post", "hook_layer": 25, "hook_head_index": None, "lp_norm": 1.0,
         "apply_b_dec_to_input": True, "finetuning_scaling_factor": False, "normalize_activations": "none",
         "normalize_sae_decoder": False, "scale_sparsity_penalty_by_decoder_norm": True, "noise_variance": 0.0,
         "mse_loss_normalization": None, "decoder_heuristic_init": True, "init_encoder_as_decoder_transpose": True,
         "decoder_orthogonal_init": False, "dead_feature_threshold": 1e-08, "jumprelu_init_threshold": 0.001,
         "jumprelu_bandwidth": 0.001, "l1_warm_up_steps": 5000, "use_ghost_grads": False, "seqpos_slice": [None]},
    ),
    "sparsify": (
        "layers.5.mlp/sae.safetensors", "layers.5.mlp/cfg.json",
        {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "W_dec": draw(N, W), "b_dec": draw(W),
         "W_skip": draw(W, W)},
        {"expansion_factor": 32, "normalize_decoder": True, "num_latents": N, "k": 3, "multi_topk": False,
         "skip_connection": True, "signed": False, "d_in": W, "activation": "topk", "transcode": True},
    ),
    "Gemma Scope": (
        "resid_post/layer_17_width_16k_l0_big/params.safetensors", "resid_post/layer_17_width_16k_l0_big/config.json",
        {"w_enc": draw(W, N), "w_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W), "threshold": draw(N)},
        {"hf_hook_point_in": "model.layers.17.output", "hf_hook_point_out": "model.layers.17.output", "width": N,
         "model_name": "google/gemma-3-4b-pt", "architecture": "jump_relu", "l0": 150, "affine_connection": False,
         "type": "sae"},
    ),
    "dictionary_learning": (
        "resid_post_layer_3/trainer_1/ae.pt", "resid_post_layer_3/trainer_1/config.json",
        {"encoder.weight": draw(N, W), "encoder.bias": draw(N), "decoder.weight": draw(W, N), "b_dec": draw(W),
         "k": np.array(3), "threshold": np.array(0.5, np.float32)},
        {"trainer": {"trainer_class": "BatchTopKTrainer", "dict_class": "BatchTopKSAE", "lr": 5e-5, "steps": 9,
                     "auxk_alpha": 0.03125, "warmup_steps": 10, "threshold_beta": 0.999,
                     "threshold_start_step": 1000, "top_k_aux": 8, "activation_dim": W, "dict_size": N, "k": 3,
                     "device": "cuda:0", "layer": 3, "lm_name": "meta-llama/Llama-3.1-8B-Instruct", "wandb_name": "x",
                     "submodule_name": "resid_post_layer_3"},
         "buffer": {"d_submodule": W, "io": "out", "n_ctxs": 244, "ctx_len": 1024, "rescale_acts": False}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_configs_are_accounted_for(tmp_path, family):
    weights, config_name, tensors, config = PUBLISHED[family]
    save((tmp_path / weights).parent, tensors, name=(tmp_path / weights).name)
    save((tmp_path / config_name).parent, {}, config, name="empty.npz", config_name=(tmp_path / config_name).name)
    dictionary = load_dictionary(tmp_path / weights)
    assert dictionary.family.startswith(family)
    assert dictionary.layer is not None and dictionary.hook_point in ("resid_pre", "resid_post", "mlp_in")

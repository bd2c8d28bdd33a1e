"""SAELens 3 to 6 (github.com/decoderesearch/SAELens): `cfg.json`, `sae_weights.safetensors`, SAEs and transcoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import (
    Activation,
    Gated,
    ReLU,
    Threshold,
    TopK,
    decoder_norm,
    deviation,
    layer_norm,
    rms,
    unit_rms,
)

# normalize_activations -> what it does to a token, and what undoes it on the decoder's side.
NORMAL = {"layer_norm": (layer_norm, deviation), "constant_norm_rescale": (unit_rms, rms)}
NAME = "SAELens"
EXPECTS = "W_enc [d, D], W_dec [D, d], b_enc [D], b_dec [d], cfg.json with architecture"
PASSES_OVER = (
    "b_dec", "b_dec_out", "W_skip", "k", "activation_fn", "activation_fn_str", "normalize_sae_decoder",
    "mse_loss_normalization", "dead_feature_threshold", "decoder_heads_norm", "decoder_init_norm",
    "jumprelu_init_threshold", "jumprelu_bandwidth", "scale_sparsity_penalty_by_decoder_norm", "lp_norm",
    "activation_fn_kwargs", "finetuning_scaling_factor",
)  # fmt: skip
CONFIG_KEYS = {
    "architecture",
    "hook_name",
    "hook_point",
    "d_in",
    "d_sae",
    "metadata",
    "sae_lens_version",
}  # one of them
ARCHITECTURES = ("standard", "jumprelu", "batchtopk", "topk", "abstopk", "gated", "transcoder")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    told = not checkpoint.config or CONFIG_KEYS & checkpoint.config.keys()
    return "W_enc" in checkpoint and len(checkpoint.shape("W_enc")) == 2 and bool(told)


def read(checkpoint: Checkpoint, *, input_scale: float = 1.0) -> Dictionary:
    """Fill a `Dictionary`; `input_scale` is for average-norm scaling that was not folded into the weights."""
    config = checkpoint.config
    kind = _kind(checkpoint)
    transcoder = "transcoder" in str(config.get("architecture"))
    encoder = checkpoint.rows("W_enc", "dD")
    n_features, _, width = encoder.shape
    for name in ("scaling_factor", "finetuning_scaling_factor"):  # of ones for a while, in all files
        if name in checkpoint and not torch.allclose(
            checkpoint.tensor(name, n_features), torch.ones(()).to(encoder.device)
        ):
            raise ValueError(f"{name} is not 1: the decoder was finetuned apart from the codes, which is not read")
    centred = bool(config.get("apply_b_dec_to_input", True)) and not transcoder
    out = parse_hook(str(_meta(checkpoint).get("hf_hook_name_out") or _meta(checkpoint).get("hook_name_out") or ""))[1]
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=None if kind == "gated" else checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "Dd", D=n_features),
        activation=_activation(checkpoint, kind, n_features),
        code_norm=decoder_norm if "topk" in kind and config.get("rescale_acts_by_decoder_norm") else None,
        writes_at=(out or "mlp_out") if transcoder else None,
        **preparation(checkpoint, width, input_scale, centred=centred),
        **place_of(checkpoint),
    )


def preparation(checkpoint: Checkpoint, width: int, input_scale: float, *, centred: bool) -> dict[str, Any]:
    """The normalisation that the config names, and its undoing on the decoder's side, as arguments of `Dictionary`."""
    normalise = str(checkpoint.config.get("normalize_activations") or "none").lower()
    notes = []
    if normalise in ("expected_average_only_in", "true"):
        notes.append(f"inputs are scaled by {input_scale:g} (expected_average_only_in; 1 if folded into the weights)")
    elif normalise not in ("none", "false", *NORMAL):
        raise ValueError(f"normalize_activations {normalise!r} is unknown; expected none, layer_norm, …")
    if (_meta(checkpoint).get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"):
        notes.append("trained on a model with centred weights: on a plain model feed x - x.mean(-1)")
    centre = checkpoint.tensor("b_dec", width) if centred else None
    normal, token_scale = NORMAL.get(normalise, (None, None))

    def prepare(x: Tensor) -> Tensor:
        x = x if input_scale == 1 else x * input_scale
        x = x if normal is None else normal(x)
        return x if centre is None else x - centre.to(x)

    scale = torch.tensor([1 / input_scale])
    return {"prepare": prepare, "output_scale": scale, "token_scale": token_scale, "notes": tuple(notes)}


def place_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Where it reads, of which model, and whether behind a BOS, as arguments of `Dictionary`."""
    meta = _meta(checkpoint)
    # The name of the module of Hugging Face's model, where there is one, says more than TransformerLens's.
    layer, hook_point = parse_hook(
        str(meta.get("hf_hook_name") or meta.get("hook_name") or meta.get("hook_point") or "")
    )
    return {
        "layer": meta.get("hook_layer", layer) if layer is None else layer,
        "hook_point": hook_point,
        "models": (str(meta["model_name"]),) if meta.get("model_name") else (),
        "prepend_bos": meta.get("prepend_bos"),
    }


def _meta(checkpoint: Checkpoint) -> dict[str, Any]:
    """The metadata, which lay at the top before version 6."""
    return {**checkpoint.config, **(checkpoint.config.get("metadata") or {})}


def _kind(checkpoint: Checkpoint) -> str:
    """One of `ARCHITECTURES`; without a config, the tensors tell."""
    config = checkpoint.config
    told = {"b_gate": "gated", "threshold": "jumprelu"}
    kind = config.get("architecture") or next((told[name] for name in told if name in checkpoint), "standard")
    function = config.get("activation_fn_str", config.get("activation_fn"))
    if function == "topk":
        kind = "topk"  # before version 6 an activation function of the standard architecture
    elif function not in (None, "relu"):
        raise ValueError(f"activation function {function!r} is unknown; expected relu or topk")
    for part in ("_skip_transcoder", "skip_", "_transcoder", "matryoshka_"):
        kind = kind.replace(part, "")
    if kind not in ARCHITECTURES:
        raise ValueError(f"SAELens architecture {kind!r} is unknown; expected one of {', '.join(ARCHITECTURES)}")
    return str(kind)


def _activation(checkpoint: Checkpoint, kind: str, n_features: int) -> Activation:
    config = checkpoint.config
    if kind in ("topk", "abstopk"):
        if not (k := config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")):
            raise ValueError(f"the config of this {kind} SAE has no k; expected the number of active features")
        return TopK(int(k), scaled=True, absolute=kind == "abstopk")
    if kind == "gated":
        return Gated(*(checkpoint.tensor(name, n_features) for name in ("b_gate", "b_mag", "r_mag")))
    if kind in ("jumprelu", "batchtopk"):  # a trained BatchTopK is saved as JumpReLU
        if kind == "batchtopk" and "topk_threshold" in checkpoint:  # as it is saved while it trains
            return Threshold(checkpoint.tensor("topk_threshold"))
        return Threshold(checkpoint.tensor("threshold", n_features))
    return ReLU()

"""dictionary_learning: `ae.pt` of github.com/saprmarks/dictionary_learning, `model.safetensors` of jkminder's fork."""

from __future__ import annotations

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, input_normalisation, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, Gated, ReLU, Threshold, TopK, decoder_norm

NAME = "dictionary_learning"
EXPECTS = "encoder.weight [D, d], decoder.weight [d, D], or W_enc [d, D]; config.json with trainer.dict_class"
PASSES_OVER = (
    "b_dec", "decoder.bias", "k", "target_rms", "activation_global_scale",
    "activation_mean", "activation_std", "group_sizes", "group_weights", "num_tokens_since_fired",
    "threshold_beta", "threshold_start_step", "top_k_aux",
)  # fmt: skip
CLASSES = {  # the bias taken off the input; whether the shown value is times the decoder norm: (original, fork)
    "AutoEncoder": ("bias", (True, False)),  # the original's from_pretrained normalises the decoder by default
    "AutoEncoderNew": ("", (False, False)),
    "AutoEncoderTopK": ("b_dec", (False, False)),
    "BatchTopKSAE": ("b_dec", (False, False)),
    "MatryoshkaBatchTopKSAE": ("b_dec", (False, False)),
    "GatedAutoEncoder": ("decoder_bias", (False, True)),
    "JumpReluAutoEncoder": ("", (False, True)),
}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    saelens = checkpoint.path.name == "sae_weights.safetensors"
    told = {"trainer", "dict_class"} & set(checkpoint.config) or (_guess(checkpoint) in CLASSES and not saelens)
    return "encoder.weight" in checkpoint or ("W_enc" in checkpoint and bool(told))


def read(
    checkpoint: Checkpoint, *, dict_class: str = "", k: int | None = None, scale_by_decoder_norm: bool | None = None
) -> Dictionary:
    """Fill a `Dictionary`; `dict_class` and `k` are for a checkpoint without config.json.

    `scale_by_decoder_norm`: by default as in the repository that made the file (`.pt`: original, safetensors: fork).
    """
    config = checkpoint.config.get("trainer") or checkpoint.config
    name = str(dict_class or config.get("dict_class") or _guess(checkpoint))
    if name not in CLASSES:
        raise ValueError(f"dict_class {name!r} is unknown; give dict_class=, one of {', '.join(CLASSES)}")
    linear = "encoder.weight" in checkpoint
    encoder = checkpoint.rows(*(("encoder.weight", "Dd") if linear else ("W_enc", "dD")))
    n_features, _, width = encoder.shape
    centre_name, scaled_by = CLASSES[name]
    scaled = scaled_by[checkpoint.path.suffix == ".safetensors"]
    scaled = scaled if scale_by_decoder_norm is None else scale_by_decoder_norm
    activation: Activation = ReLU()
    if name == "AutoEncoderTopK":
        k = k or config.get("k") or (int(checkpoint.scalar("k")) if "k" in checkpoint else None)
        if not k:
            raise ValueError(f"{checkpoint.path} does not say how many features are active; give k=")
        activation = TopK(int(k))
        checkpoint.scalar("threshold", 0.0)  # of training: a top-k file may have one
    elif name == "GatedAutoEncoder":
        activation = Gated(*(checkpoint.tensor(bias, n_features) for bias in ("gate_bias", "mag_bias", "r_mag")))
    elif name not in ("AutoEncoder", "AutoEncoderNew"):
        activation = Threshold(checkpoint.tensor("threshold", *[n_features] * (name == "JumpReluAutoEncoder")))
    bias_name = "encoder.bias" if linear else "b_enc"
    centre = checkpoint.tensor(centre_name, width) if centre_name else torch.zeros(())
    normalise, scale = input_normalisation(checkpoint, width)
    layer, hook_point = parse_hook(str(config.get("submodule_name") or ""))
    return Dictionary(
        family=f"{NAME} {name}",
        encoder=encoder,
        encoder_bias=None if name == "GatedAutoEncoder" else checkpoint.tensor(bias_name, n_features),
        decoder_rows=checkpoint.rows(*(("decoder.weight", "dD") if linear else ("W_dec", "Dd")), D=n_features, d=width),
        activation=activation,
        prepare=lambda x: (x if normalise is None else normalise(x)) - centre.to(x),
        code_norm=decoder_norm if scaled else None,
        output_scale=None if scale is None else 1 / (scale[None] + 1e-8),
        layer=config.get("layer", layer),
        hook_point=hook_point,
        models=(str(config["lm_name"]),) if config.get("lm_name") else (),
        notes=(f"values are {'times' if scaled else 'not scaled by'} the decoder norm (scale_by_decoder_norm=)",),
    )


def _guess(checkpoint: Checkpoint) -> str:
    """The class, from the tensors; "unknown" where they do not tell it."""
    config = checkpoint.config
    if "W_enc" in checkpoint and "group_sizes" not in checkpoint:
        hub_form = not config or {"activation_dim", "dict_size"} <= config.keys()
        return "JumpReluAutoEncoder" if "threshold" in checkpoint and hub_form else "unknown"
    if "encoder.weight" in checkpoint and "b_dec" in checkpoint:
        if "threshold" not in checkpoint:
            return "AutoEncoderTopK"
        return "BatchTopKSAE" if "activation_mean" in checkpoint else "unknown"  # a top-k file may have a threshold too
    told = {"group_sizes": "MatryoshkaBatchTopKSAE", "gate_bias": "GatedAutoEncoder", "bias": "AutoEncoder"}
    return next((name for tensor, name in told.items() if tensor in checkpoint), "AutoEncoderNew")

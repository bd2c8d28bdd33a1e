"""OpenMOSS' SAEs of 2025 (Llama Scope R1 distill): JumpReLU with a threshold for each feature, kept as its logarithm.

pre = x W' + b, shown where it exceeds exp(log_jumprelu_threshold).
Sources: github.com/OpenMOSS/Language-Model-SAEs; SAELens, loading/pretrained_sae_loaders.py (llama_scope_r1_distill).
"""

from __future__ import annotations

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Threshold

NAME = "OpenMOSS"
EXPECTS = "encoder.weight [D, d], decoder.weight [d, D], log_jumprelu_threshold [D], config.json with sae_type"
PASSES_OVER = ("decoder.bias", "expansion_factor")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "encoder.weight" in checkpoint and "log_jumprelu_threshold" in checkpoint


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`."""
    config = checkpoint.config
    kind, function = str(config.get("sae_type") or "sae"), str(config.get("act_fn") or "jumprelu").lower()
    if kind != "sae" or function != "jumprelu" or config.get("use_glu_encoder"):
        raise ValueError(
            f"sae_type {kind!r} with act_fn {function!r} is not read; expected an SAE with jumprelu, no GLU"
        )
    norm = config.get("norm_activation")
    if norm not in (None, "inference", "none"):
        raise ValueError(f"norm_activation is {norm!r}, which scales the input; only 'inference' (folded in) is read")
    encoder = checkpoint.rows("encoder.weight", "Dd")
    n_features, _, width = encoder.shape
    layer, hook_point = parse_hook(str(config.get("hook_point_in") or ""))
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("encoder.bias", n_features),
        decoder_rows=checkpoint.rows("decoder.weight", "dD", D=n_features, d=width),
        activation=Threshold(checkpoint.tensor("log_jumprelu_threshold", n_features).exp()),
        layer=layer,
        hook_point=hook_point,
    )

"""Llama Scope (OpenMOSS): `hyperparams.json` and `checkpoints/final.safetensors`, JumpReLU with one threshold.

With s = sqrt(d) / average input norm: pre = (x W' + b / s), times the decoder norm where the config says
`sparsity_include_decoder_norm`; shown where it exceeds the threshold. SAELens shows s x W' + b instead, and has no
decoder norm in the gate: `convention="saelens"`.
Sources: github.com/OpenMOSS/Language-Model-SAEs, src/lm_saes; SAELens, loading/pretrained_sae_loaders.py.
"""

from __future__ import annotations

import math

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Threshold, decoder_norm

NAME = "Llama Scope"
EXPECTS = "encoder.weight [D, d], decoder.weight [d, D], hyperparams.json with dataset_average_activation_norm"
PASSES_OVER = (
    "decoder.bias", "norm_activation", "sparsity_include_decoder_norm", "top_k", "init_decoder_norm",
    "init_encoder_norm", "decoder_exactly_fixed_norm",
)  # fmt: skip


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors and the config are those of this family."""
    return "encoder.weight" in checkpoint and "dataset_average_activation_norm" in checkpoint.config


def read(checkpoint: Checkpoint, *, convention: str = "openmoss") -> Dictionary:
    """Fill a `Dictionary`; `convention` is "openmoss" or "saelens"."""
    if convention not in ("openmoss", "saelens"):
        raise ValueError(f"convention {convention!r} is unknown; expected openmoss or saelens")
    config = checkpoint.config
    if str(config.get("act_fn", "jumprelu")).lower() != "jumprelu" or config.get("use_glu_encoder"):
        raise ValueError(f"act_fn {config.get('act_fn')!r} is unknown; expected jumprelu without a GLU encoder")
    if config.get("apply_decoder_bias_to_pre_encoder"):
        raise ValueError("apply_decoder_bias_to_pre_encoder is on, which no published Llama Scope has; it is not read")
    encoder = checkpoint.rows("encoder.weight", "Dd")
    n_features, _, width = encoder.shape
    bias = checkpoint.tensor("encoder.bias", n_features)
    norms = config["dataset_average_activation_norm"]
    scale_in, scale_out = (math.sqrt(width) / float(norms[side]) for side in ("in", "out"))
    threshold = float(config["jump_relu_threshold"])
    openmoss = convention == "openmoss"
    scaled = openmoss and bool(config.get("sparsity_include_decoder_norm"))
    ratio = scale_in / scale_out  # 1 for an SAE; a transcoder's decoder is rescaled between its two sides
    layer, hook_point = parse_hook(str(config.get("hook_point_in") or ""))
    out = parse_hook(str(config.get("hook_point_out") or ""))[1]
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=bias / scale_in if openmoss else bias,
        decoder_rows=checkpoint.rows("decoder.weight", "dD", D=n_features, d=width),
        activation=Threshold(torch.tensor(threshold * (1 if openmoss else scale_in)).to(bias), scaled=openmoss),
        prepare=None if openmoss else lambda x: x * scale_in,
        code_norm=(lambda n: decoder_norm(n) * ratio) if scaled else None,
        output_scale=torch.tensor([ratio if openmoss else 1 / scale_out]).to(bias),
        layer=layer,
        hook_point=hook_point,
        writes_at=None if out == hook_point else out,
        models=("meta-llama/Llama-3.1-8B",) if "Llama3_1-8B-Base" in checkpoint.where else (),
        prepend_bos=True,
        notes=(f"values in the {convention} scale (convention=)",),
    )

"""Bart Bussmann's BatchTopK repository: `sae.pt` and `config.json`, vanilla, top-k, BatchTopK and JumpReLU SAEs.

With `input_unit_norm` on (x - mean) / (std + 1e-5). Top-k and BatchTopK: relu((x - b_dec) W), and b_enc stays 0;
vanilla: relu((x - b_dec) W + b_enc); JumpReLU: relu(x W + b_enc) where it exceeds the threshold.
Source: github.com/bartbussmann/BatchTopK, sae.py, logs.py.
"""

from __future__ import annotations

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, ReLU, Threshold, TopK, deviation, layer_norm

NAME = "BatchTopK"
EXPECTS = "W_enc [d, D], W_dec [D, d], b_enc [D], b_dec [d], config.json with sae_type, act_size, dict_size"
PASSES_OVER = ("b_dec", "top_k", "top_k_aux", "act_size", "num_batches_not_active")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors and the config are those of this family."""
    return "W_enc" in checkpoint and {"sae_type", "act_size", "dict_size"} <= checkpoint.config.keys()


def read(checkpoint: Checkpoint, *, threshold: float | None = None) -> Dictionary:
    """Fill a `Dictionary`; `threshold`: for BatchTopK, whose files have none, what a value must exceed to be kept."""
    config = checkpoint.config
    kind = str(config["sae_type"])
    encoder = checkpoint.rows("W_enc", "dD")
    n_features, _, width = encoder.shape
    activation: Activation = ReLU()
    if kind == "topk":
        activation = TopK(int(config["top_k"]))
    elif kind == "jumprelu":
        activation = Threshold(checkpoint.tensor("jumprelu.log_threshold", n_features).exp())
    elif kind == "batchtopk" and threshold is not None:
        activation = Threshold(torch.tensor(threshold))
    elif kind == "batchtopk":
        raise ValueError(
            "what this BatchTopK SAE keeps of a token depends on the other tokens of its batch, and it stores no "
            "threshold: give threshold=, the least value kept, averaged over many batches"
        )
    elif kind != "vanilla":
        raise ValueError(f"sae_type {kind!r} is unknown; expected vanilla, topk, batchtopk or jumprelu")
    bias = checkpoint.tensor("b_enc", n_features)
    if kind.endswith("topk") and bias.any():
        raise ValueError(f"b_enc is not 0: this repository's {kind} does not train it, and a fork may add it or not")
    centre = None if kind == "jumprelu" else checkpoint.tensor("b_dec", width)
    normed = bool(config.get("input_unit_norm"))
    layer, hook_point = parse_hook(str(config.get("hook_point") or ""))
    return Dictionary(
        family=f"{NAME} {kind}",
        encoder=encoder,
        encoder_bias=bias,
        decoder_rows=checkpoint.rows("W_dec", "Dd", D=n_features, d=width),
        activation=activation,
        prepare=lambda x: (layer_norm(x) if normed else x) - (0 if centre is None else centre.to(x)),
        token_scale=deviation if normed else None,
        layer=layer,
        hook_point=hook_point,
        models=(str(config["model_name"]),) if config.get("model_name") else (),
        prepend_bos=True,
        notes=(f"kept are values above {threshold:g} (threshold=)",) if threshold is not None else (),
    )

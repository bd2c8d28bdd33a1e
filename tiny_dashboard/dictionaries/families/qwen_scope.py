"""Qwen Scope: `layerN.sae.pt` files of top-k SAEs; k stands in the repository's name, `…-L0_50`.

Source: the repositories Qwen/SAE-Res-* on the Hub.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import TopK

NAME = "Qwen Scope"
EXPECTS = "W_enc [D, d], W_dec [d, D], b_enc [D] in layerN.sae.pt"
PASSES_OVER = ("b_dec",)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    if "W_enc" not in checkpoint or "b_enc" not in checkpoint or "threshold" in checkpoint:
        return False
    named = ".sae." in checkpoint.path.name or re.search(r"L0_\d+", checkpoint.where)
    if not named or checkpoint.path.suffix == ".safetensors":
        return False
    shape = checkpoint.shape("W_enc")
    return len(shape) == 2 and shape[0] != shape[1] and checkpoint.shape("b_enc") == shape[:1]


def read(checkpoint: Checkpoint, *, k: int | None = None) -> Dictionary:
    """Fill a `Dictionary`; `k` where the name does not tell it."""
    told = re.search(r"L0_(\d+)", checkpoint.where)
    k = k or checkpoint.config.get("k") or (int(told[1]) if told else None)
    if k is None:
        raise ValueError(f"the name {checkpoint.where} has no L0_<k>; give k=, the number of active features")
    encoder = checkpoint.rows("W_enc", "Dd")
    n_features, _, width = encoder.shape
    layer = re.search(r"layer(\d+)\.sae", checkpoint.path.name)
    model = re.search(r"SAE-Res-(.+?)-W\d+K", checkpoint.where)
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "dD", D=n_features, d=width),
        activation=TopK(int(k)),
        layer=int(layer[1]) if layer else None,
        hook_point="resid_post",
        models=(f"Qwen/{model[1]}",) if model else (),
    )

"""The crosscoder of ckkissane and robertzk, `cc_weights.pt`: relu(sum_m x_m W_m + b), two models.

Its README asks for inputs scaled by an estimated factor for each model. Two public users fold 0.2759 (base) and 0.2442
(chat) into the encoder of the Gemma 2 2B one, a third does not scale: hence `input_scale`.
Source: github.com/ckkissane/crosscoder-model-diff-replication.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import ReLU

NAME = "ckkissane crosscoder"
EXPECTS = "W_enc [L, d, D], W_dec [D, L, d], b_enc [D]"
PASSES_OVER = ("b_dec", "dec_init_norm")
GEMMA_2_2B_SCALE = (0.2758961493232058, 0.24422852496546169)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "W_enc" in checkpoint and len(checkpoint.shape("W_enc")) == 3


def read(checkpoint: Checkpoint, *, input_scale: Sequence[float] | None = None) -> Dictionary:
    """Fill a `Dictionary`; `input_scale`: a factor for each model, by default those known for Gemma 2 2B, else 1."""
    encoder = checkpoint.rows("W_enc", "LdD")
    n_features, n_models, width = encoder.shape
    place = str(checkpoint.config.get("hook_point") or "")
    if input_scale is None:
        gemma = "gemma-2-2b" in str(checkpoint.config.get("model_name") or checkpoint.where).lower()
        input_scale = GEMMA_2_2B_SCALE if gemma and n_models == 2 else (1.0,) * n_models
    if len(input_scale) != n_models:
        raise ValueError(f"input_scale has {len(input_scale)} factors; expected one for each of {n_models} models")
    scale = torch.tensor(input_scale, device=checkpoint.device, dtype=checkpoint.dtype)
    layer, hook_point = parse_hook(place or checkpoint.path.parent.name)
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "DLd", D=n_features, L=n_models, d=width),
        activation=ReLU(),
        prepare=lambda x: x * scale.to(x)[:, None],
        output_scale=1 / scale,
        layer=layer,
        hook_point=hook_point if layer is not None else None,
        notes=(f"inputs are scaled by {', '.join(f'{factor:.4g}' for factor in input_scale)} (input_scale=)",),
    )

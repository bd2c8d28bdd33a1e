"""Matching pursuit SAEs of SAELens (6.30 on): `W_dec` and `b_dec` only, since the encoder is the decoder's transpose.

What is left of the input is projected on the feature that fits it best, and that part is taken off, again and again,
until the rest is shorter than `residual_threshold`, no new feature comes, or after `max_iterations`.
Source: github.com/decoderesearch/SAELens, sae_lens/saes/matching_pursuit_sae.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary, Rows
from tiny_dashboard.dictionaries.families.saelens import place_of, preparation
from tiny_dashboard.dictionaries.functions import Features

NAME = "SAELens matching pursuit"
EXPECTS = "W_dec [D, d], b_dec [d], cfg.json with architecture matching_pursuit"
PASSES_OVER = ("b_dec",)


@dataclass(frozen=True, eq=False)
class Pursuit:
    """Codes of inputs `[..., d]` (not of pre-activations) by pursuit over the rows; attributes as in the config."""

    rows: Rows
    residual_threshold: float
    max_iterations: int
    stop_on_duplicate_support: bool
    elementwise = False

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        rows, rest = self.rows.all()[:, 0].to(pre), pre.reshape(-1, pre.shape[-1]).clone()
        codes = rest.new_zeros(len(rest), len(rows))
        at = torch.arange(len(rest), device=rest.device)  # tokens that are not done
        for _ in range(self.max_iterations):
            best = (rest[at] @ rows.T).argmax(1)
            value = (rest[at] * rows[best]).sum(1).relu()
            new = (value > 0) & (codes[at, best] == 0)
            codes[at, best] += value
            rest[at] -= value[:, None] * rows[best]
            going = new if self.stop_on_duplicate_support else torch.ones_like(new)
            if self.residual_threshold > 0:
                going = going & (rest[at].norm(dim=-1) >= self.residual_threshold)
            at = at[going]
            if not len(at):
                break
        return codes.reshape(*pre.shape[:-1], -1)


class PursuitDictionary(Dictionary):
    """A dictionary whose activation function reads the input itself."""

    def encode(self, x: Tensor, features: Features | None = None) -> Tensor:
        x = self._input(x)[..., 0, :]
        if features is not None:
            self.check_features(features)
        values = self.activation(x, None, None)
        return values if features is None else values[..., list(features)]


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the config names this architecture."""
    return "W_dec" in checkpoint and checkpoint.config.get("architecture") == "matching_pursuit"


def read(checkpoint: Checkpoint, *, input_scale: float = 1.0) -> Dictionary:
    """Fill a `Dictionary`; `input_scale` is for average-norm scaling that was not folded into the weights."""
    config = checkpoint.config
    rows = checkpoint.rows("W_dec", "Dd")
    how = preparation(checkpoint, rows.shape[2], input_scale, centred=bool(config.get("apply_b_dec_to_input", True)))
    pursuit = Pursuit(
        rows,
        float(config.get("residual_threshold", 1e-2)),
        int(config.get("max_iterations") or rows.shape[2]),
        bool(config.get("stop_on_duplicate_support", True)),
    )
    return PursuitDictionary(
        family=NAME, encoder=rows, decoder_rows=rows, activation=pursuit, **how, **place_of(checkpoint)
    )

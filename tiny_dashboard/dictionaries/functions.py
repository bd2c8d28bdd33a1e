"""Activation functions of dictionaries: pre-activations to shown values, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Features = Sequence[int]


class Activation(Protocol):
    """Pre-activations `[..., len(features)]` -> shown values; an elementwise one needs no other feature."""

    elementwise: bool

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        """`norm` is the code norm, `[len(features)]`; `features` None means all."""


def decoder_norm(norms: Tensor) -> Tensor:
    """Code norm of a single model: the norm of its decoder direction; `[F, 1]` to `[F]`."""
    return norms[:, 0]


def deviation(x: Tensor) -> Tensor:
    """The unbiased standard deviation over the width, `[..., 1]`."""
    return x.std(-1, keepdim=True)


def layer_norm(x: Tensor) -> Tensor:
    """(x - mean) / (deviation + 1e-5) over the width (OpenAI's and SAELens's)."""
    x = x - x.mean(-1, keepdim=True)
    return x / (deviation(x) + 1e-5)


def rms(x: Tensor) -> Tensor:
    """The root mean square over the width, `[..., 1]`."""
    return x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5


def unit_rms(x: Tensor) -> Tensor:
    """x scaled to a norm of sqrt(d_model) at each token (OpenMOSS's token-wise, SAELens's constant_norm_rescale)."""
    return x / rms(x)


def take(values: Tensor, features: Features | None, like: Tensor) -> Tensor:
    """The chosen features' part of `[D]` values (or the one value for all), where `like` is and in its dtype."""
    return (values if features is None or values.ndim == 0 else values[list(features)]).to(like)


@dataclass(frozen=True, eq=False)
class ReLU:
    """relu(pre) * norm."""

    elementwise = True

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        return pre.relu() if norm is None else pre.relu() * norm


@dataclass(frozen=True, eq=False)
class Identity:
    """pre, as it is."""

    elementwise = True

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        return pre


@dataclass(frozen=True, eq=False)
class Threshold:
    """relu(pre) * norm where it exceeds the threshold: JumpReLU, and BatchTopK at inference.

    Attributes:
        threshold: one, or `[D]`.
        scaled: compare relu(pre) * norm with the threshold, instead of pre.
    """

    threshold: Tensor
    scaled: bool = False
    elementwise = True

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        value = pre.relu() if norm is None else pre.relu() * norm
        return value * ((value if self.scaled else pre) > take(self.threshold, features, pre))


@dataclass(frozen=True, eq=False)
class TopK:
    """The k largest of pre at each token, times norm.

    Attributes:
        k: how many are kept.
        scaled: rank pre * norm, instead of pre.
        absolute: the largest by magnitude, with their sign.
        relu: negative values among them become 0.
        groups: the largest of each of k equal groups of neighbouring features instead (groupmax).
    """

    k: int
    scaled: bool = False
    absolute: bool = False
    relu: bool = True
    groups: bool = False
    elementwise = False

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        values = pre * norm if norm is not None and self.scaled else pre
        if self.groups:
            grouped = values.unflatten(-1, (self.k, -1))
            best = grouped.max(-1, keepdim=True)
            kept = torch.zeros_like(grouped).scatter(-1, best.indices, best.values).flatten(-2)
        else:
            found = (values.abs() if self.absolute else values).topk(min(self.k, values.shape[-1]), dim=-1).indices
            kept = torch.zeros_like(values).scatter(-1, found, values.gather(-1, found))
        kept = kept.relu() if self.relu and not self.absolute else kept
        return kept if norm is None or self.scaled else kept * norm


@dataclass(frozen=True, eq=False)
class Gated:
    """relu(exp(r_mag) * pre + mag_bias) * norm where pre + gate_bias > 0; `pre` has no bias here. All `[D]`."""

    gate_bias: Tensor
    mag_bias: Tensor
    r_mag: Tensor
    elementwise = True

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        size = (take(self.r_mag, features, pre).exp() * pre + take(self.mag_bias, features, pre)).relu()
        value = size * (pre + take(self.gate_bias, features, pre) > 0)
        return value if norm is None else value * norm


@dataclass(frozen=True, eq=False)
class Decoupled:
    """A threshold for each model: the sum over models of v where v = relu(pre) * norm of that model exceeds it.

    Attributes:
        threshold: `[n_models]`.
    """

    threshold: Tensor
    elementwise = True

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        assert norm is not None  # [len(features), n_models] here
        total = torch.zeros_like(pre)
        for threshold, model_norm in zip(self.threshold.to(pre), norm.unbind(-1), strict=True):
            value = pre.relu() * model_norm
            total += value * (value > threshold)
        return total

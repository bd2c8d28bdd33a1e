"""`Dictionary`: what every SAE, transcoder and crosscoder shares. A reader for a checkpoint family fills it.

x -> `prepare` (the family's input normalisation) -> times the encoder, plus the bias -> `activation`, which also
applies the code norm (a scaling of the shown value by decoder norms) where the family has one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tiny_dashboard.dictionaries.functions import Activation, Features, take


class Rows:
    """A weight seen as one row `[n_models, d]` for each feature, in memory or straight from the file.

    Args:
        source: a tensor, or a safetensors slice (`safe_open(...).get_slice(name)`), which is read only where asked.
        layout: the axes of `source`: "D" features, "L" models, "d" width; "dD" is `[d, D]`.
        name: the tensor's name, for errors.
        device, dtype: of the rows that come out.
    """

    def __init__(
        self, source: Any, layout: str, *, name: str = "weight", device: Any = "cpu", dtype: torch.dtype = torch.float32
    ):
        self.name, self.device, self.dtype = name, device, dtype
        shape = source.shape if isinstance(source, Tensor) else source.get_shape()
        sizes = dict(zip(layout, shape, strict=True))
        self.shape = (sizes["D"], sizes.get("L", 1), sizes["d"])
        self._source, self._layout = source, layout
        self._all: Tensor | None = None
        self._lock = threading.Lock()

    def to(self, device: Any) -> Rows:
        """The same rows on another device."""
        source, everything = self._source, self._all
        if everything is not None:
            return Rows(everything.to(device), "DLd", name=self.name, device=device, dtype=self.dtype)
        return Rows(source, self._layout, name=self.name, device=device, dtype=self.dtype)

    def __getitem__(self, features: Features) -> Tensor:
        """Rows `[len(features), n_models, d]` of the chosen features."""
        index, source = torch.as_tensor(features, dtype=torch.long), self._source
        if self._all is not None:
            return self._all[index.to(self.device)]
        axis = self._layout.index("D")
        if isinstance(source, Tensor):
            return self._arrange(source.index_select(axis, index.to(source.device)))
        if not len(index):
            return torch.empty(0, *self.shape[1:], device=self.device, dtype=self.dtype)
        before = (slice(None),) * axis
        parts = [source[(*before, slice(feature, feature + 1))] for feature in index.tolist()]
        return self._arrange(torch.cat(parts, axis))

    def all(self) -> Tensor:
        """All rows, `[D, n_models, d]`; read once and kept."""
        with self._lock:
            if self._all is None:
                self._all = self._arrange(self._source if isinstance(self._source, Tensor) else self._source[:])
                self._source = None  # its memory, where it is in another layout
            return self._all

    def _arrange(self, tensor: Tensor) -> Tensor:
        layout = self._layout
        if "L" not in layout:
            tensor, layout = tensor.unsqueeze(0), "L" + layout
        rows = tensor.permute([layout.index(axis) for axis in "DLd"]).to(self.device, self.dtype).contiguous()
        if not torch.isfinite(rows).all():
            raise ValueError(f"tensor {self.name!r} holds NaN or infinite weights; the checkpoint is damaged")
        return rows


@dataclass(frozen=True, eq=False)
class Dictionary:
    """An SAE, transcoder or crosscoder, ready to encode.

    Attributes:
        family: the checkpoint family it was read as.
        encoder, decoder_rows: weights as rows of features; `decoder_rows` is None where the file has no decoder.
        encoder_bias: `[D]` or None.
        activation: pre-activations to shown values.
        prepare: input normalisation of `[..., n_models, d]`, None for none.
        code_norm: decoder norms `[F, n_models]` to the scaling of the shown value, None for none.
        output_scale: `[n_models]` or `[n_models, d_model]`: what undoes the fixed scaling part of `prepare` on the
            decoder's side, None for 1.
        token_scale: the same for a scaling that depends on the token: x `[..., d_model]` to `[..., 1]`; None for 1.
        layer, hook_point, models: what the checkpoint says of where it reads; None or empty where silent.
        writes_at: the hook point that its decoder writes to, where that is another (a transcoder's "mlp_out").
        prepend_bos: whether it was trained on texts with a BOS; None where the checkpoint does not say.
        notes: conventions in force that a reader of the numbers should know, one sentence each.
        source: what `load_dictionary` finds it by: its path, or Hub id and path; "" where it was made otherwise.
    """

    family: str
    encoder: Rows
    activation: Activation
    decoder_rows: Rows | None = None
    encoder_bias: Tensor | None = None
    prepare: Callable[[Tensor], Tensor] | None = None
    code_norm: Callable[[Tensor], Tensor] | None = None
    output_scale: Tensor | None = None
    token_scale: Callable[[Tensor], Tensor] | None = None
    layer: int | None = None
    hook_point: str | None = None
    writes_at: str | None = None
    models: tuple[str, ...] = ()
    prepend_bos: bool | None = None
    notes: tuple[str, ...] = ()
    source: str = ""

    @property
    def n_features(self) -> int:
        """Number of features, D."""
        return self.encoder.shape[0]

    @property
    def n_models(self) -> int:
        """1 for an SAE or transcoder, 2 for a base/chat crosscoder."""
        return self.encoder.shape[1]

    @property
    def d_model(self) -> int:
        """Width of the activations it reads."""
        return self.encoder.shape[2]

    @property
    def device(self) -> Any:
        """Where it computes."""
        return self.encoder.device

    @property
    def dtype(self) -> torch.dtype:
        """In what it computes, and of what it returns."""
        return self.encoder.dtype

    def to(self, device: Any) -> Dictionary:
        """The same dictionary, computing on another device."""
        rows = self.decoder_rows
        return replace(self, encoder=self.encoder.to(device), decoder_rows=None if rows is None else rows.to(device))

    def encode(self, x: Tensor, features: Features | None = None) -> Tensor:
        """Feature activations, by the family's own formula.

        Args:
            x: `[..., d_model]`, for a crosscoder `[..., n_models, d_model]`; any device and dtype.
            features: chosen features; only their rows are touched where the activation function permits it.

        Returns:
            `[..., n_features]` or `[..., len(features)]`, on the dictionary's device, in its dtype.

        Raises:
            ValueError: x has another shape, or a feature is out of range.
        """
        x = self._input(x)
        rows = features if self.activation.elementwise else None
        if features is not None:
            self.check_features(features)
        weight = self.encoder.all() if rows is None else self.encoder[rows]
        pre = x.flatten(-2) @ weight.flatten(1).T
        if self.encoder_bias is not None:
            pre = pre + take(self.encoder_bias, rows, pre)
        values = self.activation(pre, self._norm(rows), rows)
        return values if features is None or rows is not None else values[..., list(features)]

    def get_activations(self, x: Tensor, select_features: Features | None = None) -> Tensor:
        """`encode` under the name that crosscoder classes use: x `[batch, n_models, d_model]`, for one model too."""
        return self.encode(x[:, 0] if x.shape[1:] == (1, self.d_model) else x, select_features)

    def contributions(self, x: Tensor, features: Features) -> Tensor:
        """Each model's part of the pre-activation, `[..., len(features), n_models]`, in units of the shown value.

        Their sum, plus the bias times the code norm, is the pre-activation times the code norm.
        """
        self.check_features(features)
        parts = torch.einsum("...ld,fld->...fl", self._input(x), self.encoder[features])
        norm = self._norm(features)
        if norm is None:
            return parts
        return parts * (norm if norm.ndim == 2 else norm[:, None])

    def decoder(self, features: Features) -> Tensor:
        """Decoder directions as stored, `[len(features), n_models, d_model]`.

        Raises:
            ValueError: the checkpoint has no decoder, or a feature is out of range.
        """
        self.check_features(features)
        return self._decoder[features]

    def writes(self, features: Features) -> Tensor:
        """What one unit of the shown activation adds to each model's activations, as `decoder` is shaped.

        Times `token_scale` of the activations that it is added to, where there is one.
        """
        directions, norm = self.decoder(features), self._norm(features)
        if norm is not None:
            total = norm.sum(-1) if norm.ndim == 2 else norm
            directions = directions / total.clamp_min(1e-8)[:, None, None]
        if self.output_scale is None:
            return directions
        scale = self.output_scale.to(directions)
        return directions * (scale if scale.ndim == 2 else scale[:, None])

    def decoder_norms(self) -> Tensor:
        """Norms of all decoder directions, `[n_features, n_models]`; computed once."""
        return self._decoder_norms

    def check_features(self, features: Features) -> None:
        """Raises a `ValueError` that names the first feature out of range."""
        if len(features) and not 0 <= min(features) <= max(features) < self.n_features:
            wrong = next(feature for feature in features if not 0 <= feature < self.n_features)
            raise ValueError(f"feature {wrong} is out of range: the dictionary has {self.n_features} features")

    @property
    def _decoder(self) -> Rows:
        if self.decoder_rows is None:
            raise ValueError(f"this {self.family} checkpoint has no decoder")
        return self.decoder_rows

    @cached_property
    def _decoder_norms(self) -> Tensor:
        chunks = torch.arange(self.n_features).split(4096)
        return torch.cat([self._decoder[chunk.tolist()].norm(dim=-1) for chunk in chunks])

    def _norm(self, features: Features | None) -> Tensor | None:
        if self.code_norm is None:
            return None
        return self.code_norm(self._decoder_norms if features is None else self._decoder[features].norm(dim=-1))

    def _input(self, x: Tensor) -> Tensor:
        expected = (self.n_models, self.d_model)
        x = x.to(self.device, self.dtype)
        if self.hook_point == "z" and x.shape[-1] != self.d_model and x.ndim > 1:
            x = x.flatten(-2)  # [..., heads, d_head]
        if self.n_models == 1 and x.shape[-1:] == (self.d_model,):
            x = x.unsqueeze(-2)
        if tuple(x.shape[-2:]) != expected:
            raise ValueError(
                f"the dictionary reads activations of {self.n_models} model(s) of width {self.d_model}, "
                f"[..., {self.n_models}, {self.d_model}]; it got {list(x.shape)}"
            )
        return x if self.prepare is None else self.prepare(x)

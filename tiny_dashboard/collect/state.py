"""The state of a collection: what one pass over a corpus keeps of every feature.

Pure tensors and exact integer sums, so that adding batches and merging shards is associative and commutative, bit for
bit. Which windows are kept, for each feature:

1. of each document the best window (value descending, window id ascending);
2. of windows with the same tokens the best one;
3. of these the `top_k` strongest, and a uniform sample (those with the smallest hash of window and feature).

A window's id is `document << 32 | start`. Values above 0 count as active; 0 marks an empty slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

N_BINS, FIRST_EXPONENT = 64, -14  # two bins to the octave: 2^-14, 1.5 * 2^-14, 2^-13, …; the ends take the rest
FIXED_POINT = 2.0**24  # sums are integers of this fraction: exact in any order
PART_FEATURES = 4096  # features in one file of a saved state, which is what merging holds in memory
ROWS_AT_ONCE = 32_768

Payload = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Windows(NamedTuple):
    """What `State.add` must know of a batch of windows; documents are contiguous, their windows in order.

    Attributes:
        ids: of the windows, `[batch]`.
        texts: hash of the window's tokens, `[batch]`.
        tokens: token ids, -1 for padding, `[batch, seq]` int32.
        keep: positions that count, `[batch, seq]`.
        groups: 0, 1, …: which of the batch's documents the window belongs to, `[batch]`.
        resumed, continues: the first / last document has windows in the batch before / after.
    """

    ids: Tensor
    texts: Tensor
    tokens: Tensor
    keep: Tensor
    groups: Tensor
    resumed: bool = False
    continues: bool = False

    def to(self, device: Any) -> Windows:
        """The same on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in self._asdict().items()
            if torch.is_tensor(value)
        }
        return self._replace(**moved)


def bin_edges() -> list[float]:
    """The histogram's edges, `[N_BINS + 1]`."""
    return [(1.0 + 0.5 * (i % 2)) * 2.0 ** (FIRST_EXPONENT + i // 2) for i in range(N_BINS + 1)]


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014) on int64, whose shifts keep the sign."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


class Slots:
    """The best windows of each feature, in fixed places, so that only new ones are written.

    Args:
        tensors: value [D, K] float32, window and text [D, K] int64, rows [D, K, T] float16, tokens [D, K, T] int32.
        sample: the order is that of a hash, else that of the value.
    """

    def __init__(self, tensors: dict[str, Tensor], *, sample: bool = False) -> None:
        self.tensors, self.sample = tensors, sample
        self.value, self.window, self.text = tensors["value"], tensors["window"], tensors["text"]
        self.rows, self.tokens = tensors["rows"], tensors["tokens"]

    @classmethod
    def empty(cls, features: int, slots: int, length: int, device: Any, *, sample: bool = False) -> Slots:
        """Slots for `slots` windows of at most `length` tokens."""

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(features, slots, *shape, dtype=dtype, device=device)

        tensors = {
            "value": zeros(dtype=torch.float32),
            "window": zeros(dtype=torch.int64),
            "text": zeros(dtype=torch.int64),
            "rows": zeros(length, dtype=torch.float16),
            "tokens": zeros(length, dtype=torch.int32),
        }
        return cls(tensors, sample=sample)

    def view(self, low: int, high: int) -> Slots:
        """The slots of features `low` to `high`, sharing memory."""
        return Slots({name: tensor[low:high] for name, tensor in self.tensors.items()}, sample=self.sample)

    def order(self, value: Tensor, window: Tensor, first: int) -> Tensor:
        """What is compared, largest first; 0 for no window. `first` is the feature of row 0."""
        if not self.sample:
            return value.clamp(min=0)
        feature = torch.arange(first, first + len(value), device=value.device)[:, None]
        chance = (_mix(_mix(feature + 1) ^ window) & 0xFFFFFF).float() + 1
        return chance * (value > 0)

    def insert(self, value: Tensor, window: Tensor, text: Tensor, payload: Payload, first: int = 0) -> None:
        """Let candidates compete with what is held.

        Args:
            value: `[D, B]`; 0 or less: not a candidate.
            window, text: `[B]` or `[D, B]`.
            payload: `(features [n], columns [n]) -> rows [n, seq], tokens [n, seq]` of the winners.
            first: the number of the first feature, when this is a view.
        """
        n_slots = self.value.shape[1]
        if not n_slots:
            return
        window, text = window.expand_as(value), text.expand_as(value)
        held, offered = self.order(self.value, self.window, first), self.order(value, window, first)
        worth = (offered > 0) & (offered >= held.amin(1, keepdim=True))
        touched = worth.any(1).nonzero().squeeze(1)
        if not len(touched):
            return
        keys = torch.cat([held[touched], (offered * worth)[touched]], 1)
        windows = torch.cat([self.window[touched], window[touched]], 1)
        texts = torch.cat([self.text[touched], text[touched]], 1)
        order = windows.argsort(dim=1, stable=True)
        order = order.gather(1, keys.gather(1, order).argsort(dim=1, descending=True, stable=True))
        texts = texts.gather(1, order)
        by_text = texts.argsort(dim=1, stable=True)
        texts = texts.gather(1, by_text)
        again = torch.zeros_like(texts, dtype=torch.bool)
        again[:, 1:] = texts[:, 1:] == texts[:, :-1]
        again = torch.zeros_like(again).scatter(1, by_text, again)
        alive = (keys.gather(1, order) > 0) & ~again
        won = torch.zeros_like(alive).scatter(1, order, alive & (alive.cumsum(1) <= n_slots))
        stays, new = won[:, :n_slots], won[:, n_slots:]
        place = ~stays & ((~stays).cumsum(1) <= new.sum(1, keepdim=True))
        self.value[touched] *= stays
        row, column = new.nonzero(as_tuple=True)
        slot = place.nonzero(as_tuple=True)[1]  # row by row, as many as are new
        for at in range(0, len(row), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            feature, source, target = touched[row[part]], column[part], slot[part]
            rows, tokens = payload(feature, source)
            length = rows.shape[1]
            self.value[feature, target] = value[feature, source]
            self.window[feature, target] = window[feature, source]
            self.text[feature, target] = text[feature, source]
            self.rows[feature, target, :length] = rows.clamp(max=65504).half()
            self.rows[feature, target, length:] = 0
            self.tokens[feature, target, :length] = tokens
            self.tokens[feature, target, length:] = -1

    def insert_slots(self, other: Slots, first: int = 0) -> None:
        """Let the windows of other slots compete."""

        def payload(feature: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
            return other.rows[feature, column], other.tokens[feature, column]

        self.insert(other.value, other.window, other.text, payload, first)

    def arrange(self, first: int = 0) -> None:
        """Sort each feature's windows, best first, and blank the empty slots: equal contents become equal bits."""
        order = self.window.argsort(dim=1, stable=True)
        keys = self.order(self.value, self.window, first).gather(1, order)
        order = order.gather(1, keys.argsort(dim=1, descending=True, stable=True))
        for tensor in self.tensors.values():
            index = order.view(*order.shape, *[1] * (tensor.ndim - 2)).expand_as(tensor)
            tensor.copy_(tensor.gather(1, index))
        for tensor in self.tensors.values():
            tensor[self.value <= 0] = 0


class State:
    """What is kept of features `first` to `first + n_features`; see the module's text.

    Args:
        tensors: the tensors of `tensors()`, by name.
        first: the number of the first feature.
    """

    def __init__(self, tensors: dict[str, Tensor], first: int = 0) -> None:
        self.first = first
        self.histogram, self.total = tensors["histogram"], tensors["total"]
        parts = {}
        for kind in ("top", "sample", "open"):
            mine = {name.split(".")[1]: tensor for name, tensor in tensors.items() if name.startswith(kind + ".")}
            parts[kind] = Slots(mine, sample=kind == "sample")
        self.top, self.sample, self.open = parts["top"], parts["sample"], parts["open"]

    @classmethod
    def empty(cls, n_features: int, top_k: int, n_samples: int, length: int, device: Any = "cpu") -> State:
        """A state that has seen nothing."""
        tensors = {
            "histogram": torch.zeros(n_features, N_BINS, dtype=torch.int64, device=device),
            "total": torch.zeros(n_features, dtype=torch.int64, device=device),
        }
        for kind, slots in (("top", top_k), ("sample", n_samples), ("open", 1)):
            made = Slots.empty(n_features, slots, length, device)
            tensors |= {f"{kind}.{name}": tensor for name, tensor in made.tensors.items()}
        return cls(tensors)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, features first."""
        tensors = {"histogram": self.histogram, "total": self.total}
        for kind, slots in (("top", self.top), ("sample", self.sample), ("open", self.open)):
            tensors |= {f"{kind}.{name}": tensor for name, tensor in slots.tensors.items()}
        return tensors

    @property
    def n_features(self) -> int:
        """Number of features in this part."""
        return len(self.total)

    @property
    def n_bytes(self) -> int:
        """Memory of the state."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def view(self, low: int, high: int) -> State:
        """Features `low` to `high` of this state, sharing memory."""
        return State({name: tensor[low:high] for name, tensor in self.tensors().items()}, self.first + low)

    def parts(self) -> Iterator[State]:
        """The state in parts of `PART_FEATURES` features, sorted; they share its memory."""
        for low in range(0, self.n_features, PART_FEATURES):
            yield self.view(low, low + PART_FEATURES).arrange()

    def add(self, codes: Tensor, batch: Windows) -> None:
        """Take in the activations of one batch of windows.

        Args:
            codes: `[batch, seq, n_features]`; positions that do not count are set to 0 in place, and kept as NaN. Codes
                that arrive sparse, `[batch * seq, n_features]` in COO layout, stay sparse, and give the same bits.
            batch: see `Windows`.

        Raises:
            ValueError: an activation is NaN or infinite.
        """
        found = _Found(codes, batch.keep)
        if not bool(torch.isfinite(found.value).all()):
            raise ValueError(
                "the dictionary gave NaN or infinite activations; check the checkpoint, or run the model in bfloat16 "
                "or float32 (float16 overflows on some models)"
            )
        active = (found.value > 0).nonzero().squeeze(1)
        strength, feature = found.value[active].float(), found.feature[active]
        # Times a power of two and rounded, a float32 is still exact.
        self.total.index_add_(0, feature, (strength * FIXED_POINT).round().long())
        # The exponent and the first bit of the fraction number the half octaves, exactly and on every device.
        bins = (strength.view(torch.int32) >> 22) - 2 * (127 + FIRST_EXPONENT)
        cell = feature * N_BINS + bins.clamp(0, N_BINS - 1)
        self.histogram += torch.bincount(cell, minlength=self.histogram.numel()).view_as(self.histogram)

        masked = ~batch.keep & (batch.tokens >= 0)

        def payload(feature: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
            rows = found.rows(window, feature)
            # What does not count has no value; a 0 would say that the feature does not fire there.
            return rows.masked_fill(masked[window], torch.nan), batch.tokens[window]

        value = _champions(found.peak.float(), batch.groups)
        last = int(batch.groups[-1])
        resumed = batch.groups == (0 if batch.resumed else -1)
        continues = batch.groups == (last if batch.continues else -1)
        if batch.resumed:
            self._offer([self.open], value * resumed[:, None], batch, payload)
            if not (batch.continues and last == 0):
                self.close()
        self._offer([self.top, self.sample], value * ~(resumed | continues)[:, None], batch, payload)
        if batch.continues and not (batch.resumed and last == 0):
            self._offer([self.open], value * continues[:, None], batch, payload)

    def close(self) -> State:
        """End the document that is open, if one is: its best windows compete with the others. Returns itself."""
        for slots in (self.top, self.sample):
            slots.insert_slots(self.open, self.first)
        self.open.value.zero_()
        return self

    def _offer(self, to: list[Slots], value: Tensor, batch: Windows, payload: Payload) -> None:
        for slots in to:
            slots.insert(value.T, batch.ids, batch.texts, payload, self.first)

    def merge(self, other: State) -> None:
        """Take in what another state has seen of the same features in other documents."""
        self.histogram += other.histogram
        self.total += other.total
        self.top.insert_slots(other.top, self.first)
        self.sample.insert_slots(other.sample, self.first)

    def arrange(self) -> State:
        """Sort, so that equal states are equal bits; returns itself."""
        for slots in (self.top, self.sample, self.open):
            slots.arrange(self.first)
        return self


class _Found:
    """What a batch's codes say, whatever their layout: those that are not 0, which are few, and how to find them.

    Args:
        codes, keep: as for `State.add`.

    Attributes:
        value, feature: the codes that count and are not 0, `[n]`.
        peak: the largest code of each window, `[batch, D]`; 0 where the feature does not fire.
    """

    def __init__(self, codes: Tensor, keep: Tensor) -> None:
        (batch, self.seq), self.n_features = keep.shape, codes.shape[-1]
        if codes.is_sparse:
            codes = codes.coalesce()
            counts = keep.flatten()[codes.indices()[0]]
            (token, self.feature), self.value = codes.indices()[:, counts], codes.values()[counts]
        else:
            codes[(~keep).nonzero(as_tuple=True)] = 0
            flat = codes.view(-1)
            place = _nonzero(flat)
            token, self.value = place // self.n_features, flat[place]
            self.feature = place - token * self.n_features
        window, self.position = token // self.seq, token % self.seq
        self.cell = window * self.n_features + self.feature
        peak = self.value.new_zeros(batch * self.n_features)
        self.peak = peak.scatter_reduce_(0, self.cell, self.value, "amax").view(batch, self.n_features)

    def rows(self, window: Tensor, feature: Tensor) -> Tensor:
        """Codes `[n, seq]` of pairs `[n]` of a window and a feature, of which none comes twice."""
        row_of = self.cell.new_full((self.peak.numel(),), -1)
        row_of[window * self.n_features + feature] = torch.arange(len(window), device=row_of.device)
        row = row_of[self.cell]
        mine = (row >= 0).nonzero().squeeze(1)
        made = self.value.new_zeros(len(window), self.seq)
        made[row[mine], self.position[mine]] = self.value[mine]
        return made


def _nonzero(flat: Tensor) -> Tensor:
    """Where a vector is not 0 (NaN is not); numpy looks for it in half of torch's time."""
    if flat.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero((flat != 0).numpy()))
    return flat.nonzero().squeeze(1)


def _champions(value: Tensor, groups: Tensor) -> Tensor:
    """Zero all but each document's best window, the first one of equals. Value `[batch, D]`, groups `[batch]`."""
    n_windows, n_groups = len(groups), int(groups[-1]) + 1
    if n_groups == n_windows:
        return value
    index = groups[:, None].expand_as(value)
    best = value.new_zeros(n_groups, value.shape[1]).scatter_reduce(0, index, value, "amax")
    place = torch.arange(n_windows, device=value.device)[:, None].expand_as(value)
    place = place.masked_fill(value < best[groups], n_windows)
    first = torch.full_like(best, n_windows, dtype=torch.int64).scatter_reduce(0, index, place, "amin")
    return value * (place == first[groups])

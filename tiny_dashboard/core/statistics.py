"""What is known of a feature besides its examples: one record, and one list of what is told of many.

A new statistic is what collects it, and a line in `COLUMNS`; what a source knows beyond that stands in `extra`, and is
shown, searched, sorted, converted and exported like the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tiny_dashboard.core.filters import Texts, matches
from tiny_dashboard.core.highlight import UNSEEN, format_number

PAGE = 25  # rows of one page of the table
GRID = 96, 40  # of the plot of all features


@dataclass(frozen=True)
class Column:
    """One thing that is told of every feature.

    Attributes:
        name: of the field of `FeatureStats`, or of the entry in its `extra`.
        title: over the column.
        says: what it means, in words.
        kind: "number", "count", "percent" (of a fraction) or "text".
    """

    name: str
    title: str
    says: str
    kind: str = "number"

    def show(self, value: Any) -> str:
        """A value as people read it; "" for what is unknown."""
        if self.kind == "text" or value is None or isinstance(value, str):
            return str(value or "")
        if math.isnan(value):
            return ""
        if self.kind == "count":
            return f"{value:,.0f}"
        return f"{100 * value:.3g}%" if self.kind == "percent" else format_number(value)


COLUMNS = (
    Column("label", "label", "a name, or else the tokens that it fires on most", "text"),
    Column("density", "density", "fraction of the tokens on which it fires", "percent"),
    Column("max_activation", "maximum", "its largest activation"),
    Column(
        "relative_norm_difference", "relative norm", "of a crosscoder's decoder: 0 base only, 0.5 shared, 1 chat only"
    ),
    Column("decoder_cosine", "cosine", "between a crosscoder's two decoder directions"),
)
LABEL_COLUMNS = (
    Column("label_score", "score", "how well the label foretells where the feature fires: 0.5 by chance, 1 perfect"),
    Column("label_judgements", "judgements", "number of texts that the label's score was taken over", "count"),
    Column("label_source", "label by", "who named it: a person, or a language model", "text"),
    Column("note", "note", "what people wrote of it", "text"),
)


@dataclass(frozen=True)
class FeatureStats:
    """What a source knows of one feature besides its examples; None or empty where it does not.

    Attributes:
        n_active: number of tokens on which the feature fired.
        density: fraction of tokens on which it fired, 0 to 1.
        max_activation, mean_activation: over the tokens on which it fired.
        histogram: counts of the activations in bins, `[n_bins]`.
        histogram_edges: edges of these bins, `[n_bins + 1]`.
        label: a name or an explanation in words.
        top_logits, bottom_logits: tokens that the decoder direction promotes or suppresses, strongest first:
            `(token, logit)`, one list for each model of the dictionary.
        decoder_norms: norm of the decoder direction in each model, `[n_models]`; a crosscoder's are (base, chat).
        relative_norm_difference: `((norm_chat - norm_base) / max(norm_base, norm_chat) + 1) / 2`: 0 is base only,
            0.5 is shared, 1 is chat only.
        decoder_cosine: cosine between the two models' decoder directions.
        peak_tokens: the tokens that are most often the peak of its examples, `(token, count)`, commonest first.
        nearest: the features whose decoder directions point the same way, `(feature, cosine)`, nearest first.
        extra: what else a source knows, by its own name for it: numbers, and short texts.
    """

    feature: int
    n_active: int | None = None
    density: float | None = None
    max_activation: float | None = None
    mean_activation: float | None = None
    histogram: Sequence[int] = ()
    histogram_edges: Sequence[float] = ()
    label: str | None = None
    top_logits: Sequence[Sequence[tuple[str, float]]] = ()
    bottom_logits: Sequence[Sequence[tuple[str, float]]] = ()
    decoder_norms: Sequence[float] = ()
    relative_norm_difference: float | None = None
    decoder_cosine: float | None = None
    peak_tokens: Sequence[tuple[str, int]] = ()
    nearest: Sequence[tuple[int, float]] = ()
    extra: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label; else the tokens that it fires on most, spaces visible; "" where neither is known."""
        return self.label or in_sight(self.peak_tokens[:5])

    def get(self, name: str) -> Any:
        """A statistic by its name, whether it has a field of its own or not; None where it is unknown."""
        return getattr(self, name) if name in FIELDS else self.extra.get(name)

    def with_label(self, told: Mapping[str, Any]) -> FeatureStats:
        """This record with a label: `told` holds `label`, and the names of `LABEL_COLUMNS`, those that are known."""
        said = {c.name: with_label(c.name, self.get(c.name), told) for c in LABEL_COLUMNS}
        extra = {name: v for name, v in {**self.extra, **said}.items() if v not in (None, "")}
        return replace(self, label=with_label("label", self.label, told), extra=extra)

    def over(self, other: FeatureStats | None) -> FeatureStats:
        """This record, with what only the other one knows."""
        if other is None:
            return self
        mine = {name: getattr(self, name) for name in FIELDS if getattr(self, name) not in (None, ())}
        return replace(other, **mine, extra={**other.extra, **self.extra})


FIELDS = tuple(one.name for one in fields(FeatureStats) if one.name != "extra")


def with_label(name: str, before: Any, told: Mapping[str, Any]) -> Any:
    """A column of a feature's label once `told` has its say: another label leaves nothing of who gave the former."""
    return told.get(name) if name in told or (name.startswith("label_") and "label" in told) else before


def extra_column(name: str, is_text: bool) -> Column:
    """The column of a statistic that is none of `COLUMNS`."""
    kind = "text" if is_text else "number"
    ours = next((c for c in LABEL_COLUMNS if c.name == name and (c.kind == "text") == is_text), None)
    return ours or Column(name, name.replace("_", " "), "as its source has it", kind)


class FeatureTable:
    """What is known of all features, column by column; one that a source lacks is unknown: NaN, or "".

    Args:
        ids: all features, ascending.
        read: gives the values of a column by its name, `[n_features]` with None for what is unknown; or None. It is
            asked for a column when that is first needed. "peak_tokens" gives texts.
        extra: columns besides `COLUMNS`.
        examples: of each feature what its examples say, to be searched; None where that is not known.
    """

    def __init__(
        self,
        ids: Sequence[int],
        read: Callable[[str], Any] = lambda name: None,
        extra: Iterable[Column] = (),
        examples: Texts | None = None,
    ) -> None:
        self.ids = np.array(ids, dtype=np.int64)
        extra = tuple(extra)
        scores = tuple(column for column in extra if column.name == "label_score")  # it belongs to the label
        self.columns = (COLUMNS[0], *scores, *COLUMNS[1:], *(column for column in extra if column not in scores))
        self._read, self._kept = read, dict[str, np.ndarray]()
        self.examples = examples
        self._found = lru_cache(maxsize=16)(lambda query: matches(self, query))
        self._order = lru_cache(maxsize=16)(self.order)

    @classmethod
    def of(cls, ids: Sequence[int], records: Iterable[FeatureStats]) -> FeatureTable:
        """The table of records in any order; features without one are unknown."""
        known = {record.feature: record for record in records}
        rows = [known.get(feature) for feature in ids]
        names = dict.fromkeys(name for record in known.values() for name in record.extra)
        extra = [extra_column(n, any(isinstance(r.extra.get(n), str) for r in known.values())) for n in names]

        def read(name: str) -> list[Any]:
            values = [None if row is None else row.get(name) for row in rows]
            return list(map(TOKENS[name], values)) if name in TOKENS else values

        return cls(ids, read, extra)

    def with_labels(self, known: Mapping[int, Mapping[str, Any]]) -> FeatureTable:
        """This table with labels: `{feature: what FeatureStats.with_label takes}`."""
        rows = np.flatnonzero(np.isin(self.ids, np.fromiter(known, np.int64, len(known))))
        told = [known[feature] for feature in self.ids[rows].tolist()]
        ours = {column.name: column for column in (COLUMNS[0], *LABEL_COLUMNS)}

        def read(name: str) -> Any:
            if name not in ours:
                return self.raw(name)
            values = list(self.raw(name)) if ours[name] in self.columns else [None] * len(self.ids)
            for row, one in zip(rows.tolist(), told, strict=True):
                values[row] = with_label(name, values[row], one)
            return values

        kept = [c for c in self.columns if c not in COLUMNS and c.name not in ours]
        return FeatureTable(self.ids.tolist(), read, [*LABEL_COLUMNS, *kept], self.examples)

    def with_examples(self, examples: Texts) -> FeatureTable:
        """This table, whose examples' texts are searched, too."""
        return FeatureTable(self.ids.tolist(), self.raw, (c for c in self.columns if c not in COLUMNS), examples)

    def column(self, name: str) -> np.ndarray:
        """One statistic of all features, `[n_features]`: float64 with NaN, or texts with "", for what is unknown.

        What a feature fires on is the next best thing to a label.
        """
        return self._names if name == "label" else self.raw(name)

    @cached_property
    def _names(self) -> np.ndarray:
        return np.where(self.raw("label") == "", self.raw("peak_tokens"), self.raw("label"))

    def has(self, name: str) -> bool:
        """Whether this is a column of the table."""
        return name in TOKENS or any(column.name == name for column in self.columns)

    def raw(self, name: str) -> np.ndarray:
        """`column` with nothing in place of a label."""
        if name not in self._kept:
            values = self._read(name)
            kind = next((c.kind for c in self.columns if c.name == name), "text")
            if kind == "text":
                texts = [""] * len(self.ids) if values is None else ["" if v is None else str(v) for v in values]
                self._kept[name] = np.array(texts, dtype=object)
            elif values is None:
                self._kept[name] = np.full(len(self.ids), np.nan)
            else:
                numbers = [np.nan if v is None else v for v in values] if isinstance(values, list) else values
                self._kept[name] = np.asarray(numbers, dtype=np.float64)
        return self._kept[name]

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The columns, the feature's own number as the first."""
        return (Column("feature", "feature", "its number"), *self.columns)

    @cached_property
    def told(self) -> Texts:
        """All that is told in words of each feature."""
        names = ("peak_tokens", "top_logits", *(column.name for column in self.columns if column.kind == "text"))
        return Texts(map("\uffff".join, zip(*(self.raw(name).tolist() for name in names), strict=True)))

    def order(self, query: str = "", sort: str = "feature", descending: bool = False) -> np.ndarray:
        """The rows that a query finds, sorted: those found by their examples' texts alone after the others.

        What is unknown comes last either way.

        Args:
            query: as in `core.filters`; empty finds all.
            sort: the name of a column, or "feature".
            descending: largest first.

        Raises:
            ValueError: there is no such column.
        """
        names = [column.name for column in self.all_columns]
        if sort not in names:
            raise ValueError(f"sort is {sort!r}; it is one of {', '.join(names)}")
        found = self._found(query)
        chosen = np.flatnonzero(found)
        if sort != "feature":
            key = self.column(sort)[chosen]
            if key.dtype == object:
                key = np.where(key == "", np.nan, np.unique(key.astype(str), return_inverse=True)[1])
            chosen = chosen[np.argsort(-key if descending else key, kind="stable")]
        elif descending:
            chosen = chosen[::-1]
        return chosen[np.argsort(-found[chosen], kind="stable")]

    def find(
        self, query: str = "", sort: str = "feature", page: int = 1, descending: bool = False, size: int = PAGE
    ) -> dict[str, Any]:
        """One page of the features that a query finds; the arguments are those of `order`.

        Args:
            page: from 1; one too far gives the last.
            size: rows of a page.

        Returns:
            {total, told, page, pages, features: [{feature, and each column by its name; None where it is unknown}]};
            the first `told` of them by what is told of the feature, the others by their examples' texts alone
        """
        chosen = self._ordered(query, sort, descending)
        pages = max(1, math.ceil(len(chosen) / size))
        page = min(page, pages)
        rows = chosen[(page - 1) * size : page * size]
        names = [c.name for c in self.columns]
        values = [map(_plain, self.column(name)[rows].tolist()) for name in names]
        told = zip(self.ids[rows].tolist(), *values, strict=True)
        features = [dict(zip(["feature", *names], one, strict=True)) for one in told]
        n_told = int(np.count_nonzero(self._found(query.strip()) == 2))
        return {"total": len(chosen), "told": n_told, "page": page, "pages": pages, "features": features}

    def place(self, feature: Any, query: str, sort: str, descending: bool) -> int:
        """Where a feature stands in `order`; -1 where it does not."""
        at = np.flatnonzero(self.ids[self._ordered(query, sort, descending)] == feature)
        return int(at[0]) if len(at) else -1

    def name(self, feature: int) -> tuple[str, list[str]]:
        """A feature's label, and the tokens that it fires on most; empty where unknown."""
        at = np.searchsorted(self.ids, feature)
        if at == len(self.ids) or self.ids[at] != feature:
            return "", []
        return str(self.raw("label")[at]), self.raw("peak_tokens")[at].split()

    def known_columns(self) -> list[Column]:
        """The columns of which something is known."""
        return self._known

    @cached_property
    def _known(self) -> list[Column]:
        return [c for c in self.columns if np.any(self.column(c.name) != "" if c.kind == "text" else self._finite(c))]

    def cloud(self, query: str = "") -> dict[str, Any]:
        """All features as a cloud of points, counted in a grid: those that a query finds, and all.

        A crosscoder's are its relative norm and cosine, otherwise density and maximum, where these are known.

        Returns:
            {x, y: {name, title, low, high, log}, cells: [[column, row, number of all, of those found]]}, or {}.
        """
        axes, cell_of, n_all = self._grid
        if not axes:
            return {}
        cells = cell_of[self._ordered(query, "feature", False)]
        n_found = np.bincount(cells[cells >= 0], minlength=math.prod(GRID))
        filled = np.flatnonzero(n_all)
        told = np.stack([filled // GRID[1], filled % GRID[1], n_all[filled], n_found[filled]], axis=1)
        return {"x": axes[0], "y": axes[1], "cells": told.tolist()}

    @cached_property
    def _grid(self) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
        """The axes of the plot, the cell of each feature (-1: none), and the number of features in each cell."""
        by_name = {c.name: c for c in self.known_columns()}
        pairs = (("relative_norm_difference", "decoder_cosine"), ("density", "max_activation"))
        pair = next((p for p in pairs if by_name.keys() >= set(p)), ())
        shown = np.logical_and.reduce([self._finite(by_name[name]) for name in pair])
        if is_log := pair[:1] == ("density",):
            shown = shown & np.logical_and.reduce([self.column(name) > 0 for name in pair])
        if not np.any(shown):
            return [], np.empty(0), np.empty(0)
        axes: list[dict[str, Any]] = []
        bins = []
        for name, size in zip(pair, GRID, strict=True):
            values = self.column(name)[shown]
            values = np.log10(values) if is_log else values
            low, high = float(values.min()), float(values.max())
            low, high = (low, high) if low < high else (low - 0.5, low + 0.5)
            axis = {"name": name, "title": by_name[name].title, "log": is_log, "size": size, "low": low, "high": high}
            axes.append(axis)
            bins.append(np.minimum((size * (values - low) / (high - low)).astype(int), size - 1))
        cell_of = np.full(len(self.ids), -1)
        cell_of[shown] = bins[0] * GRID[1] + bins[1]
        return axes, cell_of, np.bincount(cell_of[shown], minlength=math.prod(GRID))

    def _finite(self, column: Column) -> np.ndarray:
        return np.isfinite(self.column(column.name))

    def _ordered(self, query: str, sort: str, descending: bool) -> np.ndarray:
        """`order`, remembered: a list that is scrolled asks for page after page."""
        return self._order(query.strip(), str(sort), descending)


def visible(token: str) -> str:
    """A token in a list: its spaces and newlines can be seen, and what has no glyph has a name."""
    shown = token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    return shown if shown.isprintable() else UNSEEN.sub(lambda m: f"⟨{ord(m[0]):02X}⟩", shown)


def in_sight(tokens: Iterable[Any] | None) -> str:
    """The tokens of `peak_tokens` as a text; each is `(token, count)`, or a row of these."""
    return " ".join(visible(token["token"] if isinstance(token, dict) else token[0]) for token in tokens or ())


def all_in_sight(models: Iterable[Any] | None) -> str:
    """The tokens of `top_logits` as a text to search."""
    return " ".join(in_sight(tokens) for tokens in models or ())


TOKENS: dict[str, Callable[[Any], str]] = {"peak_tokens": in_sight, "top_logits": all_in_sight}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None

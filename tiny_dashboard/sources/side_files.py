"""Files beside the examples that say more of the features: `feature_df.csv`, and explanations in several shapes.

feature_df.csv                          first column: the feature; `tag`, `dec_norm_diff`, `max_act`, …
explanations.json                       {feature: text}
explanations/*.jsonl[.gz]               Neuronpedia: {index, description}
explanations/<hookpoint>_latent<n>.txt  delphi: a JSON string
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.examples import Example, ExampleSource
from tiny_dashboard.core.statistics import TEXT_COLUMNS, FeatureStats, StatsTable
from tiny_dashboard.sources.base import number_in
from tiny_dashboard.sources.formats.neuronpedia import read_lines

# Column of feature_df.csv -> field; the first of several names wins.
COLUMNS = {
    "tag": "label",
    "max_act": "max_activation",
    "lmsys_max_act": "max_activation",
    "max_act_val": "max_activation",
    "lmsys_freq": "density",
    "freq": "density",
    "dec_norm_diff": "relative_norm_difference",
    "dec_cos_sim": "decoder_cosine",
    "cos_sim": "decoder_cosine",
}
CONVENTION = "0 base only, 0.5 shared, 1 chat only; dec_norm_diff of feature_df.csv, where 0 is chat only, was turned"


class WithSideFiles(ExampleSource):
    """A source, and what files beside it say of its features; they go before what the source itself says."""

    def __init__(self, source: ExampleSource, side: Mapping[int, FeatureStats]) -> None:
        self._source, self._side = source, side
        self.info = source.info
        if any(stats.relative_norm_difference is not None for stats in side.values()):
            self.info = replace(source.info, extra={**source.info.extra, "relative_norm_difference": CONVENTION})

    def features(self) -> Sequence[int]:
        return self._source.features()

    def __contains__(self, feature: object) -> bool:
        return feature in self._source

    def load(self, feature: int) -> Sequence[Example]:
        return self._source.load(feature)

    def stats(self, feature: int) -> FeatureStats | None:
        return merge(self._source.stats(feature), self._side.get(feature))

    def all_stats(self) -> StatsTable:
        return self._table

    @cached_property
    def _table(self) -> StatsTable:
        known = self._source.all_stats()
        return _MergedStats(self, known if isinstance(known, StatsTable) else None, self._side)

    def close(self) -> None:
        self._source.close()


class _MergedStats(StatsTable):
    """Statistics of a source with those of the side files over them, column by column."""

    def __init__(self, source: WithSideFiles, known: StatsTable | None, side: Mapping[int, FeatureStats]) -> None:
        self._source, self._known, self._side = source, known, side
        self._features = dict.fromkeys(source.features())

    def column(self, name: str) -> np.ndarray[Any, Any]:
        ids = np.fromiter(self._features, np.int64, len(self._features))
        column = np.full(len(ids), "", dtype=object) if name in TEXT_COLUMNS else np.full(len(ids), np.nan)
        if self._known is not None and len(self._known):
            known = np.fromiter(self._known, np.int64, len(self._known))
            _, here, there = np.intersect1d(ids, known, assume_unique=True, return_indices=True)
            column[here] = self._known.column(name)[there]
        place = {int(feature): i for i, feature in enumerate(ids)}
        for feature, stats in self._side.items():
            if feature in place and getattr(stats, name) not in (None, ()):
                column[place[feature]] = getattr(stats, name)
        return column

    def __getitem__(self, feature: int) -> FeatureStats:
        if feature not in self._features:
            raise KeyError(feature)
        return self._source.stats(feature) or FeatureStats(feature)

    def __iter__(self) -> Iterator[int]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def merge(first: FeatureStats | None, over: FeatureStats | None) -> FeatureStats | None:
    """One record of two; what `over` knows goes before."""
    if first is None or over is None:
        return over or first
    known = {f.name: getattr(over, f.name) for f in fields(over)}
    return replace(first, **{name: value for name, value in known.items() if value is not None and value != ()})


def read_side_files(folder: Path, hookpoint: str | None = None) -> dict[int, FeatureStats]:
    """What the files beside the examples say, by feature.

    Args:
        folder: where the examples are.
        hookpoint: the one whose explanations count, where delphi wrote those of several.

    Raises:
        ValueError: one of them is broken; it is named.
    """
    side: dict[int, FeatureStats] = {}
    for file, read in _readers(folder, hookpoint):
        try:
            for stats in read(file):
                merged = merge(side.get(stats.feature), stats)
                assert merged is not None
                side[stats.feature] = merged
        except (ValueError, KeyError, TypeError, EOFError, OSError, csv.Error) as error:
            raise ValueError(f"cannot read {file}, which lies beside the examples: {error!r}") from error
    return side


def _readers(folder: Path, hookpoint: str | None) -> Iterator[tuple[Path, Any]]:
    if (folder / "feature_df.csv").is_file():
        yield folder / "feature_df.csv", _feature_df
    if (folder / "explanations.json").is_file():
        yield folder / "explanations.json", _json
    explanations = folder / "explanations"
    for file in sorted(explanations.iterdir()) if explanations.is_dir() else ():
        if ".jsonl" in file.name:
            yield file, _lines
        elif (
            file.suffix == ".txt" and "_latent" in file.stem and hookpoint in (None, file.stem.rsplit("_latent", 1)[0])
        ):
            yield file, _text


def _feature_df(file: Path) -> Iterator[FeatureStats]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.reader(lines)
        names = next(rows, [])
        for row in rows:
            cells = dict(zip(names[1:], row[1:], strict=True))
            known: dict[str, Any] = {}
            for column, name in COLUMNS.items():
                text = cells.get(column, "")
                if text and text != "nan" and name not in known:
                    known[name] = text if name == "label" else float(text)
            if "relative_norm_difference" in known:
                known["relative_norm_difference"] = 1 - known["relative_norm_difference"]
            yield FeatureStats(int(float(row[0])), **known)


def _json(file: Path) -> Iterator[FeatureStats]:
    for feature, text in json.loads(file.read_text(encoding="utf-8")).items():
        yield FeatureStats(int(feature), label=str(text))


def _lines(file: Path) -> Iterator[FeatureStats]:
    for row in read_lines(file):
        if row.get("description"):
            yield FeatureStats(int(row["index"]), label=row["description"])


def _text(file: Path) -> Iterator[FeatureStats]:
    yield FeatureStats(number_in(file), label=str(json.loads(file.read_text(encoding="utf-8"))))

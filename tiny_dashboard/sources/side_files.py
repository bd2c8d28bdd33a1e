"""Files beside the examples that say more of the features: `feature_df.csv`, and explanations in several shapes.

feature_df.csv                          first column: the feature; `tag`, `dec_norm_diff`, `max_act`, …
explanations.json                       {feature: text}
explanations/*.jsonl[.gz]               Neuronpedia: {index, description}
explanations/<hookpoint>_latent<n>.txt  delphi: a JSON string
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.examples import BROKEN, Example, ExampleSource
from tiny_dashboard.core.statistics import COLUMNS, FeatureStats, FeatureTable
from tiny_dashboard.sources.base import number_in
from tiny_dashboard.sources.formats.neuronpedia import read_lines

# Column of feature_df.csv -> field; the first of several names wins. The others are kept as they are.
COLUMNS_OF_DF = {
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
        self.info, self.path = source.info, source.path
        if any(stats.relative_norm_difference is not None for stats in side.values()):
            self.info = replace(source.info, extra={**source.info.extra, "relative_norm_difference": CONVENTION})

    @property
    def version(self) -> int:
        return self._source.version

    def features(self) -> Sequence[int]:
        return self._source.features()

    def __contains__(self, feature: object) -> bool:
        return feature in self._source

    def texts(self, most: int) -> Sequence[str] | None:
        return self._source.texts(most)

    def load(self, feature: int) -> Sequence[Example]:
        return self._source.load(feature)

    def stats(self, feature: int) -> FeatureStats | None:
        side, own = self._side.get(feature), self._source.stats(feature)
        return side.over(own) if side else own

    def table(self) -> FeatureTable:
        own = self._source.table()
        side = FeatureTable.of(self.features(), (s for f, s in self._side.items() if f in self._source))
        extra = {column.name: column for column in (*own.columns, *side.columns) if column not in COLUMNS}

        def read(name: str) -> np.ndarray:
            return _overlay([table.raw(name) for table in (own, side) if table.has(name)])

        return FeatureTable(self.features(), read, extra.values())


def _overlay(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The last column, with the first where that is unknown."""
    first, last = columns[0], columns[-1]
    return np.where(last != "" if last.dtype == object else ~np.isnan(last), last, first)


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
                side[stats.feature] = stats.over(side.get(stats.feature))
        except (ValueError, EOFError, OSError, csv.Error, zlib.error, *BROKEN) as error:
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
            cells = {name: text for name, text in zip(names[1:], row[1:], strict=True) if text not in ("", "nan")}
            known: dict[str, Any] = {}
            for column, name in COLUMNS_OF_DF.items():
                if column in cells and name not in known:
                    text = cells.pop(column)
                    known[name] = text if name == "label" else float(text)
            if "relative_norm_difference" in known:
                known["relative_norm_difference"] = 1 - known["relative_norm_difference"]
            extra = {name: _number_or_text(text) for name, text in cells.items() if name not in COLUMNS_OF_DF}
            yield FeatureStats(int(float(row[0])), **known, extra=extra)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _json(file: Path) -> Iterator[FeatureStats]:
    for feature, text in json.loads(file.read_text(encoding="utf-8")).items():
        yield FeatureStats(int(feature), label=str(text))


def _lines(file: Path) -> Iterator[FeatureStats]:
    for row in read_lines(file):
        if row.get("description"):
            by = row.get("explanationModelName")
            yield FeatureStats(int(row["index"]), label=row["description"], extra={"label_source": by} if by else {})


def _text(file: Path) -> Iterator[FeatureStats]:
    yield FeatureStats(number_in(file), label=str(json.loads(file.read_text(encoding="utf-8"))))

"""Neuronpedia export v1: `{features,activations,explanations}/batch-<n>.jsonl.gz`, one JSON record on a line.

An activation: `tokens, values, index (a string), layer, modelId, maxValue, binMin, binMax, dataSource, …`; a feature:
the same names as SAEDashboard's. Explanations are side files (side_files.py).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, SourceInfo
from tiny_dashboard.core.files import open_bytes
from tiny_dashboard.core.statistics import FeatureStats, FeatureTable
from tiny_dashboard.sources.base import FileSource, bands, head, number_in
from tiny_dashboard.sources.formats.saedashboard import record_stats

NAME = "Neuronpedia export"


class NeuronpediaExamples(FileSource):
    """Examples in a Neuronpedia export, or in the files of its `activations` folder."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._records = _Records(self.path)
        first = next(iter(read_lines(next(iter(self.files())))), {})
        layer, _, source_set = str(first.get("layer", "")).partition("-")
        self.info = SourceInfo(
            NAME,
            models=[first["modelId"]] if first.get("modelId") else [],
            dictionary=source_set or None,
            layer=int(layer) if layer.isdecimal() else None,
        )

    def files(self) -> Iterable[Path]:
        return _files(self.path)

    def parse(self, file: Path) -> Mapping[int, tuple[list[Example], None]]:
        rows: dict[int, list[Mapping[str, Any]]] = {}
        for row in read_lines(file):
            rows.setdefault(int(row["index"]), []).append(row)
        return {feature: (_examples(group), None) for feature, group in rows.items()}

    def stats(self, feature: int) -> FeatureStats | None:
        return self._records.stats(feature)

    def table(self) -> FeatureTable:
        records = (self._records.stats(feature) for feature in self._records.features())
        return FeatureTable.of(self.features(), filter(None, records))


def recognises(path: Path) -> bool:
    """Whether the first line of the first batch of activations has Neuronpedia's names."""
    start = head(_files(path)[0])
    return '"maxValue"' in start and '"values"' in start and '"tokens"' in start


def open(path: Path, **options: Any) -> NeuronpediaExamples:
    """Open it; see `NeuronpediaExamples`."""
    return NeuronpediaExamples(path, **options)


class _Records(FileSource):
    """The `features` folder of an export, which may be missing."""

    cheap_stats = True

    def files(self) -> Iterable[Path]:
        return _batches(self.path, "features")

    def parse(self, file: Path) -> Mapping[int, tuple[list[Example], FeatureStats]]:
        return {int(row["index"]): ([], record_stats(row, int(row["index"]))) for row in read_lines(file)}


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The records of a .jsonl or .jsonl.gz file.

    Raises:
        ValueError: a line is no JSON object, or the file is not whole.
    """
    try:
        with open_bytes(file) as lines:
            for line in lines:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"{str(record)[:80]!r} is not a record")
                yield record
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def _files(path: Path) -> list[Path]:
    return _batches(path, "activations") or _batches(path, "") or [path]


def _batches(path: Path, folder: str) -> list[Path]:
    return sorted((path / folder).glob("batch-*.jsonl*"), key=number_in)


def _examples(rows: list[Mapping[str, Any]]) -> list[Example]:
    strength = [_strength(row) for row in rows]
    band = bands(s for s in strength if s is not None)
    return [
        Example(
            row.get("maxValue", max(row["values"])),
            row["tokens"],
            row["values"],
            quantile=None if s is None else band[s],
            doc=row.get("dataSource") or None,
        )
        for row, s in zip(rows, strength, strict=True)
    ]


def _strength(row: Mapping[str, Any]) -> float | None:
    return float("inf") if row.get("binMin") == -1 else row.get("binMax")

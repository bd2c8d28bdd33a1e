"""Quantile database: `examples.db` of the Hub datasets `science-of-finetuning/diffing-stats-*`.

    sequences(sequence_idx PK, token_ids BLOB int32)
    quantile_examples(feature_idx, quantile_idx, activation, sequence_idx)
    activation_details(feature_idx, sequence_idx, positions BLOB int32, activation_values BLOB float32)

Activations are sparse, in any order. The highest quantile_idx is the strongest: it is a fraction of the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.sources.base import dense, strongest_first, token_ids
from tiny_dashboard.sources.database import Database, tables_of

NAME = "quantile database"


class QuantileDbExamples(ExampleSource):
    """Examples in a quantile database; it holds token ids and does not name their tokenizer."""

    def __init__(self, path: str | Path) -> None:
        self._db = Database(path)
        self.path = self._db.path
        self.info = SourceInfo(NAME)

    @cached_property
    def _features(self) -> list[int]:
        return self._db.distinct("quantile_examples", "feature_idx")

    def features(self) -> Sequence[int]:
        return self._features

    def load(self, feature: int) -> Sequence[Example]:
        rows = self._db.query(
            "SELECT q.quantile_idx, q.activation, q.sequence_idx, s.token_ids, d.positions, d.activation_values "
            "FROM quantile_examples q LEFT JOIN sequences s ON s.sequence_idx = q.sequence_idx "
            "LEFT JOIN activation_details d ON d.feature_idx = q.feature_idx AND d.sequence_idx = q.sequence_idx "
            "WHERE q.feature_idx = ?",
            feature,
        )
        examples = []
        for quantile, peak, sequence, ids, positions, values in rows:
            where = f"sequence {sequence} of feature {feature} in {self._db.path}"
            tokens = token_ids(ids, where)
            activations = dense(positions, values, len(tokens), where)
            examples.append(Example(peak, [], activations, tokens, quantile=quantile, doc=sequence))
        return strongest_first(examples, feature)

    def close(self) -> None:
        self._db.close()


def recognises(path: Path) -> bool:
    """Whether it is a SQLite database with the three tables."""
    return {"sequences", "quantile_examples", "activation_details"} <= set(tables_of(path))


def open(path: Path, **options: Any) -> QuantileDbExamples:
    """Open it; see `QuantileDbExamples`."""
    return QuantileDbExamples(path, **options)

"""Store of the diffing toolkit: a SQLite file with a `config` table.

    config(key, value)                storage_format: "sparse" or "dense"
    sequences(sequence_uid, token_ids BLOB int32, text, sequence_length, dataset_id, dataset_name)
    examples(example_id, sequence_uid, score, latent_idx, quantile_idx, metadata)
    activation_details(example_id, [positions BLOB int32,] activation_values BLOB float32)

Older files call the sequence `sequence_idx`. A store of examples that belong to no latent is shown as feature 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.sources.base import dense, strongest_first, token_ids
from tiny_dashboard.sources.database import Database, quote, tables_of

NAME = "diffing-toolkit store"


class DiffingStoreExamples(ExampleSource):
    """Examples in a store of the diffing toolkit; it holds token ids and does not name their tokenizer."""

    def __init__(self, path: str | Path) -> None:
        self._db = Database(path)
        self.path = self._db.path
        try:
            columns = self._db.tables["sequences"]
            self._sequence = quote("sequence_uid" if "sequence_uid" in columns else "sequence_idx")
            self._name = "s.dataset_name" if "dataset_name" in columns else "NULL"
            sparse = "positions" in self._db.tables["activation_details"]
            self._positions = "d.positions" if sparse else "NULL"
            self._sparse = sparse
            config = dict(self._db.query("SELECT key, value FROM config"))
        except Exception:
            self._db.close()
            raise
        self.info = SourceInfo(NAME, extra=config)

    @cached_property
    def _features(self) -> list[int]:
        return self._db.distinct("examples", "latent_idx") or [0]

    def features(self) -> Sequence[int]:
        return self._features

    @cached_property
    def _has_latents(self) -> bool:
        return bool(self._db.query("SELECT 1 FROM examples WHERE latent_idx IS NOT NULL LIMIT 1"))

    def load(self, feature: int) -> Sequence[Example]:
        rows = self._db.query(
            f"SELECT e.quantile_idx, e.score, e.{self._sequence}, {self._name}, s.token_ids, {self._positions}, "
            f"d.activation_values FROM examples e LEFT JOIN sequences s ON s.{self._sequence} = e.{self._sequence} "
            "LEFT JOIN activation_details d ON d.example_id = e.example_id WHERE e.latent_idx IS ?",
            feature if self._has_latents else None,
        )
        examples = []
        for quantile, score, sequence, name, ids, positions, values in rows:
            where = f"sequence {sequence} of feature {feature} in {self._db.path}"
            tokens = token_ids(ids, where)
            if not self._sparse:
                positions = range(len(tokens))
            activations = dense(positions, values, len(tokens), where)
            doc = f"{name} {sequence}" if name else sequence
            examples.append(Example(score, [], activations, tokens, quantile=quantile, doc=doc))
        return strongest_first(examples, feature)

    def close(self) -> None:
        self._db.close()


def recognises(path: Path) -> bool:
    """Whether it is a SQLite database with the toolkit's tables."""
    return {"config", "sequences", "examples", "activation_details"} <= set(tables_of(path))


def open(path: Path, **options: Any) -> DiffingStoreExamples:
    """Open it; see `DiffingStoreExamples`."""
    return DiffingStoreExamples(path, **options)

"""One parquet file with a row for each example, as `pandas.DataFrame(rows).to_parquet(path)` writes it.

feature, activations, tokens or token_ids   must be there; the fields of `Example` that are there too are read
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, SourceInfo
from tiny_dashboard.sources.base import FileSource

NAME = "parquet rows"


class ParquetRows(FileSource):
    """Examples in one parquet file; all of it is in memory once a feature is asked for."""

    info = SourceInfo(NAME)

    def files(self) -> Iterable[Path]:
        return [self.path]

    def parse(self, file: Path) -> Mapping[int, tuple[list[Any], None]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(file) as opened:
            fields = [name for name in Example._fields if name in opened.schema_arrow.names]
            rows = opened.read(["feature", *fields]).to_pylist()
        found: dict[int, list[Any]] = {}
        for row in rows:
            known = {"max_activation": max(row["activations"], default=0.0), "tokens": []} | row
            found.setdefault(int(known.pop("feature")), []).append(Example(**known))
        return {feature: (examples, None) for feature, examples in found.items()}


def recognises(path: Path) -> bool:
    """Whether it is a parquet file with these columns."""
    if path.suffix != ".parquet" or not path.is_file():
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False
    return {"feature", "activations"} <= names and bool({"tokens", "token_ids"} & names)


open = ParquetRows

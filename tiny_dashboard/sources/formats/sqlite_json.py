"""SQLite JSON: a table with an INTEGER primary key, the feature, and a TEXT column of JSON examples.

Each text is a list of `[max_activation, [token], [activation]]`. Table and columns have any name. Without that key, as
pandas and sqlite-utils write tables, the feature is in the one column of whole numbers that are all different.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.sources.base import not_all_nan, strongest_first
from tiny_dashboard.sources.database import Database, quote, tables_of

Columns = dict[str, tuple[str, int]]  # name -> declared type, and place in the primary key or 0


NAME = "sqlite JSON"


class SqliteJsonExamples(ExampleSource):
    """Examples in a SQLite file, opened read-only; one row is read for each look at a feature.

    Args:
        path: the database.
        column_name, table_name: where the JSON is; None takes `examples` and `data_table` where they are, else the
            only column and table that it can be in.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not SQLite, or has no such table or column, or none that tells features apart.
        TimeoutError: another process keeps the database locked.
    """

    def __init__(self, path: str | Path, column_name: str | None = None, table_name: str | None = None) -> None:
        self._db = Database(path)
        self.path = self._db.path
        try:
            table, column = _locate(self._db, table_name, column_name)
            key = _key_of(self._db.tables[table])
            # Without an index each look by the feature would read all rows.
            self._rowids = None if key else _rowids(self._db, table, column)
        except Exception:
            self._db.close()
            raise
        self._table, self._column, self._key = quote(table), quote(column), quote(key or "rowid")
        self.info = SourceInfo(NAME, extra={"table": table, "column": column, "key": key or "rowid"})

    @cached_property
    def _features(self) -> list[int]:
        if self._rowids is not None:
            return sorted(self._rowids)
        rows = self._db.query(f"SELECT {self._key} FROM {self._table} ORDER BY {self._key}")
        return [row[0] for row in rows]

    def features(self) -> Sequence[int]:
        return self._features

    def __contains__(self, feature: object) -> bool:
        # One indexed look-up; listing the keys of a large file first would take longer than the example itself.
        if not isinstance(feature, int) or not -(2**63) <= feature < 2**63:
            return False
        if self._rowids is not None:
            return feature in self._rowids
        return bool(self._db.query(f"SELECT 1 FROM {self._table} WHERE {self._key} = ?", feature))

    def load(self, feature: int) -> Sequence[Example]:
        row = feature if self._rowids is None else self._rowids[feature]
        found = self._db.query(f"SELECT {self._column} FROM {self._table} WHERE {self._key} = ?", row)
        try:
            rows = json.loads(found[0][0])
        except (TypeError, ValueError) as error:
            raise ValueError(f"feature {feature} in {self._db.path} is broken JSON: {error}") from error
        if not isinstance(rows, list):
            raise ValueError(f"feature {feature} in {self._db.path} is not a list of examples but {str(rows)[:80]!r}")
        return not_all_nan(strongest_first(rows, feature), feature)

    def close(self) -> None:
        self._db.close()


def recognises(path: Path) -> bool:
    """Whether it is a SQLite database with a table of its own, beside or without those of the other formats."""
    tables = tables_of(path)
    return "data_table" in tables or (bool(tables) and "activation_details" not in tables)


def open(path: Path, **options: Any) -> SqliteJsonExamples:
    """Open it; see `SqliteJsonExamples`."""
    return SqliteJsonExamples(path, **options)


def _key_of(columns: Columns) -> str | None:
    """The name of the INTEGER primary key, if that is the whole key."""
    keys = [(name, kind) for name, (kind, place) in columns.items() if place]
    return keys[0][0] if len(keys) == 1 and keys[0][1] == "INTEGER" else None


def _json_column(columns: Columns) -> str | None:
    """The column that holds the JSON: the one of the usual name, else the only one of text."""
    text = [name for name, (kind, place) in columns.items() if not place and kind in ("TEXT", "JSON", "")]
    return "examples" if "examples" in columns else text[0] if len(text) == 1 else None


def _whole_numbers(columns: Columns) -> list[str]:
    """The columns that may number the features, where no key does; not pandas's own numbers, if there are others."""
    names = [name for name, (kind, _) in columns.items() if "INT" in kind]
    return [name for name in names if name != "index"] or names


def _rowids(db: Database, table: str, column: str) -> dict[int, int]:
    """`{feature: rowid}` of a table without a key for the features."""
    columns = db.tables[table]
    faults, found = [], {}
    for name in _whole_numbers(columns):
        if name == column:
            continue
        rows = db.query(f"SELECT {quote(name)}, rowid FROM {quote(table)}")
        numbers = dict(rows)
        if other := next((number for number in numbers if not isinstance(number, int)), 0):
            faults.append(f"{name} holds {str(other)[:80]!r}")
        elif len(numbers) < len(rows) or None in numbers:
            faults.append(f"{name} holds a number twice, or none")
        else:
            found[name] = numbers
    if len(found) == 1:
        return next(iter(found.values()))
    why = f"{' and '.join(found)} both could be it" if found else "; ".join(faults) or "it has none"
    names = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    raise ValueError(
        f"table {table!r} of {db.path} has no INTEGER PRIMARY KEY as the feature number, nor one column of whole "
        f"numbers that are all different ({why}); its columns: {names}"
    )


def _locate(db: Database, table: str | None, column: str | None) -> tuple[str, str]:
    """The table and its JSON column; the names that are given must be right."""
    if table is None:
        usable = [t for t, c in db.tables.items() if column in c or (not column and _json_column(c))]
        keyed = [t for t in usable if _key_of(db.tables[t])]
        usable = keyed or [t for t in usable if _whole_numbers(db.tables[t])] or usable
        if len(usable) != 1 and "data_table" not in usable:
            names = ", ".join(f"{t} ({', '.join(c)})" for t, c in db.tables.items()) or "none"
            raise ValueError(f"{db.path}: pass table_name and column_name of the examples; the tables: {names}")
        table = "data_table" if "data_table" in usable else usable[0]
    if table not in db.tables:
        raise ValueError(f"{db.path} has no table {table!r}; its tables: {', '.join(db.tables) or 'none'}")
    columns = db.tables[table]
    names = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    column = column or _json_column(columns)
    if column not in columns:
        raise ValueError(f"table {table!r} of {db.path} has no column {column!r}; its columns: {names}")
    return table, column

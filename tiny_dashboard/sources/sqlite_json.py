"""SQLite JSON: a table with an INTEGER primary key, the feature, and a TEXT column of JSON examples.

Each text is a list of `[max_activation, [token], [activation]]`. Table and columns have any name.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tiny_dashboard.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.sources.common import strongest_first

HEADER = b"SQLite format 3\0"
TIMEOUT = 2.0  # seconds to wait for a writer


class SqliteJsonExamples(ExampleSource):
    """Examples in a SQLite file, opened read-only; one row is read for each look at a feature.

    Args:
        path: the database.
        column_name, table_name: where the JSON is; None takes `examples` and `data_table` where they are, else the
            only column and table that it can be in.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not SQLite, or has no such table or column, or no INTEGER primary key.
        TimeoutError: another process keeps the database locked.
    """

    def __init__(self, path: str | Path, column_name: str | None = None, table_name: str | None = None) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._db = connect(self.path)
        try:
            table, column, key = _locate(self.path, columns_of(self.path, self._db), table_name, column_name)
        except Exception:
            self._db.close()
            raise
        self._table, self._column, self._key = quote(table), quote(column), quote(key)
        self.info = SourceInfo("sqlite JSON", extra={"table": table, "column": column, "key": key})

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether a table has an INTEGER primary key and a TEXT column, and none of another SQLite format."""
        if not is_sqlite(path):
            return False
        with closing(connect(path)) as db:
            tables = columns_of(path, db)
        return "activation_details" not in tables

    def features(self) -> Sequence[int]:
        ids = self.__dict__.get("_features")
        if ids is None:
            rows = self._query(f"SELECT {self._key} FROM {self._table} ORDER BY {self._key}")
            ids = self.__dict__["_features"] = [row[0] for row in rows]
        return ids

    def __contains__(self, feature: object) -> bool:
        # One indexed look-up; listing the keys of a large file first would take longer than the example itself.
        if not isinstance(feature, int) or not -(2**63) <= feature < 2**63:
            return False
        return bool(self._query(f"SELECT 1 FROM {self._table} WHERE {self._key} = ?", feature))

    def load(self, feature: int) -> Sequence[Example]:
        found = self._query(f"SELECT {self._column} FROM {self._table} WHERE {self._key} = ?", feature)
        if not found:
            raise KeyError(feature)
        try:
            rows = json.loads(found[0][0])
        except (TypeError, ValueError) as error:
            raise ValueError(f"feature {feature} in {self.path} is broken JSON: {error}") from error
        if not isinstance(rows, list):
            raise ValueError(f"feature {feature} in {self.path} is not a list of examples but {str(rows)[:80]!r}")
        return strongest_first(rows, feature)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _query(self, sql: str, *values: int) -> list[tuple[Any, ...]]:
        with self._lock:
            return query(self.path, self._db, sql, *values)


def is_sqlite(path: Path) -> bool:
    """Whether the file begins as every SQLite database does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def connect(path: Path) -> sqlite3.Connection:
    """Open a database read-only, for use from any thread under a lock."""
    if not path.exists():
        raise FileNotFoundError(f"there is no database {path}")
    if not path.is_file():
        raise ValueError(f"{path} is not a file, so it is no SQLite database")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: it was never written, or its download broke off")
    if not is_sqlite(path):
        raise ValueError(f"{path} is not a SQLite database: it does not begin as one does")
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False, timeout=TIMEOUT)


def query(path: Path, db: sqlite3.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a query; a locked or damaged file becomes an error that says so."""
    try:
        return db.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise TimeoutError(f"{path} is locked by a program that writes to it; wait for it, or copy it") from error
        raise ValueError(f"cannot read {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"cannot read {path}: {error}; is the file whole?") from error


def columns_of(path: Path, db: sqlite3.Connection) -> dict[str, dict[str, tuple[str, int]]]:
    """The tables of a database: `{table: {column: (declared type, place in the primary key or 0)}}`."""
    names = query(path, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {
        name: {row[1]: (row[2].upper(), row[5]) for row in query(path, db, f"PRAGMA table_info({quote(name)})")}
        for (name,) in names
    }


def key_of(columns: dict[str, tuple[str, int]]) -> str | None:
    """The name of the INTEGER primary key, if that is the whole key."""
    keys = [(name, kind) for name, (kind, place) in columns.items() if place]
    return keys[0][0] if len(keys) == 1 and keys[0][1] == "INTEGER" else None


def _json_column(columns: dict[str, tuple[str, int]]) -> str | None:
    """The column that holds the JSON: the one of the usual name, else the only one of text."""
    text = [name for name, (kind, place) in columns.items() if not place and kind in ("TEXT", "JSON", "")]
    return "examples" if "examples" in columns else text[0] if len(text) == 1 else None


def _locate(
    path: Path, tables: dict[str, dict[str, tuple[str, int]]], table: str | None, column: str | None
) -> tuple[str, str, str]:
    """The table, its JSON column and its key; the names that are given must be right."""
    if table is None:
        usable = [t for t, c in tables.items() if key_of(c) and (column in c if column else _json_column(c))]
        if len(usable) != 1 and "data_table" not in usable:
            names = ", ".join(f"{t} ({', '.join(c)})" for t, c in tables.items()) or "none"
            raise ValueError(f"{path}: pass table_name and column_name of the examples; the tables: {names}")
        table = "data_table" if "data_table" in usable else usable[0]
    if table not in tables:
        raise ValueError(f"{path} has no table {table!r}; its tables: {', '.join(tables) or 'none'}")
    columns = tables[table]
    names = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    column, key = column or _json_column(columns), key_of(columns)
    if column not in columns:
        raise ValueError(f"table {table!r} of {path} has no column {column!r}; its columns: {names}")
    if key is None:
        raise ValueError(
            f"table {table!r} of {path} has no INTEGER PRIMARY KEY as the feature number; its columns: {names}"
        )
    return table, column, key


def quote(identifier: str) -> str:
    """An SQL identifier; names come from the database's own list of tables and columns."""
    return '"' + identifier.replace('"', '""') + '"'

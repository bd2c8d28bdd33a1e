"""SQLite files, read-only: what the three formats that are databases share."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

HEADER = b"SQLite format 3\0"
TIMEOUT = 2.0  # seconds to wait for a writer


class Database:
    """One read-only connection, used by one thread at a time.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, damaged, or no SQLite database.
        TimeoutError: another process keeps it locked.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no database {path}")
        if not path.is_file():
            raise ValueError(f"{path} is not a file, so it is no SQLite database")
        if not path.stat().st_size:
            raise ValueError(f"{path} is empty: it was never written, or its download broke off")
        if not is_sqlite(path):
            raise ValueError(f"{path} is not a SQLite database: it does not begin as one does")
        if missing := _missing_bytes(path):
            raise ValueError(f"{path} is cut short: {missing:,} bytes of it are missing; copy or download it again")
        self._lock = threading.Lock()
        # A database in WAL mode wants files beside it. Where there is no -wal, all is in the file, and reading it as
        # one that nobody changes needs none: on read-only folders, and leaving no file beside somebody's own.
        alone = not Path(f"{path}-wal").exists()
        uri = f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if alone and _in_wal_mode(path) else ''}"
        self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=TIMEOUT)
        try:
            self.tables = self._read_tables()
            if alone and not self.tables and _in_wal_mode(path):
                raise ValueError(
                    f"{path} holds no table: it was copied without the file {path.name}-wal beside it; copy both, or "
                    "close the database first where it is written"
                )
        except Exception:
            self.close()
            raise

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query; names of tables and columns in `sql` must have gone through `quote`.

        Raises:
            TimeoutError: another process keeps the file locked.
            ValueError: the file is damaged, or has no such table or column.
        """
        try:
            with self._lock:
                return self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise TimeoutError(f"{self.path} is locked by a program that writes to it; wait, or copy it") from error
            raise ValueError(f"cannot read {self.path}: {error}") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {self.path}: {error}; is the file whole?") from error

    def distinct(self, table: str, column: str) -> list[int]:
        """The different values of an indexed integer column, ascending; jumps from one to the next in the index.

        Raises:
            ValueError: one is no whole number; see also `query`.
        """
        table, column = quote(table), quote(column)
        rows = self.query(
            f"WITH RECURSIVE found(x) AS (SELECT min({column}) FROM {table} UNION ALL "
            f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > x) FROM found WHERE x IS NOT NULL) "
            "SELECT x FROM found WHERE x IS NOT NULL"
        )
        found = [row[0] for row in rows]
        if others := [value for value in found if not isinstance(value, int)]:
            raise ValueError(f"{self.path} has {others[0]!r:.80} in {column}, which is no whole number")
        return found

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    def _read_tables(self) -> dict[str, dict[str, tuple[str, int]]]:
        """`{table: {column: (declared type, place in the primary key or 0)}}`."""
        names = self.query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {
            name: {row[1]: (row[2].upper(), row[5]) for row in self.query(f"PRAGMA table_info({quote(name)})")}
            for (name,) in names
        }


def is_sqlite(path: Path) -> bool:
    """Whether the file begins as every SQLite database does."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def _in_wal_mode(path: Path) -> bool:
    """Whether the header says that changes are written ahead (sqlite.org/fileformat.html, section 1.3.3)."""
    with path.open("rb") as file:
        return file.read(20)[18:20] == b"\2\2"


def _missing_bytes(path: Path) -> int:
    """How much smaller a file is than its header says (sqlite.org/fileformat.html, section 1.3); 0 for a whole one."""
    with path.open("rb") as file:
        header = file.read(100)
    size = int.from_bytes(header[16:18], "big")
    page, pages = 65_536 if size == 1 else size, int.from_bytes(header[28:32], "big")
    is_known = header[24:28] == header[92:96]  # else an old program wrote last, which did not keep the count
    return max(page * pages - path.stat().st_size, 0) if is_known else 0


def tables_of(path: Path) -> dict[str, dict[str, tuple[str, int]]]:
    """The tables of a file; none where it is no SQLite database."""
    if not is_sqlite(path):
        return {}
    db = Database(path)
    db.close()
    return db.tables


def quote(identifier: str) -> str:
    """An SQL identifier, whatever it holds."""
    return '"' + identifier.replace('"', '""') + '"'

"""A corpus, in whatever form it is -> its documents: texts and conversations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiny_dashboard.core.files import encoding_of, open_bytes
from tiny_dashboard.core.prompts import as_messages

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".txt": "text", ".text": "text", ".csv": "csv"}
MOST_NAMED = 3  # so many documents that could not be read are named
COLUMNS = ("text", "messages", "conversation", "conversations", "chat", "content")


class Faults(NamedTuple):
    """Documents that could not be read, or only in part.

    Attributes:
        skipped: how many could not be read.
        cut: of how many the chat template leaves out or rewrites some text.
        named: what is wrong with the first few.
    """

    skipped: int = 0
    cut: int = 0
    named: Sequence[str] = ()

    def plus(self, other: Any) -> Faults:
        """Those of both; `other` may be a plain tuple or list."""
        skipped, cut, named = other
        return Faults(self.skipped + skipped, self.cut + cut, [*self.named, *named][:MOST_NAMED])


def open_corpus(source: Any, *, split: str = "train", subset: str | None = None) -> Iterable[Any]:
    """The documents of a file, a folder or a Hub dataset (streamed); anything else iterable is returned as it is.

    Args:
        source: a path to parquet, jsonl, json, csv or text (one document a line; `.gz` too), a folder that
            `Dataset.save_to_disk` wrote, a folder or a Hub id that `datasets.load_dataset` takes, or an iterable of
            strings, of chats (lists of messages), or of rows.
        split, subset: which part of a dataset.

    Raises:
        FileNotFoundError: a path that isn't there, and no Hub dataset either.
        TypeError: not iterable.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
            raise TypeError(
                f"a corpus is a path, a Hub dataset id or an iterable of texts, not {type(source).__name__}"
            )
        return source
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetNotFoundError

    path = Path(source).expanduser()
    reader = READERS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if reader and not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_file():
        if reader is None:
            raise ValueError(f"{path} is no corpus file that is known; expected {', '.join(READERS)}, or one in .gz")
        how = {}
        if reader != "parquet":
            with open_bytes(path) as file:
                how["encoding"] = encoding_of(file.read(3))
        if how.get("encoding") == "utf-16" and (reader == "json" or path.suffix.lower() == ".gz"):
            raise ValueError(f"{path} is in UTF-16; convert it, as with `iconv -f utf-16 -t utf-8`")
        return load_dataset(reader, data_files=str(path), split="train", streaming=True, **how)
    if (path / "dataset_info.json").exists() and (path / "state.json").exists():
        return load_from_disk(str(path))  # rows by number: a shard reads its own blocks only
    try:
        return load_dataset(str(path if path.is_dir() else source), subset, split=split, streaming=True)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"there is no corpus {str(source)!r}, neither here nor on the Hub: {error}") from error


def to_document(row: Any, number: int, column: str | None = None) -> str | list[dict[str, Any]] | None:
    """The text or the chat of one row; None where it is null.

    Raises:
        KeyError: the row lacks the column; the message lists those it has.
        TypeError, ValueError: it is no document; the message says which one.
    """
    if isinstance(row, Mapping) and "role" not in row:
        here = [name for name in COLUMNS if name in row]  # of mixed rows each holds its own, and null in the others
        name = column or next((name for name in here if row[name] is not None), next(iter(here), None))
        if name is None and len(row) == 1:
            name = next(iter(row))
        if name not in row:
            wanted = f"has no column {column!r}" if column else "has no column that is known to hold text"
            raise KeyError(f"document {number} {wanted}; choose one of {', '.join(map(str, row))} as column=")
        row = row[name]
    if isinstance(row, bytes):
        try:
            row = row.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"document {number} is not valid UTF-8 at byte {error.start}; decode it first") from error
    if row is None or isinstance(row, str):
        return row
    if not isinstance(row, Sequence):
        raise TypeError(
            f"document {number} is neither a text nor a list of messages with role and content: {str(row)[:80]!r}"
        )
    try:
        return as_messages(row)
    except ValueError as error:
        raise ValueError(f"document {number}: {error}") from error

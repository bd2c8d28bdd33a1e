"""Open max-activating examples, whatever file they are in: one module for each format, told apart by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_dashboard.examples import Example

# module -> its class; a class has `recognises(path) -> bool` and takes the path. A new format is one more line.
FORMATS = {
    "parquet": "ParquetExamples",
    "sqlite_json": "SqliteJsonExamples",
}


def open_examples(source: Any, *, tokenizer: Any = None, **options: Any) -> Mapping[int, Sequence[Example]]:
    """Open examples: a dict is returned as it is, a path is opened by the format that recognises its content.

    Args:
        source: a dict `{feature: [(max_activation, tokens, activations)]}`, an open source, or a path.
        tokenizer: a tokenizer, or its Hub id or folder, where the source does not name its own.
        options: passed to the format: `table_name` and `column_name` for SQLite.

    Returns:
        A read-only mapping from feature to its examples, strongest first; an `ExampleSource` where it is a file.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: no format recognises it, or several do.
        TypeError: `source` is neither a mapping nor a path.
    """
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, (str, Path)):
        raise TypeError(f"examples come from a dict or a path, not from {type(source).__name__}")
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    classes = [getattr(import_module(f".{module}", __name__), name) for module, name in FORMATS.items()]
    found = [cls for cls in classes if cls.recognises(path)]
    if len(found) != 1:
        what = f"could be read as {', '.join(c.__name__ for c in found)}" if found else "is in no known format"
        if path.is_file() and not path.stat().st_size:
            what = "is empty: it was never written, or its download broke off"
        raise ValueError(f"{path} {what}; the formats: {', '.join(FORMATS)}")
    opened = found[0](path, **options)
    if tokenizer is not None:
        opened.info = replace(opened.info, tokenizer=getattr(tokenizer, "name_or_path", tokenizer))
    return opened

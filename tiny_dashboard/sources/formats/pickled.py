"""Pickled dicts: `{feature: [(max_activation, [token], [activation])]}` by `torch.save` or `pickle.dump`.

Nothing in the file can run: `torch.save`'s (`chat_examples.pt`) are loaded with `weights_only=True`, and of others only
plain values. What needs more is refused.
"""

from __future__ import annotations

import builtins
import collections
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tiny_dashboard.core.examples import SourceInfo
from tiny_dashboard.core.text import first_line
from tiny_dashboard.sources.base import FileSource

NAME = "pickled dict"
DICTS = {"defaultdict", "OrderedDict"}  # of collections, and what a defaultdict makes
MADE = {"list", "dict", "tuple", "set"}


class PickledExamples(FileSource):
    """Examples in a file of `torch.save` or `pickle.dump`; the whole file is in memory once a feature is asked for."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.info = SourceInfo(NAME)

    def files(self) -> Iterable[Path]:
        return [self.path]

    def parse(self, file: Path) -> Mapping[int, tuple[list[Any], None]]:
        try:
            content = _load(file)
        except Exception as error:
            raise ValueError(
                f"it does not load safely, as with torch.load(weights_only=True): {first_line(error)}. If it is "
                "whole and you trust it, load it yourself and save plain numbers and strings: torch.save({int(f): "
                "[(float(m), list(tokens), [float(a) for a in acts]) for m, tokens, acts in rows] for f, rows in "
                "examples.items()}, 'plain.pt')"
            ) from error
        if not isinstance(content, dict) or not all(isinstance(key, int) for key in content):
            raise ValueError(
                f"it holds {_described(content)}, not {{feature: [(max_activation, tokens, activations)]}}"
            )
        return {feature: ([_plain(row) for row in rows], None) for feature, rows in content.items()}


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, strings and containers, and nothing that could do anything."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name in DICTS:
            return getattr(collections, name)
        if module in ("builtins", "__builtin__") and name in MADE:
            return getattr(builtins, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no plain value")


def _load(file: Path) -> Any:
    try:
        with _pickle_in(file) as stream:
            content = _PlainUnpickler(stream).load()
        if not isinstance(content, int):  # the files of old versions of torch begin with a number
            return content
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(file):
            raise
    import torch

    return torch.load(file, map_location="cpu", weights_only=True)  # with tensors


@contextmanager
def _pickle_in(file: Path) -> Iterator[IO[bytes]]:
    """The pickle, which torch puts in an archive."""
    if not zipfile.is_zipfile(file):
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as stream:
            yield stream


def recognises(path: Path) -> bool:
    """Whether it is a pickle: inside a zip archive, as torch writes it, or bare."""
    if not path.is_file():
        return False
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    with path.open("rb") as file:
        start = file.read(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5  # the PROTO opcode and its version


def open(path: Path, **options: Any) -> PickledExamples:
    """Open it; see `PickledExamples`."""
    return PickledExamples(path, **options)


def _plain(row: Any) -> Any:
    """A row whose numbers may be tensors, as numbers."""
    return tuple(part.tolist() if hasattr(part, "tolist") else part for part in row)


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dict with keys like {next(iter(content), None)!r} (the weights of a dictionary are opened as one)"
    return f"a {type(content).__name__}"

"""Pickled dicts: `{feature: [(max_activation, [token], [activation])]}` by `torch.save`, as `chat_examples.pt`.

They are loaded with `weights_only=True`, so that nothing in the file can run; what needs more is refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import SourceInfo
from tiny_dashboard.sources.base import FileSource

NAME = "pickled dict"


class PickledExamples(FileSource):
    """Examples in a file of `torch.save`; the whole file is in memory once a feature is asked for."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.info = SourceInfo(NAME)

    def files(self) -> Iterable[Path]:
        return [self.path]

    def parse(self, file: Path) -> Mapping[int, tuple[list[Any], None]]:
        import torch

        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"it does not load with torch.load(weights_only=True) ({str(error).splitlines()[0]}). If it is whole "
                "and you trust it, load it yourself and save plain numbers and strings: torch.save({int(f): "
                "[(float(m), list(tokens), [float(a) for a in acts]) for m, tokens, acts in rows] for f, rows in "
                "examples.items()}, 'plain.pt')"
            ) from error
        if not isinstance(content, dict) or not all(isinstance(key, int) for key in content):
            raise ValueError(
                f"it holds {_described(content)}, not {{feature: [(max_activation, tokens, activations)]}}"
            )
        return {feature: ([_plain(row) for row in rows], None) for feature, rows in content.items()}


def recognises(path: Path) -> bool:
    """Whether it is a pickle: inside a zip archive, as torch writes it, or bare."""
    if not path.is_file():
        return False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
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

"""The state of a collection on the disk: written whole or not at all, merged part by part."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_dashboard.collect.state import State
from tiny_dashboard.core.files import named

FORMAT, VERSION = "tiny-dashboard collection", 3
DECODER_FILE = "decoder.jsonl"  # beside the parts: what the decoder says, where this state carries it
STATE_SUFFIX = ".state"  # added to the name of what a run will write: where it saves its state


def write_state(folder: Path, parts: Iterable[State], meta: dict[str, Any], lines: Iterable[str] = ()) -> None:
    """Write a state into an empty folder, down to the disk.

    Args:
        folder: for `meta.json` and `part-NNNNNN.safetensors` of `PART_FEATURES` features.
        parts: in order, of `PART_FEATURES` features but for the last.
        meta: plain JSON values.
        lines: of a text that goes with the state, `DECODER_FILE`.

    Raises:
        OSError: it could not be written; the file is named.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    for part in parts:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in part.tensors().items()}
        file = folder / f"part-{part.first:09d}.safetensors"
        try:
            save_file(tensors, file)
        except SafetensorError as error:
            raise OSError(f"{file} cannot be written: {error}") from error
    about = {"format": FORMAT, "version": VERSION, **meta}
    with named(folder):
        (folder / "meta.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        with (folder / DECODER_FILE).open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
        for path in folder.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())


def load_meta(folder: Path) -> dict[str, Any]:
    """What `write_state` was given as `meta`.

    Raises:
        FileNotFoundError: there is no saved state.
        ValueError: it is another kind of folder, or was saved by another version.
    """
    file = folder / "meta.json"
    meta: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if (meta.get("format"), meta.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{file} is no state of this version of tiny-dashboard ({VERSION}); collect it again")
    return meta


def load_parts(folder: Path) -> Iterator[State]:
    """The saved parts in order, one in memory at a time."""
    for path in sorted(folder.glob("part-*.safetensors")):
        yield _load_part(path)


def merge_parts(folders: Sequence[Path]) -> Iterator[State]:
    """Parts of the union of saved states: two parts are in memory at a time, however many states there are.

    Args:
        folders: states of the same shape that have seen different documents.
    """
    for path in sorted(folders[0].glob("part-*.safetensors")):
        merged = _load_part(path)
        for folder in folders[1:]:
            merged.merge(_load_part(folder / path.name))
        yield merged.arrange()


class Saves:
    """The saves of a run: `save-N` in a folder of its own, the newest last. Each is whole.

    Args:
        folder: carries our mark, and is held while it is written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Path | None:
        """The last whole save; None where there is none."""
        return max(self.folder.glob("save-[0-9]*"), default=None)

    def save(self, parts: Iterable[State], meta: dict[str, Any]) -> None:
        """Add a save, and remove the one before."""
        before = self.newest()
        number = 1 + (int(before.name.removeprefix("save-")) if before else 0)
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            write_state(unfinished, parts, meta)
            unfinished.rename(self.folder / f"save-{number:06d}")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if before:
            shutil.rmtree(before, ignore_errors=True)


def _load_part(path: Path) -> State:
    from safetensors.torch import load_file

    return State(load_file(path), first=int(path.stem.removeprefix("part-")))

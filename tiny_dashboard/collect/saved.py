"""The state of a collection on the disk: written whole or not at all, merged part by part."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tiny_dashboard.collect.state import State

LINES = "lines.jsonl"  # beside the parts: what the decoder says, where this state carries it
RUNNING = ".state"  # added to the name of what a run will write: where it saves its state


def save_state(folder: Path, parts: Iterator[State], meta: dict[str, Any], lines: Iterable[str] = ()) -> None:
    """Write a state to `folder`, whole or not at all; an older one there is replaced.

    Args:
        folder: `meta.json` and `part-NNNNNN.safetensors` of `PART_FEATURES` features.
        parts: in order, of `PART_FEATURES` features but for the last.
        meta: plain JSON values.
        lines: of a text that goes with the state, `LINES`.
    """
    from safetensors.torch import save_file

    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for part in parts:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in part.tensors().items()}
            save_file(tensors, temporary / f"part-{part.first:09d}.safetensors")
        (temporary / "meta.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
        with (temporary / LINES).open("w", encoding="utf-8") as file:
            file.writelines(lines)
        for path in temporary.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # killed here, `load_meta` finds the old one
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_meta(folder: Path) -> dict[str, Any]:
    """What `save_state` was given as `meta`.

    Raises:
        FileNotFoundError: there is no saved state.
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():  # killed between the two renames
        old.rename(folder)
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
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


def _load_part(path: Path) -> State:
    from safetensors.torch import load_file

    return State(load_file(path), first=int(path.stem.removeprefix("part-")))

"""Files as bytes, packed or not; and files and folders that are written whole or not at all, beside what others have.

What we work in has a name that nobody else can have, and a mark inside that says whose it is. The mark is locked while
its maker lives, so that what killed runs left can be told from what runs now, whatever number a process has.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

MARK = "made-by-tiny-dashboard.json"


def write_text(path: str | Path, text: str) -> Path:
    """Write a file whole or not at all; its folder is made."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{token_hex(8)}.partial")
    try:
        with named(path), partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def open_bytes(path: Path) -> Any:
    """A file opened for reading bytes; one in .gz is unpacked."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def encoding_of(start: bytes) -> str:
    """The encoding of a text that starts so, as the mark says that Windows puts first."""
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-8-sig" if start[:3] == codecs.BOM_UTF8 else "utf-8"


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the disk, which does not say what could not be written when it is full."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def check_is_new(folder: Path) -> None:
    """Checks that a folder can be written: it is not there, or empty.

    Raises:
        FileExistsError: it holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already; name another folder, or remove it first")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `folder` when all went well and is removed when something did not.

    Raises:
        FileExistsError: `folder` holds something already, or another process was first.
    """
    check_is_new(folder)
    with working_folder(folder) as work:
        content = work / "content"
        content.mkdir()
        yield content
        try:
            content.replace(folder)
        except OSError:
            check_is_new(folder)
            raise


@contextmanager
def working_folder(beside: Path) -> Iterator[Path]:
    """A folder of our own beside a file or folder, removed at the end; what killed runs left of the same is, too."""
    pattern = f".{beside.name}.{{}}.working"
    beside.parent.mkdir(parents=True, exist_ok=True)
    for left in beside.parent.glob(pattern.format("*")):
        with suppress(OSError), own_folder(left, make=False) as is_ours:
            if is_ours:
                shutil.rmtree(left, ignore_errors=True)
    work = beside.with_name(pattern.format(token_hex(8)))
    with own_folder(work):
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def own_folder(folder: Path, *, make: bool = True) -> Iterator[bool]:
    """Hold a folder that carries our mark, made where it is missing; no other process holds it meanwhile.

    Yields:
        True; with `make=False` False where the folder is not ours, or somebody holds it.

    Raises:
        FileExistsError: the folder is not ours, or another process is at work in it.
    """
    mark = folder / MARK
    if make:
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder.parent):  # what was marked and is not locked yet would be taken for what a killed run left
        if make:
            folder.mkdir(exist_ok=True)
        if make and not any(folder.iterdir()):
            try:
                with named(mark):
                    mark.write_text(json.dumps({"made_by": "tiny-dashboard", "what": "a folder to work in"}), "utf-8")
            except OSError:  # a full disk: nothing of it stays
                mark.unlink(missing_ok=True)
                folder.rmdir()
                raise
        held = mark.open("r+", encoding="utf-8") if mark.is_file() else None
        locked = held is not None and _lock(held)
    with held or nullcontext():
        if make and not held:
            raise FileExistsError(f"{folder} is in the way, and is not ours; move it, or write elsewhere")
        if make and not locked:
            raise FileExistsError(f"another process is at work in {folder}; wait for it, or write elsewhere")
        yield locked


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One thread of all processes at a time, where a folder can be locked."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(file: IO[str]) -> bool:
    """Hold a file until it is closed or this process ends; False where another one holds it, or nothing can be held."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return os.name == "nt"  # Windows refuses to remove what is open, by itself
    return True

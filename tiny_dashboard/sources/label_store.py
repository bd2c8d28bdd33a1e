"""Labels and notes of features: JSON lines that are only ever added to, beside the examples or where one says.

The last line of each (author, source) counts, and all are kept. A line is written by one call under a lock, so that
processes that write at once both keep theirs; one that was cut short is skipped, and the next begins a line of its own.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from operator import attrgetter, index
from pathlib import Path
from secrets import token_hex
from threading import RLock
from typing import Any

from tiny_dashboard.core.examples import ExampleSource
from tiny_dashboard.core.statistics import FeatureStats, FeatureTable
from tiny_dashboard.hub import is_downloaded, parse_name, shared_folder
from tiny_dashboard.sources.labels import PERSON, Label, this_person

NAME = "labels.jsonl"


class LabelStore:
    """All labels of one dictionary.

    Args:
        path: the file that is written; made when the first label comes. None keeps labels in memory.
        others: more files that are only read.
        lock: held while a line is written, by those who upload the file.
        why: where `path` is None: why, in words.

    Attributes:
        kept_in_memory: why new labels are lost when this process ends; "" where they are not.
    """

    def __init__(
        self, path: str | Path | None = None, others: Iterable[Path] = (), *, lock: Any = None, why: str = ""
    ) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self._files = [_File(file) for file in (*others, *([] if self.path is None else [self.path]))]
        self._memory: list[Label] = []
        self._outer, self._lock = lock or nullcontext(), RLock()
        self._known: tuple[int, dict[int, dict[str, Any]]] = (-1, {})
        self.kept_in_memory = why if self.path is None else ""

    def add(self, *labels: Label) -> None:
        """Keep labels: in the file, or where that cannot be written in memory, which `kept_in_memory` says then."""
        with self._lock:
            try:
                if self.path is not None and not self.kept_in_memory:
                    with self._outer:
                        _append(self.path, _lines(labels))
                    return
            except OSError as error:
                self.kept_in_memory = f"{self.path and self.path.name} cannot be written ({error.strerror or error})"
            self._memory.extend(labels)

    def give(self, feature: int, label: str | None = None, note: str | None = None, **more: Any) -> Label:
        """Keep what somebody says; see `OfflineDashboard.label`."""
        record = {"author": this_person(), **more, "feature": feature, "label": label, "note": note}
        given = Label.of(record)
        before = self.said_by(feature, given.author, given.source)
        if before is not None:
            kept = {name: getattr(before, name) for name, value in (("label", label), ("note", note)) if value is None}
            given = replace(given, **kept)
        self.add(given)
        if self.kept_in_memory:
            warnings.warn(f"the label is kept in memory only: {self.kept_in_memory}", stacklevel=3)
        return given

    def all(self) -> list[Label]:
        """Every label ever given, oldest first."""
        with self._lock:
            self._refresh()
            return sorted(
                (*(label for file in self._files for label in file.labels), *self._memory), key=attrgetter("time")
            )

    def last(self) -> list[Label]:
        """The last label of each feature, author and source, oldest first."""
        newest: dict[Any, Label] = {}
        for label in reversed(self.all()):
            newest.setdefault((label.feature, label.author, label.source), label)
        return list(newest.values())[::-1]

    def known(self) -> Mapping[int, dict[str, Any]]:
        """What is shown of each feature: `label`, and the names of `LABEL_COLUMNS`, those that there are.

        A person's label goes before a model's, a new one before an old one.
        """
        with self._lock:
            version = self.version
            if self._known[0] != version:
                known: dict[int, dict[str, Any]] = {}
                for label in sorted(self.last(), key=lambda one: (one.source == PERSON, one.time)):
                    told = known.setdefault(label.feature, {})
                    if label.label:
                        told |= {"label": label.label, "label_source": label.by}
                        told |= {"label_score": label.score, "label_judgements": label.n_judgements}
                    if label.note:
                        told["note"] = label.note
                self._known = version, {feature: told for feature, told in known.items() if told}
            return self._known[1]

    @property
    def version(self) -> int:
        """A number that is another one once there is a new label."""
        with self._lock:
            self._refresh()
            return sum(file.turn for file in self._files) + len(self._memory)

    def of(self, feature: int) -> list[Label]:
        """The last label of each author and source for one feature, oldest first."""
        return [label for label in self.last() if label.feature == feature]

    def said_by(self, feature: int, author: str | None, source: str = PERSON) -> Label | None:
        """What one author has said of a feature last; None is who this person is on this machine."""
        who = (this_person() if author is None else author), source
        return next((label for label in self.of(feature) if (label.author, label.source) == who), None)

    def over(self, stats: FeatureStats | None, feature: int) -> FeatureStats | None:
        """A feature's record with what the labels say."""
        told = self.known().get(index(feature))
        return (stats or FeatureStats(index(feature))).with_label(told) if told else stats

    def table(self, table: FeatureTable) -> FeatureTable:
        """The table of all features with what the labels say."""
        known = self.known()
        return table.with_labels(known) if known else table

    def copy(self, folder: Path) -> None:
        """Write all labels beside a dataset."""
        if everything := self.all():
            (folder / NAME).unlink(missing_ok=True)
            _append(folder / NAME, _lines(everything))

    def complaints(self, features: Sequence[int]) -> list[str]:
        """What a person should know of this store, in words; `features` are those of the dictionary."""
        there = set(features)
        strange = sorted({label.feature for label in self.all()} - there)
        said = []
        if strange:
            shown = ", ".join(map(str, strange[:3])) + (", …" if len(strange) > 3 else "")
            said.append(f"labels of {len(strange):,} features that are not here ({shown}): another dictionary's?")
        if skipped := sum(file.skipped for file in self._files):
            said.append(f"{skipped:,} lines of the labels cannot be read")
        if self._memory:
            said.append(f"labels are kept in memory only: {self.kept_in_memory}")
        return said

    def _refresh(self) -> None:
        for file in self._files:
            file.refresh()


def labels_for(source: Any, labels: Any = None) -> LabelStore:
    """The labels of examples.

    Args:
        source: the examples; a file or folder has its labels beside it, unless it was downloaded by the Hub's client.
        labels: a `LabelStore`; a .jsonl file that is written instead; or a dataset on the Hub, `owner/name`, that they
            go to every few minutes. What lies beside the examples is read all the same.

    Raises:
        ValueError: `labels` names none of these.
    """
    if isinstance(labels, LabelStore):
        return labels
    if isinstance(labels, str) and not labels.endswith(".jsonl"):
        return _on_hub(source, labels)
    path = source.path if isinstance(source, ExampleSource) else None
    if path is None:
        why = "the examples are no file; name one with labels=" if labels is None else ""
        return LabelStore(labels, why=why)
    beside = labels_beside(Path(path))
    if labels is None and is_downloaded(beside):
        return LabelStore(None, [beside], why="the examples lie on the Hub; name a file with labels=")
    if labels is None or beside.absolute() == Path(labels).expanduser().absolute():
        return LabelStore(beside)
    return LabelStore(labels, [beside])


def _on_hub(source: Any, dataset: str) -> LabelStore:
    """Labels in a dataset on the Hub: each process adds a file of its own, and reads those that were there before."""
    if parse_name(dataset) is None:
        raise ValueError(f"labels is {dataset!r}; name a .jsonl file, or a dataset on the Hub: owner/name")
    folder, before, lock = shared_folder(dataset, "labels")
    path = source.path if isinstance(source, ExampleSource) else None
    beside = [] if path is None else [labels_beside(Path(path))]
    return LabelStore(folder / f"{token_hex(8)}.jsonl", [*beside, *sorted(before.rglob("*.jsonl"))], lock=lock)


def labels_beside(path: Path) -> Path:
    """Where the labels of a folder, or of a file, of examples lie."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}.{NAME}")


class _File:
    """One file of labels, as far as it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.labels: list[Label] = []
        self.skipped = self.turn = self._offset = self._inode = 0

    def refresh(self) -> None:
        """Read what was added; all of it anew where it became another file."""
        try:
            stat = self.path.stat()
            if stat.st_ino != self._inode or stat.st_size < self._offset:
                self.labels, self.skipped, self._offset, self._inode = [], 0, 0, stat.st_ino
                self.turn += 1
            if stat.st_size == self._offset:
                return
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:  # there is none; or what cannot be read cannot be shown
            return
        *lines, tail = content.split(b"\n")
        if tail and self._take(tail):  # a person may have written it, without an end
            lines, tail = [*lines, b""], b""
        self._offset += len(content) - len(tail)
        for line in lines:
            if line.strip() and not self._take(line):
                self.skipped += 1

    def _take(self, line: bytes) -> bool:
        try:
            self.labels.append(Label.of(json.loads(line), cut=True))
        except (ValueError, AttributeError, RecursionError):
            return False
        self.turn += 1
        return True


def _lines(labels: Iterable[Label]) -> bytes:
    return "".join(json.dumps(asdict(label), ensure_ascii=False) + "\n" for label in labels).encode()


def _append(path: Path, lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with suppress(ImportError, OSError):  # some file systems cannot; appending alone keeps most of the promise
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        if os.lseek(file, 0, os.SEEK_END):
            os.lseek(file, -1, os.SEEK_END)
            lines = (b"" if os.read(file, 1) == b"\n" else b"\n") + lines
        while lines:
            lines = lines[os.write(file, lines) :]
    finally:
        os.close(file)

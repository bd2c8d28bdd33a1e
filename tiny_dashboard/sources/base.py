"""What the modules of this folder share."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.examples import BROKEN, Example, ExampleSource, check_example
from tiny_dashboard.core.files import encoding_of, open_bytes
from tiny_dashboard.core.statistics import FeatureStats, FeatureTable
from tiny_dashboard.core.text import TokenReader
from tiny_dashboard.hub import load_tokenizer


class LazyReader:
    """Makes ids readable, with a tokenizer that is loaded when the first are looked at.

    Args:
        tokenizer: a tokenizer, its Hub id or folder, or None: then it is false, and reads nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._tokenizer is not None

    def __call__(self, ids: Sequence[int]) -> list[str]:
        return self._reader.read(ids).texts

    @cached_property
    def _reader(self) -> TokenReader:
        with self._lock:
            named = isinstance(self._tokenizer, (str, Path))
            return TokenReader(load_tokenizer(self._tokenizer) if named else self._tokenizer)


class Renewal:
    """Makes a source another one in place, once its file or folder is written anew.

    Args:
        source: as `open_again` gave it just now.
        open_again: opens the same place.
    """

    @classmethod
    def of(cls, open_it: Callable[[], Any]) -> Any:
        """What is opened; where it is a source, one that is opened anew."""
        source = open_it()
        if isinstance(source, ExampleSource):
            source.renew = cls(source, open_it)
        return source

    def __init__(self, source: ExampleSource, open_again: Callable[[], ExampleSource]) -> None:
        self._source, self._open_again = source, open_again
        self._lock, self._stamp, self._named = threading.Lock(), _stamp(source.path), source.info.tokenizer

    def __call__(self) -> None:
        """Raises ValueError where what is there now cannot be read, or is of another tokenizer."""
        source = self._source
        if _stamp(source.path) == self._stamp:
            return
        with self._lock:
            stamp = _stamp(source.path)
            if stamp in (self._stamp, None):  # gone: what was read stays, and what is read then says so
                return
            fresh = self._open_again()
            if fresh.info.tokenizer != self._named:
                raise ValueError(f"{source.path} was written anew, of another tokenizer; open it again")
            kept = {"renew": self, "read_ids": source.read_ids, "_version": source._version + 1}
            info = replace(fresh.info, tokenizer=source.info.tokenizer)
            source.__dict__ = {**vars(fresh), **kept, "info": info}
            self._stamp = stamp


def _stamp(path: Any) -> Any:
    """What is another one once a file is written anew, or a file of a folder is replaced; None for no file at all."""
    try:
        stat = Path(path).stat()
    except (OSError, TypeError):
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def strongest_first(rows: Iterable[Sequence[Any]], feature: int) -> list[Example]:
    """Check the rows of one feature and sort them, strongest first; equals keep their order.

    Raises:
        ValueError: a row is not an example, or its peak is not a number.
    """
    return sorted((check_example(row, feature, i) for i, row in enumerate(rows)), key=lambda e: -e.max_activation)


def not_all_nan(examples: list[Example], feature: int) -> list[Example]:
    """The same, of a format that stores every activation.

    Raises:
        ValueError: an example has none but NaN.
    """
    for number, example in enumerate(examples):
        if len(example.activations) and all(map(isnan, example.activations)):
            raise ValueError(f"example {number} of feature {feature} has activations that are all NaN")
    return examples


class FileSource(ExampleSource):
    """Base of the formats that keep features in files: a file is parsed when one of its features is asked for.

    A format gives `files()` and `parse(file)`. Where a file's name says which feature it holds, `feature_of(file)`
    spares reading all of them to know which features there are.

    Args:
        path: a folder, or one file of it.
    """

    cheap_stats = False  # whether one file tells the statistics of many features

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path)
        self._lock = threading.Lock()
        self._kept = lru_cache(maxsize=2)(self._parse)

    def files(self) -> Iterable[Path]:
        """The files, in order."""
        raise NotImplementedError

    def parse(self, file: Path) -> Mapping[int, tuple[Sequence[Sequence[Any]], FeatureStats | None]]:
        """Examples and statistics of each feature in the file.

        Raises:
            ValueError, KeyError, TypeError: it is broken; the file is then named.
        """
        raise NotImplementedError

    def feature_of(self, file: Path) -> int | None:
        """The only feature that a file of this name holds; None where that takes a look inside."""
        return None

    def parsed(self, file: Path) -> Mapping[int, tuple[Sequence[Sequence[Any]], FeatureStats | None]]:
        """What `parse` gives, remembered for the last files; threads that want the same file parse it once."""
        with self._lock:
            return self._kept(file, _stamp(file))  # in a folder, one may be written anew in its place

    @cached_property
    def _files_of(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for file in self.files():
            feature = self.feature_of(file)
            for one in self.parsed(file) if feature is None else (feature,):
                found.setdefault(one, []).append(file)
        return dict(sorted(found.items()))

    def features(self) -> Sequence[int]:
        return self._features

    @cached_property
    def _features(self) -> list[int]:
        return list(self._files_of)

    def load(self, feature: int) -> Sequence[Example]:
        rows = [row for file in self._files_of[feature] for row in self._in(file, feature)[0]]
        return not_all_nan(strongest_first(rows, feature), feature)

    def stats(self, feature: int) -> FeatureStats | None:
        known = [self._in(file, feature)[1] for file in self._files_of.get(feature, ())]
        return next((stats for stats in known if stats is not None), None)

    @cached_property
    def _table(self) -> FeatureTable:
        # By file, so that each is parsed once.
        by_file = sorted(self._files_of, key=lambda feature: str(self._files_of[feature][0]))
        return FeatureTable.of(self.features(), (self.stats(feature) or FeatureStats(feature) for feature in by_file))

    def table(self) -> FeatureTable:
        return self._table if self.cheap_stats else super().table()

    def _in(self, file: Path, feature: int) -> tuple[Sequence[Sequence[Any]], FeatureStats | None]:
        content = self.parsed(file)
        if feature not in content:
            raise ValueError(f"feature {feature}: {file} holds {', '.join(map(str, content)) or 'nothing'} instead")
        return content[feature]

    def _parse(self, file: Path, stamp: Any) -> Mapping[int, tuple[Sequence[Sequence[Any]], FeatureStats | None]]:
        try:
            return self.parse(file)
        except (ValueError, OSError, EOFError, zlib.error, *BROKEN) as error:
            if isinstance(error, OSError) and error.filename:  # it is not there, or may not be read
                raise
            raise ValueError(f"cannot read {file}: {type(error).__name__}: {error}") from error


def head(file: Path, size: int = 1 << 16) -> str:
    """The first characters of a text file, packed with gzip or not; "" where it is no file."""
    if not file.is_file():
        return ""
    try:
        with open_bytes(file) as stream:
            start = stream.read(size)
    except (OSError, EOFError, zlib.error):
        return ""
    return start.decode(encoding_of(start), "replace")  # as json does, which reads what Windows writes


def numbered(folder: Path, suffix: str) -> list[Path]:
    """The files `<number><suffix>` of a folder, in the order of their numbers; none where it is no folder."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted((f for f in files if f.name.removesuffix(suffix).isdecimal() and f.suffix == suffix), key=number_in)


def number_in(file: Path) -> int:
    """The last number in a file's name; -1 where there is none."""
    return int((re.findall(r"\d+", file.name) or [-1])[-1])


def bands(bounds: Iterable[Any]) -> dict[Any, int]:
    """Numbers of quantile bands, higher for stronger, from their sort keys."""
    return {bound: number for number, bound in enumerate(sorted(set(bounds)))}


def logits(tokens: Iterable[Any] | None, values: Iterable[float] | None = None) -> Sequence[list[tuple[str, float]]]:
    """Promoted or suppressed tokens of one model, as `FeatureStats` holds them; NaN where the value is not known."""
    tokens = list(tokens or ())
    if values is None:
        pairs = [(t, float("nan")) if isinstance(t, str) else (str(t[0]), float(t[1])) for t in tokens]
    else:
        pairs = [(str(t), float(v)) for t, v in zip(tokens, values, strict=False)]
    return [pairs] if pairs else ()


def edges_around(centres: Sequence[float]) -> Sequence[float]:
    """Edges of equal bins from the bins' centres."""
    if len(centres) < 2:
        return ()
    half = (centres[1] - centres[0]) / 2
    return [c - half for c in centres] + [centres[-1] + half]


def token_ids(blob: bytes | None, where: str) -> list[int]:
    """Token ids, stored as int32; `where` is named in the error."""
    if not isinstance(blob, bytes) or len(blob) % 4:
        raise ValueError(f"{where} has no token ids, or broken ones")
    return np.frombuffer(blob, "<i4").tolist()


def dense(positions: bytes | Sequence[int] | None, values: bytes | None, length: int, where: str) -> list[float]:
    """Activations at each token from those at some `positions` (int32) with `values` (float32), `[length]`.

    Where nothing is stored they are unknown: NaN.
    """
    if positions is None or values is None:
        return [float("nan")] * length
    if isinstance(positions, str | int | float) or not isinstance(values, bytes):
        raise ValueError(f"{where} has positions or activations that are no blobs: {positions!r:.40}, {values!r:.40}")
    places = np.frombuffer(positions, "<i4") if isinstance(positions, bytes) else np.asarray(positions, dtype=np.int64)
    numbers = np.frombuffer(values[: len(values) // 4 * 4], "<f4")
    if len(places) != len(numbers) or (len(places) and not 0 <= places.min() <= places.max() < length):
        raise ValueError(f"{where} has {len(numbers)} activations at {len(places)} positions of {length} tokens")
    if len(numbers) and np.isnan(numbers).all():
        raise ValueError(f"{where} has activations that are all NaN")
    activations = np.zeros(length, dtype=np.float32)
    activations[places] = numbers
    return activations.tolist()

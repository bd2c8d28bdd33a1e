"""Datasets on the Hugging Face Hub: ours by range requests, other formats by download.

The revision is resolved once, when a dataset is opened; every later request names its commit, so that a push in
between cannot mix files. What was read is kept under `HF_HOME/tiny-dashboard`, by commit, and never asked for again.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tiny_dashboard.core.examples import ExampleSource
from tiny_dashboard.hub import HubName, errors_in_words, look_up
from tiny_dashboard.sources.label_store import NAME as LABELS
from tiny_dashboard.sources.parquet import ParquetExamples, recognises


def fetch(name: HubName) -> ExampleSource | Path:
    """Open a dataset of our layout where it is; download another one and return where it lies.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError: as `hub.look_up` has it.
        ValueError: it holds several files of examples.
    """
    dataset, inside, _ = name
    snapshot = look_up(name, "dataset")
    folder = snapshot.get(["metadata.json", LABELS])
    if not inside and recognises(folder):
        return HubExamples(dataset, folder.name, folder)
    if snapshot.folder is None:
        wanted = _wanted(dataset, snapshot.files, inside)
        # Said first, since it can be gigabytes. The Hub's client shows the bar, resumes, and keeps the file.
        total = sum(snapshot.files[name] for name in wanted) / 1e6
        print(f"{dataset}: {len(wanted)} files, {total:,.1f} MB, downloaded once", file=sys.stderr)
        folder = snapshot.get(wanted)
    return folder / inside


class HubExamples(ParquetExamples):
    """Examples in our layout on the Hub: a file's footer and each row group are ranges.

    Args:
        dataset: `owner/name`.
        commit: what the revision is pinned to.
        folder: where its metadata.json was downloaded to.
    """

    def __init__(self, dataset: str, commit: str, folder: Path) -> None:
        from huggingface_hub import constants

        self.dataset, self.commit = dataset, commit
        self._cache = Path(constants.HF_HOME) / "tiny-dashboard" / dataset.replace("/", "--") / commit
        super().__init__(folder)
        self.sizes = {file["name"]: file["bytes"] for kind in self._opened.files.values() for file in kind}

    is_remote = True

    def texts(self, most: int) -> None:
        return None  # they lie all over files that may be gigabytes

    def folder(self) -> Path:
        from huggingface_hub import snapshot_download

        with errors_in_words(self.dataset):
            return Path(snapshot_download(self.dataset, repo_type="dataset", revision=self.commit))

    def _written(self) -> str:
        return self.commit

    def _read_footer(self, name: str) -> pq.FileMetaData:
        return pq.read_metadata(_Ranges(self, name))

    def _read_group(self, name: str, footer: pq.FileMetaData, group: int) -> pa.Table:
        # pre_buffer: the columns of a row group lie beside each other, and come as one range
        with pq.ParquetFile(_Ranges(self, name), metadata=footer, pre_buffer=True) as file:
            return file.read_row_group(group, use_threads=False)

    def _open(self, name: str, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
        """A whole file, downloaded once: for the columns of all features, which lie all over it."""
        from huggingface_hub import hf_hub_download

        with errors_in_words(self.dataset):
            file = hf_hub_download(self.dataset, name, repo_type="dataset", revision=self.commit)
        return pq.ParquetFile(file, metadata=footer)

    def _resolve(self, tokenizer: str | None) -> str | None:
        """A tokenizer in the dataset is downloaded when the dataset is opened; a folder elsewhere cannot be had."""
        if tokenizer is None or not tokenizer.startswith("."):
            return tokenizer
        from huggingface_hub import snapshot_download

        inside = os.path.normpath(tokenizer)
        if inside.startswith(".."):
            return None
        with errors_in_words(self.dataset):
            folder = snapshot_download(
                self.dataset, repo_type="dataset", revision=self.commit, allow_patterns=f"{inside}/*"
            )
        return str(Path(folder) / inside)

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` of a file, from the cache or by one request."""
        cached = self._cache / f"{name.replace('/', '--')}.{start}-{stop}"
        if cached.is_file():
            return cached.read_bytes()
        content = self._request(name, start, stop)
        unfinished = cached.with_name(f"{cached.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(cached)
        except OSError as error:  # a full or read-only disk need not keep anybody from looking
            print(f"not cached: {error}", file=sys.stderr)
        return content

    def _request(self, name: str, start: int, stop: int) -> bytes:
        from huggingface_hub import HfFileSystem

        path = f"datasets/{self.dataset}@{self.commit}/{name}"
        with errors_in_words(self.dataset), HfFileSystem().open(path, cache_type="none", size=self.sizes[name]) as file:
            file.seek(start)
            content: bytes = file.read(stop - start)
        if len(content) != stop - start:
            raise ConnectionError(f"{self.dataset}/{name}: {len(content)} bytes came of {stop - start}; try again")
        return content


class _Ranges(io.RawIOBase):
    """A file on the Hub: each read is one range."""

    def __init__(self, source: HubExamples, name: str) -> None:
        self._source, self._name, self._place = source, name, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._source.sizes[self._name])[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._source.sizes[self._name] if size < 0 else self._place + size
        content = self._source.read(self._name, self._place, stop)
        self._place = stop
        return content


def _wanted(dataset: str, sizes: Mapping[str, int], inside: str) -> list[str]:
    """The files to download: the one database or pickle and what lies beside it, or else all."""
    beside = [
        name
        for name in sizes
        if re.fullmatch(r"(.*/)?(feature_df\.csv|(.*\.)?labels\.jsonl|explanations(\.json|/.*))", name)
    ]
    if inside:
        named = [name for name in sizes if name == inside or name.startswith(f"{inside}/")]
        if not named:
            raise FileNotFoundError(f"{dataset} has no {inside}; it has {', '.join(sorted(sizes)[:20])}")
        return sorted({*named, *beside})
    for suffixes in ((".db", ".sqlite", ".sqlite3"), (".pt",)):
        files = [name for name in sizes if name.endswith(suffixes) and "/" not in name]
        if len(files) > 1:
            options = ", ".join(f"{dataset}/{name} ({sizes[name] / 1e6:,.1f} MB)" for name in files)
            raise ValueError(f"{dataset} holds several files of examples; open one of them: {options}")
        if files:
            return sorted({*files, *beside})
    return sorted(sizes)

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

_FOOTER_READ = 65_536  # arrow reads this much of the end of a file, even for a smaller footer


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
    """Examples in our layout on the Hub: one range request for the footer of a file, one for each row group.

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
        self._sizes = {
            file["name"]: (file["bytes"], file["footer"]) for kind in self._opened.files.values() for file in kind
        }

    def folder(self) -> Path:
        from huggingface_hub import snapshot_download

        with errors_in_words(self.dataset):
            return Path(snapshot_download(self.dataset, repo_type="dataset", revision=self.commit))

    def _written(self) -> str:
        return self.commit

    def _read_footer(self, name: str) -> pq.FileMetaData:
        size, footer = self._sizes[name]
        start = max(size - max(footer, _FOOTER_READ), 0)
        return pq.read_metadata(_Window(self._bytes(name, start, size), start, size))

    def _read_group(self, name: str, footer: pq.FileMetaData, group: int) -> pa.Table:
        row_group = footer.row_group(group)
        columns = [row_group.column(i) for i in range(row_group.num_columns)]
        starts = [c.dictionary_page_offset or c.data_page_offset for c in columns]
        stop = max(start + c.total_compressed_size for start, c in zip(starts, columns, strict=True))
        window = _Window(self._bytes(name, min(starts), stop), min(starts), self._sizes[name][0])
        with pq.ParquetFile(window, metadata=footer, pre_buffer=False) as file:
            return file.read_row_group(group, use_threads=False)  # it is small: threads cost more than they save

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

    def _bytes(self, name: str, start: int, stop: int) -> bytes:
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
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(f"HF_HUB_OFFLINE is set, and this part of {self.dataset} was never read before")
        url = hf_hub_url(self.dataset, name, repo_type="dataset", revision=self.commit)
        headers = build_hf_headers() | {"Range": f"bytes={start}-{stop - 1}"}
        with errors_in_words(self.dataset):
            answer = http_backoff("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, max_retries=2)
            hf_raise_for_status(answer)
        content = answer.content if answer.status_code == 206 else answer.content[start:stop]
        if len(content) != stop - start:
            raise ConnectionError(f"{self.dataset}/{name}: {len(content)} bytes came of {stop - start}; try again")
        return content


class _Window(io.RawIOBase):
    """A file of which only one stretch of bytes is here."""

    def __init__(self, content: bytes, start: int, size: int) -> None:
        self._content, self._start, self._size, self._place = content, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        first = self._place - self._start
        last = len(self._content) if size < 0 else first + size
        if first < 0 or last > len(self._content):
            raise OSError(f"bytes {self._place} to {self._place + size} were not asked for; the file is damaged")
        self._place += last - first
        return self._content[first:last]


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

"""A corpus -> documents -> token windows -> batches, in an order that depends on nothing but the corpus.

Documents are handled in blocks: packing and batches stay inside a block, shards take whole blocks, and a run that goes
on counts the batches of its block. So any number of shards sees exactly the batches that one process sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain, count, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.collect.state import Windows
from tiny_dashboard.core.prompts import encode_chat, encode_text

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".txt": "text", ".text": "text", ".csv": "csv"}
COLUMNS = ("text", "messages", "conversation", "conversations", "chat", "content")


class Window(NamedTuple):
    """Some tokens of a document, as one row of a batch, without BOS."""

    doc: int
    start: int
    ids: list[int]
    masked: list[bool]
    single: bool


class TokenBatch(NamedTuple):
    """One batch for the models.

    Attributes:
        ids, attention: `[batch, seq]`, padded on the right; `n_prefix` columns of BOS come first.
        windows: what the state must know, without these columns.
        block, step: the block, and the number of the batch in it.
        n_tokens: tokens without padding.
        documents: about how many documents of the corpus lie before the end of this batch.
        digest: of the block's texts, to tell on resuming that the corpus is the same.
        stream: where the block begins in a streamed dataset, as that says it; None elsewhere.
    """

    ids: Tensor
    attention: Tensor
    n_prefix: int
    windows: Windows
    block: int
    step: int
    n_tokens: int
    documents: int
    digest: str
    stream: dict[str, Any] | None


class Block(NamedTuple):
    """Documents that are handled together; `first` is the number of the first one, `stream` as in `TokenBatch`."""

    number: int
    first: int
    rows: list[Any]
    stream: dict[str, Any] | None = None


def open_corpus(source: Any, *, split: str = "train", subset: str | None = None) -> Iterable[Any]:
    """The documents of a file, a folder or a Hub dataset (streamed); anything else iterable is returned as it is.

    Args:
        source: a path to parquet, jsonl, json, csv or text (one document a line), a folder that `Dataset.save_to_disk`
            wrote, a folder or a Hub id that `datasets.load_dataset` takes, or an iterable of strings, of chats (lists
            of messages), or of rows.
        split, subset: which part of a dataset.

    Raises:
        FileNotFoundError: a path that isn't there, and no Hub dataset either.
        TypeError: not iterable.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, Iterable) or isinstance(source, bytes | Mapping):
            raise TypeError(
                f"a corpus is a path, a Hub dataset id or an iterable of texts, not {type(source).__name__}"
            )
        return source
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetNotFoundError

    path = Path(source).expanduser()
    if path.suffix.lower() in READERS and not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if path.is_file():
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise ValueError(f"{path} is no corpus file that is known; expected {', '.join(READERS)}")
        return load_dataset(reader, data_files=str(path), split="train", streaming=True)
    if (path / "dataset_info.json").exists() and (path / "state.json").exists():
        return load_from_disk(str(path))  # rows by number: a shard reads its own blocks only
    try:
        return load_dataset(str(path if path.is_dir() else source), subset, split=split, streaming=True)
    except DatasetNotFoundError as error:
        raise FileNotFoundError(f"there is no corpus {str(source)!r}, neither here nor on the Hub: {error}") from error


def to_document(row: Any, number: int, column: str | None = None) -> str | list[Mapping[str, str]] | None:
    """The text or the chat of one row; None where it is null.

    Raises:
        KeyError: the row lacks the column; the message lists those it has.
        TypeError, ValueError: it is no document; the message says which one.
    """
    if isinstance(row, Mapping) and "role" not in row:
        name = column or next((name for name in COLUMNS if name in row), None)
        if name is None and len(row) == 1:
            name = next(iter(row))
        if name not in row:
            wanted = f"has no column {column!r}" if column else "has no column that is known to hold text"
            raise KeyError(f"document {number} {wanted}; choose one of {', '.join(map(str, row))} as column=")
        row = row[name]
    if isinstance(row, bytes):
        try:
            row = row.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"document {number} is not valid UTF-8 at byte {error.start}; decode it first") from error
    if row is None or isinstance(row, str):
        return row
    messages = list(row) if isinstance(row, Sequence) else []
    if not messages or not all(isinstance(m, Mapping) and isinstance(m.get("content"), str) for m in messages):
        raise TypeError(
            f"document {number} is neither a text nor a list of messages with role and content: {str(row)[:80]!r}"
        )
    return messages


@dataclass
class Batches:
    """The batches of a corpus.

    Args:
        corpus: what `open_corpus` returns.
        tokenizer: of the models.
        context: tokens that a model sees at once, BOS included.
        batch_size: windows of full length in a batch; of shorter ones there are more.
        packed: rows go over the ends of documents; else each document has rows of its own.
        one_per_document: a feature keeps only the best window of each document.
        mask_special: BOS, chat template and other special tokens do not count.
        column: where rows have several.
        bos: whether a BOS stands before every window of a text, and is not stored; None: where the tokenizer writes
            one. A chat begins as its template writes it: where that writes no BOS, no window has one.
        block_size: documents handled together.
        shard, num_shards: blocks `shard`, `shard + num_shards`, … only.
    """

    corpus: Any
    tokenizer: Any
    context: int
    batch_size: int
    packed: bool = False
    one_per_document: bool = True
    mask_special: bool = True
    column: str | None = None
    bos: bool | None = None
    block_size: int = 256
    shard: int = 0
    num_shards: int = 1

    @classmethod
    def of(cls, settings: CollectSettings, corpus: Any, tokenizer: Any, bos: bool | None) -> Batches:
        """Those of a collection's settings."""
        own = {f.name for f in fields(cls)} - {"corpus", "tokenizer", "bos"}
        return cls(corpus, tokenizer, bos=bos, **{name: getattr(settings, name) for name in own})

    def __post_init__(self) -> None:
        self.n_documents = 0
        self.bos_id: Any = getattr(self.tokenizer, "bos_token_id", None)
        if self.bos and self.bos_id is None:
            raise ValueError("a BOS is asked for before every window, and the tokenizer has none; give bos=False")
        if self.bos is None:
            self.bos = self.bos_id is not None and list(self.tokenizer("x")["input_ids"])[:1] == [self.bos_id]
        if self.bos and not self._template_writes_bos() and self._holds_chats():
            self.bos = False

    def _holds_chats(self) -> bool:
        """Whether the first document is a conversation; an iterator keeps it."""
        if not getattr(self.tokenizer, "chat_template", None):
            return False
        rows = self._rows()
        first = next(rows, None)
        if isinstance(self.corpus, Iterator):
            self.corpus = chain([first], self.corpus)
        return isinstance(to_document(first, 0, self.column), list)

    def _template_writes_bos(self) -> bool:
        try:
            return encode_chat([{"role": "user", "content": "x"}], self.tokenizer).ids[:1] == [self.bos_id]
        except ValueError:  # a template that wants more than this
            return False

    def __len__(self) -> int:
        """Documents of the whole corpus; 0 where that is not known."""
        return len(self.corpus) if hasattr(self.corpus, "__len__") else 0

    def iterate(
        self, block: int = 0, step: int = 0, expected: str | None = None, stream: dict[str, Any] | None = None
    ) -> Iterator[TokenBatch]:
        """The batches from batch `step` of block `block` on; with `stream`, what lies before is not read again.

        Raises:
            ValueError: that block has another digest than `expected`; see also `to_document` and `encode_chat`.
        """
        for found in self._blocks(block, stream):
            number, first, rows, _ = found
            digest = hashlib.blake2b(digest_size=16)
            windows = self._pack(self._documents(first, rows, digest))
            if number == block and expected not in (None, digest.hexdigest()):
                raise ValueError("the corpus has changed since the stopped run read it; give that one, or start anew")
            batches = list(self._cut(windows))
            for i, batch in enumerate(batches):
                if number > block or i >= step:
                    before = batches[i - 1][-1] if i else None
                    after = batches[i + 1][0] if i + 1 < len(batches) else None
                    documents = first + len(rows) * (i + 1) // len(batches)
                    place = {"block": number, "step": i, "documents": documents, "digest": digest.hexdigest()}
                    yield self._tensors(batch, before, after, place | {"stream": found.stream})

    def _blocks(self, start: int, stream: dict[str, Any] | None) -> Iterator[Block]:
        """This shard's blocks from block `start` on."""
        size = self.block_size
        numbers = (n for n in count(start) if n % self.num_shards == self.shard)
        if hasattr(self.corpus, "__len__") and hasattr(self.corpus, "__getitem__"):
            n_documents = len(self.corpus)
            for number in numbers:
                if number * size >= n_documents:
                    return
                end = min(number * size + size, n_documents)
                yield Block(number, number * size, [self.corpus[i] for i in range(number * size, end)])
            return
        from datasets import IterableDataset

        streamed = self.corpus if isinstance(self.corpus, IterableDataset) else None
        begin = 0
        if streamed is not None and stream is not None:
            streamed.load_state_dict(stream)
            begin = start
        rows = self._rows()
        for number in count(begin):
            place = None if streamed is None else streamed.state_dict()
            block = list(islice(rows, size))
            if block and number >= start and number % self.num_shards == self.shard:
                yield Block(number, number * size, block, place)
            if len(block) < size:
                return

    def _rows(self) -> Iterator[Any]:
        try:
            yield from self.corpus
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the corpus is not valid UTF-8 ({error}); convert it, as with `iconv -f latin1 -t utf-8`"
            ) from error

    def _documents(self, first: int, rows: list[Any], digest: Any) -> Iterator[tuple[int, list[int], list[bool]]]:
        """`(number, ids, masked)` of the documents of at least two tokens; ids are without BOS."""
        for number, row in enumerate(rows, first):
            document = to_document(row, number, self.column)
            digest.update(repr(document).encode("utf-8", "replace"))
            ids: list[int] = []
            special: list[bool] = []
            try:
                if isinstance(document, list):
                    _, ids, special = encode_chat(document, self.tokenizer)
                elif document:
                    _, ids, special = encode_text(document, self.tokenizer, bos=self.bos)
            except ValueError as error:
                raise ValueError(f"document {number}: {error}") from error
            if self.bos and ids and ids[0] != self.bos_id:
                raise ValueError(
                    f"document {number}: the chat template writes no BOS, and a BOS stands before every window of this "
                    "run; give bos=False (--no-bos), or collect texts and chats apart"
                )
            if self.bos:
                ids, special = ids[1:], special[1:]
            self.n_documents += 1
            if len(ids) >= 2:
                yield number, ids, special if self.mask_special else [False] * len(ids)

    def _pack(self, documents: Iterator[tuple[int, list[int], list[bool]]]) -> list[Window]:
        """Windows of a block, documents of several windows first, then the others by length."""
        windows: list[Window] = []
        length = self.context - bool(self.bos)
        if not self.packed:
            for doc, ids, masked in documents:
                cuts = range(0, len(ids), length)
                windows += [
                    Window(doc, at, ids[at : at + length], masked[at : at + length], len(cuts) == 1) for at in cuts
                ]
            return sorted(windows, key=lambda w: (w.single, -len(w.ids) if w.single else 0, w.doc, w.start))
        stream: list[tuple[int, bool, int, int]] = []
        separator = self.bos_id if self.bos else self.tokenizer.eos_token_id
        for doc, ids, masked in documents:
            stream += zip(ids, masked, [doc] * len(ids), range(len(ids)), strict=True)
            if separator is not None:
                stream.append((separator, True, doc, len(ids)))
        for at in range(0, len(stream), length):
            row_ids, row_masked, docs, starts = zip(*stream[at : at + length], strict=True)
            windows.append(Window(docs[0], starts[0], list(row_ids), list(row_masked), False))
        return windows

    def _cut(self, windows: list[Window]) -> Iterator[list[Window]]:
        batch: list[Window] = []
        longest = 0
        for window in windows:
            length = len(window.ids) + bool(self.bos)
            longest = max(longest, length)
            if batch and (len(batch) + 1) * longest > self.batch_size * self.context:
                yield batch
                batch, longest = [], length
            batch.append(window)
        if batch:
            yield batch

    def _tensors(
        self,
        batch: list[Window],
        before: Window | None,
        after: Window | None,
        place: dict[str, Any],
    ) -> TokenBatch:
        length = max(len(w.ids) for w in batch)
        tokens = torch.full((len(batch), length), -1, dtype=torch.int32)
        keep = torch.zeros(len(batch), length, dtype=torch.bool)
        for i, w in enumerate(batch):
            tokens[i, : len(w.ids)] = torch.tensor(w.ids, dtype=torch.int32)
            keep[i, : len(w.ids)] = ~torch.tensor(w.masked)
        is_token = tokens >= 0
        ids = tokens.clamp(min=0).long()
        if self.bos:
            one = torch.ones(len(batch), 1, dtype=torch.long)
            ids, is_token = torch.cat([one * self.bos_id, ids], 1), torch.cat([one.bool(), is_token], 1)
        # Without the limit of one for a document each window counts as a document of its own.
        changes = [not self.one_per_document or a.doc != b.doc for a, b in pairwise(batch)]
        same = self.one_per_document
        windows = Windows(
            ids=torch.tensor([w.doc << 32 | w.start for w in batch]),
            texts=torch.tensor([_text_hash(w) for w in batch]),
            tokens=tokens,
            keep=keep,
            groups=torch.tensor([0, *changes]).cumsum(0),
            resumed=same and before is not None and before.doc == batch[0].doc,
            continues=same and after is not None and after.doc == batch[-1].doc,
        )
        return TokenBatch(ids, is_token.long(), int(bool(self.bos)), windows, n_tokens=int(is_token.sum()), **place)


def _text_hash(window: Window) -> int:
    content = torch.tensor([window.ids, window.masked], dtype=torch.int32).numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)

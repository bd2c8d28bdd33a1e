"""A corpus -> documents -> token windows -> batches, in an order that depends on nothing but the corpus.

Documents are handled in blocks: packing and batches stay inside a block, shards take whole blocks, and a run that goes
on counts the batches of its block. So any number of shards sees exactly the batches that one process sees.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain, count, islice, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_dashboard.collect.documents import Faults, to_document
from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.collect.state import Windows
from tiny_dashboard.core.prompts import EncodedText, encode_chat, encode_text


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
        faults: of the block, with its first batch; and of blocks before it that gave no batch.
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
    faults: Faults


class Block(NamedTuple):
    """Documents that are handled together; `first` is the number of the first one, `stream` as in `TokenBatch`."""

    number: int
    first: int
    rows: list[Any]
    stream: dict[str, Any] | None = None


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
        on_error: what a document that cannot be read does: it is skipped ("skip") or ends the run ("stop").
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
    on_error: str = "stop"
    shard: int = 0
    num_shards: int = 1

    @classmethod
    def of(cls, settings: CollectSettings, corpus: Any, tokenizer: Any, bos: bool | None) -> Batches:
        """Those of a collection's settings."""
        own = {f.name for f in fields(cls)} - {"corpus", "tokenizer", "bos"}
        return cls(corpus, tokenizer, bos=bos, **{name: getattr(settings, name) for name in own})

    def __post_init__(self) -> None:
        self.n_documents = 0
        self.faults = Faults()  # of blocks that were read and have given no batch yet
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
            if number < self.num_shards and self.faults.skipped == len(rows):
                raise ValueError(f"none of the first {len(rows)} documents can be read: {self.faults.named[0]}")
            if number == block and step:
                self.faults = Faults()  # they came with the block's first batch
            for i, batch in enumerate(batches):
                if number > block or i >= step:
                    before = batches[i - 1][-1] if i else None
                    after = batches[i + 1][0] if i + 1 < len(batches) else None
                    documents = first + len(rows) * (i + 1) // len(batches)
                    place = {"block": number, "step": i, "documents": documents, "digest": digest.hexdigest()}
                    faults, self.faults = self.faults, Faults()
                    yield self._tensors(batch, before, after, place | {"stream": found.stream, "faults": faults})

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
            self.n_documents += 1
            try:
                document = to_document(row, number, self.column)
                digest.update(repr(document).encode("utf-8", "replace"))
                _, ids, special, lost = self._encode(document, number)
            except (ValueError, TypeError) as error:
                if self.on_error == "stop":
                    raise
                digest.update(repr(row).encode("utf-8", "replace"))
                self.faults = self.faults.plus((1, 0, [str(error)]))
                continue
            if lost:
                self.faults = self.faults.plus((0, 1, [f"document {number}: {lost[0]}"]))
            if len(ids) >= 2:
                yield number, ids, special if self.mask_special else [False] * len(ids)

    def _encode(self, document: str | list[dict[str, Any]] | None, number: int) -> EncodedText:
        """A document without BOS; nothing where it is empty."""
        if not document:
            return EncodedText("", [], [])
        try:
            if isinstance(document, list):
                encoded = encode_chat(document, self.tokenizer)
            else:
                encoded = encode_text(document, self.tokenizer, bos=self.bos)
        except ValueError as error:
            raise ValueError(f"document {number}: {error}") from error
        if not self.bos:
            return encoded
        if encoded.ids[:1] != [self.bos_id]:
            raise ValueError(
                f"document {number}: the chat template writes no BOS, and a BOS stands before every window of this "
                "run; give bos=False (--no-bos), or collect texts and chats apart"
            )
        return encoded._replace(ids=encoded.ids[1:], special=encoded.special[1:])

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

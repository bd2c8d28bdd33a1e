"""The state of a collection against brute force in plain Python."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_dashboard.collect.saved import load_meta, merge_parts, write_state
from tiny_dashboard.collect.state import State, Windows, bin_edges

torch.set_num_threads(1)
D, T, K, S = 5, 4, 3, 4


class Window:
    """A window with random codes that are often equal, so that ties are the rule."""

    def __init__(self, doc: int, start: int, tokens: list[int], keep: list[bool], seed: int) -> None:
        self.doc, self.start, self.tokens, self.keep = doc, start, tokens, keep
        generator = torch.Generator().manual_seed(hash((tuple(tokens), seed)) % 2**31)
        self.codes = torch.randint(-1, 4, (len(tokens), D), generator=generator).float() / 2
        self.id = doc << 32 | start

    @property
    def masked(self) -> torch.Tensor:
        return self.codes * torch.tensor(self.keep)[:, None]


@st.composite
def corpora(draw):
    """Documents of 1 to 5 windows; texts (and thus codes) repeat within and between documents."""
    documents = []
    for doc in range(draw(st.integers(1, 7))):
        windows = []
        for i in range(draw(st.integers(1, 5))):
            tokens = draw(st.lists(st.integers(0, 2), min_size=1, max_size=T))
            windows.append(Window(doc, i * T, tokens, [t != 2 for t in tokens], 0))
        documents.append(windows)
    return documents


def batches_of(documents, sizes):
    """Cut the windows of documents in order into batches of the given sizes, over and over."""
    windows = [w for document in documents for w in document]
    sizes = itertools.cycle(sizes)
    at = 0
    while at < len(windows):
        size = next(sizes)
        yield windows[at : at + size], windows[at - 1] if at else None, (windows[at + size :] or [None])[0]
        at += size


def feed(state: State, documents, sizes=(3,), *, sparse=False) -> State:
    for windows, before, after in batches_of(documents, sizes):
        length = max(len(w.tokens) for w in windows)
        codes = torch.zeros(len(windows), length, D)
        tokens = torch.full((len(windows), length), -1, dtype=torch.int32)
        keep = torch.zeros(len(windows), length, dtype=torch.bool)
        for i, w in enumerate(windows):
            n = len(w.tokens)
            codes[i, :n], tokens[i, :n], keep[i, :n] = w.codes, torch.tensor(w.tokens).int(), torch.tensor(w.keep)
            codes[i, n:] = 9.0  # padding must not count
        docs = [w.doc for w in windows]
        groups = [0, *itertools.accumulate(int(a != b) for a, b in itertools.pairwise(docs))]
        batch = Windows(
            ids=torch.tensor([w.id for w in windows]),
            texts=torch.tensor([text_key(w) for w in windows]),
            tokens=tokens,
            keep=keep,
            groups=torch.tensor(groups),
            resumed=before is not None and before.doc == windows[0].doc,
            continues=after is not None and after.doc == windows[-1].doc,
        )
        state.add(codes.flatten(0, 1).to_sparse() if sparse else codes, batch)
    return state


def text_key(window: Window) -> int:
    return hash(tuple(window.tokens)) % 2**62


def empty() -> State:
    return State.empty(D, K, S, T)


def brute_force(documents, feature):
    """The top-k ids by the three rules, with sorting only."""
    best = []
    for document in documents:
        candidates = [(-float(w.masked[:, feature].max()), w.id, w) for w in document]
        candidates = [c for c in candidates if c[0] < 0]
        if candidates:
            best.append(min(candidates, key=lambda c: c[:2]))
    unique = {}
    for value, number, w in sorted(best, key=lambda c: c[:2]):
        unique.setdefault(text_key(w), (value, number, w))
    return list(unique.values())


def bits(state: State) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in state.arrange().tensors().items()}


@settings(max_examples=60, deadline=None)
@given(corpora(), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_equals_brute_force_ties_included(documents, sizes):
    state = feed(empty(), documents, sizes).arrange()
    windows = [w for document in documents for w in document]
    edges = bin_edges()
    for f in range(D):
        expected = brute_force(documents, f)[:K]
        n = len(expected)
        assert state.top.window[f, :n].tolist() == [number for _, number, _ in expected]
        assert state.top.value[f].tolist() == [-value for value, _, _ in expected] + [0.0] * (K - n)
        for slot, (_, _, w) in enumerate(expected):
            length = len(w.tokens)
            kept = w.codes[:, f].masked_fill(~torch.tensor(w.keep), torch.nan)
            torch.testing.assert_close(state.top.rows[f, slot, :length].float(), kept, rtol=0, atol=0, equal_nan=True)
            assert state.top.tokens[f, slot].tolist() == w.tokens + [-1] * (T - length)
        active = [v for w in windows for v in w.masked[:, f].tolist() if v > 0]
        assert int(state.histogram[f].sum()) == len(active)
        assert int(state.total[f]) / 2**24 == math.fsum(active)
        for low, high, count in zip(edges, edges[1:], state.histogram[f].tolist()):
            assert count == sum(low <= v < high for v in active)


@settings(max_examples=40, deadline=None)
@given(corpora(), st.lists(st.integers(1, 6), min_size=1, max_size=4), st.lists(st.integers(1, 6), min_size=1))
def test_batches_do_not_matter(documents, sizes, other_sizes):
    assert bits(feed(empty(), documents, sizes)) == bits(feed(empty(), documents, other_sizes))


@settings(max_examples=40, deadline=None)
@given(corpora(), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_codes_that_arrive_sparse_give_the_same_bits(documents, sizes):
    assert bits(feed(empty(), documents, sizes, sparse=True)) == bits(feed(empty(), documents, sizes))


@settings(max_examples=40, deadline=None)
@given(corpora(), st.permutations(range(3)))
def test_merge_is_associative_and_commutative(documents, order):
    shards = [documents[i::3] for i in range(3)]
    whole = bits(feed(empty(), documents))
    left = feed(empty(), shards[order[0]])
    left.merge(feed(empty(), shards[order[1]]))
    left.merge(feed(empty(), shards[order[2]]))
    right = feed(empty(), shards[order[2]])
    right.merge(feed(empty(), shards[order[1]]))
    first = feed(empty(), shards[order[0]])
    first.merge(right)
    assert bits(left) == whole
    assert bits(first) == whole


@settings(max_examples=30, deadline=None)
@given(corpora())
def test_feature_chunks_do_not_matter(documents):
    whole = feed(empty(), documents)
    chunked = empty()

    class Chunks:
        def add(self, codes, batch):
            for low, high in ((0, 2), (2, D)):
                chunked.view(low, high).add(codes[..., low:high].clone(), batch)

    feed(Chunks(), documents)
    assert bits(chunked) == bits(whole)


def test_sample_is_uniform_over_documents():
    documents = [[Window(doc, 0, [doc % 2, doc // 2 % 2, doc], [True] * 3, 3)] for doc in range(40)]
    for document in documents:
        document[0].codes[:] = 1.0
    counts = torch.zeros(40)
    state = State.empty(2000, K, S, T)
    codes = torch.ones(40, 3, 2000)
    windows = [d[0] for d in documents]
    batch = Windows(
        torch.tensor([w.id for w in windows]),
        torch.arange(40),
        torch.tensor([w.tokens for w in windows]).int(),
        torch.ones(40, 3, dtype=torch.bool),
        torch.arange(40),
    )
    state.add(codes, batch)
    drawn = (state.sample.window >> 32).flatten()
    counts.scatter_add_(0, drawn, torch.ones(len(drawn)))
    assert len(drawn) == 2000 * S and (state.sample.value == 1).all()
    assert counts.min() > 130 and counts.max() < 280  # 200 expected, standard deviation 14


def test_saved_states_merge_like_states(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_dashboard.collect.state.PART_FEATURES", 2)
    documents = [[Window(doc, 0, [doc % 3, 1], [True, True], doc % 2)] for doc in range(9)]
    for i in range(3):
        state = feed(empty(), documents[i::3])
        (tmp_path / str(i)).mkdir()
        write_state(tmp_path / str(i), state.parts(), {"shard": i})
    assert load_meta(tmp_path / "1")["shard"] == 1
    merged = list(merge_parts([tmp_path / str(i) for i in (2, 0, 1)]))
    assert [part.first for part in merged] == [0, 2, 4]
    whole = bits(feed(empty(), documents))
    for name, value in whole.items():
        assert b"".join(bits(part)[name] for part in merged) == value


def test_nan_is_an_error():
    state = empty()
    codes = torch.zeros(1, 2, D)
    codes[0, 1, 3] = math.nan
    batch = Windows(*(torch.tensor([0]),) * 2, torch.zeros(1, 2).int(), torch.ones(1, 2).bool(), torch.tensor([0]))
    for arriving in (codes.flatten(0, 1).to_sparse(), codes):
        with pytest.raises(ValueError, match="NaN or infinite"):
            state.add(arriving, batch)

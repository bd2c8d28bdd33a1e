"""Collection from models to dataset, against sorting everything in plain code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.collect_fixtures import CONTEXT, LAYER, OPTIONS, N, collect, files, make_all, make_corpus
from tiny_dashboard.collect import merge
from tiny_dashboard.sources import open_examples

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


def windows_of(setup, corpus):
    """`(doc, start, content ids, codes [seq, N])` of every window, one forward pass each."""
    pair, dictionary, tokenizer = setup
    for doc, document in enumerate(corpus):
        if isinstance(document, str):
            ids = tokenizer(document)["input_ids"][1:]
            masked = [False] * len(ids)
        else:
            text = tokenizer.apply_chat_template(document, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"][1:]
            masked = [i in tokenizer.all_special_ids for i in ids]
        for start in range(0, len(ids), CONTEXT - 1):
            window = ids[start : start + CONTEXT - 1]
            with torch.no_grad():
                states = [
                    model(torch.tensor([[0, *window]]), output_hidden_states=True).hidden_states[LAYER + 1][0]
                    for model in pair
                ]
            codes = dictionary.encode(torch.stack(states, 1))[1:]
            codes[masked[start : start + CONTEXT - 1]] = torch.nan  # kept as what has no value
            yield doc, start, window, codes


def test_equals_sorting_everything(setup, corpus, tmp_path):
    source = open_examples(collect(setup, corpus, tmp_path / "out"))
    windows = list(windows_of(setup, corpus))
    assert len(source) == N
    n_tokens = sum(len(tokenizer_ids) for _, _, tokenizer_ids, _ in windows)
    assert source.info.extra["n_tokens"] < n_tokens  # template tokens do not count
    for feature in range(N):
        best = {}
        for doc, start, ids, codes in windows:
            value = float(codes[:, feature].nan_to_num(0).max())
            if value > 0 and value > best.get(doc, (0,))[0] + 1e-5:
                best[doc] = (value, start, ids, codes[:, feature])
        unique = {}
        for doc in sorted(best, key=lambda doc: (-round(best[doc][0], 4), doc)):
            unique.setdefault(tuple(best[doc][2]), (doc, *best[doc]))
        expected = list(unique.values())
        found = list(source[feature])
        top = [example for example in found if example.quantile == 4]
        assert len(top) == min(OPTIONS["top_k"], len(expected))
        for example, (doc, value, start, ids, row) in zip(top, expected):
            assert (example.doc, example.start, example.token_ids) == (str(doc), start, ids)
            assert example.max_activation == pytest.approx(value, rel=1e-4)
            np.testing.assert_allclose(example.activations, row, rtol=2e-3, atol=1e-4)
        values = [example.max_activation for example in found]
        assert values == sorted(values, reverse=True)
        assert len({tuple(example.token_ids) for example in found}) == len(found)
        stats = source.stats(feature)
        active = torch.cat([codes[:, feature] for *_, codes in windows])
        active = active[active > 0]
        assert stats.n_active == sum(stats.histogram) == len(active)
        if len(active):
            assert stats.mean_activation == pytest.approx(float(active.mean()), rel=1e-4)
            assert stats.max_activation == pytest.approx(float(active.max()), rel=1e-4)
            tokenizer = setup[2]
            peaks = [tokenizer.decode([e.token_ids[int(np.nanargmax(e.activations))]]) for e in top]
            assert dict(stats.peak_tokens)[peaks[0]] == peaks.count(peaks[0])
            assert stats.decoder_norms == pytest.approx(setup[1].decoder([feature])[0].norm(dim=-1).tolist())
            assert len(stats.top_logits) == 2 and len(stats.top_logits[0]) == 10 and len(stats.nearest) == 6


def test_runs_are_bit_identical(setup, corpus, tmp_path):
    first = collect(setup, corpus, tmp_path / "a" / "out")
    second = collect(setup, iter(corpus), tmp_path / "b" / "out")
    assert files(first) == files(second)


def test_a_broken_run_goes_on_to_the_same_bits(setup, corpus, tmp_path):
    whole = collect(setup, corpus, tmp_path / "a" / "out")

    def broken(n):
        yield from corpus[:n]
        raise OSError("the network is gone")

    for n in (9, 23):
        with pytest.raises(OSError) as error:
            collect(setup, broken(n), tmp_path / "b" / "out", resume=True)
        assert "--resume" in error.value.__notes__[0]
    with pytest.raises(FileExistsError, match="--resume"):
        collect(setup, corpus, tmp_path / "b" / "out")
    with pytest.raises(ValueError, match="top_k was 4 and is 5"):
        collect(setup, corpus, tmp_path / "b" / "out", resume=True, top_k=5)
    with pytest.raises(ValueError, match="corpus has changed"):
        collect(setup, corpus[1:], tmp_path / "b" / "out", resume=True)
    again = collect(setup, iter(corpus), tmp_path / "b" / "out", resume=True)
    assert files(again) == files(whole)
    assert not (tmp_path / "b" / "out.state").exists()
    assert collect(setup, corpus, tmp_path / "b" / "out", resume=True) == again


@pytest.mark.parametrize("packed", [False, True])
def test_shards_merge_to_the_bits_of_one_run(setup, corpus, tmp_path, packed):
    whole = collect(setup, corpus, tmp_path / "whole" / "out", packed=packed, num_shards=1)
    options = {"packed": packed, "num_shards": 3}
    shards = [collect(setup, corpus, tmp_path / f"{i}", shard=i, **options) for i in range(3)]
    tokenizer = setup[2]
    tree = merge([shards[2], shards[0]], tmp_path / "tree", partial=True)
    for name, parts in {"all": shards, "turned": shards[::-1], "of a tree": [shards[1], tree]}.items():
        out = merge(parts, tmp_path / name / "out", tokenizer=tokenizer)
        for file in ("examples/00000.parquet", "features/00000.parquet"):
            assert (out / file).read_bytes() == (whole / file).read_bytes()
        assert not (tmp_path / name / "out.state").exists()
    with pytest.raises(ValueError, match=r"1 of 3 shards are missing: \[1\]"):
        merge([tree], tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"shards \[0\] come twice"):
        merge([*shards, tree][:1] * 2, tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(FileNotFoundError, match="no shard"):
        merge([whole], tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(FileExistsError):
        merge(shards, whole, tokenizer=tokenizer)
    other = collect(setup, corpus, tmp_path / "other", shard=1, top_k=5, **options)
    with pytest.raises(ValueError, match="top_k differ"):
        merge([shards[0], other], tmp_path / "out", tokenizer=tokenizer)

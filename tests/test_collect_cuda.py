"""Collection on a GPU: the same bits each time, and the CPU's examples. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.collect_fixtures import N, collect, files, make_all, make_corpus
from tiny_dashboard.sources.parquet import ParquetExamples

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_cuda_agrees_with_itself_and_with_the_cpu(tmp_path):
    corpus = make_corpus()
    on_cpu = collect(make_all(tmp_path), corpus, tmp_path / "cpu" / "out")
    pair, dictionary, tokenizer = make_all(tmp_path)
    setup = [model.cuda() for model in pair], dictionary.to("cuda"), tokenizer
    first = collect(setup, corpus, tmp_path / "a" / "out")

    def broken():
        yield from corpus[:17]
        raise OSError("gone")

    with pytest.raises(OSError):
        collect(setup, broken(), tmp_path / "b" / "out")
    assert files(collect(setup, corpus, tmp_path / "b" / "out", resume=True)) == files(first)
    ours, theirs = ParquetExamples(first), ParquetExamples(on_cpu)
    for feature in range(N):
        peaks = [[e.max_activation for e in source[feature] if e.quantile == 4] for source in (ours, theirs)]
        assert peaks[0] == pytest.approx(peaks[1], rel=1e-3)
        assert ours.stats(feature).n_active == pytest.approx(theirs.stats(feature).n_active, abs=2)

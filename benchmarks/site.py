"""The static site: how long it takes to write, and its size on disk.

`python -m benchmarks.site --features 1000` measures fewer; the default are the 10,000 that the limit speaks of.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import storage
from benchmarks.storage import EXAMPLES, TOKENS, VOCABULARY
from tiny_dashboard.core.examples import Example
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.publish.site import export_site
from tiny_dashboard.sources.write import write_dataset

FEATURES, SECONDS, BYTES = 10_000, 120, 12
ENGLISH = "eeeeeeeeeeeettttttttaaaaaaaooooooiiiiiinnnnnnsssssshhhhrrrrddddlllluuucccmmmfffyywwggppbbvk"


def rows(n_features: int) -> Iterator[tuple[int, list[Example]]]:
    """The activations of the storage benchmark, on tokens as varied as those of text.

    The n-th token is drawn in proportion to 1 / (n + 2.7), Zipf's law as Mandelbrot has it: 11 bits for a token. They
    are drawn one by one, so what packs text best, its phrases, is not there.
    """
    rng = np.random.default_rng(0)
    frequency = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    for feature, examples in storage.rows(n_features):
        ids = np.searchsorted(frequency, rng.random((EXAMPLES, TOKENS)) * frequency[-1]).tolist()
        yield feature, [e._replace(token_ids=i) for e, i in zip(examples, ids, strict=True)]


def make_tokenizer() -> Any:
    """A byte-level tokenizer of random words: 1 to 8 letters, as common as in English, three in four after a space."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(0)
    vocabulary: dict[str, int] = {}
    while len(vocabulary) < VOCABULARY:
        word = "".join(rng.choice(list(ENGLISH), rng.integers(1, 9)))
        vocabulary.setdefault(("Ġ" if rng.random() < 0.75 else "") + word, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def run(n_features: int = FEATURES) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = write_dataset(Path(place) / "examples", rows(n_features), storage.stats(n_features))
        dashboard = OfflineFeatureCentricDashboard.open(folder, make_tokenizer())
        start, work = time.perf_counter(), time.process_time()
        site = export_site(dashboard, Path(place) / "site")
        seconds, work = time.perf_counter() - start, time.process_time() - work
        size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file())
    limit = SECONDS * n_features / FEATURES
    size /= n_features * EXAMPLES * TOKENS
    print(f"site: {n_features:,} features x {EXAMPLES} examples x {TOKENS} tokens")
    print(f"  seconds: {seconds:.1f}, of the processor {work:.1f} (limit {limit:g})")
    print(f"  bytes on disk for each token of the examples: {size:.1f} (limit {BYTES})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=int, default=FEATURES, help="how many")
    run(parser.parse_args().features)


if __name__ == "__main__":
    main()

"""Storage: our layout beside SQLite JSON, on disk and from a stand-in Hub.

`python -m benchmarks.storage --scale 1` makes 131,072 features x 20 examples x 128 tokens (about 8 GB for a while, and
tens of minutes); the default scale makes 1/64 of the features.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from tests.helpers.hub_server import Dataset, Hub
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.sources.write import FEATURES_PER_GROUP, round_to_half, write_dataset

FEATURES, EXAMPLES, TOKENS, VOCABULARY = 131_072, 20, 128, 32_000
LOOKUPS = 300
LIMITS = {"open s": 1.0, "lookup and render p99 ms": 50.0, "peak MB": 500.0, "size of SQLite": 0.2}

# One reader in a fresh process: what it costs to open, and to look at features chosen at random.
READER = """
import json, resource, sys, time
import numpy as np
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.sources import open_examples
source, tokenizer, lookups = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
open_examples({})
start = time.perf_counter()
examples = open_examples(source)
count = len(examples)
examples[0]
opened = time.perf_counter() - start
if tokenizer:
    from transformers import PreTrainedTokenizerFast
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
def timed(call):
    times = []
    for feature in np.random.default_rng(1).integers(0, count, lookups).tolist():
        start, work = time.perf_counter(), time.process_time()
        call(feature)
        times.append([1000 * (time.perf_counter() - start), 1000 * (time.process_time() - work)])
    return np.quantile(times, [0.5, 0.99], axis=0).ravel().tolist()
lookup = timed(examples.__getitem__)
storage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
dashboard = OfflineFeatureCentricDashboard(examples, tokenizer)
both = timed(dashboard.generate_html)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
result = {"open s": opened}
for what, times in {"lookup": lookup, "lookup and render": both}.items():
    names = [f"{what} p50 ms", f"{what} p50 CPU ms", f"{what} p99 ms", f"{what} p99 CPU ms"]
    result |= dict(zip(names, times))
print(json.dumps(result | {"peak without rendering MB": storage, "peak MB": peak}))
"""


def rows(n_features: int) -> Iterator[tuple[int, list[Example]]]:
    """Examples with token frequencies like those of text and 3.9% of the activations not zero."""
    rng = np.random.default_rng(0)
    shape = (EXAMPLES, TOKENS)
    for feature in range(n_features):
        ids = np.minimum(rng.zipf(1.3, shape), VOCABULARY - 1).astype(np.int32)
        activations = np.where(rng.random(shape) < 0.039, rng.gamma(2, 3, shape), 0).astype(np.float32)
        activations = round_to_half(activations[np.argsort(-activations.max(1))])
        pairs = zip(activations, ids.tolist(), strict=True)
        yield feature, [Example(float(a.max()), [], a, i, doc=feature, start=0) for a, i in pairs]


def stats(n_features: int) -> Iterator[FeatureStats]:
    """Statistics as the collection gives them: a histogram, and the promoted tokens of two models."""
    tokens = [[(f"w{i}", 1.0 - i / 20) for i in range(10)]] * 2
    for feature in range(n_features):
        yield FeatureStats(
            feature,
            n_active=1000,
            density=1e-3,
            max_activation=9.0,
            mean_activation=3.0,
            histogram=list(range(40)),
            histogram_edges=[i / 4 for i in range(41)],
            top_logits=tokens,
            bottom_logits=tokens,
            decoder_norms=[1.0, 0.5],
            relative_norm_difference=0.25,
            decoder_cosine=0.5,
        )


def make_tokenizer(file: Path) -> str:
    from tokenizers import Tokenizer, models

    vocabulary = {f"w{i}": i for i in range(VOCABULARY)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="w0")).save(str(file))
    return str(file)


def make_sqlite(file: Path, n_features: int) -> None:
    def encoded() -> Iterator[tuple[int, str]]:
        for feature, examples in rows(n_features):
            content = [
                [e.max_activation, [f"w{i}" for i in e.token_ids or ()], np.asarray(e.activations).tolist()]
                for e in examples
            ]
            yield feature, json.dumps(content)

    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
        db.executemany("INSERT INTO data_table VALUES (?, ?)", encoded())
        db.commit()


def read(source: str, tokenizer: str = "", lookups: int = LOOKUPS, **environment: str) -> dict[str, float]:
    command = [sys.executable, "-c", READER, source, tokenizer, str(lookups)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    return json.loads(answer.stdout)


def from_hub(folder: Path, home: str) -> dict[str, float]:
    """Requests and bytes of a cold session: opening, and one feature after another."""
    with Hub() as hub:
        hub.datasets["me/examples"] = Dataset(folder)
        environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": home, "HF_HUB_DISABLE_TELEMETRY": "1"}

        def session(*features: int) -> None:
            code = "import sys; from tiny_dashboard.sources import open_examples; e = open_examples('me/examples'); "
            command = [sys.executable, "-c", f"{code}[e[int(f)] for f in sys.argv[1:]]", *map(str, features)]
            subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)

        session(0)
        opening = hub.taken()
        ranges = [r for r in opening if r.range and r.status == 206]
        session(0, FEATURES_PER_GROUP)
        second = [r for r in hub.taken() if r.range and r.status == 206]
    return {
        "requests to open": len([r for r in opening if not r.range]),
        "kB to open": sum(r.bytes for r in opening if not r.range) / 1e3,
        "footer kB": ranges[0].bytes / 1e3,
        "requests of a feature": len(second),
        "kB of a feature": sum(r.bytes for r in second) / 1e3,
    }


def run(scale: float = 1 / 64, folder: str | None = None) -> dict[str, dict[str, float]]:
    """Make the data, measure each reader in its own process, print a table with the limits, and return it."""
    n_features = int(FEATURES * scale)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        tokenizer = make_tokenizer(root / "tokenizer.json")
        start = time.perf_counter()
        write_dataset(root / "ours", rows(n_features), stats(n_features), {"tokenizer": "none"})
        written = time.perf_counter() - start
        make_sqlite(root / "examples.db", n_features)
        results = {"ours": read(str(root / "ours"), tokenizer), "SQLite JSON": read(str(root / "examples.db"))}
        size = sum(f.stat().st_size for f in (root / "ours").rglob("*") if f.is_file())
        results["ours"] |= {"MB": size / 1e6, "write s": written}
        results["SQLite JSON"]["MB"] = (root / "examples.db").stat().st_size / 1e6
        results["ours"]["size of SQLite"] = results["ours"]["MB"] / results["SQLite JSON"]["MB"]
        results["ours, from the Hub"] = from_hub(root / "ours", str(root / "home"))
    print(f"storage: {n_features:,} features x {EXAMPLES} examples x {TOKENS} tokens (scale {scale:.4g})")
    for name, numbers in results.items():
        for what, value in numbers.items():
            limit = LIMITS.get(what) if name == "ours" else None
            verdict = "" if limit is None else f"   limit {limit:g}: {'holds' if value <= limit else 'BROKEN'}"
            print(f"  {name:20} {what:28} {value:10.2f}{verdict}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1 / 64, help="part of the 131,072 features")
    parser.add_argument("--folder", help="where to make the data; the default is the system's temporary folder")
    arguments = parser.parse_args()
    run(arguments.scale, arguments.folder)


if __name__ == "__main__":
    main()

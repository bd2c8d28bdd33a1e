"""The highlighter: what HTML costs beside the bare text, and a feature's way from disk to HTML in the demo."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape

import numpy as np

from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.core.concordance import examples_html
from tiny_dashboard.core.highlight import Passage, Track

N_EXAMPLES, N_TOKENS, ACTIVE = 30, 1024, 0.04


def fastest(function: Callable[[], object], repeats: int = 15) -> float:
    """Processor seconds of the fastest run: what else the machine does does not count."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def passages() -> list[Passage]:
    """Random tokens of 1 to 7 characters of a vocabulary of 32,000, 4% of them active."""
    random = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz <&")
    vocabulary = ["".join(random.choice(letters, random.integers(1, 8))) for _ in range(32_000)]
    made = []
    for _ in range(N_EXAMPLES):
        ids = random.integers(0, len(vocabulary), N_TOKENS)
        values = np.where(random.random(N_TOKENS) < ACTIVE, random.random(N_TOKENS) * 10, 0.0)
        made.append(Passage([vocabulary[i] for i in ids], [Track("feature 1", values)], ids=ids.tolist()))
    return made


def run() -> None:
    made = passages()
    html = examples_html(made)
    joined = lambda: "".join([escape(token) for passage in made for token in passage.tokens])  # noqa: E731
    # In turns: the machine may be slower at one time than at another.
    turns = [(fastest(lambda: examples_html(made), 1), fastest(joined, 1)) for _ in range(40)]
    ratio = min(turn[0] for turn in turns) / min(turn[1] for turn in turns)
    size = len(html.encode()) / (N_EXAMPLES * N_TOKENS)
    print(f"rendering {N_EXAMPLES} x {N_TOKENS} tokens / joining the escaped tokens: {ratio:.2f} (limit 2)")
    print(f"bytes of HTML for each token: {size:.1f} (limit 16)")
    offline = DashboardConfig.demo().views[0].open_offline()
    assert offline is not None
    offline.fragment(offline.features[0])  # the tokenizer loads once
    features = iter(np.random.default_rng(0).permutation(offline.features).tolist())
    times = sorted(fastest(lambda: offline.fragment(next(features), scale="feature"), 1) for _ in range(300))
    print(
        "feature lookup and rendering in the demo, features in random order: "
        f"p50 {1000 * times[150]:.1f} ms, p99 {1000 * times[296]:.1f} ms (limit 10 ms)"
    )


if __name__ == "__main__":
    run()

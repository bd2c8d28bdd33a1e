"""circuit-tracer: `<feature>.json`, one file for each feature of a transcoder.

`{transcoder_id, index, examples_quantiles: [{quantile_name, examples: [{tokens, tokens_acts_list, …}]}], top_logits,
bottom_logits, act_min, act_max, quantile_values, histogram, activation_frequency}`; the strongest quantile is first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.examples import Example, SourceInfo
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.sources.base import FileSource, logits, number_in, numbered
from tiny_dashboard.sources.formats.openai_viewer import first_keys

NAME = "circuit-tracer features"


class CircuitTracerExamples(FileSource):
    """Examples in circuit-tracer's feature files: a folder of them, or one."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        first = json.loads(next(iter(self.files())).read_bytes())
        self.info = SourceInfo(NAME, dictionary=str(first.get("transcoder_id") or "") or None)

    def files(self) -> Iterable[Path]:
        return numbered(self.path, ".json") or [self.path]

    def feature_of(self, file: Path) -> int:
        return max(number_in(file), 0)

    def parse(self, file: Path) -> Mapping[int, tuple[list[Example], FeatureStats]]:
        record, feature = json.loads(file.read_bytes()), max(number_in(file), 0)
        quantiles = record["examples_quantiles"]
        examples = [
            Example(max(row["tokens_acts_list"]), row["tokens"], row["tokens_acts_list"], quantile=band)
            for band, quantile in enumerate(reversed(quantiles))
            for row in quantile["examples"]
            if row["tokens"]
        ]
        counts = record.get("histogram") or []
        low, high = record.get("act_min"), record.get("act_max")
        known = low is not None and high is not None and counts
        stats = FeatureStats(
            feature,
            density=record.get("activation_frequency"),
            max_activation=high,
            histogram=counts,
            histogram_edges=np.linspace(low, high, len(counts) + 1).tolist() if known else (),
            top_logits=logits(record.get("top_logits")),
            bottom_logits=logits(record.get("bottom_logits")),
        )
        return {feature: (examples, stats)}


def recognises(path: Path) -> bool:
    """Whether the first feature has examples in quantiles."""
    return "examples_quantiles" in first_keys(numbered(path, ".json") or [path])


def open(path: Path, **options: Any) -> CircuitTracerExamples:
    """Open it; see `CircuitTracerExamples`."""
    return CircuitTracerExamples(path, **options)

"""SAEDashboard: `batch-<n>.json` files for Neuronpedia, each with many features.

`{model_id, layer, sae_set, sae_id_suffix, features: [{feature_index, pos_str, pos_values, neg_str, neg_values,
frac_nonzero, freq_hist_data_bar_heights/values, activations: [{tokens, values, bin_min, bin_max, …}]}]}`; the
strongest group of activations has bin_min = -1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, SourceInfo
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.sources.base import FileSource, bands, edges_around, head, logits, number_in

NAME = "SAEDashboard batches"


class SaeDashboardExamples(FileSource):
    """Examples in the batch files of SAEDashboard: a folder of them, or one."""

    cheap_stats = True

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        before = head(next(iter(self.files()))).split('"features"')[0]
        pairs = re.findall(r'"(model_id|layer|sae_set|sae_id_suffix)":\s*"?([^",}]+)', before)
        found = {name: value.strip() for name, value in pairs if value.strip() != "null"}
        self.info = SourceInfo(
            NAME,
            models=[found["model_id"]] if "model_id" in found else [],
            dictionary=" ".join(found[k] for k in ("sae_set", "sae_id_suffix") if k in found) or None,
            layer=int(found["layer"]) if found.get("layer", "").isdecimal() else None,
        )

    def files(self) -> Iterable[Path]:
        return _batches(self.path) or [self.path]

    def parse(self, file: Path) -> Mapping[int, tuple[list[Example], FeatureStats]]:
        features = json.loads(file.read_bytes())["features"]
        return {int(f["feature_index"]): (_examples(f), record_stats(f, int(f["feature_index"]))) for f in features}


def recognises(path: Path) -> bool:
    """Whether the first batch begins with features that have a `feature_index`."""
    start = head(next(iter(_batches(path)), path))
    return path.suffix != ".gz" and '"features"' in start and '"feature_index"' in start


def open(path: Path, **options: Any) -> SaeDashboardExamples:
    """Open it; see `SaeDashboardExamples`."""
    return SaeDashboardExamples(path, **options)


def _batches(path: Path) -> list[Path]:
    return sorted(path.glob("batch-*.json"), key=number_in) if path.is_dir() else []


def _examples(feature: Mapping[str, Any]) -> list[Example]:
    rows = feature["activations"]
    band = bands(_strength(row["bin_min"], row["bin_max"]) for row in rows)
    return [
        Example(max(r["values"]), r["tokens"], r["values"], quantile=band[_strength(r["bin_min"], r["bin_max"])])
        for r in rows
        if r["tokens"]
    ]


def _strength(bin_min: float, bin_max: float) -> float:
    return float("inf") if bin_min == -1 else bin_max


def record_stats(record: Mapping[str, Any], feature: int) -> FeatureStats:
    """What a feature's record in SAEDashboard's or Neuronpedia's files says besides its examples."""
    centres = record.get("freq_hist_data_bar_values") or ()
    peak = record.get("maxActApprox")
    return FeatureStats(
        feature,
        density=record.get("frac_nonzero"),
        max_activation=float(peak) if peak else None,
        histogram=record.get("freq_hist_data_bar_heights") or (),
        histogram_edges=edges_around(centres),
        top_logits=logits(record.get("pos_str"), record.get("pos_values") or ()),
        bottom_logits=logits(record.get("neg_str"), record.get("neg_values") or ()),
    )

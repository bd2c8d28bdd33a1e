"""OpenAI's SAE viewer: `atoms/<feature>.json`, one file for each feature.

`{density, mean_act, mean_act_squared, hist, top: […], random: […]}`, each example
`{doc_id, idx, act, acts, tokens, token_ints, …}`. Random examples come as the weaker of two bands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, SourceInfo
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.sources.base import FileSource, edges_around, number_in, numbered

LARGEST = 50_000_000  # bytes: what one feature never needs, and what may be parsed to see what it is


NAME = "OpenAI viewer"


class OpenAiViewerExamples(FileSource):
    """Examples in the viewer's atoms: the `atoms` folder, the folder it is in, or one file."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.info = SourceInfo(NAME)

    def files(self) -> Iterable[Path]:
        return _atoms(self.path) or [self.path]

    def feature_of(self, file: Path) -> int:
        return max(number_in(file), 0)

    def parse(self, file: Path) -> Mapping[int, tuple[list[Example], FeatureStats]]:
        atom, feature = json.loads(file.read_bytes()), max(number_in(file), 0)
        rows = [(row, band) for band, name in ((1, "top"), (0, "random")) for row in atom[name]]
        examples = [
            Example(max(r["acts"]), r["tokens"], r["acts"], r.get("token_ints"), quantile=band, doc=r.get("doc_id"))
            for r, band in rows
            if r["acts"]
        ]
        density, mean = atom.get("density"), atom.get("mean_act")
        heights, edges = _histogram(atom.get("hist") or {})
        stats = FeatureStats(
            feature,
            density=density,
            mean_activation=mean / density if mean is not None and density else None,  # E[a] over the active tokens
            histogram=heights,  # type: ignore[arg-type]  # counts, or their fractions
            histogram_edges=edges,
        )
        return {feature: (examples, stats)}


def recognises(path: Path) -> bool:
    """Whether the first atom has a density, and examples at the top and at random."""
    return first_keys(_atoms(path) or [path]) >= {"top", "random", "density"}


def open(path: Path, **options: Any) -> OpenAiViewerExamples:
    """Open it; see `OpenAiViewerExamples`."""
    return OpenAiViewerExamples(path, **options)


def first_keys(files: list[Path]) -> set[str]:
    """The names in the JSON object of the first file; none where it is no such file, or too large for one feature."""
    try:
        if files[0].suffix != ".json" or files[0].stat().st_size > LARGEST:
            return set()
        content: Any = json.loads(files[0].read_bytes())
    except (OSError, ValueError):
        return set()
    return set(content) if isinstance(content, dict) else set()


def _atoms(path: Path) -> list[Path]:
    return numbered(path / "atoms", ".json") or numbered(path, ".json")


def _histogram(hist: Mapping[str, float] | list[float]) -> tuple[list[float], Sequence[float]]:
    """Counts and edges; the viewer's bins are `{left edge: count}`."""
    if isinstance(hist, list):
        return hist, []
    bins = sorted((float(edge), count) for edge, count in hist.items())
    width = bins[1][0] - bins[0][0] if len(bins) > 1 else 0
    return [count for _, count in bins], edges_around([edge + width / 2 for edge, _ in bins])

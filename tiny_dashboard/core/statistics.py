"""What is known of a feature besides its examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FeatureStats:
    """What a source knows of one feature besides its examples; None or empty where it does not.

    Attributes:
        n_active: number of tokens on which the feature fired.
        density: fraction of tokens on which it fired, 0 to 1.
        max_activation, mean_activation: over the tokens on which it fired.
        histogram: counts of the activations in bins, `[n_bins]`.
        histogram_edges: edges of these bins, `[n_bins + 1]`.
        label: a name or an explanation in words.
        top_logits, bottom_logits: tokens that the decoder direction promotes or suppresses, strongest first:
            `(token, logit)`, one list for each model of the dictionary.
        decoder_norms: norm of the decoder direction in each model, `[n_models]`; a crosscoder's are (base, chat).
        relative_norm_difference: `((norm_chat - norm_base) / max(norm_base, norm_chat) + 1) / 2`: 0 is base only,
            0.5 is shared, 1 is chat only.
        decoder_cosine: cosine between the two models' decoder directions.
        peak_tokens: the tokens that are most often the peak of its examples, `(token, count)`, commonest first.
    """

    feature: int
    n_active: int | None = None
    density: float | None = None
    max_activation: float | None = None
    mean_activation: float | None = None
    histogram: Sequence[int] = ()
    histogram_edges: Sequence[float] = ()
    label: str | None = None
    top_logits: Sequence[Sequence[tuple[str, float]]] = ()
    bottom_logits: Sequence[Sequence[tuple[str, float]]] = ()
    decoder_norms: Sequence[float] = ()
    relative_norm_difference: float | None = None
    decoder_cosine: float | None = None
    peak_tokens: Sequence[tuple[str, int]] = ()

    @property
    def name(self) -> str:
        """The label; else the tokens that it fires on most, in quotes; "" where neither is known."""
        return self.label or " ".join(f"“{token}”" for token, _ in self.peak_tokens[:5])


TEXT_COLUMNS = ("label", "peak_tokens")


class StatsTable(Mapping[int, FeatureStats]):
    """Statistics by feature, ascending; `column(name)` is the fast way to all of them.

    Args:
        stats: one record for each feature, in any order.
    """

    def __init__(self, stats: Iterable[FeatureStats]) -> None:
        self._stats = {s.feature: s for s in sorted(stats, key=lambda s: s.feature)}

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One field of `FeatureStats` for all features, `[n_features]`, in the order of iteration.

        Numbers come as float64 with NaN for what is unknown; `label`, and the tokens of `peak_tokens` in quotes,
        as strings with "" for none.
        """
        return as_column(name, [getattr(self[f], name) for f in self])

    def __getitem__(self, feature: int) -> FeatureStats:
        return self._stats[feature]

    def __iter__(self) -> Iterator[int]:
        return iter(self._stats)

    def __len__(self) -> int:
        return len(self._stats)


def as_column(name: str, values: list[Any]) -> np.ndarray[Any, Any]:
    """Make a column as `StatsTable.column` promises it; None stands for unknown."""
    if name == "peak_tokens":
        pairs = [[pair["token"] if isinstance(pair, dict) else pair[0] for pair in v or ()] for v in values]
        return np.array(["".join(f"“{token}” " for token in tokens).strip() for tokens in pairs], dtype=object)
    if name in TEXT_COLUMNS:
        return np.array([v or "" for v in values], dtype=object)
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

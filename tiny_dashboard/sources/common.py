"""What the modules of this folder share: the order of examples, and statistics as columns for search and sort."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tiny_dashboard.examples import Example, FeatureStats, check_example


def strongest_first(rows: Iterable[Sequence[Any]], feature: int) -> list[Example]:
    """Check the rows of one feature and sort them, strongest first; equals keep their order.

    Raises:
        ValueError: a row is not an example, or its peak is not a number.
    """
    examples = [check_example(row, feature, i) for i, row in enumerate(rows)]
    for i, example in enumerate(examples):
        if not isinstance(example.max_activation, (int, float)):
            raise ValueError(f"example {i} of feature {feature}: its peak is {example.max_activation!r}, not a number")
    return sorted(examples, key=lambda e: -e.max_activation)


class StatsTable(Mapping[int, FeatureStats]):
    """Statistics by feature, ascending; `column(name)` is the fast way to all of them.

    Args:
        stats: one record for each feature, in any order.
    """

    def __init__(self, stats: Iterable[FeatureStats]) -> None:
        self._stats = {s.feature: s for s in sorted(stats, key=lambda s: s.feature)}

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One field of `FeatureStats` for all features, `[n_features]`, in the order of iteration.

        Numbers come as float64 with NaN for what is unknown, `label` as strings with "" for none.
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
    if name == "label":
        return np.array([v or "" for v in values], dtype=object)
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)

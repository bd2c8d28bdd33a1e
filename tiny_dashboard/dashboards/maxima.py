"""The largest activations of an offline dashboard's features, asked for one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class MaxActs(Mapping[int, float]):
    """The largest known activation of each feature of an offline dashboard, which is asked for when one is needed."""

    def __init__(self, dashboard: Callable[[], Any]) -> None:
        self._dashboard = dashboard  # an `OfflineDashboard`, which may take its time

    def __getitem__(self, feature: int) -> float:
        dashboard = self._dashboard()
        stats = dashboard.stats(feature)
        if stats is not None and stats.max_activation is not None and math.isfinite(stats.max_activation):
            return stats.max_activation
        return max((e.max_activation for e in dashboard.examples(feature) if e.max_activation < math.inf), default=0.0)

    def __contains__(self, feature: object) -> bool:
        return feature in self._dashboard().max_activation_examples

    def __iter__(self) -> Iterator[int]:
        return iter(self._dashboard().features)

    def __len__(self) -> int:
        return len(self._dashboard().features)

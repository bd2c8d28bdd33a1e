"""What a source of examples is, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiny_dashboard.core.examples import SourceInfo
from tiny_dashboard.sources import open_examples

LOOKED_AT = 64  # features whose examples are counted, where the source does not say how many it has


def facts_of(source: str) -> dict[str, Any]:
    """Format, features, examples, tokenizer, models, and what else the source says; None or "" is not said.

    Raises:
        OSError, ValueError: see `open_examples`.
    """
    examples = open_examples(source)
    known: SourceInfo = getattr(examples, "info", SourceInfo("dict"))
    features = sorted(examples)
    facts = {
        "format": known.format,
        "features": f"{len(features):,}" + (f" ({features[0]} to {features[-1]})" if features else ""),
        "examples": _count(examples, features),
        "tokenizer": known.tokenizer,
        "models": ", ".join(known.models),
        "dictionary": known.dictionary,
        "layer": known.layer,
        "hook point": known.hook_point,
    }
    asked = ("tokenizer", "models", "layer")  # their lack is worth saying
    more = {name: value for name, value in known.extra.items() if isinstance(value, str | int | float)}
    return {name: v for name, v in (facts | more).items() if v not in (None, "") or name in asked}


def _count(examples: Any, features: Sequence[int]) -> str:
    """How many examples a source has; where it does not say, and has many features, some are looked at."""
    known = getattr(examples, "metadata", {}).get("n_examples")
    if known is not None:
        return f"{known:,}"
    looked_at = features[:: -(-len(features) // LOOKED_AT)] if features else []
    counts: list[int] = []
    broken: list[int] = []
    for feature in looked_at:
        try:
            counts.append(len(examples[feature]))
        except ValueError:
            broken.append(feature)
    faults = f"; {len(broken)} features cannot be read, {broken[0]} is the first" if broken else ""
    if len(looked_at) == len(features):
        return f"{sum(counts):,}{faults}"
    mean = sum(counts) / max(len(counts), 1)
    return f"about {mean:.0f} for each feature, {len(looked_at)} were looked at{faults}"

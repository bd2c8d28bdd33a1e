"""An example of a feature -> a passage, which is ready to be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set
from typing import Any

import numpy as np

from tiny_dashboard.core.card import Band
from tiny_dashboard.core.examples import Example, stored_tokens
from tiny_dashboard.core.highlight import Passage, Track, format_number
from tiny_dashboard.core.text import TokenReader


def passage_of(
    example: Example, reader: TokenReader, special: Set[int | str], *, group: str = "", **track: Any
) -> Passage:
    """An example as a passage.

    Args:
        example: the example.
        reader: makes its tokens readable.
        special: ids and pieces of the tokens that a tokenizer or template adds.
        group: the heading that it stands under.
        track: name, colour and scale of its `Track`.

    Raises:
        ValueError: its tokens cannot be read.
    """
    known, tokens = _ids_or_pieces(example), stored_tokens(example)
    texts, chips = reader.read(tokens if len(tokens) else known)
    values, remarks = _finite(_with_peak(example))
    are_special = () if special.isdisjoint(known) else [token in special for token in known]
    said: Any = {"remarks": remarks, "group": group, "origin": _origin(example)}
    return Passage(texts, [Track(values=values, **track)], chips, example.token_ids, are_special, **said)


def without(example: Example, special: Set[int | str]) -> Example:
    """An example whose special tokens have no activation, and whose peak is that of the others."""
    known = _ids_or_pieces(example)
    kept = [float("nan") if t in special else a for t, a in zip(known, example.activations, strict=True)]
    largest = float(np.nan_to_num(kept, nan=0, posinf=0).max(initial=0))
    return example._replace(activations=kept, max_activation=largest)


def bands_of(examples: Iterable[Example]) -> dict[int, Band]:
    """The bands of strength that examples fall into, strongest first; none where there is only one."""
    peaks: dict[int, list[float]] = {}
    for example in examples:
        if example.quantile is not None:
            peaks.setdefault(example.quantile, []).append(float(example.max_activation))
    bands = {}
    for place, quantile in enumerate(sorted(peaks, reverse=True) if len(peaks) > 1 else ()):
        low, high = min(peaks[quantile]), max(peaks[quantile])
        reach = " to ".join(dict.fromkeys(map(format_number, (low, high))))
        bands[quantile] = Band(f"{reach} · drawn at random" if place else f"strongest · {reach}", low, high)
    return bands


def _origin(example: Example) -> str:
    """The document that an example was cut from, and where."""
    if example.doc is None:
        return ""
    return f"document {example.doc}" + (f", from token {example.start}" if example.start is not None else "")


def _with_peak(example: Example) -> Any:
    """Activations with the largest as `max_activation` has it: these may be rounded to float16, and bands are not."""
    values, most = example.activations, example.max_activation
    plain = values.tolist() if hasattr(values, "tolist") else values
    largest = max((value for value in plain if value == value), default=0.0)  # masked tokens are NaN
    if not math.isfinite(most) or not 0 < abs(largest - most) <= abs(most) / 1000:
        return values
    at = plain.index(largest)
    return [*plain[:at], most, *plain[at + 1 :]]


def _finite(values: Any) -> tuple[Any, dict[int, str]]:
    """Activations without what is infinite, and what is said at those tokens: one such value hides no feature."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    infinite = [at for at, value in enumerate(plain) if isinstance(value, float) and math.isinf(value)]
    if not infinite:
        return values, {}
    left = [math.nan if at in infinite else value for at, value in enumerate(plain)]
    return left, dict.fromkeys(infinite, "left out: its activation is infinite")


def _ids_or_pieces(example: Example) -> Any:
    """An example's vocabulary ids where it has them, else its token pieces."""
    ids = example.token_ids
    return example.tokens if ids is None else ids if isinstance(ids, list) else np.asarray(ids).tolist()

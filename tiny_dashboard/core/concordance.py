"""Examples of a feature as a concordance: a line each, with the peak tokens under each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from tiny_dashboard.core.highlight import (
    Html,
    Ink,
    Passage,
    folded,
    format_number,
    inks_of,
    legend_of,
    plain_text,
    root_html,
    tokens_html,
)

HOW_TO_READ = (
    "Each line is a text in which the feature fires; the darker a token, the more it fires there. "
    "Click a line to read on."
)
_LIKE = 5  # examples are alike whose so many tokens up to the peak are the same


def examples_html(
    passages: Sequence[Passage], *, window: int | None = 50, title: str = "", view: str = "lines", note: str = ""
) -> Html:
    """Examples of a feature as a concordance: a line each, with the peak tokens under each other.

    Args:
        passages: the examples in the order in which they are shown.
        window: tokens shown on each side of the peak, the rest is folded; None folds nothing.
        title: a heading, as plain text.
        view: "lines" (the concordance) or "paragraphs"; the reader can switch.
        note: said after the number of examples, as plain text.

    Returns:
        A fragment: `<div class="td">…</div>`.
    """
    if view not in ("lines", "paragraphs"):
        raise ValueError(f"view is {view!r}; it is 'lines' or 'paragraphs'")
    items: list[str] = []
    data: list[dict[str, Any]] = []
    all_inks = [inks_of(passage) for passage in passages]
    group = ""
    alike = [_alike(passage, at) for at, passage in enumerate(passages)]
    for _, run in groupby(range(len(passages)), key=alike.__getitem__):
        rows = []
        for at in run:
            row, values = _row(passages[at], all_inks[at], window, at)
            rows.append(row)
            data.append(values)
        first = passages[at]
        heading = f'<h3 class="td-group">{plain_text(first.group)}</h3>' if first.group != group else ""
        group = first.group
        likes = ""
        if len(rows) > 1:
            says = f'<summary title="{len(rows)} examples with the same words up to the peak">× {len(rows)}</summary>'
            likes = f'<details class="td-like">{says}{"".join(rows[1:])}</details>'
        items.append(heading + rows[0] + likes)
    count = f"{len(passages)} example{'' if len(passages) == 1 else 's'}{f' · {plain_text(note)}' if note else ''}"
    bar = f"<span>{count}</span>{legend_of(all_inks, named=False)}"
    # The empty comments let a script take the rows in one by one; no text can hold one.
    body = f'<div class="td-list"><!---->{"<!---->".join(items)}<!----></div>'
    return root_html(body, data, passages, title, bar, view=view)


def _row(passage: Passage, inks: list[Ink], window: int | None, place: int) -> tuple[str, dict[str, Any]]:
    """One example's line, and what its tooltip needs to know."""
    parts, values = tokens_html(passage, inks)
    peak = peak_of(passage)
    at_peak: Iterable[float] = inks[0].values[peak : peak + 1] if inks else ()  # no tokens, no value
    value = "".join(format_number(v) for v in at_peak if not math.isnan(v))
    origin = f' <small class="td-from">{plain_text(passage.origin)}</small>' if passage.origin else ""
    return (
        f'<div class="td-x" tabindex="{-1 if place else 0}"><span class="td-v">{value}</span> '
        f'<div class="td-p"><span><span>{folded(parts, 0, peak, [peak], window)}</span></span>'
        f"<span>{folded(parts, peak, len(parts), [peak], window)}</span></div>{origin}</div>"
    ), values


def _alike(passage: Passage, place: int) -> Any:
    """The same for passages of one group in which a model saw the same last before it fired, the peak included.

    Its own place for one in which less stands before the peak.
    """
    peak = peak_of(passage)
    seen = tuple(passage.tokens[peak - _LIKE + 1 : peak + 1]) if peak >= _LIKE - 1 else ()
    return passage.group, seen or place


def likes_together(passages: Sequence[Passage]) -> list[int]:
    """The places of the passages, those of one group with the same words up to the peak beside each other."""
    first: dict[Any, int] = {}
    return sorted(range(len(passages)), key=lambda at: first.setdefault(_alike(passages[at], at), at))


def peak_of(passage: Passage) -> int:
    """The position that a passage is aligned on."""
    n = len(passage.tokens)
    if passage.peak is not None:
        if not 0 <= passage.peak < n:
            raise ValueError(f"peak is {passage.peak} in a passage of {n} tokens")
        return passage.peak
    first = next((track.array() for track in passage.tracks if track.highlighted), None)
    return 0 if first is None or not n else int(np.argmax(np.fmax(first, -np.inf)))


def share_scale(passages: Sequence[Passage], limit: float | None = None) -> list[Passage]:
    """Give each track one scale over all passages: `limit`, or its largest absolute value among them."""
    largest: dict[str, float] = {}
    for passage in passages:
        for track in passage.tracks:
            so_far = largest.get(track.name, 0.0)
            largest[track.name] = float(np.fmax.reduce(np.abs(track.array()), initial=so_far))
    return [replace(p, tracks=[replace(t, scale=limit or largest[t.name] or None) for t in p.tracks]) for p in passages]

"""Examples of a feature as a concordance: a line each, with the peak tokens under each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
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
    rows: list[str] = []
    data: list[dict[str, Any]] = []
    all_inks: list[list[Ink]] = []
    group = ""
    for passage in passages:
        inks = inks_of(passage)
        parts, values = tokens_html(passage, inks)
        peak = peak_of(passage, inks)
        about = f' title="{plain_text(passage.group_title)}"' if passage.group_title else ""
        heading = f'<h4 class="td-group"{about}>{plain_text(passage.group)}</h4>' if passage.group != group else ""
        group = passage.group
        at_peak: Iterable[float] = inks[0].values[peak : peak + 1] if inks else ()  # no tokens, no value
        value = "".join(format_number(v) for v in at_peak if not math.isnan(v))
        rows.append(
            f'{heading}<div class="td-x" tabindex="{-1 if data else 0}"><span class="td-v">{value}</span>'
            f'<div class="td-p"><span><span>{folded(parts, 0, peak, [peak], window)}</span></span>'
            f"<span>{folded(parts, peak, len(parts), [peak], window)}</span></div></div>"
        )
        data.append(values)
        all_inks.append(inks)
    count = f"{len(passages)} example{'' if len(passages) == 1 else 's'}{f' · {plain_text(note)}' if note else ''}"
    bar = f"<span>{count}</span>{legend_of(all_inks, named=False)}"
    # The empty comments let a script take the rows in one by one; no text can hold one.
    body = f'<div class="td-list"><!---->{"<!---->".join(rows)}<!----></div>'
    return root_html(body, data, passages, title, bar, view=view)


def peak_of(passage: Passage, inks: list[Ink]) -> int:
    """The position that a passage is aligned on."""
    n = len(passage.tokens)
    if passage.peak is not None:
        if not 0 <= passage.peak < n:
            raise ValueError(f"peak is {passage.peak} in a passage of {n} tokens")
        return passage.peak
    return int(np.argmax(np.fmax(inks[0].values, -np.inf))) if inks and n else 0


def share_scale(passages: Sequence[Passage], limit: float | None = None) -> list[Passage]:
    """Give each track one scale over all passages: `limit`, or its largest absolute value among them."""
    largest: dict[str, float] = {}
    for passage in passages:
        for track in passage.tracks:
            so_far = largest.get(track.name, 0.0)
            largest[track.name] = float(np.fmax.reduce(np.abs(track.array()), initial=so_far))
    return [replace(p, tracks=[replace(t, scale=limit or largest[t.name] or None) for t in p.tracks]) for p in passages]

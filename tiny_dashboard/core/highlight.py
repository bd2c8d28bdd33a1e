"""THE CORE: tokens and tracks in, HTML out.

Pure functions on plain data; nothing here knows of a model, a file or an app, and the file works when copied alone.

    Track (one feature's values)  ->  Passage (tokens and their tracks)  ->  fragment  ->  page

The fragment is compact and stands alone: one `<i>` for each token, bare when nothing fires there, with an inline
background and a `title` when something does. So it still reads where style sheets and scripts are stripped. What the
rich tooltip shows (token ids, the values of every track) travels once, as JSON beside the tokens. The text content of
a passage is its exact text: whatever only makes a character visible is drawn by the style sheet.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any

import numpy as np

# Okabe and Ito's colours, told apart with any colour vision: two tracks, and the negative side of each.
COLORS = ("#d55e00", "#0072b2")
NEGATIVE_COLORS = ("#009e73", "#cc79a7")
MIN_CONTRAST = 4.5  # WCAG 2.2, level AA
# (text, background) of the light and of the dark surroundings that the colours are made for
SURROUNDINGS = (("#1f2937", "#ffffff"), ("#e5e7eb", "#18191b"))

# Characters with no glyph of their own, or that would reorder or break the text around them.
_UNSEEN = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff"
    "\\ufff9-\\ufffb\\ufffe\\uffff\\ud800-\\udfff]"
)
_UNHTML = re.compile("[\\x00\\ud800-\\udfff]")  # what a page in UTF-8 cannot hold
_BETWEEN = "\ufffc"  # "object replacement character", which stands for nothing by itself
_MARKS = {"\t": "⇥", "\r": "␍"}
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
# A gap this short is shown: the line that folds it would be as long.
_SHORTEST_FOLD = 8

Color = str | Sequence[int]


class Html(str):
    """A string of HTML that shows itself in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        # A notebook that is not trusted keeps the text of a window's title, and drops its tags.
        return re.sub("<title>.*?</title>", "", self, count=1)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"<{len(self):,} characters of HTML>")  # or a notebook would hold all of it twice


@dataclass(frozen=True)
class Track:
    """One feature's values over the tokens of a passage.

    Attributes:
        name: what the tooltip and the legend call it; the name belongs to the values, whatever their order.
        values: one number for each token, `[seq_len]`: a list, a numpy array or a tensor of any dtype and device.
            NaN is "no value": neither coloured nor in the tooltip. Zero is not coloured.
        color, negative_color: `#rrggbb`, or red, green and blue in 0..255, for values above and below zero; None
            picks from the palette.
        scale: the absolute value that gets the full colour, larger ones are clamped to it; None takes the track's
            own largest, separately above and below zero.
        highlighted: False leaves the values to the tooltip alone.
        in_tooltip: False keeps them out of it.
    """

    name: str
    values: Any
    color: Color | None = None
    negative_color: Color | None = None
    scale: float | None = None
    highlighted: bool = True
    in_tooltip: bool = True

    def array(self) -> np.ndarray:
        """The values as float64 `[seq_len]`.

        Raises:
            ValueError: they are not one finite number (or NaN) for each token.
        """
        try:
            array = np.array(_list(self.values), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the values of track {self.name!r} are not numbers: {str(self.values)[:80]}") from error
        if array.ndim != 1:
            raise ValueError(
                f"the values of track {self.name!r} have shape {array.shape}; give one number for each token"
            )
        infinite = np.flatnonzero(np.isinf(array))
        if len(infinite):
            at = int(infinite[0])
            raise ValueError(
                f"track {self.name!r} is {array[at]} at token {at}; clip it, or set it to NaN to leave it out"
            )
        return array


@dataclass(frozen=True)
class Passage:
    """Tokens with their tracks: one example, or one analysed text.

    Attributes:
        tokens: readable token texts, `[seq_len]`; joined they are the text.
        tracks: of `seq_len` values each. The first two highlighted ones colour the tokens.
        chips: for a token that holds bytes of a character which a later token completes: these bytes in hex.
        ids: vocabulary ids, `[seq_len]`, for the tooltip.
        special: True at BOS and chat-template tokens, `[seq_len]`: they are set back.
        peak: position that the concordance aligns on; None takes the highest value of the first highlighted track.
        group, group_title: heading shown where it differs from the passage before, and what is said at the pointer.
    """

    tokens: Sequence[str]
    tracks: Sequence[Track] = ()
    chips: Mapping[int, str] = field(default_factory=dict)
    ids: Sequence[int] | None = None
    special: Sequence[bool] = ()
    peak: int | None = None
    group: str = ""
    group_title: str = ""


def format_number(value: float) -> str:
    """A number as the page shows it: two decimals where that says enough, three significant digits elsewhere."""
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else f"{value:.3g}"


def share_scale(passages: Sequence[Passage], limit: float | None = None) -> list[Passage]:
    """Give each track one scale over all passages: `limit`, or its largest absolute value among them."""
    largest: dict[str, float] = {}
    for passage in passages:
        for track in passage.tracks:
            so_far = largest.get(track.name, 0.0)
            largest[track.name] = float(np.fmax.reduce(np.abs(track.array()), initial=so_far))
    return [replace(p, tracks=[replace(t, scale=limit or largest[t.name] or None) for t in p.tracks]) for p in passages]


def passage_html(passage: Passage, *, window: int | None = None, title: str = "", legend: bool = True) -> Html:
    """One text as a paragraph.

    Args:
        passage: tokens and tracks.
        window: fold what is farther than this many tokens from every highlighted value; None folds nothing.
        title: a heading, as plain text.
        legend: show the scale above the text.

    Returns:
        A fragment: `<div class="td">…</div>`.
    """
    inks = _inks(passage)
    active = sorted({p for ink in inks for p in ink.shown})
    parts, data = _tokens(passage, inks)
    body = f'<div class="td-p" tabindex="0">{_folded(parts, 0, len(parts), active, window)}</div>'
    bar = _legend([inks], named=True) if legend else ""
    return _root(body, [data], [passage], title, bar, view="text")


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
    all_inks: list[list[_Ink]] = []
    group = ""
    for passage in passages:
        inks = _inks(passage)
        parts, values = _tokens(passage, inks)
        peak = _peak(passage, inks)
        about = f' title="{plain_text(passage.group_title)}"' if passage.group_title else ""
        heading = f'<h4 class="td-group"{about}>{plain_text(passage.group)}</h4>' if passage.group != group else ""
        group = passage.group
        at_peak: Iterable[float] = inks[0].values[peak : peak + 1] if inks else ()  # no tokens, no value
        value = "".join(format_number(v) for v in at_peak if not math.isnan(v))
        rows.append(
            f'{heading}<div class="td-x" tabindex="{-1 if data else 0}"><span class="td-v">{value}</span>'
            f'<div class="td-p"><span><span>{_folded(parts, 0, peak, [peak], window)}</span></span>'
            f"<span>{_folded(parts, peak, len(parts), [peak], window)}</span></div></div>"
        )
        data.append(values)
        all_inks.append(inks)
    count = f"{len(passages)} example{'' if len(passages) == 1 else 's'}{f' · {plain_text(note)}' if note else ''}"
    bar = f"<span>{count}</span>{_legend(all_inks, named=False)}"
    # The empty comments let a script take the rows in one by one; no text can hold one.
    body = f'<div class="td-list"><!---->{"<!---->".join(rows)}<!----></div>'
    return _root(body, data, passages, title, bar, view=view)


def page(body: str, *, title: str = "", css: str = "", js: str = "", script_sources: str = "") -> Html:
    """A whole self-contained page around fragments; it loads nothing and runs no script but `js`.

    Args:
        body: HTML of this module.
        title: the window's title, as plain text.
        css, js: the texts of `static/dashboard.css` and `static/dashboard.js`.
        script_sources: where else scripts may come from, as a content security policy says it: "'self'".
    """
    script = f"{js}\ntinyDashboard(document)" if js else ""
    trusted = b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{trusted}' {script_sources}"
    )
    # The body's own style stands on the tag, so that a page shown inside a notebook leaves the notebook alone.
    look = "margin:0 auto;max-width:76rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif"
    return Html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{plain_text(title)}</title>'
        f'<style>{css}</style></head><body style="{look}">{body}<script>{script}</script></body></html>'
    )


def hex_color(color: Color) -> str:
    """A colour as `#rrggbb`.

    Raises:
        ValueError: it is neither that already nor three whole numbers in 0..255.
    """
    if isinstance(color, str) and _COLOR.fullmatch(color):
        return color
    try:
        channels = [] if isinstance(color, str) else [int(c) for c in color]
    except (TypeError, ValueError):
        channels = []
    if len(channels) != 3 or not all(0 <= c <= 255 for c in channels):
        raise ValueError(f"color {repr(color)[:80]} is neither '#rrggbb' nor three numbers from 0 to 255")
    return "#{:02x}{:02x}{:02x}".format(*channels)


def _color(color: Color | None, default: str) -> str:
    return default if color is None else hex_color(color)


def scale_limit(scale: Any, words: Sequence[str]) -> float | None:
    """The number in a scale, None for one of `words`.

    Raises:
        ValueError: it is neither one of them nor a finite number above 0.
    """
    if scale in words:
        return None
    try:
        limit = float("nan") if isinstance(scale, bool) else float(scale)
    except (TypeError, ValueError):
        limit = float("nan")
    if not 0 < limit < float("inf"):
        known = ", ".join(repr(word) if word else "empty" for word in words)
        raise ValueError(f"the scale is {scale!r}; give a number above 0, or one of {known}")
    return limit


@cache
def max_alpha(color: str) -> float:
    """The strongest opacity of `color` under which text keeps a contrast of 4.5:1, in light and in dark.

    Contrast is WCAG's: `(l1 + 0.05) / (l2 + 0.05)` of the relative luminances.

    Args:
        color: `#rrggbb`.
    """
    opacity = 255  # in the steps of a colour's two digits, so that rounding adds nothing
    while any(_contrast(ink, _over(color, ground, opacity / 255)) < MIN_CONTRAST for ink, ground in SURROUNDINGS):
        opacity -= 1
    return opacity / 255


@dataclass(frozen=True)
class _Ink:
    """A highlighted track, ready to be drawn.

    `shown` holds the values that are coloured, by position, and `shades` their colours as `#rrggbbaa`; `ends` are the
    absolute values of full colour above and below zero, and `most` the largest ones there are.
    """

    track: Track
    values: np.ndarray
    shown: dict[int, float]
    shades: dict[int, str]
    colors: tuple[str, str]
    ends: tuple[float, float]
    most: tuple[float, float]


def _inks(passage: Passage) -> list[_Ink]:
    """The highlighted tracks of a passage, at most two."""
    tracks = [track for track in passage.tracks if track.highlighted]
    if len(tracks) > 2:
        raise ValueError(f"{len(tracks)} tracks are highlighted; set highlighted=False on all but two")
    return [_ink(track, place) for place, track in enumerate(tracks)]


def _ink(track: Track, place: int) -> _Ink:
    values = track.array()
    if track.scale is not None and not (math.isfinite(track.scale) and track.scale > 0):
        raise ValueError(f"the scale of track {track.name!r} is {track.scale}; give a number above 0, or None")
    colors = _color(track.color, COLORS[place]), _color(track.negative_color, NEGATIVE_COLORS[place])
    at = np.flatnonzero(np.abs(values) > 0)
    shown = dict(zip(at.tolist(), values[at].tolist(), strict=True))
    most = max([0.0, *shown.values()]), -min([0.0, *shown.values()])
    ends = float(track.scale or most[0]), float(track.scale or most[1])
    strongest = [255 * max_alpha(color) for color in colors]
    shades = {}
    for position, value in shown.items():
        below = value < 0
        strength = min(abs(value), ends[below]) / ends[below]
        # A faint floor: what fires at all can be seen.
        alpha = max(1, round(strongest[below] * (0.06 + 0.94 * strength)))
        shades[position] = f"{colors[below]}{alpha:02x}"
    return _Ink(track, values, shown, shades, colors, ends, most)


def _tokens(passage: Passage, inks: list[_Ink]) -> tuple[list[str], dict[str, Any]]:
    """HTML of each token, and what the tooltip needs to know."""
    n = len(passage.tokens)
    data: dict[str, Any] = {"v": []}
    drawn = {id(ink.track): ink for ink in inks}
    for track in passage.tracks:
        ink = drawn.get(id(track)) or _ink(track, 0)
        if len(ink.values) != n:
            raise ValueError(
                f"track {track.name!r} has {len(ink.values)} values for {n} tokens; give one for each token"
            )
        if track.in_tooltip:
            data["v"].append([list(ink.shown), [float(f"{v:.4g}") for v in ink.shown.values()]])
    if passage.ids is not None:
        ids = _list(passage.ids)
        if len(ids) != n:
            raise ValueError(f"{len(ids)} token ids for {n} tokens; give one for each token")
        data["id"] = " ".join(map(str, ids))  # one string is cheaper to write and to parse than a list
    text = _BETWEEN.join(passage.tokens)
    # Made as one string: a call for each token would be most of the cost.
    parts = f"<i>{_escape(text)}</i>".replace(_BETWEEN, f"</i>{_BETWEEN}<i>").split(_BETWEEN)
    if len(parts) != n:
        parts = [f"<i>{_escape(token)}</i>" for token in passage.tokens]
    # The few texts that HTML cannot hold go to the script, for copying and for the tooltip.
    if not _is_plain(text) and _UNHTML.search(text):
        data["x"] = {i: token for i, token in enumerate(passage.tokens) if _UNHTML.search(token)}
    for at, chip in passage.chips.items():
        if not 0 <= at < n:
            raise ValueError(f"the chip {chip!r} stands at token {at} of {n}")
        parts[at] = f'{parts[at][:-4]}<b data-x="{escape(chip)}"></b></i>'
    if len(passage.special) not in (0, n):
        raise ValueError(f"{len(passage.special)} marks of special tokens for {n} tokens; give one for each token")
    for at in (at for at, special in enumerate(passage.special) if special):
        parts[at] = f'<i class="td-s"{parts[at][2:]}'
    for at, background, title in _marks(inks):
        parts[at] = f'<i style="background:{background}" title="{title}"{parts[at][2:]}'
    return parts, data


def _marks(inks: list[_Ink]) -> Iterator[tuple[int, str, str]]:
    """Position, CSS background and title of each coloured token; of two tracks the first takes the upper band."""
    if len(inks) == 1:
        for at, value in inks[0].shown.items():
            yield at, inks[0].shades[at], format_number(value)
        return
    for at in sorted({p for ink in inks for p in ink.shown}):
        upper, lower = (ink.shades.get(at, "#0000") for ink in inks)
        title = " · ".join(format_number(ink.values[at]) for ink in inks if not math.isnan(ink.values[at]))
        yield at, f"linear-gradient({upper} 50%,{lower} 50%)", title


def _escape(text: str) -> str:
    """Plain text as HTML with the same text content, where characters without a glyph can be shown."""
    html = escape(text, quote=False)
    return (html if _is_plain(text) else _UNSEEN.sub(_mark, html)).replace("\n", "<b>\n</b>")


def _is_plain(text: str) -> bool:
    """Whether a text is surely free of unseen characters but newlines; several times faster than the pattern."""
    return text.replace("\n", "").isprintable()


def _mark(match: re.Match[str]) -> str:
    char = match[0]
    held = "&#13;" if char == "\r" else "\ufffd" if _UNHTML.match(char) else char
    # <bdi> ends the reach of a direction mark by itself, with or without a style sheet.
    return f'<bdi data-x="{_MARKS.get(char) or f"U+{ord(char):04X}"}">{held}</bdi>'


def _folded(parts: list[str], start: int, end: int, near: Sequence[int], window: int | None) -> str:
    """`parts[start:end]` with what is farther than `window` from every position of `near` folded away."""
    if window is None or not near:
        return "".join(parts[start:end])
    out, at = [], start
    for low, high in [(p - window, p + window + 1) for p in near] + [(end, end)]:
        low, high = max(start, min(low, end)), min(high, end)
        if low - at >= _SHORTEST_FOLD:
            out.append(f"<details><summary>{low - at} tokens</summary>{''.join(parts[at:low])}</details>")
            at = low
        if high > at:
            out.append("".join(parts[at:high]))
            at = high
    return "".join([*out, *parts[at:end]])


def _peak(passage: Passage, inks: list[_Ink]) -> int:
    n = len(passage.tokens)
    if passage.peak is not None:
        if not 0 <= passage.peak < n:
            raise ValueError(f"peak is {passage.peak} in a passage of {n} tokens")
        return passage.peak
    return int(np.argmax(np.fmax(inks[0].values, -np.inf))) if inks and n else 0


def _legend(all_inks: Iterable[list[_Ink]], *, named: bool) -> str:
    """The scale of each highlighted track, below zero to the left; passages with their own are said to have them.

    Args:
        all_inks: of each passage.
        named: name a track that is the only one, too.
    """
    ends: dict[str, list[_Ink]] = {}
    for inks in all_inks:
        for ink in inks:
            ends.setdefault(ink.track.name, []).append(ink)
    out = []
    for name, inks in ends.items():
        highest, lowest = (max(ink.most[side] for ink in inks) for side in (0, 1))
        if not highest and not lowest:
            out.append(f"<span>{plain_text(name)}: never active</span>")
            continue
        shared = len(inks) == 1 or inks[0].track.scale is not None
        scale = ["0"]
        for side, most, sign in ((0, highest, ""), (1, lowest, "−")):
            if not most:
                continue
            color, end = inks[0].colors[side], inks[0].ends[side]
            strongest = f"{round(255 * max_alpha(color)):02x}"
            bar = f'<s style="background:linear-gradient({270 if side else 90}deg,{color}00,{color}{strongest})"></s>'
            label = sign + format_number(end) if shared else ""
            if shared and most > end * 1.001:  # stored activations may be rounded to float16, and their peak not
                label += f", clamped ({sign}{format_number(most)} at most)"
            scale = [label, bar, *scale] if side else [*scale, bar, label]
        if not shared:
            scale.append("each example's own maximum")
        shown = f"{plain_text(name)}: " if named or len(ends) > 1 else ""
        out.append(f"<span>{shown}{' '.join(filter(None, scale))}</span>")
    return f'<span class="td-legend">{"".join(out)}</span>' if out else ""


def _root(body: str, data: list[dict[str, Any]], passages: Sequence[Passage], title: str, bar: str, view: str) -> Html:
    tracks = passages[0].tracks if passages else []
    names = [track.name for track in tracks if track.in_tooltip]
    for at, passage in enumerate(passages):
        if (own := [track.name for track in passage.tracks if track.in_tooltip]) != names:
            raise ValueError(
                f"passage {at} has the tracks {', '.join(own) or 'none'}, and the first has "
                f"{', '.join(names) or 'none'}; give all passages the same, in the same order"
            )
    palette = iter(COLORS)
    colors = [_color(track.color, next(palette)) if track.highlighted else "" for track in tracks]
    about = {
        "names": names,
        "colors": [color for color, track in zip(colors, tracks, strict=True) if track.in_tooltip],
        "passages": data,
    }
    # "<" is the one character that could end the script element.
    payload = json.dumps(about, separators=(",", ":")).replace("<", "\\u003c")
    head = f"<h3>{plain_text(title)}</h3>" if title else ""
    head += f'<div class="td-bar">{bar}</div>' if bar else ""
    return Html(
        f'<div class="td" data-view="{view}">{head}<div style="white-space:pre-wrap">{body}</div>'
        f'<script type="application/json">{payload}</script></div>'
    )


def plain_text(text: str) -> str:
    """Plain text as HTML, for labels: what cannot be shown becomes a replacement character."""
    return escape(_UNSEEN.sub(lambda m: " " if m[0] in "\t\r" else "\ufffd", str(text).replace("\n", " ")))


def _list(values: Any) -> list[Any]:
    """Plain numbers. A tensor's own tolist() spares importing torch, and knows every device and dtype."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _over(color: str, ground: str, alpha: float) -> tuple[float, ...]:
    """`color` painted over `ground`, as three numbers in 0..255."""
    channels = zip(bytes.fromhex(color[1:]), bytes.fromhex(ground[1:]), strict=True)
    return tuple(alpha * c + (1 - alpha) * g for c, g in channels)


def _contrast(color: str, other: tuple[float, ...]) -> float:
    def luminance(rgb: Iterable[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(bytes.fromhex(color[1:])), luminance(other)))
    return (light + 0.05) / (dark + 0.05)

"""THE CORE: tokens and tracks in, HTML out.

Pure functions on plain data; nothing here knows of a model, a file or an app, and the file works when copied alone.

    Track (one feature's values)  ->  Passage (tokens and their tracks)  ->  fragment

The fragment is compact and stands alone: one `<i>` for each token, bare when nothing fires there, with an inline
background and a `title` when something does. So it still reads where style sheets and scripts are stripped. What the
rich tooltip shows (token ids, the values of every track) travels once, as JSON beside the tokens. The text content of
a passage is its exact text: whatever only makes a character visible is drawn by the style sheet.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

import numpy as np

# Okabe and Ito's colours, told apart with any colour vision: two tracks, and the negative side of each.
COLORS, NEGATIVE_COLORS = ("#d55e00", "#0072b2"), ("#009e73", "#cc79a7")
MIN_CONTRAST, MIN_SHADE = 4.5, 1.15  # of text, as WCAG 2.2 has it for level AA; of the faintest colour
SURROUNDINGS = (("#1f2937", "#ffffff"), ("#e5e7eb", "#18191b"))  # (text, ground) that colours are for, light and dark

# Characters with no glyph of their own, or that would reorder or break the text around them.
UNSEEN = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff"
    "\\ufff9-\\ufffb\\ufffe\\uffff\\ud800-\\udfff]"
)
_UNHTML = re.compile("[\\x00\\ud800-\\udfff]")  # what a page in UTF-8 cannot hold
_BETWEEN = "\ufffc"  # "object replacement character", which stands for nothing by itself
MARKS = {"\t": "⇥", "\r": "␍"}
_DIGITS = np.array([c for c in range(33, 127) if chr(c) not in '"<\\'], np.uint8)  # 91 that JSON keeps as they are
# So many ids in so many digits, and below which they fit, the shortest first.
_GROUPS = [(ids, digits, int(91 ** (digits / ids))) for ids, digits in ((1, 2), (3, 7), (2, 5), (1, 3))]
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_SHORTEST_FOLD = 8  # a shorter gap is shown: the line that folds it would be as long
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
        about = f"track {self.name!r}"
        try:
            array = np.array(_list(self.values), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the values of {about} are not numbers: {str(self.values)[:80]}") from error
        if array.ndim != 1:
            raise ValueError(f"the values of {about} have shape {array.shape}; give one number for each token")
        for at in np.flatnonzero(np.isinf(array))[:1]:
            raise ValueError(f"{about} is {array[at]} at token {at}; clip it, or set it to NaN to leave it out")
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
        remarks: what is said of a token at the pointer, by position.
        group: heading shown where it differs from the passage before.
        origin: where the text comes from, for people.
    """

    tokens: Sequence[str]
    tracks: Sequence[Track] = ()
    chips: Mapping[int, str] = field(default_factory=dict)
    ids: Sequence[int] | None = None
    special: Sequence[bool] = ()
    peak: int | None = None
    remarks: Mapping[int, str] = field(default_factory=dict)
    group: str = ""
    origin: str = ""


def format_number(value: float) -> str:
    """A number as the page shows it: two decimals where that says enough, three significant digits elsewhere."""
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 else f"{value:.3g}"


def passage_html(passage: Passage, *, window: int | None = None, title: str = "", legend: bool = True) -> Html:
    """One text as a paragraph.

    Args:
        passage: tokens and tracks.
        window: fold what is farther than this many tokens from every highlighted value; None folds nothing.
        title: a heading, as plain text.
        legend: show the scale above the text.
    """
    inks = inks_of(passage)
    active = sorted({p for ink in inks for p in ink.shown})
    parts, data = tokens_html(passage, inks)
    body = f'<div class="td-p" tabindex="0">{folded(parts, 0, len(parts), active, window)}</div>'
    return root_html(body, [data], [passage], title, legend_of([inks], named=True) if legend else "", view="text")


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


@cache
def max_alpha(color: str) -> float:
    """The strongest opacity of `#rrggbb` under which text keeps a contrast of 4.5:1 (WCAG's), in light and in dark."""
    opacity = 255  # in the steps of a colour's two digits, so that rounding adds nothing
    while any(_contrast(ink, _over(color, ground, opacity / 255)) < MIN_CONTRAST for ink, ground in SURROUNDINGS):
        opacity -= 1
    return opacity / 255


@cache
def min_alpha(color: str) -> float:
    """The weakest opacity of `#rrggbb`: what is coloured at all can be told from the page, in light and in dark."""
    seen = lambda a: min(_contrast(g, _over(color, g, a / 255)) for _, g in SURROUNDINGS) >= MIN_SHADE  # noqa: E731
    return min(next(filter(seen, range(1, 256)), 255) / 255, max_alpha(color) / 4)


@dataclass(frozen=True)
class Ink:
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


def inks_of(passage: Passage) -> list[Ink]:
    """The highlighted tracks of a passage, at most two."""
    tracks = [track for track in passage.tracks if track.highlighted]
    if len(tracks) > 2:
        raise ValueError(f"{len(tracks)} tracks are highlighted; set highlighted=False on all but two")
    return [_ink(track, place) for place, track in enumerate(tracks)]


def _ink(track: Track, place: int) -> Ink:
    values = track.array()
    if track.scale is not None and not (math.isfinite(track.scale) and track.scale > 0):
        raise ValueError(f"the scale of track {track.name!r} is {track.scale}; give a number above 0, or None")
    given = (COLORS, track.color), (NEGATIVE_COLORS, track.negative_color)
    colors: Any = tuple(hex_color(palette[place] if color is None else color) for palette, color in given)
    at = np.flatnonzero(np.abs(values) > 0)
    shown = dict(zip(at.tolist(), values[at].tolist(), strict=True))
    most = max([0.0, *shown.values()]), -min([0.0, *shown.values()])
    ends = float(track.scale or most[0]), float(track.scale or most[1])
    shades = dict.fromkeys(shown, "")
    sides = zip(colors, ends, (values[at] > 0, values[at] < 0), strict=True)
    for color, end, which in (side for side in sides if side[2].any()):
        weakest, strongest = 255 * min_alpha(color), 255 * max_alpha(color)
        share = np.minimum(np.abs(values[at][which]), end) / (end or 1)
        alphas = np.rint(weakest + (strongest - weakest) * share).astype(int).tolist()
        shades |= {p: f"{color}{alpha:02x}" for p, alpha in zip(at[which].tolist(), alphas, strict=True)}
    return Ink(track, values, shown, shades, colors, ends, most)


def tokens_html(passage: Passage, inks: list[Ink]) -> tuple[list[str], dict[str, Any]]:
    """HTML of each token, and what the tooltip needs to know."""
    n = len(passage.tokens)
    data: dict[str, Any] = {"v": []}
    drawn = {id(ink.track): ink for ink in inks}
    for track in passage.tracks:
        ink = drawn.get(id(track)) or _ink(track, 0)
        if len(ink.values) != n:
            has = f"track {track.name!r} has {len(ink.values)} values"
            raise ValueError(f"{has} for {n} tokens; give one for each token")
        if track.in_tooltip:
            titled = len(inks) == 1 and ink is inks[0]  # its values are the tokens' titles
            data["v"].append(None if titled else [list(ink.shown), [float(f"{v:.4g}") for v in ink.shown.values()]])
    if passage.ids is not None:
        if len(ids := _list(passage.ids)) != n:
            raise ValueError(f"{len(ids)} token ids for {n} tokens; give one for each token")
        data["id"] = _packed(ids)
    text = _BETWEEN.join(passage.tokens)
    html = _escape(text)
    parts = f"<i>{html}</i>".replace(_BETWEEN, f"</i>{_BETWEEN}<i>").split(_BETWEEN)
    if len(parts) != n:
        parts = [f"<i>{_escape(token)}</i>" for token in passage.tokens]
    # The few texts that HTML cannot hold go to the script, for copying and for the tooltip.
    if "<bdi" in html and _UNHTML.search(text):
        data["x"] = {i: token for i, token in enumerate(passage.tokens) if _UNHTML.search(token)}
    for at, chip in passage.chips.items():
        if not 0 <= at < n:
            raise ValueError(f"the chip {chip!r} stands at token {at} of {n}")
        parts[at] = f'{parts[at][:-4]}<b data-x="{escape(chip)}"></b></i>'
    if len(passage.special) not in (0, n):
        raise ValueError(f"{len(passage.special)} marks of special tokens for {n} tokens; give one for each token")
    for at in (at for at, special in enumerate(passage.special) if special):
        parts[at] = f'<i class="td-s"{parts[at][2:]}'
    for at, remark in passage.remarks.items():
        parts[at] = f'<i title="{plain_text(remark)}"{parts[at][2:]}'
    for at, mark in _marks(inks):
        parts[at] = f"<i {mark}{parts[at][2:]}"
    return parts, data


def _packed(ids: Sequence[int]) -> str:
    """Ids in base 91, the low digit first, two to three bytes each: ids of one number, digits of it, the digits."""
    found = np.array(ids)
    if not len(found) or found.dtype.kind != "i" or found.min() < 0 or found.max() >= 91**3:
        return " ".join(map(str, ids))
    n_ids, n_digits, base = next(group for group in _GROUPS if found.max() < group[2])
    numbers = np.resize(found, (-(-len(found) // n_ids), n_ids)) @ base ** np.arange(n_ids)
    return f"={n_ids}{n_digits}{_DIGITS[numbers[:, None] // 91 ** np.arange(n_digits) % 91].tobytes().decode()}"


def _marks(inks: list[Ink]) -> Iterator[tuple[int, str]]:
    """Position and attributes of each coloured token; of two tracks the first takes the upper band."""
    if len(inks) == 1:
        for at, value in inks[0].shown.items():
            yield at, f"style=background:{inks[0].shades[at]} title={value:.4g}"
        return
    for at in sorted({p for ink in inks for p in ink.shown}):
        upper, lower = (ink.shades.get(at, "#0000") for ink in inks)
        title = " · ".join(format_number(ink.values[at]) for ink in inks if not math.isnan(ink.values[at]))
        yield at, f'style="background:linear-gradient({upper} 50%,{lower} 50%)" title="{title}"'


def _escape(text: str) -> str:
    """Plain text as HTML with the same text content, where characters without a glyph can be shown."""
    # No page takes an "&" for more than that where a token ends, or before a space.
    html = text.replace("&", "&amp;").replace(f"&amp;{_BETWEEN}", f"&{_BETWEEN}").replace("&amp; ", "& ")
    html = html.replace("<", "&lt;")
    # That a text is surely free of unseen characters is told several times faster than by the pattern.
    return (html if text.replace("\n", "").isprintable() else UNSEEN.sub(_mark, html)).replace("\n", "<b>\n</b>")


def _mark(match: re.Match[str]) -> str:
    char = match[0]
    held = "&#13;" if char == "\r" else "\ufffd" if _UNHTML.match(char) else char
    # <bdi> ends the reach of a direction mark by itself, with or without a style sheet.
    return f'<bdi data-x="{MARKS.get(char) or f"U+{ord(char):04X}"}">{held}</bdi>'


def folded(parts: list[str], start: int, end: int, near: Sequence[int], window: int | None) -> str:
    """`parts[start:end]` with what is farther than `window` from every position of `near` folded away."""
    if window is None or not near:
        return "".join(parts[start:end])
    out, at = [], start
    for low, high in [*((p - window, p + window + 1) for p in near), (end, end)]:
        low, high = max(start, min(low, end)), min(high, end)
        if low - at >= _SHORTEST_FOLD:
            out.append(f"<details><summary>{low - at} tokens</summary>{''.join(parts[at:low])}</details>")
            at = low
        if high > at:
            out.append("".join(parts[at:high]))
            at = high
    return "".join([*out, *parts[at:end]])


def legend_of(all_inks: Iterable[list[Ink]], *, named: bool) -> str:
    """The scale of each highlighted track, below zero to the left; `named` names a track that is the only one, too."""
    ends: dict[str, list[Ink]] = {}
    for ink in (ink for inks in all_inks for ink in inks):
        ends.setdefault(ink.track.name, []).append(ink)
    out = []
    for name, inks in ends.items():
        highest, lowest = (max(ink.most[side] for ink in inks) for side in (0, 1))
        if not highest and not lowest:
            out.append(f"<span>{plain_text(name)}: never active</span>")
            continue
        shared = len(inks) == 1 or inks[0].track.scale is not None
        scale = ["0"]
        for side, most, sign in (one for one in ((0, highest, ""), (1, lowest, "−")) if one[1]):
            color, end = inks[0].colors[side], inks[0].ends[side]
            label = sign + format_number(end) if shared else ""
            ramp = f"linear-gradient({270 if side else 90}deg,{color}00,{color}{round(255 * max_alpha(color)):02x})"
            says = "to" if label or not side else ""  # to those who see no style
            bar = f'<span class="td-ramp" style="background:{ramp}">{says}</span>'
            if shared and most > end * 1.001:  # stored activations may be rounded to float16, and their peak not
                label += f", clamped ({sign}{format_number(most)} at most)"
            scale = [label, bar, *scale] if side else [*scale, bar, label]
        if not shared:
            scale.append("<strong>each example's own maximum: shades of two lines cannot be compared</strong>")
        shown = f"{plain_text(name) if named or len(ends) > 1 else 'scale'}: "
        out.append(f"<span>{shown}{' '.join(filter(None, scale))}</span>")
    return f' <span class="td-legend">{" ".join(out)}</span>' if out else ""


def root_html(
    body: str, data: list[dict[str, Any]], passages: Sequence[Passage], title: str, bar: str, view: str
) -> Html:
    """The fragment around what is drawn: heading, bar, and the data of the tooltip."""
    tracks = passages[0].tracks if passages else []
    names = [track.name for track in tracks if track.in_tooltip]
    for at, passage in enumerate(passages):
        if (own := [track.name for track in passage.tracks if track.in_tooltip]) != names:
            these, first = ", ".join(own) or "none", ", ".join(names) or "none"
            has = f"passage {at} has the tracks {these}, and the first has {first}"
            raise ValueError(f"{has}; give all the same, in order")
    usual = dict(zip([id(track) for track in tracks if track.highlighted], COLORS, strict=False))
    colors = [hex_color(usual[id(t)] if t.color is None else t.color) if id(t) in usual else "" for t in tracks]
    shown = [color for color, track in zip(colors, tracks, strict=True) if track.in_tooltip]
    # "<" is the one character that could end the script element.
    about = {"names": names, "colors": shown, "passages": data}
    payload = json.dumps(about, separators=(",", ":")).replace("<", "\\u003c")
    head = f"<h3>{plain_text(title)}</h3>" if title else ""
    head += f'<div class="td-bar">{bar}</div>' if bar else ""
    return Html(
        f'<div class="td" data-view="{view}">{head}<div style="white-space:pre-wrap">{body}</div>'
        f'<script type="application/json">{payload}</script></div>'
    )


def plain_text(text: str) -> str:
    """Plain text as HTML, for labels: what cannot be shown becomes a replacement character."""
    return escape(UNSEEN.sub(lambda m: " " if m[0] in "\t\r" else "\ufffd", str(text).replace("\n", " ")))


def _list(values: Any) -> Any:
    # A tensor's own tolist() spares importing torch, and knows every device and dtype.
    plain = isinstance(values, np.ndarray) and values.dtype.kind in "fiub"
    return values if plain else values.tolist() if hasattr(values, "tolist") else list(values)


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

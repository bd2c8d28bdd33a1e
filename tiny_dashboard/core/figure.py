r"""Figures for papers: passages as SVG, or as LaTeX that plain pdflatex compiles.

Both are made for a light page and have a fixed width in points; colours are opaque, for neither printers nor LaTeX mix
them. The text is exact: what has no glyph is shown as on the page (`↵`, `⇥`, `U+200B`, bytes of a split character).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_dashboard.core.concordance import peak_of
from tiny_dashboard.core.highlight import (
    MARKS,
    UNSEEN,
    Ink,
    Passage,
    format_number,
    inks_of,
    max_alpha,
    plain_text,
)

WIDTH = 397.0  # points: a column of a page with one; a half is some 240

# Advance widths of Helvetica's characters 32 to 126, in thousandths of the size; Arial, Liberation Sans and Nimbus Sans
# have the same. Source: Adobe's font metrics of the 14 core fonts of PDF.
_ADVANCE = [
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *([556] * 10),
    *(278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556),
    *(278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334),
    *(260, 334, 584),
]
_INK, _FAINT = "#1f2937", "#5b6471"  # the latter for what is no text: values, and marks of characters without a look
_LATIN = "–—‘’“”…−↵⇥␍␣"  # beyond Latin, and set in LaTeX as it is
_STEPS = 12  # of a legend's bar


class Svg(str):
    """A figure as SVG, which shows itself in a notebook."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return self

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"<{len(self):,} characters of SVG>")


@dataclass(frozen=True)
class _Piece:
    """A token, or what fits of it on a line: `(text, is a mark)` runs, over opaque colours of its two bands."""

    runs: list[tuple[str, bool]]
    bands: tuple[str, str] | None
    ends_line: bool = False
    tex: bool = False  # LaTeX sets it

    def width(self, size: float) -> float:
        """In points, at a font of this size."""
        small = 0.8 if self.tex else 0.72
        widths = (_advance(text, self.tex) * (small if mark and len(text) > 1 else 1) for text, mark in self.runs)
        return size * sum(widths)


def figure(
    passages: Sequence[Passage],
    kind: str = "svg",
    *,
    view: str = "lines",
    width: float = WIDTH,
    size: float = 8.0,
    title: str = "",
    legend: bool = True,
    below: Sequence[tuple[str, Sequence[Passage]]] = (),
) -> str:
    """Passages as a figure.

    Args:
        passages: examples, or one text.
        kind: "svg", or "latex": a snippet for a document that loads `xcolor`, nothing else.
        view: "lines": a line for each, with the peaks under each other; "text": whole paragraphs.
        width: of the figure, in points: 72 an inch in SVG, 72.27 in LaTeX.
        size: of the font, in points.
        title: a heading, as plain text, cut to the width.
        legend: show the scale.
        below: titles and passages of what stands below, each with a legend of its own.

    Returns:
        The source: an `Svg`, which shows itself in a notebook, or a plain string.

    Raises:
        ValueError: the kind or the view does not exist, or the width leaves no room for a text.
    """
    if kind not in ("svg", "latex"):
        raise ValueError(f"a figure's kind is 'svg' or 'latex', not {kind!r}")
    if view not in ("lines", "text"):
        raise ValueError(f"a figure's view is 'lines' or 'text', not {view!r}")
    if not 2 <= size <= 72 or not 20 * size <= width <= 5000:
        raise ValueError(f"a figure {width} points wide in a font of {size} cannot be set; give 20 times the size")
    parts = []
    for heading, part in ((title, passages), *below):
        drawn = [(passage, inks_of(passage)) for passage in part]
        scales = list(_scales([inks for _, inks in drawn])) if legend else []
        parts.append((_cut(heading, width / size), drawn, scales))
    return (_svg if kind == "svg" else _latex)(parts, view, width, size)


Parts = list[tuple[str, list[tuple[Passage, list[Ink]]], list[Any]]]  # title, what is drawn, and its legend


def _scales(all_inks: list[list[Ink]]) -> Iterator[tuple[str, list[str], str, str]]:
    """Name, colours, and what stands at both ends of each bar of the legend."""
    named: dict[str, list[Ink]] = {}
    for inks in all_inks:
        for ink in inks:
            named.setdefault(ink.track.name, []).append(ink)
    for name, inks in named.items():
        own = len(inks) > 1 and inks[0].track.scale is None
        for side, sign in ((0, ""), (1, "−")):
            if not any(ink.most[side] for ink in inks):
                continue
            color = inks[0].colors[side]
            colors = [_mixed(color, max_alpha(color) * step / (_STEPS - 1)) for step in range(_STEPS)]
            yield name, colors, "0", "each example's own maximum" if own else sign + format_number(inks[0].ends[side])


def _mixed(color: str, alpha: float) -> str:
    """A colour of this opacity over white, as an opaque one."""
    return "#" + "".join(f"{round(255 + alpha * (channel - 255)):02x}" for channel in bytes.fromhex(color[1:]))


def _pieces(passage: Passage, inks: list[Ink], tex: bool = False) -> list[_Piece]:
    """The tokens of a passage, as they are drawn."""
    made = []
    for at, token in enumerate(passage.tokens):
        shades = [ink.shades.get(at) for ink in inks]
        bands = None
        if any(shades):
            colors = [_mixed(shade[:7], int(shade[7:], 16) / 255) if shade else "#ffffff" for shade in shades]
            bands = colors[0], colors[-1]
        runs = list(_runs(token))
        if at in passage.chips:
            runs.append((passage.chips[at], True))
        made.append(_Piece(runs, bands, "\n" in token, tex))
    return made


def _runs(token: str) -> Iterator[tuple[str, bool]]:
    at = 0
    for match in re.finditer(f"\n|{UNSEEN.pattern}", token):
        if match.start() > at:
            yield token[at : match.start()], False
        yield ("↵" if match[0] == "\n" else MARKS.get(match[0]) or f"U+{ord(match[0]):04X}"), True
        at = match.end()
    if at < len(token):
        yield token[at:], False


def _advance(text: str, tex: bool = False) -> float:
    """The width of a text in a font of size 1; LaTeX has wider signs, and boxes for letters beyond Latin."""
    total = 0
    for char in text:
        if " " <= char <= "~":
            total += 740 if tex and char in "<=>+" else _ADVANCE[ord(char) - 32]
        elif tex and (char in _ONLY_T1 or (char > "\u024f" and char not in _LATIN)):
            total += 2400
        elif not unicodedata.combining(char):
            total += 1000 if unicodedata.east_asian_width(char) in "WF" or char in "↵⇥" else 600
    return total / 1000


def _cut(title: str, room: float) -> str:
    """A heading, in bold, as far as it has room."""
    title, wide = title[:1000], 1.1
    if wide * _advance(title) <= room:
        return title
    while title and wide * _advance(title + "…") > room:
        title = title[:-1]
    return title + "…"


def _fit(pieces: Sequence[_Piece], room: float, size: float) -> list[_Piece]:
    """As many of the first pieces as have room on a line."""
    kept = []
    for piece in pieces:
        room -= piece.width(size)
        if room < 0:
            break
        kept.append(piece)
    return kept


def _broken(pieces: Sequence[_Piece], room: float, size: float) -> list[list[_Piece]]:
    """Lines of a paragraph, broken before words; what is longer than a line is broken anywhere."""
    words: list[list[_Piece]] = []
    for piece in pieces:
        begins = not words or words[-1][-1].ends_line or (piece.runs and piece.runs[0][0][:1] == " ")
        wide = words and sum(p.width(size) for p in [*words[-1], piece]) > room
        if begins or wide:
            words.append([])
        words[-1].append(piece)
    lines: list[list[_Piece]] = [[]]
    for word in words:
        full = sum(p.width(size) for p in [*lines[-1], *word]) > room
        if lines[-1] and (full or lines[-1][-1].ends_line):
            lines.append([])
        lines[-1] += word
    return lines


def _about_peak(
    passage: Passage, inks: list[Ink], width: float, size: float, tex: bool = False
) -> tuple[str, list[_Piece], list[_Piece]]:
    """The value at the peak, and what fits to its left and from it to the right."""
    pieces, peak = _pieces(passage, inks, tex), peak_of(passage)
    value = format_number(inks[0].values[peak]) if inks and pieces else ""
    room = width - 4 * size
    left = _fit(pieces[:peak][::-1], 0.42 * room, size)[::-1]
    right = _fit(pieces[peak:], 0.58 * room, size)
    return value, left, right or pieces[peak : peak + 1]


def _svg(parts: Parts, view: str, width: float, size: float) -> Svg:
    out: list[str] = []
    height, y = 1.7 * size, 0.0
    for number, (title, drawn, scales) in enumerate(parts):
        y += size * bool(number)
        if title:
            y += height
            out.append(f'<text x="0" y="{y - 0.45 * size:.1f}" font-weight="bold">{plain_text(title)}</text>')
        for passage, inks in drawn:
            if view == "lines":
                value, left, right = _about_peak(passage, inks, width, size)
                y += height
                out.append(f'<text x="0" y="{y - 0.45 * size:.1f}" fill="{_FAINT}">{value}</text>')
                middle = 4 * size + 0.42 * (width - 4 * size)
                out += _svg_line([*left, *right], middle - sum(p.width(size) for p in left), y, size)
            else:
                for line in _broken(_pieces(passage, inks), width, size):
                    y += height
                    out += _svg_line(line, 0, y, size)
                y += 0.5 * size
        if scales:
            y += 0.5 * size
            out += _svg_legend(scales, len({name for name, *_ in scales}) > 1, y, width, size)
            y += height * (1 + (len(scales) - 1) // _per_line(width, size))
    titles = " · ".join(plain_text(title) for title, *_ in parts if title)
    return Svg(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:g}pt" height="{y:.1f}pt" '
        f'viewBox="0 0 {width:g} {y:.1f}" font-family="Helvetica, Arial, \'Liberation Sans\', sans-serif" '
        f'font-size="{size:g}" fill="{_INK}">{f"<title>{titles}</title>" if titles else ""}'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(out)}</svg>'
    )


def _svg_line(pieces: Sequence[_Piece], x: float, y: float, size: float) -> Iterator[str]:
    """Pieces from `x` on a line that ends below at `y`: their bands, then their texts, each held to its width."""
    spans = []
    for piece in pieces:
        start = x
        for text, mark in piece.runs:
            wide = _Piece([(text, mark)], None).width(size)
            small = f' font-size="{0.72 * size:.2f}"' if mark and len(text) > 1 else ""
            look = f' fill="{_INK if piece.bands else _FAINT}"{small}' if mark else ""
            if wide:  # what has no width cannot be held to it
                look += f' textLength="{wide:.2f}" lengthAdjust="spacingAndGlyphs"'
            spans.append(f'<tspan x="{x:.2f}"{look}>{_xml(text)}</tspan>')
            x += wide
        if piece.bands and x > start:
            for band, color in enumerate(piece.bands if piece.bands[0] != piece.bands[1] else piece.bands[:1]):
                part = 0.7 if piece.bands[0] != piece.bands[1] else 1.4
                top = y - (1.55 - 0.7 * band) * size
                yield (
                    f'<rect x="{start:.2f}" y="{top:.2f}" width="{x - start:.2f}" height="{part * size:.2f}" '
                    f'fill="{color}"/>'
                )
    yield f'<text y="{y - 0.5 * size:.2f}" xml:space="preserve" style="white-space:pre">{"".join(spans)}</text>'


def _per_line(width: float, size: float) -> int:
    return max(1, int(width // (26 * size)))


def _svg_legend(scales: list[Any], named: bool, y: float, width: float, size: float) -> Iterator[str]:
    per_line = _per_line(width, size)
    for number, (name, colors, low, high) in enumerate(scales):
        x, base = number % per_line * width / per_line, y + (1.2 + 1.7 * (number // per_line)) * size
        label = f"{name}: {low}" if named else low
        yield f'<text x="{x:.1f}" y="{base:.1f}" fill="{_FAINT}">{plain_text(label)}</text>'
        x += (_advance(label) + 0.5) * size
        for color in colors:
            place = f'x="{x:.2f}" y="{base - 0.65 * size:.2f}" width="{0.4 * size:.2f}" height="{0.6 * size:.2f}"'
            yield f'<rect {place} fill="{color}"/>'
            x += 0.4 * size
        yield f'<text x="{x + 0.5 * size:.1f}" y="{base:.1f}" fill="{_FAINT}">{plain_text(high)}</text>'


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_TEX = {
    **{char: f"\\{char}" for char in "#$%&{}"},
    **{char: f"{{\\ttfamily\\char{ord(char)}}}" for char in '"^_~'},  # no accents, and no rule: they can be copied
    " ": "\\ ",
    "\\": "\\textbackslash{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "'": "\\textquotesingle{}",
    "`": "\\textasciigrave{}",
    **{char: char + "{}" for char in "-,"},  # no ligatures
    "−": "$-$",
    "↵": "$\\hookleftarrow$",
    "⇥": "$\\mapsto$",
    "␍": "{\\tiny CR}",
}
# Letters that the usual fonts of LaTeX have in the encoding T1 only.
_ONLY_T1 = frozenset("«»‹›„‚ÐðÞþĐđŊŋĄąĘęĮįŲų")
_MACROS = r"""% needs \usepackage{xcolor}; letters beyond Latin need a font that has them, or are set as their code
\begingroup\setlength{\fboxsep}{1pt}\setlength{\parindent}{0pt}%
\def\tdT{T1}%
\def\tdbox#1{\fbox{\tiny #1}}%
\def\tdu#1#2#3{\ifdefined\Umathcode #1\else\ifcsname u8:\detokenize{#1}\endcsname
  \ifnum#3=1 \expandafter\ifx\csname f@encoding\endcsname\tdT #1\else\tdbox{#2}\fi\else #1\fi\else\tdbox{#2}\fi\fi}%
\def\tdx#1#2#3{\setbox0\hbox{#3}\rlap{\textcolor[HTML]{#2}{\rule[-.6ex]{\wd0}{1.25ex}}}%
  \rlap{\textcolor[HTML]{#1}{\rule[.64ex]{\wd0}{1.25ex}}}\box0 }%
\def\tdm#1{\textcolor[HTML]{5B6471}{#1}}%
"""


def _tex(text: str) -> str:
    out = []
    for char in text:
        known = _TEX.get(char)
        if known is None and char > "~":
            known = f"\\tdu{{{char}}}{{{ord(char):04X}}}{{{int(char in _ONLY_T1)}}}"
        out.append(char if known is None else known)
    return "".join(out)


def _tex_piece(piece: _Piece) -> str:
    text = ""
    for run, mark in piece.runs:
        set_run = _tex(run)
        small = "{\\tiny " + set_run + "}" if len(run) > 1 else set_run
        text += f"\\tdm{{{small}}}" if mark and not piece.bands else small if mark else set_run
    if not piece.bands:
        return text
    upper, lower = (color[1:].upper() for color in piece.bands)
    return f"\\tdx{{{upper}}}{{{lower}}}{{{text}}}"


def _tex_line(pieces: Sequence[_Piece]) -> str:
    return "%\n".join(filter(None, map(_tex_piece, pieces)))


def _latex(parts: Parts, view: str, width: float, size: float) -> str:
    def line(content: str) -> str:
        return f"\\noindent\\hbox to {width:g}pt{{{content}\\hss}}\\par\n"

    wide = 1.12 * size  # Computer Modern is wider than Helvetica at the sizes of figures
    out = [_MACROS, f"\\fontsize{{{size:g}}}{{{1.6 * size:g}}}\\selectfont\n"]
    for number, (title, drawn, scales) in enumerate(parts):
        if number:
            out.append(f"\\vspace{{{size:g}pt}}\n")
        if title:
            out.append(line(f"\\textbf{{{_tex(title)}}}") + "\\nopagebreak\n")
        for passage, inks in drawn:
            if view == "lines":
                value, left, right = _about_peak(passage, inks, width, wide, tex=True)
                room = width - 4 * wide
                out.append(
                    line(
                        f"\\hbox to {4 * wide:g}pt{{{_tex(value)}\\hss}}%\n"
                        f"\\hbox to {0.42 * room:.1f}pt{{\\hss {_tex_line(left)}}}%\n"
                        f"\\hbox to {0.58 * room:.1f}pt{{{_tex_line(right)}\\hss}}"
                    )
                )
            else:
                out += [line(_tex_line(pieces)) for pieces in _broken(_pieces(passage, inks, True), width, wide)]
                out.append(f"\\vspace{{{0.5 * size:g}pt}}\n")
        named = len({name for name, *_ in scales}) > 1
        for name, colors, low, high in scales:
            bar = "".join(
                f"\\textcolor[HTML]{{{c[1:].upper()}}}{{\\rule{{{0.4 * size:g}pt}}{{{0.6 * size:g}pt}}}}"
                for c in colors
            )
            out.append(line(f"{_tex(f'{name}: ' if named else '')}{low}\\ {bar}\\ {_tex(high)}"))
    return "".join([*out, "\\endgroup\n"])

"""The feature card: what is known of one feature besides its examples, as a row of panels.

A panel is a function `(stats, info) -> HTML`, "" where it has nothing to say. `PANELS` are ours; `panels=` of a
dashboard or of a config names others. What a panel puts into its HTML it escapes itself, with `highlight.plain_text`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

from tiny_dashboard.core.highlight import COLORS, Html, format_number, plain_text
from tiny_dashboard.core.statistics import COLUMNS, FeatureStats, extra_column, visible

_TOKENS_SHOWN = 6
_BY = "label_source"  # of a label: who gave it
_DENSITY = next(column for column in COLUMNS if column.name == "density")
_VERDICTS = ((0.1, "base-only"), (0.4, "leans to base"), (0.6, "shared"), (0.9, "leans to chat"), (2.0, "chat-only"))


class Near(NamedTuple):
    """A feature whose decoder direction points the same way; `tokens` are its name where it has no label."""

    feature: int
    cosine: float
    label: str = ""
    tokens: Sequence[str] = ()


class Band(NamedTuple):
    """A heading of the examples, and the strengths of those below it."""

    heading: str
    low: float
    high: float


@dataclass(frozen=True)
class CardInfo:
    """What a card shows besides the statistics.

    Attributes:
        models: names of the dictionary's models; (base, chat) for a crosscoder.
        nearest: the features whose decoder directions point the same way; empty offers to compute them, None takes
            what the statistics have, which is numbers without names.
        bands: of the examples that are shown, strongest first; the histogram marks them.
    """

    models: Sequence[str] = ()
    nearest: Sequence[Near] | None = None
    bands: Sequence[Band] = ()

    @property
    def names(self) -> list[str]:
        """The models' last names, as HTML."""
        return [plain_text(name.rstrip("/").rsplit("/", 1)[-1]) for name in self.models]

    def model_names(self, n_models: int) -> list[str]:
        """A name for each of so many models, as HTML."""
        if len(self.models) == n_models:
            return self.names
        return ["base", "chat"] if n_models == 2 else [f"model {i}" for i in range(n_models)]


Panel = Callable[[FeatureStats, CardInfo], str]


def card_html(stats: FeatureStats | None, info: CardInfo | None = None, panels: Sequence[Panel] | None = None) -> Html:
    """One feature's panels; nothing where nothing is known."""
    if stats is None:
        return Html("")
    shown = [panel(stats, info or CardInfo()) for panel in (PANELS if panels is None else panels)]
    return Html(f'<div class="td td-card">{"".join(f"<div>{html}</div>" for html in shown if html)}</div>')


def chips(tokens: Iterable[str]) -> str:
    """Tokens as HTML, each a chip."""
    return " ".join(f"<code>{plain_text(visible(token))}</code>" for token in tokens)


def _name(stats: FeatureStats, info: CardInfo) -> str:
    """What it is called, and for a crosscoder the verdict."""
    name = f"<strong>{plain_text(stats.label)}</strong>" if stats.label else chips(t for t, _ in stats.peak_tokens[:5])
    title = f' title="{plain_text(stats.label)}"' if stats.label else ""
    by = stats.extra.get(_BY) if stats.label else None
    said = f" <small>named by {plain_text(str(by))}</small>" if by else ""
    heading = f'<h2 class="td-name" data-feature="{stats.feature}"{title}>{name}{said}</h2>' if name else ""
    return heading + _verdict(stats, info)


def _verdict(stats: FeatureStats, info: CardInfo) -> str:
    facts, verdict, bar = [], "", ""
    if stats.relative_norm_difference is not None and not isnan(stats.relative_norm_difference):
        place = bisect_right([end for end, _ in _VERDICTS], stats.relative_norm_difference)
        verdict = f"<strong>{_VERDICTS[min(place, 4)][1]}</strong> "
        facts.append(f"relative norm {stats.relative_norm_difference:.2f}")
    if stats.decoder_cosine is not None:
        facts.append(f"cosine {stats.decoder_cosine:.2f}")
    if len(stats.decoder_norms) == 2:
        names, (base, chat) = info.model_names(2), stats.decoder_norms
        share = 100 * base / ((base + chat) or 1)
        facts.append(f"decoder norm {names[0]} {format_number(base)}, {names[1]} {format_number(chat)}")
        bar = (
            f'<span class="td-split" style="background:linear-gradient(90deg,{COLORS[1]}c0 {share:.1f}%,'
            f'{COLORS[0]}c0 {share:.1f}%)"></span>'
        )
    return f'<p class="td-verdict">{verdict}{bar}<small>{" · ".join(facts)}</small></p>' if facts else ""


def _tokens(title: str, lists: Sequence[Sequence[tuple[str, float]]], stats: FeatureStats, info: CardInfo) -> str:
    """Each model's list; the bars of all four have one scale."""
    if not any(lists):
        return ""
    known = [abs(v) for ends in (stats.top_logits, stats.bottom_logits) for one in ends for _, v in one if not isnan(v)]
    most = max(known, default=0) or 1
    names = info.model_names(len(lists)) if len(lists) > 1 else [""]
    columns = []
    for model, (name, tokens) in enumerate(zip(names, lists, strict=True)):
        ink = COLORS[1 - model] if len(lists) == 2 else "currentColor"
        rows = " ".join(
            f"<code{_logit(value, most, ink)}>{plain_text(visible(token))}</code>"
            for token, value in tokens[:_TOKENS_SHOWN]
        )
        columns.append(f"<p>{f'<small>{name}</small> ' if name else ''}{rows}</p>")
    return f'<small>{title}</small> <div class="td-logits">{" ".join(columns)}</div>'


def _logit(value: float, most: float, ink: str) -> str:
    if isnan(value):  # some formats know only the tokens
        return ""
    bar = f"background:linear-gradient({ink} 0 0) 0 100%/{100 * abs(value) / most:.0f}% 2px no-repeat"
    return f' title="{value:+.3g}" style="{bar}"'


def _promotes(stats: FeatureStats, info: CardInfo) -> str:
    return _tokens("Promotes", stats.top_logits, stats, info)


def _suppresses(stats: FeatureStats, info: CardInfo) -> str:
    return _tokens("Suppresses", stats.bottom_logits, stats, info)


def _extra(stats: FeatureStats, info: CardInfo) -> str:
    rows = []
    for name, value in stats.extra.items():
        if name == _BY and stats.label:
            continue  # it stands beside the label
        column = extra_column(name, isinstance(value, str))
        rows.append(f"{plain_text(column.title)} <strong>{plain_text(column.show(value))}</strong>")
    return f"<small>{' · '.join(rows)}</small>" if rows else ""


def _nearest(stats: FeatureStats, info: CardInfo) -> str:
    known = [Near(*pair) for pair in stats.nearest] if info.nearest is None else info.nearest
    if not known and info.nearest is None:
        return ""
    if not known:
        return f'<button type="button" data-action="nearest" data-value="{stats.feature}">nearest features</button>'
    rows = " ".join(
        f'<button type="button" data-action="open" data-value="{near.feature}"><span>{near.feature}</span> '
        f"<span>{plain_text(near.label) or chips(near.tokens)}</span> <small>{near.cosine:.2f}</small></button>"
        for near in known[:_TOKENS_SHOWN]
    )
    return f'<small title="of decoder directions">Nearest, by cosine</small> <div class="td-near">{rows}</div>'


def _activity(stats: FeatureStats, info: CardInfo) -> str:
    facts = []
    if stats.max_activation is not None:
        facts.append(f"maximum {format_number(stats.max_activation)}")
    if stats.mean_activation is not None:
        facts.append(f"mean {format_number(stats.mean_activation)}")
    if stats.n_active == 0:
        facts.append("never fires")
    elif stats.density is not None:
        facts.append(f"fires on {_DENSITY.show(stats.density)} of tokens")
    said = f" <small>{' · '.join(facts)}</small>" if facts else ""
    histogram = _histogram(stats, info) if any(stats.histogram) else ""
    return f"<small>Activity</small> {histogram}{said}" if histogram or said else ""


def _histogram(stats: FeatureStats, info: CardInfo) -> str:
    edges, tallest = list(stats.histogram_edges), max(stats.histogram)
    # The axis ends where the feature does.
    last = max(at for at, count in enumerate(stats.histogram) if count)
    counts = stats.histogram[: max(last + 1, bisect_left(edges, stats.max_activation or 0))]
    edges = edges[: len(counts) + 1]
    bars = "".join(f'<s style="height:{100 * n / tallest:.0f}%{"" if n else ";min-height:0"}"></s>' for n in counts)
    ends = [format_number(edge) for edge in (*edges[:1], *edges[-1:])]
    says = ", ".join(["histogram of activations", *filter(None, [" to ".join(ends)])])
    if len(edges) > 3 and edges[-1] - edges[-2] > 10 * (edges[1] - edges[0]):  # as those of `collect_examples`
        ends.insert(1, "log scale")
    marks = "".join(_mark(band, edges) for band in info.bands) if len(edges) == len(counts) + 1 else ""
    return (
        f'<div class="td-bars" role="img" aria-label="{says}">{bars}</div>'
        f'<div class="td-marks">{marks}</div>'
        f'<div class="td-ends">{" ".join(f"<span>{end}</span>" for end in ends)}</div>'
    )


def _mark(band: Band, edges: Sequence[float]) -> str:
    """A band's range under the bars, which leads to its examples."""

    def place(value: float) -> float:  # in percent of the width: all bars are equally wide
        at = min(max(bisect_right(edges, value) - 1, 0), len(edges) - 2)
        part = (value - edges[at]) / ((edges[at + 1] - edges[at]) or 1)
        return 100 * (at + min(max(part, 0.0), 1.0)) / (len(edges) - 1)

    left, right = place(band.low), place(band.high)
    says = plain_text(band.heading)
    return (
        f'<button type="button" data-action="band" data-value="{says}" aria-label="examples: {says}" title="{says}" '
        f'style="left:{left:.1f}%;width:{right - left:.1f}%"></button>'
    )


def no_examples(feature: int, stats: FeatureStats | None) -> str:
    """What is said in place of a feature's examples, where there are none."""
    if stats is not None and stats.n_active == 0:
        return f"feature {feature} has no examples: it never fired on the corpus that was searched"
    return f"feature {feature} is there, and no examples of it are stored"


PANELS: tuple[Panel, ...] = (_name, _activity, _promotes, _suppresses, _nearest, _extra)

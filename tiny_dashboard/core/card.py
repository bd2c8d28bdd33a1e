"""The feature card: what is known of one feature besides its examples, as a row of panels.

A panel is a function `(stats, info) -> HTML`, "" where it has nothing to say. `PANELS` are ours; `panels=` of a
dashboard or of a config names others. What a panel puts into its HTML it escapes itself, with `highlight.plain_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

from tiny_dashboard.core.highlight import COLORS, Html, format_number, plain_text
from tiny_dashboard.core.statistics import COLUMNS, FeatureStats, extra_column

_TOKENS_SHOWN = 8
_DENSITY = next(column for column in COLUMNS if column.name == "density")


@dataclass(frozen=True)
class CardInfo:
    """What a card shows besides the statistics.

    Attributes:
        models: names of the dictionary's models; (base, chat) for a crosscoder.
        nearest: (feature, cosine) of the features whose decoder directions point the same way; empty offers to
            compute them, None does not.
    """

    models: Sequence[str] = ()
    nearest: Sequence[tuple[int, float]] | None = None

    @property
    def names(self) -> list[str]:
        """The models' last names, as HTML."""
        return [plain_text(name.rstrip("/").rsplit("/", 1)[-1]) for name in self.models]


Panel = Callable[[FeatureStats, CardInfo], str]


def card_html(stats: FeatureStats | None, info: CardInfo | None = None, panels: Sequence[Panel] | None = None) -> Html:
    """One feature's panels; nothing where nothing is known."""
    if stats is None:
        return Html("")
    shown = [panel(stats, info or CardInfo()) for panel in (PANELS if panels is None else panels)]
    return Html(f'<div class="td td-card">{"".join(f"<div>{html}</div>" for html in shown if html)}</div>')


def _tokens(title: str, lists: Sequence[Sequence[tuple[str, float]]], info: CardInfo) -> str:
    """A crosscoder's second model is the one that people ask about: the fine-tuned one."""
    if not lists or not lists[-1]:
        return ""
    model = f" ({info.names[-1]})" if len(lists) > 1 and info.models else ""
    tokens = "".join(
        f"<code{_logit(value)}>{plain_text(token.replace(' ', '␣').replace(chr(10), '↵'))}</code>"
        for token, value in lists[-1][:_TOKENS_SHOWN]
    )
    return f"<small>{title}{model}</small><p>{tokens}</p>"


def _promotes(stats: FeatureStats, info: CardInfo) -> str:
    return _tokens("Promotes", stats.top_logits, info)


def _suppresses(stats: FeatureStats, info: CardInfo) -> str:
    return _tokens("Suppresses", stats.bottom_logits, info)


def _extra(stats: FeatureStats, info: CardInfo) -> str:
    rows = []
    for name, value in stats.extra.items():
        column = extra_column(name, isinstance(value, str))
        rows.append(f"{plain_text(column.title)} <strong>{plain_text(column.show(value))}</strong>")
    return f"<small>{' · '.join(rows)}</small>" if rows else ""


def _nearest(stats: FeatureStats, info: CardInfo) -> str:
    if info.nearest is None:
        return ""
    if not info.nearest:
        return f'<button type="button" data-action="nearest" data-value="{stats.feature}">nearest features</button>'
    links = " ".join(
        f'<button type="button" data-action="open" data-value="{other}" title="cosine {format_number(cosine)}">'
        f"{other}</button>"
        for other, cosine in info.nearest
    )
    return f"<small>Nearest by decoder cosine</small><p>{links}</p>"


def _activity(stats: FeatureStats, info: CardInfo) -> str:
    label = f"<strong>{plain_text(stats.name)}</strong>" if stats.name else ""
    tallest = max(stats.histogram, default=0)
    bars = "".join(f'<s style="height:{100 * count / tallest:.0f}%"></s>' for count in stats.histogram if tallest)
    facts = []
    if stats.max_activation is not None:
        facts.append(f"maximum {format_number(stats.max_activation)}")
    if stats.mean_activation is not None:
        facts.append(f"mean {format_number(stats.mean_activation)}")
    if stats.n_active == 0:
        facts.append("never fires")
    elif stats.density is not None:
        facts.append(f"fires on {_DENSITY.show(stats.density)} of tokens")
    histogram = ""
    if bars:
        edges = [format_number(edge) for edge in (*stats.histogram_edges[:1], *stats.histogram_edges[-1:])]
        says = ", ".join(["histogram of activations", *filter(None, [" to ".join(edges)])])
        if _is_logarithmic(stats.histogram_edges):
            edges.insert(1, "log scale")
        ends = "".join(f"<span>{edge}</span>" for edge in edges)
        histogram = (
            f'<div class="td-bars" role="img" aria-label="{says}">{bars}</div><small class="td-ends">{ends}</small>'
        )
    said = f"<small>{' · '.join(facts)}</small>" if facts else ""
    return f"{label}{histogram}{said}"


def _is_logarithmic(edges: Sequence[float]) -> bool:
    """Whether the bins grow with the activation, as those of `collect_examples` do."""
    return len(edges) > 3 and edges[-1] - edges[-2] > 10 * (edges[1] - edges[0])


def _logit(value: float) -> str:
    return "" if isnan(value) else f' title="{value:+.3g}"'  # some formats know only the tokens


def _split(stats: FeatureStats, info: CardInfo) -> str:
    if len(stats.decoder_norms) != 2:
        return ""
    names = info.names if len(info.models) == 2 else ["base", "chat"]
    base, chat = stats.decoder_norms
    share = 100 * base / ((base + chat) or 1)
    facts = []
    if stats.relative_norm_difference is not None:
        value = f"<strong>{stats.relative_norm_difference:.2f}</strong>"
        facts.append(f"{value} relative norm (0 {names[0]}, 1 {names[1]})")
    if stats.decoder_cosine is not None:
        facts.append(f"<strong>{stats.decoder_cosine:.2f}</strong> cosine")
    return (
        f"<small>Decoder norm, {names[0]} {format_number(base)} / {names[1]} {format_number(chat)}</small>"
        f'<div class="td-split" style="background:linear-gradient(90deg,{COLORS[1]}c0 {share:.1f}%,'
        f'{COLORS[0]}c0 {share:.1f}%)"></div><small>{" · ".join(facts)}</small>'
    )


def no_examples(feature: int, stats: FeatureStats | None) -> str:
    """What is said in place of a feature's examples, where there are none."""
    if stats is not None and stats.n_active == 0:
        return f"feature {feature} has no examples: it never fired on the corpus that was searched"
    return f"feature {feature} is there, and no examples of it are stored"


PANELS: tuple[Panel, ...] = (_activity, _promotes, _suppresses, _split, _extra, _nearest)

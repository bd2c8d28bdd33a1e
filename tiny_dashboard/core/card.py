"""The feature card: what is known of one feature besides its examples, as a fragment of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from tiny_dashboard.core.highlight import COLORS, Html, format_number, plain_text
from tiny_dashboard.core.statistics import FeatureStats

_TOKENS_SHOWN = 8


def card_html(
    stats: FeatureStats | None, models: Sequence[str] = (), nearest: Sequence[tuple[int, float]] | None = None
) -> Html:
    """One feature's label, activation histogram, promoted and suppressed tokens, and split between two models.

    Args:
        stats: what the source knows; each part that it does not know is left out.
        models: names of the dictionary's models, for the headings; (base, chat) for a crosscoder.
        nearest: (feature, cosine) of the features whose decoder directions point the same way; empty offers to
            compute them, None does not.
    """
    if stats is None:
        return Html("")
    names = [plain_text(name.rstrip("/").rsplit("/", 1)[-1]) for name in models]
    cells = [_activity(stats)]
    for title, lists in (("Promotes", stats.top_logits), ("Suppresses", stats.bottom_logits)):
        # A crosscoder's second model is the one that people ask about: the fine-tuned one.
        if lists and lists[-1]:
            model = f" ({names[-1]})" if len(lists) > 1 and names else ""
            tokens = "".join(
                f"<code{_logit(value)}>{plain_text(token.replace(' ', '␣').replace(chr(10), '↵'))}</code>"
                for token, value in lists[-1][:_TOKENS_SHOWN]
            )
            cells.append(f"<div><small>{title}{model}</small><p>{tokens}</p></div>")
    if len(stats.decoder_norms) == 2:
        cells.append(_split(stats, names if len(names) == 2 else ["base", "chat"]))
    if nearest is not None:
        cells.append(_nearest(stats.feature, nearest))
    return Html(f'<div class="td td-card">{"".join(cells)}</div>')


def _nearest(feature: int, nearest: Sequence[tuple[int, float]]) -> str:
    if not nearest:
        return (
            f'<div><button type="button" data-action="nearest" data-value="{feature}">nearest features</button></div>'
        )
    links = " ".join(
        f'<button type="button" data-action="open" data-value="{other}" title="cosine {cosine:.3f}">{other}</button>'
        for other, cosine in nearest
    )
    return f"<div><small>Nearest by decoder cosine</small><p>{links}</p></div>"


def _activity(stats: FeatureStats) -> str:
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
        facts.append(f"fires on {100 * stats.density:.3g}% of tokens")
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
    return f"<div>{label}{histogram}<small>{' · '.join(facts)}</small></div>"


def _is_logarithmic(edges: Sequence[float]) -> bool:
    """Whether the bins grow with the activation, as those of `collect_examples` do."""
    return len(edges) > 3 and edges[-1] - edges[-2] > 10 * (edges[1] - edges[0])


def _logit(value: float) -> str:
    return "" if isnan(value) else f' title="{value:+.3g}"'  # some formats know only the tokens


def _split(stats: FeatureStats, names: Sequence[str]) -> str:
    base, chat = stats.decoder_norms
    share = 100 * base / ((base + chat) or 1)
    facts = []
    if stats.relative_norm_difference is not None:
        value = f"<strong>{stats.relative_norm_difference:.2f}</strong>"
        facts.append(f"{value} relative norm (0 {names[0]}, 1 {names[1]})")
    if stats.decoder_cosine is not None:
        facts.append(f"<strong>{stats.decoder_cosine:.2f}</strong> cosine")
    return (
        f"<div><small>Decoder norm, {names[0]} {format_number(base)} / {names[1]} {format_number(chat)}</small>"
        f'<div class="td-split" style="background:linear-gradient(90deg,{COLORS[1]}c0 {share:.1f}%,'
        f'{COLORS[0]}c0 {share:.1f}%)"></div><small>{" · ".join(facts)}</small></div>'
    )

"""What the online tab shows of a text, as HTML, from the plain data that is kept of it: see `Seen`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from tiny_dashboard.app.components import note
from tiny_dashboard.app.served import Served
from tiny_dashboard.core.highlight import format_number, passage_html, plain_text
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.statistics import visible
from tiny_dashboard.dashboards.online import LEFT_OUT
from tiny_dashboard.dashboards.question import Answer, Question

_TOLD = ("text", "chat", "steer", "strength", "clamp")  # what the view is of, and a field may say otherwise


@dataclass(frozen=True)
class Seen:
    """What a person sees in the tab; between two events it is kept as plain data.

    Attributes:
        question: what was asked.
        encoded, other: the text, with the answer where there is one, and with the unsteered one.
        n_prompt: tokens before the answer; 0 without one.
        highlighted, auto: the features that colour the tokens; whether they were chosen for the person.
        top: what fires, as of `Served.top`; None where it is not known.
        here: what fires at the token that was clicked, as of `Served.at`.
        across: what fires in other views at the token that was clicked, as of `Views.across`.
        waiting: so many more views read the same models, and are not loaded.
    """

    question: Question
    encoded: EncodedText
    other: EncodedText | None = None
    n_prompt: int = 0
    highlighted: Sequence[int] = ()
    auto: bool = False
    top: Mapping[str, Any] | None = None
    here: Mapping[str, Any] | None = None
    across: Sequence[Mapping[str, Any]] = ()
    waiting: int = 0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Seen | None:
        """From plain data; None from none."""
        if not state:
            return None
        other = state["other"] and EncodedText(*state["other"])
        held = {"question": Question(**state["question"]), "encoded": EncodedText(*state["encoded"]), "other": other}
        return cls(**{**state, **held})

    def state(self) -> dict[str, Any]:
        """As plain data."""
        lists = {"encoded": list(self.encoded), "other": self.other and list(self.other)}
        return {**vars(self), "question": asdict(self.question), **lists}

    def said(self, error: str = "", field: str = "") -> dict[str, Any]:
        """What the page's script is told: the address, what the view is of, and what is wrong with a field."""
        features = ", ".join(map(str, self.highlighted))
        can_rank = self.top is not None
        told = {
            "link": self.question.link(),
            "of": {name: getattr(self.question, name) for name in _TOLD},
            "steered": self.other is not None,
            "auto": f"auto: {features}" if self.auto and features else "auto: what fires most" if can_rank else "",
            "features": features,
            "title": f"feature {features or 'none'} · {' '.join(self.question.text.split())[:60]}",
        }
        return told | ({"wrong": [field, error]} if error else {})


class OnlineHtml:
    """Draws what is seen.

    Args:
        served: of the view that is looked at; knows labels and maxima.
        opens: a feature's row opens its examples; else it highlights the feature.
    """

    def __init__(self, served: Served, opens: bool) -> None:
        self._ask, self._has_offline = served, opens

    def streamed(self, seen: Seen, titles: Sequence[str]) -> list[str]:
        """An answer that is not all there yet: texts, without colours."""
        texts = [seen.encoded, *filter(None, [seen.other])]
        pages = [passage_html(self._ask.online.passage(t), title=h) for t, h in zip(texts, titles, strict=False)]
        return [_marked(page, seen.n_prompt) for page in pages]

    def drawn(self, seen: Seen, answer: Answer, titles: Sequence[str]) -> list[str]:
        """The views of an answer."""
        out = []
        for place, (analysis, title) in enumerate(zip(answer.views, titles, strict=False)):
            said = list(analysis.lost)
            if analysis.unseen:
                said.append(f"token {', '.join(map(str, analysis.unseen[:5]))} {LEFT_OUT}")
            if answer.difference is not None:
                title = f"feature {seen.highlighted[0]}, live and stored"
                most = format_number(answer.difference)
                said.append(f"largest difference between stored and live activations: {most}")
            page = passage_html(analysis.passage, title=title)
            strongest = {} if place else self._strongest(seen)
            html = _marked(page, seen.n_prompt, "" if place else seen.question.token, strongest)
            out.append((note(" · ".join(said), "fine") if said else "") + html)
        return out

    def _strongest(self, seen: Seen) -> dict[str, Any]:
        """The three strongest features of each token, for the tooltip."""
        if seen.top is None:
            return {}
        features = seen.top["token_features"]
        values = [[float(f"{value:.4g}") for value in row] for row in seen.top["token_values"]]
        names = self._ask.names(sorted({feature for row in features for feature in row}))
        return {"f": features, "v": values, "names": {feature: name[:60] for feature, name in names.items()}}

    def fires(self, seen: Seen) -> str:
        """What fires over the text, or at the token that was clicked."""
        if seen.top is None:
            return note("only chosen features are computed here")
        raw = seen.question.raw or not seen.top["share"]
        rows = (seen.here or seen.top)["raw" if raw else "share"]
        where, token, back = "over the text", "", ""
        if seen.here is not None:
            at = int(seen.question.token)
            where, token = f"token {at}", _chip(self._ask.online.texts(seen.encoded.ids)[at])
            token += f" · {len(rows)} of {seen.here['n']}" if seen.here["n"] > len(rows) else ""
            back = '<button type="button" data-action="text">over the text</button> › '
        bar = f'<div class="td-bar"><span>What fires {back}{where} {token}</span>{_ranks(raw, seen.top)}</div>'
        strongest = max((row["activation"] for row in rows), default=1.0)
        body = "".join(self._row(row, seen, None if raw else row["most"], strongest) for row in rows)
        across = _across(seen) if seen.here is not None else ""
        return f'<div class="td td-fires">{bar}{body or note(f"no feature fires {where}")}{across}</div>'

    def _row(self, row: Mapping[str, Any], seen: Seen, most: float | None, strongest: float) -> str:
        """A feature: its dot, number, name, the token where it peaks, a bar, its value."""
        feature, value = row["feature"], row["activation"]
        colors = dict(zip(seen.highlighted, (seen.question.color1, seen.question.color2), strict=False))
        lit = feature in colors
        says = f"activation {format_number(value)}" + (
            f" of at most {format_number(row['most'])}" if row["most"] else ""
        )
        dot = f' style="background:{colors[feature]}"' if lit else ""
        opens = "open its examples" if self._has_offline else "highlight it"

        def button(name: str, action: str, text: str, title: str, more: str = "") -> str:
            return (
                f'<button type="button" class="{name}" data-action="{action}" data-value="{feature}" '
                f'title="{title}"{more}>{text}</button>'
            )

        mark = f' aria-label="highlight {feature}" aria-pressed="{str(lit).lower()}"{dot}'
        return (
            f'<div class="td-f" data-action="open" data-value="{feature}" title="{says}">'
            + button(
                "td-dot", "remove" if lit else "only", "", "take its highlight away" if lit else "highlight it", mark
            )
            + button("td-n", "open", str(feature), opens)
            + f'<span>{self._ask.called(feature)}</span><span class="td-peak">{_chip(row.get("token", ""))}</span>'
            + f'<s style="--td-part:{100 * min(1, value / (most or strongest)):.0f}%"></s>'
            + f"<small>{f'{value / most:.0%}' if most else format_number(value)}</small>"
            + button("td-plus", "add", "+", "highlight it, too", f' aria-label="highlight {feature}, too"')
            + "</div>"
        )


def _across(seen: Seen) -> str:
    """In which views something fires at the token, strongest first: each goes to its view and feature."""
    rows = []
    for place, row in enumerate(seen.across):
        share = row["share"]
        value = format_number(row["activation"]) if share is None else f"{share:.0%}"
        here = ' aria-current="true"' if row["here"] else ""
        label = plain_text(row["label"])
        rows.append(
            f'<button type="button" class="td-at" data-action="view" data-value="{place}"{here} '
            f'title="{label or "go there"}"><strong>{plain_text(row["view"])}</strong> {row["feature"]} '
            f'<span>{label}</span><s style="--td-part:{100 * min(1, share or 0):.0f}%"></s>'
            f"<small>{value}</small></button>"
        )
    more = f"load {seen.waiting} more view{'s' if seen.waiting > 1 else ''} of this model"
    load = f'<button type="button" data-action="load" data-value="">{more}</button>' if seen.waiting else ""
    if not rows and not load:
        return ""
    return f'<div class="td-across"><div class="td-bar"><span>Across views</span>{load}</div>{"".join(rows)}</div>'


def _ranks(raw: bool, top: Mapping[str, Any]) -> str:
    """The switch between the two rankings, where both are known."""
    if not top["share"]:
        return ""
    kinds = (("share", "share", "of the feature's own maximum", not raw), ("raw", "activation", "as it is", raw))
    buttons = [
        f'<button type="button" data-action="rank" data-value="{value}" title="{title}" '
        f'aria-pressed="{str(on).lower()}">{name}</button>'
        for value, name, title, on in kinds
    ]
    return f'<span class="td-rank">by {" · ".join(buttons)}</span>'


def _chip(token: str) -> str:
    return f"<code>{plain_text(visible(token[:30]))}</code>" if token else ""


def _marked(html: str, n_prompt: int, token: str = "", strongest: Mapping[str, Any] | None = None) -> str:
    """A fragment, and what the script does to its tokens: the answer underlined, one marked, each with what fires."""
    payload = json.dumps(strongest, separators=(",", ":")).replace("<", "\\u003c") if strongest else ""
    data = f'<script type="application/json" class="td-strongest">{payload}</script>' if strongest else ""
    answer = f' data-answer="{n_prompt}"' if n_prompt else ""
    return f'<div class="td-marked"{answer} data-token="{escape(token)}">{html}{data}</div>'

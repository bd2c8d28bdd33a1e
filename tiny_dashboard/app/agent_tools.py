"""What a language model's agent can do here, by MCP: search, read and label features, and see which fire on a text.

The same as the endpoints, in few words: an agent pays for each. The docstrings are all that it knows of a tool; the
description of an argument is one line, since Gradio takes no more.
"""

from __future__ import annotations

import json
import math
from typing import Any

import gradio as gr

from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.components import endpoint
from tiny_dashboard.app.label_editor import LabelEditor
from tiny_dashboard.app.served import MAX_EXAMPLES, MAX_TOP, bounded, json_data, whole_number
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.statistics import visible
from tiny_dashboard.explain.prompts import Passage

_TOKENS = 10  # of those that a feature promotes or suppresses


class AgentTools:
    """The tools.

    Args:
        views: what is served.
        editor: by which labels are written; None where nobody may.
    """

    def __init__(self, views: Views, editor: LabelEditor | None) -> None:
        self._views, self._ask, self._editor = views, Endpoints(views), editor

    def add(self) -> None:
        """Make them endpoints of the app under construction."""
        if self._views.has_offline:
            for read in (self.search_features, self.read_feature):
                gr.api(endpoint(read), api_name=read.__name__, concurrency_limit=None)
        if self._views.has_online:
            run: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "gpu"}
            gr.api(endpoint(self.features_on_text), api_name="features_on_text", **run)
        if self._editor is not None:
            gr.api(endpoint(self.label_feature), api_name="label_feature", queue=False)  # see `LabelEditor.label`

    def search_features(
        self, query: str = "", sort: str = "feature", descending: bool = False, page: int = 1, view: str = ""
    ) -> str:
        """Search the features of this dictionary (SAE or crosscoder): by words in their labels, notes, tokens, and by
        numbers. Start here to find a feature; then read it with read_feature.

        Args:
            query: words, a feature's number, or conditions: `dates`, `density<1% score>0.8 "the end"`; empty lists all.
            sort: a column of the answer, such as "density", "max_activation", "label_score"; "feature" by default.
            descending: true for the largest first.
            page: page of 25 rows, from 1.
            view: one of the dictionaries that are served, by name; empty is the first.

        Returns:
            JSON: {total, pages, columns, rows}; a column of which nothing is known is left out
        """
        found = self._ask.features(query, sort, page, descending, view)
        rows = found["features"]
        columns = [name for name in (rows[0] if rows else ()) if any(row[name] not in (None, "") for row in rows)]
        table = [[_short(row[name]) for name in columns] for row in rows]
        return _compact({"total": found["total"], "pages": found["pages"], "columns": columns, "rows": table})

    def read_feature(self, feature: int, n_examples: int = 10, view: str = "") -> str:
        """Read what is known of one feature: label, notes, statistics, the tokens that it promotes; and texts in which
        it fires, strongest first, with the tokens on which it fires between << and >>.

        Args:
            feature: the feature's number.
            n_examples: at most so many texts, up to 200.
            view: one of the dictionaries that are served, by name; empty is the first.

        Returns:
            JSON: {feature, label, labels, density, max_activation, promotes, suppresses, examples: [[number, text]]}
        """
        served, number = self._views.of(view).served, whole_number(feature, "feature")
        rows = served.offline.read(number, max_examples=bounded(n_examples, "n_examples", 1, MAX_EXAMPLES))
        stats = served.stats(number)
        told: dict[str, Any] = {"feature": number}
        if stats is not None:
            told |= {
                name: stats.get(name) for name in ("label", "density", "max_activation", "relative_norm_difference")
            }
            told |= dict(stats.extra)
            for name, logits in (("promotes", stats.top_logits), ("suppresses", stats.bottom_logits)):
                told[name] = [visible(token) for token, _ in (logits[-1] if logits else ())][:_TOKENS]
        given = served.offline.labels.of(number)
        told["labels"] = [f"{one.label} ({one.by})" for one in given if one.label] if len(given) > 1 else []
        known = {name: _short(value) for name, value in told.items() if value not in (None, "", [])}
        passages = [(example, Passage.of(passage.tokens, example.activations)) for example, passage in rows]
        known["examples"] = [[_short(float(example.max_activation)), one.marked()] for example, one in passages]
        return _compact(known)

    def features_on_text(self, text: str, k: int = 10, chat: bool = False, view: str = "") -> str:
        """Find the features that fire most on a text, with their labels and the token on which each is strongest.

        Args:
            text: the text; with chat, turns separated by `<eot>`, the user's first.
            k: how many features, up to 200.
            chat: true to format the text with the model's chat template.
            view: one of the dictionaries that are served, by name; empty is the first.

        Returns:
            JSON: {columns: [feature, activation, token, label], rows}, strongest first
        """
        found = self._ask.top_features(text, bounded(k, "k", 1, MAX_TOP), chat, view)["features"]
        rows = [[one["feature"], _short(one["activation"]), one["token"], one["label"]] for one in found]
        return _compact({"columns": ["feature", "activation", "token", "label"], "rows": rows})

    def label_feature(
        self,
        feature: int,
        label: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        note: str = "",
        view: str = "",
    ) -> str:
        """Name a feature; everybody who looks at this dashboard sees it at once. Read the feature's examples first, and
        say what the marked tokens have in common.

        Args:
            feature: the feature's number.
            label: a short phrase in one line, such as "days of the week in dates"; empty takes your own label back.
            note: anything more, in any number of lines; what you are not sure of belongs here.
            view: one of the dictionaries that are served, by name; empty is the first.

        Returns:
            JSON: {feature, label, note, author, source, time}, as it is kept
        """
        assert self._editor is not None
        return _compact(self._editor.label(feature, label, request, profile, note, view))


def _short(value: Any) -> Any:
    """Numbers in three digits."""
    if isinstance(value, float):
        return float(f"{value:.3g}") if math.isfinite(value) else None
    return value


def _compact(value: Any) -> str:
    return json.dumps(json_data(value), ensure_ascii=False, separators=(",", ":"))

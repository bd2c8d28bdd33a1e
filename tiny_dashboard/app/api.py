"""The app's named endpoints: every argument is checked and bounded, answers are plain JSON data.

The docstrings are read by people, by `gradio_client` and by MCP clients.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from tiny_dashboard.app.served import (
    MAX_EXAMPLES,
    MAX_TOP,
    bounded,
    json_data,
    plain,
    true_or_false,
    whole_number,
)
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.filters import words_of
from tiny_dashboard.dashboards.question import Question, answer_question


class Endpoints:
    """The questions that can be asked of what is served, as named endpoints; the docstrings are their documentation.

    Args:
        views: what is served.
    """

    def __init__(self, views: Views) -> None:
        self._views = views

    def examples(self, feature: int, max_examples: int = 20, scale: str = "feature", view: str = "") -> dict[str, Any]:
        """Max-activating examples of a feature, strongest first.

        Args:
            feature: the feature's index.
            max_examples: at most so many, up to 200.
            scale: the activation that gets the full colour: that of each "example", of the "feature", or a number.
            view: one of the app's views, by name; empty is the first.

        Returns:
            {feature, stats, examples: [{max_activation, tokens, token_ids, activations, scale, quantile, doc, start}]}
        """
        served, number = self._views.of(view).served, whole_number(feature, "feature")
        limit = bounded(max_examples, "max_examples", 1, MAX_EXAMPLES)
        rows = []
        for example, passage in served.offline.read(number, max_examples=limit, scale=scale):
            track = passage.tracks[0]
            values = np.array([float(value) for value in example.activations])  # as they are stored
            rows.append(
                {
                    "max_activation": plain(example.max_activation),
                    "tokens": json_data(list(passage.tokens)),
                    "token_ids": None if example.token_ids is None else np.asarray(example.token_ids).tolist(),
                    "activations": [plain(v) for v in values.tolist()],
                    "scale": plain(track.scale or float(np.nan_to_num(values, posinf=0).max(initial=0.0))),
                    "quantile": example.quantile,
                    "doc": example.doc,
                    "start": example.start,
                }
            )
        stats = served.stats(number)
        return {"feature": number, "stats": json_data(asdict(stats)) if stats else None, "examples": rows}

    def features(
        self, query: str = "", sort: str = "feature", page: int = 1, descending: bool = False, view: str = ""
    ) -> dict[str, Any]:
        """Search and sort the features.

        Args:
            query: words in a feature's label, in the tokens that it fires on most or promotes, in another text that
                is told of it, or in its examples around their peaks, in any case; digits find the features whose
                number begins so, too. Conditions on columns may stand beside them: `density<1% max>10 norm>0.9 "when"`.
                Empty finds all.
            sort: "feature", "label", "density", "max_activation", "relative_norm_difference", "decoder_cosine", or
                another column that the examples bring.
            page: page of 25 rows, from 1.
            descending: largest first.
            view: one of the app's views, by name; empty is the first.

        Returns:
            {total, told, page, pages, features: [{feature, label, density, max_activation, relative_norm_difference,
            decoder_cosine, and what else the examples bring}]}; null where the source does not know. The first `told`
            are found by what is told of them, the others by their examples alone.
        """
        query = ("" if query is None else str(query))[:200]
        place, descending = bounded(page, "page", 1, 10**9), true_or_false(descending, "descending")
        offline = self._views.of(view).served.offline
        if words_of(query):
            offline.texts.start().result()
        return json_data(offline.table.find(query, sort, place, descending))

    def analyze(
        self,
        text: str,
        highlight_features: str = "",
        tooltip_features: str = "",
        chat: bool = False,
        generate: bool = False,
        max_act: str = "",
        view: str = "",
    ) -> dict[str, Any]:
        """Where features fire on a text.

        Args:
            text: the text; with chat, `<eot>` separates the turns, the user's first.
            highlight_features: one or two features: "12" or "12, 30".
            tooltip_features: more features to compute: "3, 5-9".
            chat: format the text with the tokenizer's chat template.
            generate: let the model answer, and analyse the answer too.
            max_act: the activation that gets the full colour: a number, "auto", or empty for the text's own maximum.
            view: one of the app's views, by name; empty is the first.

        Returns:
            {text, tokens, token_ids, features, activations: a row for each token, response, left_out: positions without
            a value, since their norm is out of all proportion (attention sinks), lost: what the chat template left out
            or rewrote, in words}
        """
        served, generate = self._views.of(view).served, true_or_false(generate, "generate")
        prompt = served.encode(text, chat=chat, generation_prompt=generate and chat)
        encoded = prompt
        if generate:
            for encoded in served.online.respond(prompt):  # noqa: B007
                pass
        question = Question(text, highlight=highlight_features, tooltip=tooltip_features, max_act=max_act)
        (result,) = answer_question(served.online, question, encoded).views
        return {
            "text": result.text,
            "tokens": result.tokens,
            "token_ids": result.ids,
            "features": result.features,
            "activations": [[plain(v) for v in row] for row in result.activations.tolist()],
            "response": encoded.text[len(prompt.text) :],
            "left_out": result.left_out,
            "lost": list(result.lost),
        }

    def top_features(self, text: str, k: int = 20, chat: bool = False, view: str = "") -> dict[str, Any]:
        """The features that fire most on a text, special tokens left out.

        Args:
            text: the text; with chat, `<eot>` separates the turns, the user's first.
            k: how many, up to 200.
            chat: format the text with the tokenizer's chat template.
            view: one of the app's views, by name; empty is the first.

        Returns:
            {features: [{feature, label, activation, position, token}]}, strongest first.
        """
        served = self._views.of(view).served
        encoded = served.encode(text, chat=chat)
        rows = served.top(encoded, bounded(k, "k", 1, MAX_TOP))["raw"]
        return {"features": [{name: row[name] for name in row if name != "most"} for row in rows]}

"""The offline tab: pick a feature, see its card and its examples."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import gradio as gr

from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.components import explain, list_view, note, save_js, token_view, url_js
from tiny_dashboard.app.served import MAX_EXAMPLES, bounded, json_data, whole_number
from tiny_dashboard.core.card import Near, no_examples
from tiny_dashboard.core.examples import Example, check_feature
from tiny_dashboard.core.highlight import COLORS
from tiny_dashboard.core.text import scale_limit

if TYPE_CHECKING:
    from tiny_dashboard.app.label_editor import LabelEditor

_URL = {  # and what is usual
    "feature": "",
    "with": "",
    "examples": "30",
    "window": "50",
    "scale": "feature",
    "mask": "",
}
AT_ONCE = 2**26  # numbers of a dictionary, at most, whose nearest features are shown without being asked for
LIST_PAGE = 200  # rows of the list, at most, in one answer


class OfflineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Args:
        endpoints: what is asked.
        start: the feature shown first; None takes the first there is.
        window_size, max_examples: what the sliders stand at.
        has_online: offer to try an example in the online tab.
        editor: of labels: makes its button and its fields, and acts on the tab.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        start: int | None,
        *,
        window_size: int = 50,
        max_examples: int = 30,
        has_online: bool = False,
        editor: LabelEditor | None = None,
    ) -> None:
        self._ask = endpoints
        self._usual = _URL | {"examples": str(max_examples), "window": str(window_size)}
        with gr.Row(elem_classes="td-beside"):
            with gr.Column(elem_classes="td-side", min_width=0):
                self.table = list_view(self.find, self.cloud, elem_id="td-table")
            with gr.Column(elem_classes="td-main", min_width=0):
                self._toolbar(start, editor)
                if editor is not None:
                    editor.place()
                with gr.Row(elem_classes="td-compare"):
                    live = "td-live" if has_online else ""
                    self.card = token_view(elem_id="td-card")
                    self.other_card = token_view(elem_id="td-other-card")
                    self._display(window_size, max_examples)
                    self.view = token_view(elem_id="td-examples", elem_classes=live, min_height=400)
                    self.other_view = token_view(elem_id="td-other-examples")
        self._wire()
        if editor is not None:
            editor.connect(self)

    def _toolbar(self, start: int | None, editor: LabelEditor | None) -> None:
        small: dict[str, Any] = {"show_label": False, "container": False, "scale": 0}
        with gr.Row(elem_classes="td-toolbar"):
            self.previous = gr.Button("‹", elem_id="td-previous", min_width=40, scale=0)
            first = "" if start is None else str(start)
            self.feature = gr.Textbox(first, label="Feature", elem_id="td-feature", min_width=90, **small)
            self.following = gr.Button("›", elem_id="td-next", min_width=40, scale=0)
            self.anywhere = gr.Button("random", elem_id="td-random", min_width=80, scale=0)
            gr.Button("☆", elem_id="td-star", min_width=40, scale=0)
            self.other = gr.Textbox(
                label="Compare with feature", placeholder="compare with", elem_id="td-with", min_width=130, **small
            )
            gr.Button("list", elem_id="td-list-button", min_width=60, scale=0)
            if editor is not None:
                editor.place_button()

    def _display(self, window_size: int, max_examples: int) -> None:
        """The line above the examples: what changes them."""
        with gr.Row(elem_classes="td-line"):
            self.number = gr.Number(max_examples, label="Examples", precision=0, min_width=0, scale=0)
            self.window = gr.Number(window_size, label="Window", precision=0, min_width=0, scale=0)
            self.scale = gr.Dropdown(
                [("this feature", "feature"), ("each example", "example")],
                value="feature",
                allow_custom_value=True,
                label="Scale",
                min_width=0,
                scale=0,
            )
            self.color = gr.ColorPicker(COLORS[0], label="Colour", min_width=0, scale=0)
            self.mask = gr.Checkbox(label="Leave out special tokens", min_width=0, scale=0)
            self.save = gr.Button("Save HTML", scale=0, min_width=0)
            self.said = gr.HTML("", padding=False, elem_id="td-said")

    def _wire(self) -> None:
        self.settings: list[Any] = [self.other, self.window, self.number, self.scale, self.mask, self.color]
        self.shown = [self.feature, self.card, self.view, self.other_card, self.other_view, self.said]
        show: dict[str, Any] = {
            "inputs": [self.feature, *self.settings],
            "outputs": self.shown,
            "concurrency_limit": None,
            "api_visibility": "private",
            "show_progress": "hidden",
            "trigger_mode": "always_last",
        }
        moves = [
            self.previous.click(partial(self.step, -1), **show),
            self.following.click(partial(self.step, 1), **show),
        ]
        moves.append(self.anywhere.click(self.random, **show))
        moves.append(self.feature.submit(self.show, **show))
        # Only what a person changes: what a link sets is shown already, and would be asked for again too early.
        moves.append(self.other.submit(self.show, **show))
        moves += [control.input(self.show, **show) for control in self.settings[1:-1]]
        moves.append(self.color.change(self.show, **show))  # not in a link; typed colours are no input for Gradio
        for move in moves:
            self.then_url(move)
        quick: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
        for place in (self.card, self.other_card, self.table):
            self.then_url(place.action(self.follow, show["inputs"], self.shown, **quick))
        self.save.click(
            None, [self.feature, self.card, self.view, self.other_card, self.other_view], None, js=save_js("feature")
        )

    def then_url(self, event: Any) -> None:
        """After an event, write what is shown into the page's address."""
        event.then(
            None,
            [self.feature, self.other, self.number, self.window, self.scale, self.mask],
            None,
            js=url_js(self._usual),
        )

    def show(self, feature: Any, other: Any, window: Any, number: Any, *look: Any) -> tuple[Any, ...]:
        """The feature's card and examples, and those of the one that it is compared with; or what is wrong.

        What is wrong with a setting is said beside it, and the last view stays.
        """
        # A browser cannot be sent half a character.
        typed = "" if feature is None else str(feature)[:40].encode("utf-8", "replace").decode()
        try:
            size = bounded(window, "window", 0, 10_000)
            limit = bounded(number, "examples", 1, MAX_EXAMPLES)
            scale_limit(look[0], ("example", "feature"))
        except Exception as error:
            return (typed, *[gr.skip()] * 4, note(explain(error), "error"))
        try:
            offline = self._ask.offline
            if not offline.features:
                return "", "", note("the examples are there, and hold no feature"), "", "", ""
            index = check_feature(
                offline.features[0] if feature in (None, "") else whole_number(feature, "feature"),
                offline.max_activation_examples,
            )
        except Exception as error:
            return typed, "", note(explain(error), "error"), "", "", ""
        second = ("", "") if other in (None, "") else self._one(other, size, limit, *look)
        return (str(index), *self._one(index, size, limit, *look), *second, "")

    def _one(self, feature: Any, size: int, limit: int, scale: Any, mask: Any, color: Any) -> tuple[str, str]:
        """A feature's card and examples."""
        try:
            offline, index = self._ask.offline, whole_number(feature, "feature")
            rows = offline.read(index, max_examples=limit, scale=scale, mask_special=bool(mask), color=color or None)
            view = offline.draw([passage for _, passage in rows], size)
            if not rows:
                view = note(no_examples(index, offline.stats(index)))
            return self._card(index, [example for example, _ in rows]), view
        except Exception as error:
            return "", note(explain(error), "error")

    def _card(self, feature: int, examples: Sequence[Example], *, ask: bool = False) -> str:
        decoder, offline = self._ask.decoder, self._ask.offline
        nearest: list[Near] | None = None
        if decoder is not None and feature < decoder.dictionary.n_features:
            quick = prod(decoder.dictionary.encoder.shape) <= AT_ONCE
            found = decoder.nearest(feature) if quick or ask else []
            table = offline.table
            nearest = [Near(near.feature, near.cosine, *table.name(near.feature)) for near in found]
        return offline.card(self._ask.stats(feature), nearest, examples)

    def follow(self, event: gr.EventData, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """A click on a card or in the list: on a feature, or asking for the neighbours."""
        if event.action == "open":
            return self.show(event.value, *settings)
        skipped = [gr.skip()] * 4
        try:
            index, number = whole_number(event.value, "feature"), bounded(settings[2], "examples", 1, MAX_EXAMPLES)
            return gr.skip(), self._card(index, self._ask.offline.examples(index, number), ask=True), *skipped
        except Exception as error:
            return gr.skip(), note(explain(error), "error"), *skipped

    def step(self, by: int, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """The next feature that has examples, or the one before; around the ends."""
        features: Sequence[int] = ()
        index = -1
        try:
            features = self._ask.offline.features
            index = whole_number(feature, "feature")
        except (OSError, ValueError):
            pass  # `show` says so
        at = bisect_right(features, index) if by > 0 else bisect_left(features, index) - 1
        return self.show(features[at % len(features)] if features else feature, *settings)

    def random(self, _feature: Any, *settings: Any) -> tuple[Any, ...]:
        """Any feature."""
        try:
            feature = random.choice(self._ask.offline.features)
        except (OSError, IndexError):
            feature = _feature  # `show` says so
        return self.show(feature, *settings)

    def find(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A page of the list for its script; see `list.js`."""
        try:
            table = self._ask.offline.table
            query, sort = str(request.get("query", ""))[:400], str(request.get("sort", "feature"))
            descending = bool(request.get("descending"))
            size = bounded(request.get("size", 50), "size", 1, LIST_PAGE)
            found = table.find(query, sort, bounded(request.get("page", 1), "page", 1, 10**9), descending, size)
            for row in found["features"]:
                row["chips"] = not table.name(row["feature"])[0]
            place = table.place(request.get("feature"), query, sort, descending)
            return json_data(found | {"columns": [vars(c) for c in table.known_columns()], "place": place})
        except Exception as error:
            return {"error": explain(error)}

    def cloud(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """All features as a cloud of points, for the list's script."""
        try:
            return self._ask.offline.table.cloud(str(request.get("query", ""))[:400])
        except Exception as error:
            return {"error": explain(error)}

    def restore(self, query: Mapping[str, str], start: int | None) -> list[Any]:
        """The tab as a link describes it: the settings, then what they show."""
        usual = [self.window.value, self.number.value, "feature", False, self.color.value]
        settings = [query.get("window", usual[0]), query.get("examples", usual[1]), query.get("scale", "feature")]
        settings += [query.get("mask") == "true", usual[-1]]
        feature, other = query.get("feature", "" if start is None else start), query.get("with", "")
        *shown, wrong = self.show(feature, other, *settings)
        if wrong and shown[1]:  # a setting that cannot be: what is usual is shown, and the sentence
            settings = usual
            *shown, _ = self.show(feature, other, *settings)
        for place in (0, 1):
            try:
                settings[place] = whole_number(settings[place], "")
            except ValueError:
                settings[place] = usual[place]
        return [other, *settings, *shown, wrong]

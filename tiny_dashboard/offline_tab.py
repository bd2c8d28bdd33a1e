"""The offline tab: pick a feature, see its card and its examples."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from tiny_dashboard.card import card_html
from tiny_dashboard.components import explain, note, save_js, token_view, url_js
from tiny_dashboard.endpoints import MAX_EXAMPLES, SORTS, Endpoints, bounded, whole_number
from tiny_dashboard.highlight import COLORS

_COLUMNS = ("feature", "label", "density", "max_activation", "relative_norm_difference", "decoder_cosine")
_HEADERS = ["feature", "label", "density", "maximum", "relative norm", "cosine"]
_URL = ("feature", "examples", "window", "scale", "mask")


class OfflineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Args:
        endpoints: what is asked.
        start: the feature shown first.
        has_online: offer to try an example in the online tab.
    """

    def __init__(self, endpoints: Endpoints, start: int, *, has_online: bool = False) -> None:
        self._ask = endpoints
        offline = endpoints.offline
        with gr.Row(elem_classes="td-toolbar"):
            previous = gr.Button("‹", elem_id="td-previous", min_width=40, scale=0)
            self.feature = gr.Textbox(
                str(start),
                show_label=False,
                label="Feature",
                container=False,
                elem_id="td-feature",
                min_width=90,
                scale=0,
            )
            following = gr.Button("›", elem_id="td-next", min_width=40, scale=0)
            anywhere = gr.Button("random", elem_id="td-random", min_width=80, scale=0)
            search = gr.Textbox(
                placeholder="Search labels, or type a number   /",
                show_label=False,
                label="Search",
                container=False,
                elem_id="td-search",
                min_width=160,
                scale=1,
            )
            toggle = gr.Button("table", min_width=70, scale=0)
        with gr.Column(visible=False) as table:
            with gr.Row(elem_classes="td-toolbar"):
                found = gr.HTML()
                sort = gr.Dropdown(
                    list(SORTS),
                    value="feature",
                    show_label=False,
                    label="Sort by",
                    container=False,
                    scale=0,
                    min_width=190,
                )
                down = gr.Checkbox(label="largest first", container=False, scale=0, min_width=120)
                page = gr.Number(
                    1, show_label=False, label="Page", container=False, precision=0, minimum=1, scale=0, min_width=80
                )
            rows = gr.Dataframe(headers=_HEADERS, interactive=False, show_label=False, max_height=360, buttons=[])
        self.card = token_view(elem_id="td-card")
        self.view = token_view(elem_id="td-examples", elem_classes="td-live" if has_online else "", min_height=400)
        with gr.Accordion("Display", open=False), gr.Row():
            self.window = gr.Slider(
                0, 256, value=offline.window_size, step=1, label="Window", info="tokens on each side of the peak"
            )
            self.number = gr.Slider(
                1, MAX_EXAMPLES, value=min(offline.max_examples, MAX_EXAMPLES), step=1, label="Examples"
            )
            self.scale = gr.Dropdown(
                [("this feature", "feature"), ("each example", "example")],
                value="feature",
                allow_custom_value=True,
                label="Scale",
                info="what gets the full colour; or type a number",
            )
            self.mask = gr.Checkbox(label="Leave out special tokens", info="BOS, chat template")
            self.color = gr.ColorPicker(COLORS[0], label="Colour")
            save = gr.Button("Save HTML", scale=0, min_width=120)

        self.settings: list[Any] = [self.window, self.number, self.scale, self.mask, self.color]
        self.shown = [self.feature, self.card, self.view]
        show: dict[str, Any] = {
            "inputs": [self.feature, *self.settings],
            "outputs": self.shown,
            "concurrency_limit": None,
            "api_visibility": "private",
            "show_progress": "hidden",
            "trigger_mode": "always_last",
        }
        moves = [previous.click(partial(self.step, -1), **show), following.click(partial(self.step, 1), **show)]
        moves.append(anywhere.click(self.random, **show))
        moves.append(self.feature.submit(self.show, **show))
        moves += [control.change(self.show, **show) for control in self.settings]
        for move in moves:
            self.then_url(move)
        listing: dict[str, Any] = {
            "inputs": [search, sort, page, down],
            "outputs": [found, rows, page],
            "concurrency_limit": None,
            "api_visibility": "private",
            "show_progress": "hidden",
        }
        is_open = gr.State(False)
        toggle.click(
            lambda o: (not o, gr.Column(visible=not o)), is_open, [is_open, table], api_visibility="private"
        ).then(self.rows, **listing)
        for control in (sort, down, page):
            control.input(self.rows, **listing)
        arrived = search.submit(
            self.search, [search, *show["inputs"]], [*self.shown, table, is_open], api_visibility="private"
        )
        self.then_url(arrived.then(lambda: 1, None, page, api_visibility="private").then(self.rows, **listing))
        self.then_url(
            rows.select(
                self.pick, [rows, *show["inputs"]], self.shown, api_visibility="private", show_progress="hidden"
            )
        )
        save.click(None, [self.feature, self.card, self.view], None, js=save_js("feature"))

    def then_url(self, event: Any) -> None:
        """After an event, write what is shown into the page's address."""
        event.then(
            None, [self.feature, self.number, self.window, self.scale, self.mask], None, js=url_js("offline", _URL)
        )

    def show(self, feature: Any, window: Any, number: Any, scale: Any, mask: Any, color: Any) -> tuple[Any, str, str]:
        """The feature's card and examples, or what is wrong with the request."""
        try:
            index = whole_number(feature, "feature")
            offline = self._ask.offline
            view = offline.fragment(
                index,
                window_size=bounded(window, "window", 0, 10_000),
                max_examples=bounded(number, "examples", 1, MAX_EXAMPLES),
                scale=scale,
                mask_special=bool(mask),
                color=color or None,
            )
            if not offline.examples(index, 1):
                view = note(f"feature {index} has no examples: it never fired on the corpus that was searched")
            return str(index), card_html(offline.stats(index), offline.info.models), view
        except Exception as error:
            return str(feature)[:40], "", note(explain(error), "error")

    def step(self, by: int, feature: Any, *settings: Any) -> tuple[Any, str, str]:
        """The next feature that has examples, or the one before; around the ends."""
        features = self._ask.offline.features
        try:
            index = whole_number(feature, "feature")
        except ValueError:
            index = -1
        at = bisect_right(features, index) if by > 0 else bisect_left(features, index) - 1
        return self.show(features[at % len(features)] if features else feature, *settings)

    def random(self, _feature: Any, *settings: Any) -> tuple[Any, str, str]:
        """Any feature."""
        return self.show(random.choice(self._ask.offline.features), *settings)

    def search(self, query: str, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """A number opens that feature; words open the table of what they find, and the first of it."""
        query = query.strip()
        opened = bool(query) and not query.isdecimal()
        if opened:
            hits = self._ask.features(query)["features"]
            query = hits[0]["feature"] if hits else ""
        shown = self.show(query if query != "" else feature, *settings)
        return (*shown, gr.Column(visible=opened), opened)

    def rows(self, query: str, sort: str, page: Any, down: bool) -> tuple[str, list[list[Any]], int]:
        """One page of the table."""
        found = self._ask.features("" if query.strip().isdecimal() else query, sort, page or 1, down)
        rows = [[_cell(row[name]) for name in _COLUMNS] for row in found["features"]]
        count = f"{found['total']:,} features, page {found['page']} of {found['pages']}"
        return f'<span class="td-count">{count}</span>', rows, found["page"]

    def pick(self, rows: Any, feature: Any, *settings: Any, event: gr.SelectData) -> tuple[Any, str, str]:
        """The feature of the table's row that was clicked."""
        return self.show(int(event.row_value[0]), *settings)

    def restore(self, query: Mapping[str, str], start: int) -> list[Any]:
        """The tab as a link describes it: the settings, then what they show."""
        settings = [
            query.get("window", self.window.value),
            query.get("examples", self.number.value),
            query.get("scale", "feature"),
            query.get("mask") == "true",
            self.color.value,
        ]
        shown = self.show(query.get("feature", start), *settings)
        for place, name in ((0, "window"), (1, "examples")):
            try:
                settings[place] = whole_number(settings[place], name)
            except ValueError:
                settings[place] = (self.window.value, self.number.value)[place]
        return [*settings, *shown]


def _cell(value: Any) -> Any:
    return "" if value is None else float(f"{value:.4g}") if isinstance(value, float) else value

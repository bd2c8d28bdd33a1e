"""The offline tab: pick a feature, see its card and its examples."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.components import explain, note, save_js, token_view, url_js
from tiny_dashboard.app.served import MAX_EXAMPLES, bounded, whole_number
from tiny_dashboard.core.card import no_examples
from tiny_dashboard.core.highlight import COLORS, plain_text
from tiny_dashboard.core.statistics import Column

Listed = tuple[str, int, bool, bool]  # what the table shows: sort, page, largest first, open

_URL = dict.fromkeys(("feature", "examples", "window", "scale", "mask"), "")


class OfflineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Args:
        endpoints: what is asked.
        start: the feature shown first; None takes the first there is.
        window_size, max_examples: what the sliders stand at.
        has_online: offer to try an example in the online tab.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        start: int | None,
        *,
        window_size: int = 50,
        max_examples: int = 30,
        has_online: bool = False,
    ) -> None:
        self._ask = endpoints
        self._toolbar(start)
        self.table = token_view(visible=False, elem_id="td-table")
        self.listed = gr.State(("feature", 1, False, False))
        self.card = token_view(elem_id="td-card")
        self.view = token_view(elem_id="td-examples", elem_classes="td-live" if has_online else "", min_height=400)
        self._display(window_size, max_examples)
        self._wire()

    def _toolbar(self, start: int | None) -> None:
        with gr.Row(elem_classes="td-toolbar"):
            self.previous = gr.Button("‹", elem_id="td-previous", min_width=40, scale=0)
            self.feature = gr.Textbox(
                "" if start is None else str(start),
                show_label=False,
                label="Feature",
                container=False,
                elem_id="td-feature",
                min_width=90,
                scale=0,
            )
            self.following = gr.Button("›", elem_id="td-next", min_width=40, scale=0)
            self.anywhere = gr.Button("random", elem_id="td-random", min_width=80, scale=0)
            self.search_box = gr.Textbox(
                placeholder="Search, or a number   /",
                show_label=False,
                label="Search",
                container=False,
                elem_id="td-search",
                min_width=160,
                scale=1,
            )
            self.table_button = gr.Button("table", min_width=70, scale=0)

    def _display(self, window_size: int, max_examples: int) -> None:
        with gr.Accordion("Display", open=False), gr.Row():
            slider: dict[str, Any] = {"step": 1, "buttons": []}  # Gradio's reset is no input either
            self.window = gr.Slider(
                0, 256, value=window_size, label="Window", info="tokens on each side of the peak", **slider
            )
            self.number = gr.Slider(1, MAX_EXAMPLES, value=min(max_examples, MAX_EXAMPLES), label="Examples", **slider)
            self.scale = gr.Dropdown(
                [("this feature", "feature"), ("each example", "example")],
                value="feature",
                allow_custom_value=True,
                label="Scale",
                info="what gets the full colour; or type a number",
            )
            self.mask = gr.Checkbox(label="Leave out special tokens", info="BOS, chat template")
            self.color = gr.ColorPicker(COLORS[0], label="Colour")
            self.save = gr.Button("Save HTML", scale=0, min_width=120)

    def _wire(self) -> None:
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
        moves = [
            self.previous.click(partial(self.step, -1), **show),
            self.following.click(partial(self.step, 1), **show),
        ]
        moves.append(self.anywhere.click(self.random, **show))
        moves.append(self.feature.submit(self.show, **show))
        # Only what a person changes: what a link sets is shown already, and would be asked for again too early.
        moves += [control.input(self.show, **show) for control in self.settings[:-1]]
        moves.append(self.color.change(self.show, **show))  # not in a link; typed colours are no input for Gradio
        for move in moves:
            self.then_url(move)
        quick: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
        self.table_button.click(self.toggle, [self.search_box, self.listed], [self.table, self.listed], **quick)
        asked = [self.search_box, self.listed, *show["inputs"]]
        self.then_url(self.search_box.submit(self.search, asked, [self.table, self.listed, *self.shown], **quick))
        self.then_url(self.card.action(self.follow, show["inputs"], self.shown, **quick))
        self.then_url(self.table.action(self.act, asked, [self.table, self.listed, *self.shown], **quick))
        self.save.click(None, [self.feature, self.card, self.view], None, js=save_js("feature"))

    def then_url(self, event: Any) -> None:
        """After an event, write what is shown into the page's address."""
        event.then(None, [self.feature, self.number, self.window, self.scale, self.mask], None, js=url_js(_URL))

    def show(self, feature: Any, window: Any, number: Any, scale: Any, mask: Any, color: Any) -> tuple[Any, str, str]:
        """The feature's card and examples, or what is wrong with the request."""
        try:
            offline = self._ask.offline
            if not offline.features:
                return "", "", note("the examples are there, and hold no feature")
            index = offline.features[0] if feature in (None, "") else whole_number(feature, "feature")
            size = bounded(window, "window", 0, 10_000)
            rows = offline.read(
                index,
                max_examples=bounded(number, "examples", 1, MAX_EXAMPLES),
                scale=scale,
                mask_special=bool(mask),
                color=color or None,
            )
            if rows:
                view = offline.draw([passage for _, passage in rows], size)
            else:
                view = note(no_examples(index, offline.stats(index)))
            return str(index), self._card(index), view
        except Exception as error:
            return str(feature)[:40], "", note(explain(error), "error")

    def _card(self, feature: int, nearest: Sequence[tuple[int, float]] = ()) -> str:
        offered = nearest if self._ask.decoder is not None else None
        return self._ask.offline.card(self._ask.stats(feature), offered)

    def follow(self, event: gr.EventData, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """A click on the card: on a neighbour, or asking for the neighbours."""
        if event.action == "open":
            return self.show(event.value, *settings)
        try:
            index = whole_number(event.value, "feature")
            return gr.skip(), self._card(index, self._ask.decoder.nearest(index)), gr.skip()
        except Exception as error:
            return gr.skip(), note(explain(error), "error"), gr.skip()

    def step(self, by: int, feature: Any, *settings: Any) -> tuple[Any, str, str]:
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

    def random(self, _feature: Any, *settings: Any) -> tuple[Any, str, str]:
        """Any feature."""
        try:
            feature = random.choice(self._ask.offline.features)
        except (OSError, IndexError):
            feature = _feature  # `show` says so
        return self.show(feature, *settings)

    def toggle(self, query: str, listed: Listed) -> tuple[Any, Listed]:
        """Open the table, or close it."""
        return self._table(query, (*listed[:3], not listed[3]))

    def search(self, query: str, listed: Listed, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """A number opens that feature; words open the table of what they find."""
        if query.strip().isdecimal():
            return gr.skip(), listed, *self.show(query.strip(), *settings)
        return *self._table(query, (listed[0], 1, listed[2], True)), gr.skip(), gr.skip(), gr.skip()

    def act(self, event: gr.EventData, query: str, listed: Listed, feature: Any, *settings: Any) -> tuple[Any, ...]:
        """A click in the table: on a feature, on a column to sort by, or on a page."""
        action, value = event.action, str(event.value)
        if action == "open":
            return gr.skip(), listed, *self.show(value, *settings)
        sort, page, descending, opened = listed
        if action == "sort":
            # The largest are asked for first; features are counted from the smallest.
            sort, page, descending = value, 1, not descending if value == sort else value != "feature"
        elif action == "page":
            page = whole_number(value, "page")
        return *self._table(query, (sort, page, descending, opened)), gr.skip(), gr.skip(), gr.skip()

    def _table(self, query: str, listed: Listed) -> tuple[Any, Listed]:
        sort, page, descending, opened = listed
        try:
            found = self._ask.features(query, sort, page, descending)
            html = _table_html(found, self._ask.offline.table.columns, sort, descending)
        except Exception as error:
            html = note(explain(error), "error")
        return gr.HTML(html, visible=opened), listed

    def restore(self, query: Mapping[str, str], start: int | None) -> list[Any]:
        """The tab as a link describes it: the settings, then what they show."""
        settings = [
            query.get("window", self.window.value),
            query.get("examples", self.number.value),
            query.get("scale", "feature"),
            query.get("mask") == "true",
            self.color.value,
        ]
        shown = self.show(query.get("feature", "" if start is None else start), *settings)
        for place, name in ((0, "window"), (1, "examples")):
            try:
                settings[place] = whole_number(settings[place], name)
            except ValueError:
                settings[place] = (self.window.value, self.number.value)[place]
        return [*settings, *shown]


def _table_html(found: Mapping[str, Any], columns: Sequence[Column], sort: str, descending: bool) -> str:
    """One page of features as a table: a column's head sorts by it, a row opens its feature."""
    heads = "".join(
        f'<th title="{plain_text(column.says)}"><button type="button" data-action="sort" '
        f'data-value="{plain_text(column.name)}">{plain_text(column.title)}'
        f"{(' ↓' if descending else ' ↑') if column.name == sort else ''}</button></th>"
        for column in (Column("feature", "feature", "its number"), *columns)
    )
    rows = "".join(
        f'<tr data-action="open" data-value="{row["feature"]}"><td><button type="button">{row["feature"]}</button></td>'
        + "".join(f"<td>{plain_text(column.show(row[column.name]))}</td>" for column in columns)
        + "</tr>"
        for row in found["features"]
    )
    pages = "".join(
        f'<button type="button" data-action="page" data-value="{at}">{sign}</button>'
        for at, sign in ((found["page"] - 1, "‹ back"), (found["page"] + 1, "more ›"))
        if 1 <= at <= found["pages"]
    )
    count = f"{found['total']:,} features, page {found['page']} of {found['pages']}"
    return (
        f'<div class="td td-table"><div class="td-bar"><span>{count}</span>{pages}</div>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )

"""How a person gets about: links, steps in the browser's history, from view to view, and from one tab to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from tiny_dashboard.app.components import OFFLINE_LINKED, said_js, token_view, url_js
from tiny_dashboard.app.offline_tab import OfflineTab
from tiny_dashboard.app.online_html import Seen
from tiny_dashboard.app.online_tab import OnlineTab
from tiny_dashboard.app.served import bounded
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.concordance import HOW_TO_READ
from tiny_dashboard.core.highlight import plain_text
from tiny_dashboard.dashboards.question import Question

PRIVATE: Any = {"api_visibility": "private", "show_progress": "hidden"}
_GPU: Any = {"concurrency_limit": 1, "concurrency_id": "gpu"}
_SEARCH = "() => location.search"
_STEP = "(search, view) => [location.search, view]"
_ARRIVED = "() => tinyArrived()"
Shown = dict[Any, Any]
_LEARN = '<p class="td-learn">{} <button type="button" data-learnt title="do not say it again">got it</button></p>'
_CLICK = "Click a token in a text of your own to see what fires at it."


class Header:
    """What stands over the tabs: the heading, the picker of the view, and where a newcomer may begin.

    Args:
        views: what is picked from.
        title: the heading, as plain text.
        later: leave the heading to `load`, since examples may not be there yet.
    """

    def __init__(self, views: Views, title: str, *, later: bool) -> None:
        self._views, self._title, self.later = views, title, later
        first, many = views.of(), len(views.names) > 1
        with gr.Row(elem_classes="td-top-row"):
            told = "" if later else self.head(first.name)
            self.html = gr.HTML(told, padding=False, elem_id="td-head")
            with gr.Row(elem_classes="td-views" if many else "td-hidden"):
                small: dict[str, Any] = {"min_width": 40, "scale": 0}
                self.previous = gr.Button("‹", elem_id="td-view-before", **small)
                self.picker = gr.Dropdown(
                    views.names,
                    value=first.name,
                    label="View",
                    show_label=False,
                    container=False,
                    elem_id="td-view",
                    min_width=200,
                )
                self.following = gr.Button("›", elem_id="td-view-next", **small)
        self.starts = token_view(value=self.chips(first.name))
        self.shown = [self.html, self.starts]

    def show(self, view: str) -> Shown:
        """As it stands over a view."""
        return {self.html: self.head(view), self.starts: self.chips(view)}

    def head(self, view: str) -> str:
        """The heading, and what is known of a view."""
        shown = self._views.of(view)
        try:
            known = shown.served.offline.about if shown.served.has_offline else ""
        except Exception:  # the tab says why
            known = ""
        facts = plain_text(" · ".join(filter(None, [shown.description, known])))
        return f'<div class="td td-head"><h1>{plain_text(self._title)}</h1> <p>{facts}</p></div>'

    def chips(self, view: str) -> str:
        """How to read, and a view's starting points."""
        chips = [
            f'<button type="button" data-action="start" data-value="{at}">{plain_text(place.title)}</button>'
            for at, place in enumerate(self._views.of(view).start)
        ]
        starts = f'<div class="td-starts"><span>Start with</span> {" ".join(chips)}</div>' if chips else ""
        learn = [HOW_TO_READ] * self._views.has_offline + [_CLICK] * self._views.has_online
        return f'<div class="td">{_LEARN.format(" ".join(learn))}{starts}</div>'


@dataclass
class Navigation:
    """Connects header and tabs; made once all are there, inside the app.

    Attributes:
        views, header, tabs: of the app.
        off, on: the two tabs' content, where there is one.
        online_tab: the `gr.Tab` of `on`.
    """

    views: Views
    header: Header
    tabs: gr.Tabs
    off: OfflineTab | None
    on: OnlineTab | None
    online_tab: gr.Tab | None

    def wire(self, app: gr.Blocks) -> None:
        """Attach everything."""
        if self.header.later:
            app.load(self.header.head, self.header.picker, self.header.html, concurrency_limit=None, **PRIVATE)
        if self.off is not None:
            self._restore_offline(app, self.off)
        if self.on is not None and self.online_tab is not None:
            self._restore_online(app, self.on, self.online_tab)
        if self.off is not None and self.on is not None:
            self._connect(self.off, self.on)
        self._begin()
        self._pick()
        if self.off is not None and self.on is not None:
            online = f"({url_js('online', {}, OFFLINE_LINKED)})(); ({said_js(False, OFFLINE_LINKED)})('');"
            pressed = f"(...values) => {{ if (tinyPressed()) {{ ({self.off.url})(...values); {online} }} }}"
            self.tabs.change(None, self.off.linked, None, js=pressed)

    def _then(self, event: Any, *, done: bool = False) -> None:
        """After an event, the page follows what is shown; `done` as in `OnlineTab.then_said`."""
        if self.off is not None:
            self.off.then_url(event)
        if self.on is not None:
            self.on.then_said(event, done=done)

    def _restore_offline(self, app: gr.Blocks, off: OfflineTab) -> None:
        """Show what a link asks for, and what a step in the browser's history goes back to."""
        outputs = [self.tabs, *self.header.shown, *off.controls.values(), *off.shown]
        how: Any = {"outputs": list(dict.fromkeys(outputs)), "concurrency_limit": None, **PRIVATE}

        def restore(query: Mapping[str, str]) -> Shown:
            selected = "online" if query.get("tab") == "online" else "offline"
            look, shown = off.see.restore(query, off.usual)
            return {self.tabs: gr.Tabs(selected=selected)} | off.fields(look) | off.placed(shown)

        def restore_link(request: gr.Request) -> Shown:
            shown = restore(dict(request.query_params))
            picked = shown[self.header.picker]
            return shown if picked == off.usual.view else shown | self.header.show(picked)

        def restore_step(search: str, view: str) -> Shown:
            query = _query(search)
            if query.get("tab") == "online" and self.views.key(query.get("view")) == self.views.key(view):
                return {self.tabs: gr.Tabs(selected="online")}  # such a link does not say what the other tab shows
            shown = restore(query)
            return shown | self.header.show(shown[self.header.picker])

        off.then_url(app.load(restore_link, None, **how))
        search = gr.Textbox(visible="hidden")
        back = gr.Button(visible="hidden", elem_id="td-restore")
        step = back.click(restore_step, [search, self.header.picker], js=_STEP, trigger_mode="always_last", **how)
        off.then_url(step).then(None, None, None, js=_ARRIVED)

    def _restore_online(self, app: gr.Blocks, on: OnlineTab, tab: gr.Tab) -> None:
        """Show what a link asks for, once the models are there; else the text in the field, when it is first looked at.

        Of several views the models are loaded when the tab is first looked at; of one, at once.
        """
        at_once = len(self.views.names) == 1

        def restore(query: Mapping[str, str], seen: Seen | None, shown: bool) -> dict[str, Any]:
            text = self.views.of(self.views.key(query.get("view"))).first_text
            question = Question.of_link({"text": text, **query})
            question = replace(question, view=self.views.key(question.view))
            return on.see.restore(question, seen) if shown else on.see.fields(question)

        def restore_link(state: Any, request: gr.Request) -> Shown:
            query = dict(request.query_params)
            return on.placed(restore(query, Seen.of(state), query.get("tab") == "online"))

        def restore_step(search: str, state: Any) -> Shown:
            query = _query(search)
            return on.placed(restore(query, Seen.of(state), True) if query.get("tab") == "online" else {})

        def restore_first(search: str, state: Any, view: str) -> Shown:
            if seen := Seen.of(state):
                return on.placed(on.see.switch(Question(view=self.views.key(view)), seen))
            return on.placed(restore(_query(search) | {"view": view}, None, True))

        def ready_link(view: str, request: gr.Request) -> Iterator[Shown]:
            query = dict(request.query_params)
            if at_once or query.get("tab") == "online":
                yield from on.ready(self.views.key(query.get("view")) or view)

        shown: dict[str, Any] = {"outputs": on.outputs, **on.model, "show_progress": "hidden"}
        app.load(ready_link, self.header.picker, on.readied, concurrency_limit=8, **PRIVATE)
        on.then_said(app.load(restore_link, on.state, **shown))
        search = gr.Textbox(visible="hidden")
        back = gr.Button(visible="hidden", elem_id="td-restore-online")
        place: Any = {"inputs": None, "outputs": search, "js": _SEARCH, "api_visibility": "private"}
        again: Any = {"trigger_mode": "always_last", **shown}
        step = on.instead(back.click, None, **place).then(restore_step, [search, on.state], **again)
        on.then_said(step, done=True).then(None, None, None, js=_ARRIVED)
        first = tab.select(None, **place)
        if not at_once:
            tab.select(on.ready, self.header.picker, on.readied, concurrency_limit=8, **PRIVATE)
        on.then_said(first.then(restore_first, [search, on.state, self.header.picker], **shown))

    def _connect(self, off: OfflineTab, on: OnlineTab) -> None:
        """The loop: an example goes to the live model, a feature that fires there opens its examples."""

        def try_online(values: Mapping[Any, Any], event: gr.EventData) -> Shown:
            look = off.look(values)
            stored = f"{look.feature}.{event.passage}" + ".masked" * bool(look.mask)
            return {self.tabs: gr.Tabs(selected="online")} | on.placed(on.see.compare(look.view, stored))

        def open_examples(values: Mapping[Any, Any], event: gr.EventData) -> Shown:
            if event.action != "open":
                return {self.tabs: gr.skip()}
            return self._opened(off, values, event.value)

        def follow(values: Mapping[Any, Any], event: gr.EventData) -> Shown:
            if event.action == "open":
                return on.placed({})
            shown = on.placed(on.see.act(on.question(values), Seen.of(values[on.state]), event))
            view = shown.get(self.header.picker)
            if view is None or view == values[self.header.picker]:
                return shown
            return shown | self.header.show(view) | off.placed(off.see.there(replace(off.look(values), view=view)))

        tried = on.instead(off.view.example, try_online, off.asked, [self.tabs, *on.outputs], **on.model)
        # Without the model, and so not behind an answer that is under way.
        opened = on.top.action(open_examples, off.asked, [self.tabs, *off.shown], concurrency_limit=None, **PRIVATE)
        known = off.asked | {on.state, *on.controls.values()}
        outputs = [*self.header.shown, *off.shown, *on.outputs]
        followed = on.top.action(follow, known, outputs, **on.model | {"show_progress": "hidden"})
        self._then(tried, done=True)
        off.then_url(opened)
        self._then(followed)

    def _opened(self, off: OfflineTab, values: Mapping[Any, Any], feature: Any) -> Shown:
        """A feature's examples, from wherever it was named."""
        shown = off.placed(off.see.follow(off.look(values), "open", feature))
        return {self.tabs: gr.Tabs(selected="offline")} | shown

    def _begin(self) -> None:
        """A chip opens a feature's examples, analyses its text, or has it answered with a steering."""
        off, on, picker = self.off, self.on, self.header.picker

        def begin(values: Mapping[Any, Any], event: gr.EventData) -> Iterator[Shown]:
            start = self.views.of(values[picker]).start
            place = start[bounded(event.value, "start", 0, len(start) - 1)]
            if place.text and on is not None:
                highlight = "" if place.feature is None else str(place.feature)
                question = Question(place.text, place.chat, highlight, view=self.views.key(values[picker]))
                yield {self.tabs: gr.Tabs(selected="online")}  # which says how far the models are
                yield on.placed(on.see.start(question, place.steer, place.strength))
            elif off is not None and place.feature is not None:
                yield self._opened(off, values, place.feature)
            else:
                yield {self.tabs: gr.skip()}

        outputs = [self.tabs, *(off.shown if off else []), *(on.outputs if on else [])]
        inputs = {picker} | (off.asked if off else set())
        how: Any = {"trigger_mode": "always_last", **_GPU, **PRIVATE}
        action = self.header.starts.action
        wired = on.instead(action, begin, inputs, outputs, **how) if on else action(begin, inputs, outputs, **how)
        self._then(wired, done=True)

    def _pick(self) -> None:
        """Another view: of the same feature number where it is there, and of the same text."""
        header, off, on = self.header, self.off, self.on
        quick: Any = {"concurrency_limit": None, **PRIVATE}

        def show(values: Mapping[Any, Any]) -> Shown:
            shown = {} if off is None else off.placed(off.see.there(off.look(values)))
            return header.show(values[header.picker]) | shown

        def beside(by: int) -> Callable[[str], str]:
            return lambda view: self.views.beside(view, by)

        inputs = {header.picker} | (off.asked if off else set())
        outputs = [*header.shown, *(off.shown if off else [])]
        moves = [header.picker.input(show, inputs, outputs, trigger_mode="always_last", **quick)]
        for button, by in ((header.previous, -1), (header.following, 1)):
            moved = button.click(beside(by), header.picker, header.picker, **quick)
            moves.append(moved.then(show, inputs, outputs, **quick))
        for move in moves:
            if off is not None:
                off.then_url(move)
            if on is not None:
                self._follow_view(move, on)

    def _follow_view(self, move: Any, on: OnlineTab) -> None:
        """Where the online tab is looked at, it reads its text in the new view."""
        search = gr.Textbox(visible="hidden")
        known = {on.state, search, *on.controls.values()}

        def ready(view: str, query: str) -> Iterator[Shown]:
            if _query(query).get("tab") == "online":
                yield from on.ready(view)

        def again(values: Mapping[Any, Any]) -> Shown:
            seen = _query(values[search]).get("tab") == "online"
            return on.placed(on.see.switch(on.question(values), Seen.of(values[on.state])) if seen else {})

        told = on.instead(move.then, None, None, search, js=_SEARCH, api_visibility="private")
        told.then(ready, [self.header.picker, search], on.readied, concurrency_limit=8, **PRIVATE)
        again_there = told.then(again, known, on.outputs, **on.model | {"show_progress": "hidden"})
        on.then_said(again_there, done=True)


def _query(search: str) -> dict[str, str]:
    return dict(parse_qsl(str(search)[:100_000].removeprefix("?")))

"""The online tab: a text, the features that fire on it, and what the model answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from html import escape
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from tiny_dashboard.app.components import OFFLINE_LINKED, note, said_js, token_view
from tiny_dashboard.app.online_html import Seen
from tiny_dashboard.app.online_view import MULTIPLE, OnlineView
from tiny_dashboard.app.saving import SaveMenu
from tiny_dashboard.app.views import View, Views
from tiny_dashboard.core.highlight import COLORS, plain_text
from tiny_dashboard.dashboards.question import Question

Shown = dict[Any, Any]  # what a handler changes, by component
# Who asks again tries to load the models again, where that failed.
_AGAIN = "() => { if (document.querySelector('#td-status .td-error')) document.querySelector('#td-again').click() }"

_USUAL = 64  # tokens of an answer, at most: some seconds, steered and unsteered, of a small model on a CPU


class OnlineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Controls are known by their names in a `Question`; what a person sees is kept in a `gr.State`, as `Seen.state()`.

    Args:
        views: what is asked.
        picker: of the view that is looked at.
        max_new_tokens: the most that may be generated at once.
        has_offline: somebody follows to the examples of a feature that is clicked.
    """

    def __init__(
        self, views: Views, picker: gr.Dropdown, max_new_tokens: int = 128, *, has_offline: bool = False
    ) -> None:
        text = views.of().first_text
        self._views, self._max_new_tokens = views, max_new_tokens
        self._others = OFFLINE_LINKED if has_offline else ()
        self.see = OnlineView(views, text, max_new_tokens)
        self.controls: dict[str, Any] = {"view": picker}
        self.state = gr.State({})
        self.said = gr.Textbox(visible="hidden")
        self.status = gr.HTML(note("loading the models …", "loading"), elem_id="td-status")
        with gr.Row(elem_classes="td-online"):
            with gr.Column(scale=3, min_width=320):
                self._text_side(text)
            with gr.Column(scale=2, min_width=280, elem_classes="td-aside"):
                self.top = token_view(elem_id="td-top")
        one_kind = [self.controls["split"], self.controls["clamp"]]
        self.readied = [self.status, self.answering, self.generating, *one_kind]
        places = {"analysis": self.view, "unsteered": self.unsteered, "top": self.top}
        self._places: dict[str, Any] = places | {"state": self.state, "said": self.said} | self.controls
        self.outputs = list(self._places.values())
        self._wire(has_offline)

    def _text_side(self, text: str) -> None:
        self.controls["text"] = gr.Textbox(
            text,
            lines=3,
            max_lines=14,
            label="Text",
            placeholder="Type a text. As a chat, with <eot> between turns, the user's first.",
            elem_id="td-text",
        )
        with gr.Row(elem_classes="td-toolbar", elem_id="td-run"):
            button: dict[str, Any] = {"min_width": 120, "scale": 0}
            self.run = gr.Button("Analyze", variant="primary", elem_id="td-analyze", **button)
            # One place for both, which `ready` shows or not: a button that an event under way may change has no text.
            with gr.Column(min_width=120, scale=0) as self.generating:
                self.generate_button = gr.Button("Generate", elem_id="td-generate", **button)
                self.stop = gr.Button("Stop", elem_id="td-stop", **button)
            self.controls["chat"] = gr.Checkbox(label="chat formatting", container=False, min_width=140, scale=0)
        with gr.Row(elem_classes="td-fields"):
            self._field("highlight", "Highlight", placeholder="one or two features")
            self._field("tooltip", "Tooltip", placeholder="more: 3, 5-9")
            self._field("max_act", "Max act", placeholder="auto or a number")
        with gr.Row(elem_classes="td-pair"):
            self.view = token_view(elem_id="td-analysis")
            self.unsteered = token_view(elem_id="td-unsteered")
        with gr.Column(elem_classes="td-fields"):
            self._settings()

    def _field(self, name: str, label: str, **how: Any) -> None:
        self.controls[name] = gr.Textbox(label=label, elem_id=f"td-{name}", min_width=90, **how)

    def _settings(self) -> None:
        """What is wanted now and then: below the view."""
        controls = self.controls
        with gr.Accordion("More", open=False):
            controls["split"] = gr.Checkbox(
                label="Split a crosscoder's feature by model", info="two bands: base, chat", elem_id="td-split"
            )
            controls["leave_out"] = gr.Checkbox(label="Leave out special tokens", info="BOS, chat template")
            with gr.Row():
                for place, color in enumerate(COLORS, 1):
                    controls[f"color{place}"] = gr.ColorPicker(color, label=f"Colour {place}", min_width=100)
            self.save = SaveMenu("text")
        with gr.Accordion("Answer and steer", open=False) as self.answering:
            how: dict[str, Any] = {"buttons": [], "min_width": 170}
            most = self._max_new_tokens
            with gr.Row():
                self.length = gr.Slider(1, most, min(_USUAL, most), step=1, label="New tokens", info="at most", **how)
                self.temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 is greedy", **how)
            with gr.Row():
                self._field("steer", "Steer with", info="features, added as it answers")
                controls["strength"] = gr.Slider(
                    -3, 3, 1.0, step=0.1, label="Strength", info=MULTIPLE, elem_id="td-strength", **how
                )
            controls["clamp"] = gr.Checkbox(label="Clamp", info="set it, do not add it", elem_id="td-clamp")

    def _wire(self, has_offline: bool) -> None:
        # One model call at a time; the others wait their turn.
        self.model: dict[str, Any] = {
            "concurrency_limit": 1,
            "concurrency_id": "gpu",
            "api_visibility": "private",
            "show_progress": "minimal",
            "show_progress_on": [self.view],
        }
        asked = {self.state, *self.controls.values()}
        how: dict[str, Any] = {"inputs": asked, "outputs": self.outputs, **self.model}
        c = self.controls
        beside: dict[str, Any] = {"concurrency_limit": 8, "api_visibility": "private", "show_progress": "hidden"}
        again = gr.Button(visible="hidden", elem_id="td-again")
        again.click(self.ready, c["view"], self.readied, **beside)
        answering = how | {"inputs": asked | {self.length, self.temperature}, "show_progress": "hidden"}
        self.answer = self.generate_button.click(self._answer, **answering)
        self.then_said(self.answer, done=True)
        asks = ((self.run.click, self.see.ask), (c["text"].submit, self.see.ask), (c["chat"].input, self.see.format))
        for event, act in asks:
            event(None, None, None, js=_AGAIN, api_visibility="private")
            # Who asks again while a long text is read is not forgotten.
            self.then_said(self.instead(event, self._of(act), trigger_mode="always_last", **how), done=True)
        typed = [c[name] for name in ("highlight", "tooltip", "max_act")]
        events = [event for control in typed for event in (control.submit, control.blur)]
        # A typed colour is no input for Gradio, only a change.
        events += [c["split"].input, c["leave_out"].input, c["color1"].change, c["color2"].change]
        for event in events:
            self.then_said(event(self._of(self.see.redraw), trigger_mode="always_last", **how))
        # What there is of an answer when it is stopped is worth a look too.
        stopped = self.stop.click(None, cancels=[self.answer], api_visibility="private")
        self.then_said(stopped.then(self._of(self.see.redraw), **how), done=True)
        quick = how | {"show_progress": "hidden"}
        c["steer"].blur(
            self.see.measure, [c["view"], c["steer"]], c["strength"], api_visibility="private", show_progress="hidden"
        )
        self.then_said(self.view.token(self.on(self.see.at_token), **quick))
        if not has_offline:  # else the app follows to the other tab, too
            self.then_said(self.top.action(self.on(self.see.act), **quick))
        self.save.wire(
            lambda values, kind: self.see.saved(Seen.of(values[self.state]), kind),
            {self.state},
            [self.said, self.view, self.unsteered],
            concurrency_limit=1,
            concurrency_id="gpu",
        )

    def _of(self, act: Callable[[Question, Seen | None], dict[str, Any]]) -> Callable[[Mapping[Any, Any]], Shown]:
        """A handler that is given what the controls say, by name, and what is seen."""
        return lambda values: self.placed(act(self.question(values), Seen.of(values[self.state])))

    def on(self, act: Callable[[Question, Seen | None, Any], dict[str, Any]]) -> Callable[..., Shown]:
        """The same for an event that brings data."""

        def handle(values: Mapping[Any, Any], event: gr.EventData) -> Shown:
            return self.placed(act(self.question(values), Seen.of(values[self.state]), event))

        return handle

    def _answer(self, values: Mapping[Any, Any]) -> Iterator[Shown]:
        how = (values[self.length], values[self.temperature])
        yield from map(self.placed, self.see.answer(self.question(values), Seen.of(values[self.state]), *how))

    def placed(self, shown: Mapping[str, Any]) -> Shown:
        """What is shown, by component; one of them always, since Gradio takes no empty answer."""
        placed = {self._places[name]: value for name, value in shown.items() if name in self._places}
        # The page may hear of two answers in another order than they were given in.
        said = json.dumps(shown["said"] | {"at": time.time()}) if "said" in shown else gr.skip()
        return placed | {self.said: said}

    def question(self, values: Mapping[Any, Any]) -> Question:
        """What the controls say now."""
        said = {name: values[control] for name, control in self.controls.items()}
        said["view"] = self._views.key(said["view"])
        return Question(**{name: value for name, value in said.items() if value is not None})  # an empty box has none

    def instead(self, event: Callable[..., Any], *what: Any, **how: Any) -> Any:
        """Wire an event of somebody who waits for no answer: one that is under way is stopped.

        First, since the page goes through what is wired to an event one after the other.
        """
        event(None, cancels=[self.answer], api_visibility="private")
        return event(*what, **how)

    def then_said(self, event: Any, *, done: bool = False) -> Any:
        """After an event the page follows what was said of it: address, errors, what is out of date.

        Args:
            event: what was just wired.
            done: an answer has ended.
        """
        return event.then(None, self.said, None, js=said_js(done, self._others))

    def ready(self, view: Any) -> Iterator[Shown]:
        """Wait for the models; then say which conventions are in force, or why there are none.

        A dashboard of functions generates in its own way: how, and steering, are not offered then.
        """
        shown = self._views.of(view)
        try:
            for said in _loading(shown):
                yield {self.status: gr.HTML(note(said, "loading", self._elsewhere(shown)))}
            online = shown.served.online
        except ValueError as error:
            said = f"{error}; Analyze tries again" if shown.served.has_online else str(error)
            yield {self.status: gr.HTML(note(said, "error", self._elsewhere(shown)))}
            return
        ours = online.can_rank
        notes = online.notes if ours else ["this dashboard computes chosen features: name them"]
        yield {
            self.status: gr.HTML(note(" · ".join(notes), "fine") if notes else ""),
            self.answering: gr.Accordion(visible=ours),
            self.generating: gr.Column(visible=online.can_generate),
            self.controls["split"]: gr.Checkbox(visible=online.n_models == 2),
            self.controls["clamp"]: gr.Checkbox(visible=online.n_models == 1),
        }

    def _elsewhere(self, shown: View) -> str:
        """Links to the views whose models are here, where those of this one are not."""
        others = [name for name in self._views.here() if name != shown.name] if shown.missing() else []
        links = [
            f'<a href="?{escape(urlencode({"view": self._views.key(name), "tab": "online"}))}">{plain_text(name)}</a>'
            for name in others
        ]
        return f" · here are the models of {' and of '.join(links)}" if links else ""


def _loading(view: View) -> Iterator[str]:
    """What is said while the models load: how much comes from the Hub, and how far that is."""
    loading = view.served.load()
    if loading is None or loading.done():
        return
    yield "loading the models …"
    downloads: Sequence[Any] = ()
    try:
        downloads = view.downloads()
    except OSError as error:  # the loading itself may try for a while yet
        yield f"loading the models … {error}"
    while not loading.done():
        if downloads:
            yield f"loading the models … {', '.join(map(str, downloads))}"
        wait([loading], timeout=1)

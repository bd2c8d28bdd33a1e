"""The online tab: a text, the features that fire on it, and what the model answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import gradio as gr

from tiny_dashboard.app.components import explain, note, said_js, save_js, token_view
from tiny_dashboard.app.online_view import OnlineView, Seen
from tiny_dashboard.app.served import MAX_EXAMPLES, Served, bounded, whole_number
from tiny_dashboard.core.highlight import COLORS, format_number
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.text import parse_features
from tiny_dashboard.dashboards.question import Question, answer_question, in_field

T = TypeVar("T")
Shown = dict[Any, Any]  # what a handler changes, by component
# Controls whose change draws the text again; what is read and steered waits for its button.
_SETTINGS = ("highlight", "tooltip", "max_act", "split", "leave_out", "color1", "color2")
_PACE = 0.1  # seconds between two pictures of an answer, at least
_MULTIPLE = "times its maximum"
_MAX_STEERED = 8


class OnlineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Controls are known by their names in a `Question`; what a person sees is kept in a `gr.State`, as `Seen.state()`.

    Args:
        served: what is asked.
        text: the text to start with.
        max_new_tokens: the most that may be generated at once.
        has_offline: a feature's number opens its examples.
    """

    def __init__(self, served: Served, text: str = "", max_new_tokens: int = 128, *, has_offline: bool = False) -> None:
        self._ask, self._draw = served, OnlineView(served, has_offline)
        self._max_new_tokens = max_new_tokens
        self._first = Question(text)
        self.controls: dict[str, Any] = {}
        self.state = gr.State({})
        self.said = gr.Textbox(visible="hidden")
        self.status = gr.HTML(note("loading the models …", "loading"))
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._text_side(text)
            with gr.Column(scale=2, min_width=280, elem_classes="td-aside"):
                with gr.Column(elem_classes="td-fields"):
                    self._settings_side()
                self.top = token_view(elem_id="td-top", min_height=160)
        self.readied = [self.status, self.answering, self.generate_button]
        self.outputs = [self.view, self.unsteered, self.top, self.state, self.said, *self.controls.values()]
        self._wire(has_offline)

    def _text_side(self, text: str) -> None:
        self.controls["text"] = gr.Textbox(
            text,
            lines=4,
            max_lines=14,
            label="Text",
            placeholder="Type a text. As a chat, with <eot> between turns, the user's first.",
            elem_id="td-text",
        )
        with gr.Row(elem_classes="td-toolbar", elem_id="td-run"):
            button: dict[str, Any] = {"min_width": 120, "scale": 0}
            self.run = gr.Button("Analyze", variant="primary", elem_id="td-analyze", **button)
            self.generate_button = gr.Button("Generate", elem_id="td-generate", **button)
            self.stop = gr.Button("Stop", elem_id="td-stop", **button)
            self.controls["chat"] = gr.Checkbox(label="chat formatting", container=False, min_width=140, scale=0)
        with gr.Row(elem_classes="td-pair"):
            self.view = token_view(elem_id="td-analysis", min_height=160)
            self.unsteered = token_view(elem_id="td-unsteered")

    def _settings_side(self) -> None:
        controls = self.controls

        def field(name: str, label: str, info: str, **how: Any) -> None:
            controls[name] = gr.Textbox(label=label, info=info, elem_id=f"td-{name}", min_width=120, **how)

        field("highlight", "Highlight", "one or two features")
        with gr.Row():
            field("tooltip", "Tooltip", "more: 3, 5-9")
            field("max_act", "Max act", "empty, auto or a number")
        with gr.Accordion("More", open=False):
            controls["split"] = gr.Checkbox(
                label="Split a crosscoder's feature by model", info="two bands: base, chat", elem_id="td-split"
            )
            controls["leave_out"] = gr.Checkbox(label="Leave out special tokens", info="BOS, chat template")
            with gr.Row():
                for place, color in enumerate(COLORS, 1):
                    controls[f"color{place}"] = gr.ColorPicker(color, label=f"Colour {place}", min_width=100)
            self.save = gr.Button("Save HTML")
        with gr.Accordion("Answer and steer", open=False) as self.answering:
            how: dict[str, Any] = {"buttons": [], "min_width": 170}
            most = self._max_new_tokens
            with gr.Row():
                self.length = gr.Slider(1, most, most, step=1, label="New tokens", info="at most", **how)
                self.temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 is greedy", **how)
            with gr.Row():
                field("steer", "Steer with", "features, added as it answers")
                controls["strength"] = gr.Slider(
                    -3, 3, 1.0, step=0.1, label="Strength", info=_MULTIPLE, elem_id="td-strength", **how
                )
            controls["clamp"] = gr.Checkbox(
                label="Clamp", info="set it, do not add it; for one model only", elem_id="td-clamp"
            )

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
        for event in (self.run.click, c["text"].submit, c["chat"].input):
            self.then_said(event(self._of(self.ask), **how))
        typed = [c[name] for name in ("highlight", "tooltip", "max_act")]
        events = [event for control in typed for event in (control.submit, control.blur)]
        # A typed colour is no input for Gradio, only a change.
        events += [c["split"].input, c["leave_out"].input, c["color1"].change, c["color2"].change]
        for event in events:
            self.then_said(event(self._of(self.redraw), trigger_mode="always_last", **how))
        answering = how | {"inputs": asked | {self.length, self.temperature}, "show_progress": "hidden"}
        answer = self.generate_button.click(self._generate, **answering)
        self.then_said(answer, done=True)
        # What there is of an answer when it is stopped is worth a look too.
        stopped = self.stop.click(None, cancels=[answer], api_visibility="private")
        self.then_said(stopped.then(self._of(self.redraw), **how), done=True)
        quick = how | {"show_progress": "hidden"}
        c["steer"].blur(self.measure, c["steer"], c["strength"], api_visibility="private", show_progress="hidden")
        self.then_said(self.view.token(self._on(self.at_token), **quick))
        if not has_offline:  # else the app follows to the other tab, too
            self.then_said(self.top.action(self._on(self.act), **quick))
        self.save.click(None, [self.said, self.view, self.unsteered], None, js=save_js("text", told=True))

    def _of(self, act: Callable[[Question, Seen | None], Shown]) -> Callable[[Mapping[Any, Any]], Shown]:
        """A handler that is given what the controls say, by name, and what is seen."""
        return lambda values: act(self.question(values), Seen.of(values[self.state]))

    def _on(self, act: Callable[[Question, Seen | None, Any], Shown]) -> Callable[..., Shown]:
        """The same for an event that brings data."""

        def handle(values: Mapping[Any, Any], event: gr.EventData) -> Shown:
            return act(self.question(values), Seen.of(values[self.state]), event)

        return handle

    def question(self, values: Mapping[Any, Any]) -> Question:
        """What the controls say now."""
        said = {name: values[control] for name, control in self.controls.items()}
        return Question(**{name: value for name, value in said.items() if value is not None})  # an empty box has none

    def then_said(self, event: Any, *, done: bool = False) -> None:
        """After an event the page follows what was said of it: address, errors, what is out of date.

        Args:
            event: what was just wired.
            done: an answer has ended.
        """
        event.then(None, self.said, None, js=said_js(done))

    def ready(self) -> list[Any]:
        """Wait for the models; then say which conventions are in force, or why there are none.

        A dashboard of functions generates in its own way: how, and steering, are not offered then.
        """
        try:
            online = self._ask.online
        except ValueError as error:
            return [gr.HTML(note(str(error), "error")), gr.skip(), gr.skip()]
        ours = online.can_rank
        said = online.notes if ours else ["this dashboard computes chosen features: name them"]
        status = gr.HTML(note(" · ".join(said), "fine") if said else "")
        return [status, gr.Accordion(visible=ours), gr.Button(visible=online.can_generate)]

    def restore(self, question: Question, seen: Seen | None) -> Shown:
        """The tab as a link describes it: fields and view; what is seen already is not computed again."""
        if not question.text.strip() or (seen and seen.question == question):
            return self.fields(question)
        return self.begin(question) if seen else self.fields(question) | self.ask(question, None, link=True)

    def begin(self, question: Question) -> Shown:
        """Another question, whatever stands in the fields."""
        fields = {control: getattr(question, name) for name, control in self.controls.items()}
        return fields | self.ask(question, None, link=True)

    def fields(self, question: Question) -> Shown:
        """The controls as a question has them; what stands there from the start is left to who types already."""
        given = {name: getattr(question, name) for name in self.controls}
        first = vars(self._first)
        return {self.controls[name]: value for name, value in given.items() if value != first[name]} | {
            self.said: gr.skip()
        }

    def ask(self, question: Question, seen: Seen | None, *, link: bool = False) -> Shown:
        """Read a text: the field's, or with `link` the answers behind it too, or the stored example that it names."""
        try:
            n_prompt, other = 0, None
            if link and question.stored:
                encoded, _ = self._stored(question)
            else:
                answered = link and bool(question.answer)
                prompt = encoded = self._encode(question, generation_prompt=answered and question.chat)
                if answered:
                    n_prompt, encoded = len(prompt.ids), self._extended(prompt, question.answer)
                    other = self._extended(prompt, question.unsteered) if question.unsteered else None
            if not link:
                question = replace(question, steer="", strength=1.0, clamp=False, raw=bool(seen and seen.question.raw))
            return self._shown(Seen(question, encoded, other, n_prompt))
        except Exception as error:
            return self._wrong(error, seen)

    def _encode(self, question: Question, *, generation_prompt: bool) -> EncodedText:
        with in_field("text"):
            return self._ask.encode(question.text, chat=question.chat, generation_prompt=generation_prompt)

    def _extended(self, prompt: EncodedText, answer: str) -> EncodedText:
        """A prompt with the answer that a link brought."""
        with in_field("text"):
            ids = [whole_number(token, "a token of the answer") for token in answer.split(".")]
            return self._ask.online.extend(prompt, ids[: self._max_new_tokens])

    def redraw(self, question: Question, seen: Seen | None) -> Shown:
        """Draw what was read again, with other settings; nothing where nothing is other."""
        if seen is None:
            return {self.said: gr.skip()}
        asked, drawn = self._set(question, seen), bool(seen.question.answer) or not seen.n_prompt
        return {self.said: seen.said()} if drawn and asked == seen.question else self._again(asked, seen)

    def _set(self, question: Question, seen: Seen) -> Question:
        """What is seen, with the settings as they stand now."""
        return replace(seen.question, **{name: getattr(question, name) for name in _SETTINGS})

    def _again(self, question: Question, seen: Seen) -> Shown:
        try:
            return self._shown(replace(seen, question=question))
        except Exception as error:
            return self._wrong(error, seen)

    def act(self, question: Question, seen: Seen | None, event: Any) -> Shown:
        """A click in the list of what fires: a feature, another ranking, or back from a token to the text."""
        if seen is None:
            return {self.said: gr.skip()}
        value = str(event.value)[:20]
        if event.action == "text":
            return self._listed(replace(seen, question=replace(seen.question, token="")))
        if event.action == "rank":
            return self._listed(replace(seen, question=replace(seen.question, raw=value == "raw")))
        others = [str(feature) for feature in seen.highlighted if str(feature) != value]
        chosen = {"add": [*others[:1], value], "remove": others}.get(event.action, [value])
        asked = replace(self._set(question, seen), highlight=", ".join(chosen))
        return {self.controls["highlight"]: asked.highlight} | self._again(asked, seen)

    def at_token(self, _question: Question, seen: Seen | None, event: Any) -> Shown:
        """The features that fire at the token that was clicked."""
        if seen is None or not isinstance(event.position, int):
            return {self.said: gr.skip()}
        return self._listed(replace(seen, question=replace(seen.question, token=str(event.position))))

    def _listed(self, seen: Seen) -> Shown:
        return {self.top: self._draw.fires(seen), self.state: seen.state(), self.said: seen.said()}

    def _generate(self, values: Mapping[Any, Any]) -> Iterator[Shown]:
        seen = Seen.of(values[self.state])
        try:
            options = self._options(values[self.length], values[self.temperature])
            yield from self.generate(self.question(values), options)
        except Exception as error:
            yield self._wrong(error, seen)

    def generate(self, question: Question, options: Mapping[str, Any]) -> Iterator[Shown]:
        """Stream the answer, steered and then as it is, behind the text; then show what fires there."""
        prompt = self._encode(question, generation_prompt=question.chat)
        with in_field("steer"):
            steering = self._steering(question)
        seen = Seen(question, prompt, n_prompt=len(prompt.ids))
        for encoded in _paced(self._ask.online.respond(prompt, **options, **steering)):
            seen = replace(seen, encoded=encoded)
            yield self._streamed(seen)
        for other in _paced(self._ask.online.respond(prompt, **options)) if steering else ():
            seen = replace(seen, other=other)
            yield self._streamed(seen)
        yield self._shown(seen)

    def _streamed(self, seen: Seen) -> Shown:
        views = self._draw.streamed(seen, self._titles(seen))
        return {self.view: views[0], self.unsteered: "".join(views[1:]), self.state: seen.state()}

    def _titles(self, seen: Seen) -> list[str]:
        """Over an answer, and over the one without steering."""
        steer = self._steering(seen.question).get("steer", ()) if seen.n_prompt else ()
        what = " and ".join(f"feature {feature} at {format_number(value)}" for feature, value in steer)
        return [f"with {what}", "without"] if what else ["", ""]

    def _shown(self, seen: Seen) -> Shown:
        """Draw what was read, as it is asked."""
        online, question = self._ask.online, seen.question
        answers: dict[str, Any] = {
            "answer": _ids(seen.encoded, seen.n_prompt),
            "unsteered": _ids(seen.other, seen.n_prompt),
        }
        with in_field("text"):
            top = (seen.top or self._ask.top(seen.encoded)) if online.can_rank else None
        strongest = [row["feature"] for row in top["share"] or top["raw"]] if top else None
        stored = self._stored(question)[1] if question.stored else ()
        answer = answer_question(online, question, seen.encoded, seen.other, strongest=strongest, stored=stored)
        seen = replace(
            seen, question=replace(question, **answers), highlighted=answer.highlighted, auto=answer.auto, top=top
        )
        views = self._draw.drawn(seen, answer, self._titles(seen))
        return {self.view: views[0], self.unsteered: "".join(views[1:])} | self._listed(seen)

    def _stored(self, question: Question) -> tuple[EncodedText, Sequence[float]]:
        """The stored example that a question names, as the model reads it, and its stored activations."""
        feature, place, masked = (question.stored + "..").split(".")[:3]
        number = whole_number(feature, "feature")
        with in_field("text"):
            rows = self._ask.offline.read(number, max_examples=MAX_EXAMPLES, mask_special=masked == "masked")
            example, _ = rows[bounded(place, "passage", 0, len(rows) - 1)]
            ids, special = self._ask.offline.ids_of(example)
            unstored = [float("nan")] * (len(ids) - len(example.activations))  # a BOS that was put back
            text = "".join(self._ask.online.texts(ids))
        return EncodedText(text, list(ids), list(special)), [*unstored, *example.activations]

    def compare(self, stored: str) -> Shown:
        """A stored example through the live model: its stored activations beside those computed now."""
        question = Question(highlight=stored.partition(".")[0], stored=stored)
        try:
            encoded, _ = self._stored(question)
        except Exception as error:
            return self._wrong(error, None)
        return self.begin(replace(question, text=encoded.text))

    def _options(self, length: float, temperature: float) -> dict[str, Any]:
        if not self._ask.online.can_rank:
            return {}
        new = bounded(length, "new tokens", 1, self._max_new_tokens)
        if not 0 <= temperature <= 10:
            raise ValueError(f"temperature is {temperature}; it must be from 0 to 10")
        return {"max_new_tokens": new, "temperature": temperature, "seed": random.getrandbits(32)}

    def measure(self, features: str) -> Any:
        """What the strength is a number of, for the features that are typed."""
        try:
            online = self._ask.online
            most = [online.max_activation(f) for f in parse_features(features, online.n_features)[:_MAX_STEERED]]
        except (ValueError, LookupError, OSError):  # no feature, or one that is none: `generate` says so
            most = []
        if None in most:
            return gr.Slider(minimum=-50, maximum=50, info="an activation: its maximum is not known")
        known = ", ".join(format_number(value) for value in most if value)
        return gr.Slider(minimum=-3, maximum=3, info=f"{_MULTIPLE}, {known}" if known else _MULTIPLE)

    def _steering(self, question: Question) -> dict[str, Any]:
        """Steering by a multiple of each feature's maximum, or by an activation where that is not known."""
        online = self._ask.online
        chosen = parse_features(question.steer, online.n_features)
        if len(chosen) > _MAX_STEERED:
            raise ValueError(f"{len(chosen)} features to steer with; name at most {_MAX_STEERED}")
        steer = [(f, question.strength * (online.max_activation(f) or 1.0)) for f in chosen]
        return {"steer": steer, "clamp": bool(question.clamp)} if steer else {}

    def _wrong(self, error: Exception, seen: Seen | None) -> Shown:
        """What is wrong stands at its field; the last view stays."""
        return {self.said: (seen or Seen(Question(), EncodedText("", [], []))).said(explain(error), _field(error))}


def _field(error: Exception) -> str:
    """The field of a question that an error is about."""
    return str(getattr(error, "field", "text"))


def _ids(encoded: EncodedText | None, n_prompt: int) -> str:
    """An answer's ids, as a link holds them."""
    return ".".join(map(str, encoded.ids[n_prompt:])) if encoded and n_prompt else ""


def _paced(items: Iterable[T]) -> Iterator[T]:
    """The items, as many as a page can show; the first and the last always."""
    last, waits = 0.0, None
    for item in items:
        waits = item
        if time.monotonic() - last >= _PACE:
            yield item
            last, waits = time.monotonic(), None
    if waits is not None:
        yield waits

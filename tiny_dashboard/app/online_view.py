"""What the online tab shows of a question: a text that is read, drawn again, answered; and what fires there."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import gradio as gr

from tiny_dashboard.app.components import explain
from tiny_dashboard.app.online_html import OnlineHtml, Seen
from tiny_dashboard.app.served import MAX_EXAMPLES, Served, bounded, whole_number
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.figure import figure
from tiny_dashboard.core.highlight import COLORS, format_number
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.text import parse_features
from tiny_dashboard.dashboards.question import Answer, Question, answer_question, in_field

T = TypeVar("T")
Shown = dict[str, Any]  # what changes, by its place: analysis, unsteered, top, state, said, or a field of a `Question`
# Controls whose change draws the text again; what is read and steered waits for its button.
_SETTINGS = ("highlight", "tooltip", "max_act", "split", "leave_out", "color1", "color2")
_PACE = 0.1  # seconds between two pictures of an answer, at least
MULTIPLE = "times its maximum"
_MAX_STEERED = 8


class OnlineView:
    """Shows what is asked.

    Args:
        views: of which one is looked at.
        text: what stands in the text's field from the start.
        max_new_tokens: the most that may be generated at once.
    """

    def __init__(self, views: Views, text: str = "", max_new_tokens: int = 128) -> None:
        self._views, self._max_new_tokens = views, max_new_tokens
        self._first = Question(text)

    def _served(self, question: Question) -> Served:
        return self._views.of(question.view).served

    def _draw(self, seen: Seen) -> OnlineHtml:
        served = self._served(seen.question)
        return OnlineHtml(served, served.has_offline)

    def restore(self, question: Question, seen: Seen | None) -> Shown:
        """The tab as a link describes it: fields and view; what is seen already is not computed again."""
        if not question.text.strip() or (seen and seen.question == question):
            return self.fields(question)
        return self.begin(question) if seen else self.fields(question) | self.ask(question, None, link=True)

    def begin(self, question: Question) -> Shown:
        """Another question, whatever stands in the fields."""
        return self._named(vars(question)) | self.ask(question, None, link=True)

    def start(self, question: Question, steer: str, strength: float) -> Shown:
        """A starting point: its text is analysed; with `steer` the page is told to have it answered, too."""
        shown = self.begin(question)
        if steer:
            shown |= {"steer": steer, "strength": strength, "said": shown["said"] | {"generate": True}}
        return shown

    def fields(self, question: Question) -> Shown:
        """The controls as a question has them; what stands there from the start is left to who types already."""
        first = vars(self._first)
        return self._named({name: value for name, value in vars(question).items() if value != first[name]})

    def _named(self, fields: Mapping[str, Any]) -> Shown:
        """Fields, with the view as the picker has it."""
        return dict(fields) | {"view": self._views.of(fields.get("view")).name}

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
                    n_prompt, encoded = len(prompt.ids), self._extended(question, prompt, question.answer)
                    other = self._extended(question, prompt, question.unsteered) if question.unsteered else None
            if not link:
                question = replace(question, steer="", strength=1.0, clamp=False, raw=bool(seen and seen.question.raw))
            return self._shown(Seen(question, encoded, other, n_prompt))
        except Exception as error:
            return self._wrong(error, seen)

    def format(self, question: Question, seen: Seen | None) -> Shown:
        """Read the text as a chat, or as it is; where none was typed yet there is nothing to say."""
        return self.ask(question, seen) if question.text else {}

    def _encode(self, question: Question, *, generation_prompt: bool) -> EncodedText:
        with in_field("text"):
            return self._served(question).encode(question.text, chat=question.chat, generation_prompt=generation_prompt)

    def _extended(self, question: Question, prompt: EncodedText, answer: str) -> EncodedText:
        """A prompt with the answer that a link brought."""
        with in_field("text"):
            ids = [whole_number(token, "a token of the answer") for token in answer.split(".")]
            return self._served(question).online.extend(prompt, ids[: self._max_new_tokens])

    def redraw(self, question: Question, seen: Seen | None) -> Shown:
        """Draw what was read again, with other settings; nothing where nothing is other.

        Where nothing was read yet, as after an error, the text is: with features that are named, or that can be ranked.
        """
        if seen is None:
            live = self._served(question).live
            ready = live is not None and question.text.strip() and (live.can_rank or question.highlight.strip())
            return self.ask(question, None) if ready else {}
        asked = self._set(question, seen)
        same = _is_drawn(seen) and asked == seen.question
        shown = {"said": seen.said()} if same else self._again(asked, seen)
        return shown | {"said": shown["said"] | {"redrawn": True}}  # what is wrong with another text stays so

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
            return {}
        value = str(event.value)[:20]
        if event.action == "text":
            return self._listed(replace(seen, question=replace(seen.question, token="")))
        if event.action == "view":
            return self._go(seen, seen.across[bounded(value, "view", 0, len(seen.across) - 1)])
        if event.action == "load":
            return self._load(seen)
        if event.action == "rank":
            return self._listed(replace(seen, question=replace(seen.question, raw=value == "raw")))
        others = [str(feature) for feature in seen.highlighted if str(feature) != value]
        chosen = {"add": [*others[:1], value], "remove": others}.get(event.action, [value])
        asked = replace(self._set(question, seen), highlight=", ".join(chosen))
        return {"highlight": asked.highlight} | self._again(asked, seen)

    def at_token(self, _question: Question, seen: Seen | None, event: Any) -> Shown:
        """The features that fire at the token that was clicked."""
        if seen is None or not isinstance(event.position, int):
            return {}
        return self._listed(replace(seen, question=replace(seen.question, token=str(event.position))))

    def _go(self, seen: Seen, row: Mapping[str, Any]) -> Shown:
        """To another view, and the feature that fires there at the same token of the same text."""
        question = replace(seen.question, view=self._views.key(row["view"]), highlight=str(row["feature"]))
        return self.begin(replace(question, tooltip="", max_act="", split=False, stored=""))

    def _load(self, seen: Seen) -> Shown:
        """Load what else reads the same models, and ask it of the token, too."""
        try:
            for view in self._views.waiting(seen.question.view):
                _ = view.served.online
            return self._listed(seen)
        except Exception as error:
            return self._wrong(error, seen)

    def switch(self, question: Question, seen: Seen | None) -> Shown:
        """The same text in another view; features are others there, and so they are chosen anew.

        In the same view an answer that was stopped is drawn, as far as it came.
        """
        if seen is None:
            return {}
        if seen.question.view == question.view:
            return {} if _is_drawn(seen) else self._again(seen.question, seen)
        same = self._views.of(question.view).models == self._views.of(seen.question.view).models
        kept = ("text", "chat", "leave_out", "raw", *(("answer", "token") if same else ()))
        return self.begin(Question(view=question.view, **{name: getattr(seen.question, name) for name in kept}))

    def _listed(self, seen: Seen) -> Shown:
        token, name = seen.question.token, self._views.of(seen.question.view).name
        here, across, waiting = None, [], 0
        if seen.top is not None and token.isdecimal() and int(token) < len(seen.encoded.ids):
            here = self._served(seen.question).at(seen.encoded, int(token))
            rows = self._views.across(name, seen.encoded, int(token))
            across = [row | {"here": row["view"] == name} for row in rows]
            waiting = len(self._views.waiting(name))
        seen = replace(seen, here=here, across=across, waiting=waiting)
        return {"top": self._draw(seen).fires(seen), "state": seen.state(), "said": seen.said()}

    def answer(self, question: Question, seen: Seen | None, length: float, temperature: float) -> Iterator[Shown]:
        """Stream the answer, steered and then as it is, behind the text; then show what fires there.

        Args:
            question: what is asked.
            seen: what stays where that cannot be.
            length: new tokens, at most.
            temperature: 0 is greedy.
        """
        try:
            yield from self._answer(question, self._options(question, length, temperature))
        except Exception as error:
            yield self._wrong(error, seen)

    def _answer(self, question: Question, options: Mapping[str, Any]) -> Iterator[Shown]:
        prompt = self._encode(question, generation_prompt=question.chat)
        with in_field("steer"):
            steering = self._steering(question)
        seen, online = Seen(question, prompt, n_prompt=len(prompt.ids)), self._served(question).online
        for encoded in _paced(online.respond(prompt, **options, **steering)):
            seen = replace(seen, encoded=encoded)
            yield self._streamed(seen)
        for other in _paced(online.respond(prompt, **options)) if steering else ():
            seen = replace(seen, other=other)
            yield self._streamed(seen)
        yield self._shown(seen)

    def _streamed(self, seen: Seen) -> Shown:
        views = self._draw(seen).streamed(seen, self._titles(seen))
        return {"analysis": views[0], "unsteered": "".join(views[1:]), "state": seen.state()}

    def _titles(self, seen: Seen) -> list[str]:
        """Over an answer, and over the one without steering."""
        steer = self._steering(seen.question).get("steer", ()) if seen.n_prompt else ()
        what = " and ".join(f"feature {feature} at {format_number(value)}" for feature, value in steer)
        return [f"with {what}", "without"] if what else ["", ""]

    def _shown(self, seen: Seen) -> Shown:
        """Draw what was read, as it is asked."""
        question, served = seen.question, self._served(seen.question)
        online = served.online
        answers: dict[str, Any] = {
            "answer": _ids(seen.encoded, seen.n_prompt),
            "unsteered": _ids(seen.other, seen.n_prompt),
        }
        with in_field("text"):
            top = (seen.top or served.top(seen.encoded)) if online.can_rank else None
        strongest = [row["feature"] for row in top["share"] or top["raw"]] if top else None
        answer = self._answered(seen, strongest)
        seen = replace(
            seen, question=replace(question, **answers), highlighted=answer.highlighted, auto=answer.auto, top=top
        )
        views = self._draw(seen).drawn(seen, answer, self._titles(seen))
        return {"analysis": views[0], "unsteered": "".join(views[1:])} | self._listed(seen)

    def _answered(self, seen: Seen, strongest: Sequence[int] | None) -> Answer:
        """What is seen, computed; `strongest` is what an automatic highlight chooses from."""
        question = seen.question
        stored = self._stored(question)[1] if question.stored else ()
        online = self._served(question).online
        return answer_question(online, question, seen.encoded, seen.other, strongest=strongest, stored=stored)

    def saved(self, seen: Seen | None, kind: str) -> tuple[str, str]:
        """The name of a file, and what is seen as "svg", "latex", or as the "code" that makes it.

        Raises:
            ValueError: nothing was analysed yet.
        """
        if seen is None:
            raise ValueError("there is nothing to save yet: analyze a text")
        asked, served = seen.question, self._served(seen.question)
        highlighted = list(seen.highlighted)
        if kind == "code":
            answer = "".join(served.online.texts(seen.encoded.ids[seen.n_prompt :])) if seen.n_prompt else ""
            how: dict[str, Any] = {"chat": asked.chat, "max_act": asked.max_act or None}
            how |= {"mask_special": asked.leave_out or None, "split": asked.split or None}
            if (asked.color1, asked.color2) != COLORS:
                how["colors"] = (asked.color1, asked.color2)
            turn = "<eot>" if asked.chat and answer else ""
            text = served.online.code(asked.text + turn + answer, highlighted, asked.tooltip, **how)
        else:
            named = [" ".join(filter(None, [f"feature {f}", served.label(f)])) for f in highlighted]
            title = " · ".join(filter(None, [*named, *self._titles(seen)]))
            passages = [view.passage for view in self._answered(seen, highlighted).views]
            text = figure(passages, kind, view="text", title=title)
        return "-".join(["text", *map(str, highlighted)]), text

    def _stored(self, question: Question) -> tuple[EncodedText, Sequence[float]]:
        """The stored example that a question names, as the model reads it, and its stored activations."""
        feature, place, masked = (question.stored + "..").split(".")[:3]
        number = whole_number(feature, "feature")
        served = self._served(question)
        with in_field("text"):
            rows = served.offline.read(number, max_examples=MAX_EXAMPLES, mask_special=masked == "masked")
            example, _ = rows[bounded(place, "passage", 0, len(rows) - 1)]
            ids, special = served.offline.ids_of(example)
            unstored = [float("nan")] * (len(ids) - len(example.activations))  # a BOS that was put back
            text = "".join(served.online.texts(ids))
        return EncodedText(text, list(ids), list(special)), [*unstored, *example.activations]

    def compare(self, view: Any, stored: str) -> Shown:
        """A stored example through the live model: its stored activations beside those computed now."""
        question = Question(view=self._views.key(view), highlight=stored.partition(".")[0], stored=stored)
        try:
            encoded, _ = self._stored(question)
        except Exception as error:
            return self._wrong(error, None)
        return self.begin(replace(question, text=encoded.text))

    def _options(self, question: Question, length: float, temperature: float) -> dict[str, Any]:
        if not self._served(question).online.can_rank:
            return {}
        new = bounded(length, "new tokens", 1, self._max_new_tokens)
        if not 0 <= temperature <= 10:
            raise ValueError(f"temperature is {temperature}; it must be from 0 to 10")
        return {"max_new_tokens": new, "temperature": temperature, "seed": random.getrandbits(32)}

    def measure(self, view: Any, features: str) -> Any:
        """What the strength is a number of, for the features that are typed."""
        try:
            online = self._views.of(view).served.online
            most = [online.max_activation(f) for f in parse_features(features, online.n_features)[:_MAX_STEERED]]
        except (ValueError, LookupError, OSError):  # no feature, or one that is none: `generate` says so
            most = []
        if None in most:
            return gr.Slider(minimum=-50, maximum=50, info="an activation: its maximum is not known")
        known = ", ".join(format_number(value) for value in most if value)
        return gr.Slider(minimum=-3, maximum=3, info=f"{MULTIPLE}, {known}" if known else MULTIPLE)

    def _steering(self, question: Question) -> dict[str, Any]:
        """Steering by a multiple of each feature's maximum, or by an activation where that is not known."""
        online = self._served(question).online
        chosen = parse_features(question.steer, online.n_features)
        if len(chosen) > _MAX_STEERED:
            raise ValueError(f"{len(chosen)} features to steer with; name at most {_MAX_STEERED}")
        steer = [(f, question.strength * (online.max_activation(f) or 1.0)) for f in chosen]
        return {"steer": steer, "clamp": bool(question.clamp)} if steer else {}

    def _wrong(self, error: Exception, seen: Seen | None) -> Shown:
        """What is wrong stands at its field; the last view stays."""
        return {"said": (seen or Seen(Question(), EncodedText("", [], []))).said(explain(error), _field(error))}


def _is_drawn(seen: Seen) -> bool:
    """Not an answer that came as text alone, since it was stopped."""
    return bool(seen.question.answer) or not seen.n_prompt


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

"""The online tab: a text, the features that fire on it, and what the model answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from tiny_dashboard.app.components import explain, note, save_js, token_view, url_js
from tiny_dashboard.app.served import Served, bounded
from tiny_dashboard.core.highlight import COLORS, Track, format_number, hex_color, passage_html, plain_text
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.text import parse_features
from tiny_dashboard.dashboards.online import LEFT_OUT

_TYPED = ("highlight", "tooltip", "max_act")
_MULTIPLE = "times its maximum"
# In the order of `OnlineTab.asked`; the offline tab has a "mask" of its own.
_URL = dict.fromkeys(("text", "chat", *_TYPED, "split", "leave_out"), "") | dict(
    zip(("color1", "color2"), COLORS, strict=True)
)


class OnlineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    A person's last text stands in a `gr.State`, as plain data: `{"encoded": …, "top": …}`.

    Args:
        served: what is asked.
        text: the text to start with.
        max_new_tokens: the most that may be generated at once.
        has_offline: a feature's number opens its examples.
    """

    def __init__(self, served: Served, text: str = "", max_new_tokens: int = 128, *, has_offline: bool = False) -> None:
        self._ask = served
        self._max_new_tokens = max_new_tokens
        self._has_offline = has_offline
        self.state = gr.State({})
        self.status = gr.HTML(note("loading the models …", "loading"))
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._text_side(text)
            with gr.Column(scale=2, min_width=280):
                self._settings_side()
        self._wire()

    def _text_side(self, text: str) -> None:
        self.text = gr.Textbox(
            text,
            lines=5,
            max_lines=14,
            label="Text",
            placeholder="Type a text. As a chat, with <eot> between turns, the user's first.",
            elem_id="td-text",
        )
        with gr.Row(elem_classes="td-toolbar"):
            self.run = gr.Button("Analyze", variant="primary", min_width=110, scale=0)
            self.generate_button = gr.Button("Generate", min_width=110, scale=0)
            self.stop = gr.Button("Stop", min_width=70, scale=0, variant="stop")
            self.chat = gr.Checkbox(label="chat formatting", container=False, min_width=140, scale=0)
        with gr.Row():
            answer_box: dict[str, Any] = {"visible": False, "interactive": False, "lines": 2, "max_lines": 12}
            self.response = gr.Textbox(label="Response", min_width=200, **answer_box)
            self.unsteered = gr.Textbox(label="Response without steering", min_width=200, **answer_box)
        self.view = token_view(elem_id="td-analysis", min_height=160)

    def _settings_side(self) -> None:
        self.highlight = gr.Textbox(
            label="Highlight",
            info="one or two features; empty takes the one that fires most",
            elem_id="td-highlight",
        )
        with gr.Row():
            self.tooltip = gr.Textbox(label="Tooltip", info="more: 3, 5-9", min_width=120)
            self.max_act = gr.Textbox(label="Max act", info="empty, auto or a number", min_width=120)
        with gr.Accordion("More", open=False):
            self.split = gr.Checkbox(label="Split a crosscoder's feature by model", info="two bands: base, chat")
            self.mask = gr.Checkbox(label="Leave out special tokens", info="BOS, chat template")
            with gr.Row():
                self.colors = [gr.ColorPicker(c, label=f"Colour {i + 1}", min_width=100) for i, c in enumerate(COLORS)]
            with gr.Row() as self.sliders:
                how: dict[str, Any] = {"buttons": [], "min_width": 170}
                self.length = gr.Slider(
                    1, self._max_new_tokens, self._max_new_tokens, step=1, label="New tokens", info="at most", **how
                )
                self.temperature = gr.Slider(0, 2, 0, step=0.1, label="Temperature", info="0 is greedy", **how)
            self.save = gr.Button("Save HTML")
        with gr.Accordion("Steer", open=False) as self.steer:
            with gr.Row():
                self.steered = gr.Textbox(label="Feature", info="added while generating", min_width=120)
                self.strength = gr.Number(1.0, label="Strength", info=_MULTIPLE, min_width=120)
            self.clamp = gr.Checkbox(label="Clamp", info="set it, do not add it; for one model only")
        self.top = token_view(elem_id="td-top", min_height=160)

    def _wire(self) -> None:
        self.settings = [self.highlight, self.tooltip, self.max_act, self.split, self.mask, *self.colors]
        self.outputs = [self.highlight, self.view, self.top, self.state]
        # One model call at a time; the others wait their turn.
        model: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "gpu", "api_visibility": "private"}
        self.asked = ask = [self.text, self.chat, *self.settings]
        self.readied = [self.status, self.sliders, self.steer]
        controls: list[Any] = [self.highlight, self.tooltip, self.max_act]
        analyzed = [
            self.run.click(self.analyze, ask, [*self.outputs, self.response, self.unsteered], **model),
            self.text.submit(self.analyze, ask, [*self.outputs, self.response, self.unsteered], **model),
        ]
        for control in controls:
            analyzed.append(control.submit(self.redraw, [self.state, *self.settings], self.outputs, **model))
        # A typed colour is no input for Gradio, only a change.
        for event in (self.split.input, self.mask.input, *(color.change for color in self.colors)):
            analyzed.append(event(self.redraw, [self.state, *self.settings], self.outputs, **model))
        asked = [self.text, self.chat, self.length, self.temperature, self.steered, self.strength, self.clamp]
        answers = [self.response, self.unsteered]
        answer = self.generate_button.click(self.generate, [*asked, *self.settings], [*self.outputs, *answers], **model)
        analyzed.append(answer)
        # What there is of an answer when it is stopped is worth a look too.
        analyzed.append(
            self.stop.click(None, cancels=[answer], api_visibility="private").then(
                self.redraw, [self.state, *self.settings], self.outputs, **model
            )
        )
        quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        self.steered.blur(self.measure, self.steered, self.strength, concurrency_limit=None, **quick)
        self.view.token(self.at_token, self.state, self.top, **quick)
        if not self._has_offline:  # else the app follows to the other tab, too
            analyzed.append(self.top.action(self.follow, [self.state, *self.settings[1:]], self.outputs, **model))
        for event in analyzed:
            self.then_url(event)
        self.save.click(None, [self.highlight, self.view], None, js=save_js("text"))

    def then_url(self, event: Any) -> None:
        """After an event, write what is shown into the page's address."""
        event.then(None, self.asked, None, js=url_js(_URL))

    def ready(self) -> tuple[Any, Any, Any]:
        """Wait for the models; then say which conventions are in force, or why there are none.

        A dashboard of functions generates in its own way: how, and steering, are not offered then.
        """
        try:
            online = self._ask.online
        except ValueError as error:
            return gr.HTML(note(str(error), "error")), gr.skip(), gr.skip()
        ours = online.can_rank
        said = online.notes if ours else ["this dashboard computes chosen features: name them"]
        return gr.HTML(note(" · ".join(said), "fine") if said else ""), gr.Row(visible=ours), gr.Accordion(visible=ours)

    def restore(self, query: Mapping[str, str], text: str) -> list[Any]:
        """The tab as a link describes it."""
        typed = [query.get(name, "") for name in _TYPED]
        split, leave_out = (query.get(name) == "true" for name in ("split", "leave_out"))
        colors = [_color(query.get(f"color{i + 1}"), usual) for i, usual in enumerate(COLORS)]
        return [query.get("text", text), query.get("chat") == "true", *typed, split, leave_out, *colors]

    def analyze_given(self, text: str, chat: bool, *settings: Any) -> tuple[Any, ...]:
        """Analyse the text that a link brought, where it brought one."""
        return self.analyze(text, chat, *settings) if text.strip() else (gr.skip(),) * (len(self.outputs) + 2)

    def analyze(self, text: str, chat: bool, *settings: Any) -> tuple[Any, ...]:
        """Tokenise, compute, draw."""
        hidden = gr.Textbox(visible=False)
        try:
            encoded = self._ask.encode(text, chat=chat)
        except Exception as error:
            return settings[0], note(explain(error), "error"), "", {}, hidden, hidden
        return (*self._draw(encoded, *settings), hidden, hidden)

    def redraw(self, state: Mapping[str, Any], *settings: Any) -> tuple[Any, ...]:
        """Draw the last text again, with other settings."""
        if not state:
            return settings[0], note("nothing to show yet: type a text and analyze it"), "", {}
        return self._draw(EncodedText(*state["encoded"]), *settings)

    def follow(self, event: gr.EventData, state: Mapping[str, Any], *settings: Any) -> tuple[Any, ...]:
        """A click in the list of what fires: highlight that feature, `settings` being those after the highlight."""
        return self.redraw(state, str(event.value)[:20], *settings)

    def generate(
        self,
        text: str,
        chat: bool,
        length: float,
        temperature: float,
        feature: str,
        strength: float,
        clamp: bool,
        *settings: Any,
    ) -> Iterator[tuple[Any, ...]]:
        """Stream the answer, steered and then as it is, and analyse it with the text before it."""
        skip = gr.skip()
        try:
            prompt = self._ask.encode(text, chat=chat, generation_prompt=chat)
            options = self._options(length, temperature)
            steering = self._steering(feature, strength, clamp)
            label = "Response" + "".join(f", feature {f} at {format_number(v)}" for f, v in steering.get("steer", ()))
            encoded = prompt
            for encoded in self._ask.online.respond(prompt, **options, **steering):
                answer = gr.Textbox(encoded.text[len(prompt.text) :], visible=True, label=label)
                yield skip, skip, skip, {"encoded": list(encoded)}, answer, gr.Textbox("", visible=bool(steering))
            if steering:
                for other in self._ask.online.respond(prompt, **options):
                    yield skip, skip, skip, skip, skip, gr.Textbox(other.text[len(prompt.text) :], visible=True)
            yield (*self._draw(encoded, *settings), skip, skip)
        except Exception as error:
            yield (
                settings[0],
                note(explain(error), "error"),
                "",
                {},
                gr.Textbox(visible=False),
                gr.Textbox(visible=False),
            )

    def _options(self, length: float, temperature: float) -> dict[str, Any]:
        if not self._ask.online.can_rank:
            return {}
        new = bounded(length, "new tokens", 1, self._max_new_tokens)
        if not 0 <= temperature <= 10:
            raise ValueError(f"temperature is {temperature}; it must be from 0 to 10")
        return {"max_new_tokens": new, "temperature": temperature, "seed": random.getrandbits(32)}

    def measure(self, feature: str) -> Any:
        """What the strength is a number of, for the feature that is typed."""
        try:
            online = self._ask.online
            most = online.max_activation(parse_features(feature, online.n_features)[0])
        except (ValueError, LookupError, OSError):  # no feature, or one that is none: `generate` says so
            return gr.Number(info=_MULTIPLE)
        return gr.Number(
            info=f"{_MULTIPLE}, {format_number(most)}" if most else "an activation: its maximum is not known"
        )

    def _steering(self, feature: str, strength: float, clamp: bool) -> dict[str, Any]:
        """Steering by a multiple of the feature's maximum, or by an activation where that is not known."""
        chosen = parse_features(feature, self._ask.online.n_features)
        if len(chosen) > 1:
            raise ValueError(f"{len(chosen)} features to steer with; name one")
        steer = [(f, strength * (self._ask.online.max_activation(f) or 1.0)) for f in chosen]
        return {"steer": steer, "clamp": bool(clamp)} if steer else {}

    def compare(
        self, ids: Sequence[int], special: Sequence[bool], stored: Sequence[float], feature: int
    ) -> tuple[Any, ...]:
        """A stored example through the live model: its stored activations beside those computed now."""
        text = "".join(self._ask.online.texts(ids))
        encoded = EncodedText(text, list(ids), list(special))
        try:
            result = self._ask.analysis(encoded, str(feature))
            live = result.activations[:, 0]
            off = float(np.nanmax(np.abs(live - np.array(stored, dtype=float))))
            tracks = [Track("live", live), Track("stored", stored)]
            view = passage_html(
                replace(result.passage, tracks=tracks), window=None, title=f"feature {feature}, live and stored"
            )
            said = note(f"largest difference between stored and live activations: {format_number(off)}")
            return text, str(feature), said + view, self._top_html(self._top(encoded)), self._state(encoded)
        except Exception as error:
            return text, str(feature), note(explain(error), "error"), "", {}

    def at_token(self, state: Mapping[str, Any], event: gr.EventData) -> str:
        """The features that fire at the token that was clicked."""
        top, at = state.get("top"), event.position
        if not top or not isinstance(at, int) or not 0 <= at < len(top["token_features"]):
            return note("only chosen features are computed here")
        found = [
            {"feature": feature, "label": self._ask.label(feature), "activation": value}
            for feature, value in zip(top["token_features"][at], top["token_values"][at], strict=True)
            if value > 0
        ]
        where = self._ask.online.texts(state["encoded"][1])[at]
        return self._feature_list(f"at token {at} “{where.strip()[:30]}”", found)

    def _draw(
        self, encoded: EncodedText, highlight: str, tooltip: str, max_act: str, split: bool, mask: bool, *colors: str
    ) -> tuple[Any, ...]:
        state: dict[str, Any] = {"encoded": list(encoded)}
        said = ""
        try:
            if self._ask.online.can_rank:
                state["top"] = self._ask.top(encoded)
                if not highlight.strip() and state["top"]["over_text"]:
                    highlight = str(state["top"]["over_text"][0]["feature"])
            if "top" in state and not (highlight + tooltip).strip():  # nothing fires
                passage = self._ask.online.passage(encoded)
            else:
                how: dict[str, Any] = {"max_act": max_act, "mask_special": mask, "colors": colors, "split": split}
                result = self._ask.analysis(encoded, highlight, tooltip, **how)
                passage = result.passage
                if result.left_out:
                    places = ", ".join(map(str, result.left_out[:5]))
                    said = note(f"token {places} {LEFT_OUT}", "fine")
            view = said + passage_html(passage, window=None)
        except Exception as error:
            view = note(explain(error), "error")
        return highlight, view, self._top_html(state.get("top")), state

    def _top(self, encoded: EncodedText) -> dict[str, Any] | None:
        return self._ask.top(encoded) if self._ask.online.can_rank else None

    def _state(self, encoded: EncodedText) -> dict[str, Any]:
        return {"encoded": list(encoded), "top": self._top(encoded)}

    def _top_html(self, top: Mapping[str, Any] | None) -> str:
        return self._feature_list("over the text", top["over_text"]) if top else ""

    def _feature_list(self, where: str, found: Sequence[Mapping[str, Any]]) -> str:
        """Features as rows: click one to open its examples, where there are some, or to highlight it here."""
        if not found:
            return note(f"no feature fires {where}")
        strongest = max(row["activation"] for row in found)
        title = "open its examples" if self._has_offline else "highlight it"
        rows = "".join(
            f'<div class="td-f"><button type="button" data-action="open" data-value="{row["feature"]}" '
            f'title="{title}">{row["feature"]}</button>'
            f"<span>{plain_text(row['label']) or plain_text(row.get('token', '').strip())}</span>"
            f'<s style="--td-part:{100 * row["activation"] / strongest:.0f}%"></s>'
            f"<small>{format_number(row['activation'])}</small>"
            f'<button type="button" data-action="highlight" data-value="{row["feature"]}">highlight</button></div>'
            for row in found
        )
        bar = f'<div class="td-bar"><span>What fires {plain_text(where)}</span></div>'
        return f'<div class="td td-fires">{bar}{rows}</div>'


def _color(asked: str | None, usual: str) -> str:
    """A colour that a link names, where it is one: the picker would put any text into its style."""
    try:
        return hex_color(asked or usual)
    except ValueError:
        return usual

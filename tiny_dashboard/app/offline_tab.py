"""The offline tab: pick a feature, see its card and its examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from tiny_dashboard.app.components import LINKED, list_view, token_view, url_js
from tiny_dashboard.app.offline_view import Look, OfflineView
from tiny_dashboard.app.saving import SaveMenu
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.highlight import COLORS

if TYPE_CHECKING:
    from tiny_dashboard.app.label_editor import LabelEditor

Values = Mapping[Any, Any]  # what the components hold, by component


class OfflineTab:
    """The tab's components and what they do; made inside a `gr.Tab`.

    Controls are known by their names in a `Look`.

    Args:
        views: what is shown.
        picker: of the view that is looked at.
        window_size, max_examples: what the settings stand at.
        has_online: offer to try an example in the online tab.
        editor: of labels: makes its button and its fields, and acts on the tab.
    """

    def __init__(
        self,
        views: Views,
        picker: gr.Dropdown,
        *,
        window_size: int = 50,
        max_examples: int = 30,
        has_online: bool = False,
        editor: LabelEditor | None = None,
    ) -> None:
        self.see = OfflineView(views)
        self._others = [name for name in LINKED if name != "view"] if has_online else []
        first = views.of()
        self.usual = Look(first.name, first.feature, "", window_size, max_examples, color=COLORS[0])
        self.controls: dict[str, Any] = {"view": picker}
        with gr.Row(elem_classes="td-beside"):
            with gr.Column(elem_classes="td-side", min_width=0):
                self.table = list_view(self.see.find, self.see.cloud, elem_id="td-table")
            with gr.Column(elem_classes="td-main", min_width=0):
                self._toolbar(editor)
                if editor is not None:
                    editor.place()
                with gr.Row(elem_classes="td-compare"):
                    live = "td-live" if has_online else ""
                    self.card = token_view(elem_id="td-card")
                    self.other_card = token_view(elem_id="td-other-card")
                    self._display()
                    self.view = token_view(elem_id="td-examples", elem_classes=live)
                    self.other_view = token_view(elem_id="td-other-examples")
        self._wire()
        if editor is not None:
            editor.connect(self)

    def _toolbar(self, editor: LabelEditor | None) -> None:
        small: dict[str, Any] = {"show_label": False, "container": False, "scale": 0}
        line = small | {"max_lines": 1}  # a box that grows is measured, and so all that changed with it is laid out
        with gr.Row(elem_classes="td-toolbar"):
            self.previous = gr.Button("‹", elem_id="td-previous", min_width=40, scale=0)
            first = "" if self.usual.feature is None else str(self.usual.feature)
            self.controls["feature"] = gr.Textbox(first, label="Feature", elem_id="td-feature", min_width=90, **line)
            self.following = gr.Button("›", elem_id="td-next", min_width=40, scale=0)
            self.anywhere = gr.Button("random", elem_id="td-random", min_width=80, scale=0)
            gr.Button("☆", elem_id="td-star", min_width=40, scale=0)
            self.controls["other"] = gr.Textbox(
                label="Compare with feature", placeholder="compare with", elem_id="td-with", min_width=150, **line
            )
            gr.Button("list", elem_id="td-list-button", min_width=60, scale=0)
            if editor is not None:
                editor.place_button()

    def _display(self) -> None:
        """The line above the examples: what changes them."""
        small: dict[str, Any] = {"min_width": 0, "scale": 0}
        with gr.Row(elem_classes="td-line"):
            self.controls |= {
                "number": gr.Number(self.usual.number, label="Examples", precision=0, elem_id="td-number", **small),
                "window": gr.Number(self.usual.window, label="Window", precision=0, elem_id="td-window", **small),
                "scale": gr.Dropdown(
                    [("this feature", "feature"), ("each example", "example")],
                    value="feature",
                    allow_custom_value=True,
                    label="Scale",
                    elem_id="td-scale",
                    **small,
                ),
                "color": gr.ColorPicker(COLORS[0], label="Colour", elem_id="td-color", **small),
                "mask": gr.Checkbox(label="Leave out special tokens", **small),
            }
            self.save = SaveMenu("feature")
            self.said = gr.HTML("", padding=False, elem_id="td-said")

    def _wire(self) -> None:
        c = self.controls
        # What a link says, and in the same order the controls that it is read from.
        usual = {"view": self.usual.view, "feature": "", "with": "", "examples": str(self.usual.number)}
        usual |= {"window": str(self.usual.window), "scale": "feature", "mask": "", "color": COLORS[0]}
        self.linked = [c[name] for name in ("view", "feature", "other", "number", "window", "scale", "mask", "color")]
        self.linked += [self.said, self.view]  # of a field that is wrong: then nothing is written
        self.url = url_js("offline", usual, self._others)
        self.feature = c["feature"]
        self.asked = set(c.values())
        views = {"card": self.card, "examples": self.view}
        views |= {"other_card": self.other_card, "other_examples": self.other_view}
        self._places: dict[str, Any] = {"feature": self.feature, "said": self.said} | views
        self.shown = list(self._places.values())
        quick: dict[str, Any] = {
            "inputs": self.asked,
            "outputs": self.shown,
            "queue": False,  # one answer, and not a place in a line: a step shall be felt at once
            "preprocess": False,  # `OfflineView` checks what comes itself, and answers texts:
            "postprocess": False,  # for each component Gradio would go to a thread and back
            "api_visibility": "private",
            "show_progress": "hidden",
        }
        show = quick | {"trigger_mode": "always_last"}
        again = self._of(self.see.show)
        # Only what a person changes: what a link sets is shown already, and would be asked for again too early.
        typed = [c["number"], c["window"], c["scale"], c["mask"]]
        events = [self.feature.submit, c["other"].submit, *(control.input for control in typed)]
        events.append(c["color"].change)  # typed colours are no input for Gradio
        moves = [gr.on(events, again, **show)]  # one for all: an older answer would take a newer one's place
        moves += [
            self.previous.click(self._of(lambda look: self.see.step(look, -1)), **show),
            self.following.click(self._of(lambda look: self.see.step(look, 1)), **show),
            self.anywhere.click(self._of(self.see.random), **show),
        ]
        moves += [place.action(self._follow, **quick) for place in (self.card, self.other_card, self.table)]
        for move in moves:
            self.then_url(move)
        shown = [self.feature, c["other"], *views.values()]
        self.save.wire(
            lambda values, kind: self.see.saved(self.look(values), kind), self.asked, shown, concurrency_limit=None
        )

    def _of(self, act: Callable[[Look], dict[str, Any]]) -> Callable[[Values], dict[Any, Any]]:
        """A handler that is given what is asked."""
        return lambda values: self.placed(act(self.look(values)))

    def _follow(self, values: Values, event: gr.EventData) -> dict[Any, Any]:
        return self.placed(self.see.follow(self.look(values), event.action, event.value))

    def look(self, values: Values) -> Look:
        """What the controls ask for now."""
        asked = {name: values[control] for name, control in self.controls.items()}
        for name in ("number", "window"):  # an empty field is as usual
            asked[name] = getattr(self.usual, name) if asked[name] is None else asked[name]
        return Look(**asked)

    def fields(self, look: Look) -> dict[Any, Any]:
        """The controls as a look has them, but for the feature, which is shown as it is found."""
        return {control: getattr(look, name) for name, control in self.controls.items() if name != "feature"}

    def placed(self, shown: Mapping[str, Any]) -> dict[Any, Any]:
        """What is shown, by component."""
        return {self._places[name]: value for name, value in shown.items()}

    def then_url(self, event: Any) -> Any:
        """After an event, write what is shown into the page's address."""
        return event.then(None, self.linked, None, js=self.url)

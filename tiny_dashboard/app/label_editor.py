"""Labels in the app: the editor under the card, the endpoint `/label`, and who may use them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from tiny_dashboard.app.components import explain, note
from tiny_dashboard.app.served import json_data, whole_number
from tiny_dashboard.app.views import Views
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.explain.exchange import labels_csv
from tiny_dashboard.explain.explaining import Explainer
from tiny_dashboard.explain.requests import LanguageModel

ANYONE = "anyone"
_HERE = ("localhost", "127.0.0.1", "::1")
_QUIET: Any = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
# At once, so that a slow answer neither keeps a person from typing nor takes what is typed; nor for another feature.
_OPEN = """(feature, view) => {
  const editor = document.getElementById('td-label-editor');
  editor.classList.remove('td-hidden');
  if (!editor.contains(document.activeElement)) editor.querySelector('#td-label textarea')?.focus();
  return [feature, view, '', ''];
}"""
_FILL = "(label, note, typed, typedNote) => typed || typedNote ? [typed, typedNote] : [label, note]"
# Another feature is shown while it is open: it goes along, and leaves a person where they type.
_ALONG = """(feature, view, ...of) => {
  const hidden = document.getElementById('td-label-editor').classList.contains('td-hidden');
  if (!hidden && (feature !== of[0] || view !== of[1])) document.getElementById('td-label-along').click();
}"""
_TAKE = "(feature, view) => [feature, view, '', '']"
_CLOSE = "() => document.getElementById('td-label-editor').classList.add('td-hidden')"
_RELOAD = "() => document.querySelector('#td-table .td-mount')?.tinyList?.reload()"
_SAVE = """(text) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = 'labels.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


class Writers:
    """Who may write labels.

    Args:
        names: of Hub accounts, who sign in; "anyone" is all who can reach the app. None: this machine's own browser.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        self.names = names
        self.sign_in = bool(names) and "OAUTH_CLIENT_ID" in os.environ  # a Space's, with hf_oauth in its card

    @property
    def possible(self) -> bool:
        """Whether there can be any."""
        return bool(self.names) or (self.names is None and "SPACE_ID" not in os.environ)

    def author(self, request: Any, profile: Any) -> str | None:
        """The name of who asks; None takes the one that this person has on this machine.

        Args:
            request: a `gr.Request`.
            profile: a `gr.OAuthProfile`, or None where nobody has signed in.

        Raises:
            PermissionError: this one may not write.
        """
        if self.names is None and self.possible and _is_here(request):
            return None
        signed_in = getattr(profile, "username", "") or ""
        names = self.names or ()
        if ANYONE in names or (signed_in and signed_in in names):
            return signed_in
        why = f"{signed_in} is not among label_authors" if signed_in else "sign in first"
        raise PermissionError(
            f"labels cannot be written from here: {why if names else 'label_authors names nobody who may'}"
        )


class LabelEditor:
    """The editor.

    Args:
        views: whose features are labelled.
        writers: who may write.
        llm, llm_url: a language model that may be asked for a name, and its server.
    """

    def __init__(self, views: Views, writers: Writers, llm: str | None = None, llm_url: str | None = None) -> None:
        self._views, self._writers, self._llm, self._url = views, writers, llm, llm_url
        self._explainers: dict[str, Explainer] = {}

    @classmethod
    def of(cls, views: Views, authors: Sequence[str] | None, llm: str | None, url: str | None) -> LabelEditor | None:
        """The editor; None where nobody may write."""
        writers = Writers(authors)
        return cls(views, writers, llm, url) if writers.possible else None

    def place_button(self) -> None:
        """Make the button that opens it."""
        self.start = gr.Button("label", elem_id="td-label-button", min_width=60, scale=0)

    def place(self) -> None:
        """Make its fields, which are not seen until then."""
        with gr.Column(elem_id="td-label-editor", elem_classes="td-hidden"):
            self.feature, self.at, self.before, self.noted = (gr.Textbox(visible="hidden") for _ in range(4))
            with gr.Row():
                self.name = gr.Textbox(label="Label", scale=2, elem_id="td-label")
                self.note = gr.Textbox(label="Note", lines=1, max_lines=8, scale=3, elem_id="td-note")
            with gr.Row():
                self.save = gr.Button("Save", variant="primary", min_width=80, scale=0)
                self.ask = gr.Button("Explain this feature", min_width=190, scale=0, visible=self._llm is not None)
                self.download = gr.Button("Download labels", min_width=160, scale=0)
                self.close = gr.Button("Close", min_width=80, scale=0)
                if self._writers.sign_in:
                    gr.LoginButton(min_width=80, scale=0)
            self.said = gr.HTML(padding=False, elem_id="td-label-said")
        self.file = gr.Textbox(visible="hidden")
        self.along = gr.Button(visible="hidden", elem_id="td-label-along")

    def connect(self, off: Any) -> None:
        """Let the components act on the `OfflineTab` that they stand in."""
        self._off = off
        texts, picker = [self.name, self.note], off.controls["view"]
        shown = [self.before, self.noted, self.name, self.said]
        for button, js in ((self.start, _OPEN), (self.along, _TAKE)):
            opened = button.click(None, [off.feature, picker], [self.feature, self.at, *texts], js=js)
            known = opened.then(self.open, [self.feature, self.at], shown, **_QUIET)
            known.then(None, [self.before, self.noted, *texts], texts, js=_FILL)
        for place in (off.view, picker):  # and not the field, where a number may be half typed
            place.change(None, [off.feature, picker, self.feature, self.at], None, js=_ALONG)
        self.close.click(None, None, None, js=_CLOSE)
        how: dict[str, Any] = {
            "inputs": off.asked | {self.feature, self.at, *texts},
            "outputs": [self.said, *off.shown],
        }
        for event in (self.save.click, self.name.submit, self.note.submit):
            event(self.write, **how, **_QUIET).then(None, None, None, js=_RELOAD)
        self.download.click(self.export, picker, self.file, **_QUIET).then(None, self.file, None, js=_SAVE)
        slow: dict[str, Any] = _QUIET | {"concurrency_limit": 2}
        slow |= {"show_progress": "minimal", "show_progress_on": [self.said]}
        self.ask.click(self.explain, **how, **slow).then(None, None, None, js=_RELOAD)

    # Gradio puts the request and who has signed in where the annotations ask for them.

    def open(self, request: gr.Request, profile: gr.OAuthProfile | None, feature: Any, view: Any) -> tuple[Any, ...]:
        """What this author has said of the feature so far, and what others have."""
        try:
            number = whole_number(feature, "feature")
            author = self._writers.author(request, profile)
            labels = self._offline(view).labels
            mine = labels.said_by(number, author)
            others = [f"{label.label} ({label.by})" for label in labels.of(number) if label.label and label != mine]
            said = note(" · ".join(others), "fine") if others else ""
            named = gr.update(label=f"Label of feature {number}")
            return mine.label if mine else "", mine.note if mine else "", named, said
        except Exception as error:
            return "", "", gr.skip(), note(explain(error), "error")

    def write(self, request: gr.Request, profile: gr.OAuthProfile | None, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """Keep what was typed."""
        try:
            author = self._writers.author(request, profile)
            self._give(values[self.feature], values[self.name], values[self.note], author, values[self.at])
            return {self.said: self._kept(values[self.at])} | self._again(values)
        except Exception as error:
            return {self.said: note(explain(error), "error")}

    async def explain(
        self, request: gr.Request, profile: gr.OAuthProfile | None, values: Mapping[Any, Any]
    ) -> dict[Any, Any]:
        """Let the language model name the feature, and score its name."""
        try:
            self._writers.author(request, profile)
            number, view = whole_number(values[self.feature], "feature"), str(values[self.at])
            if view not in self._explainers:
                explainer = Explainer(self._offline(view), str(self._llm))
                await asyncio.to_thread(explainer.others)
                self._explainers[view] = explainer
            async with LanguageModel(str(self._llm), self._url, tries=2, timeout=60) as model:
                label = await self._explainers[view].explain(model, number)
            if label is None:
                raise ValueError(f"{self._llm} gave no answer of use")
            score = "" if label.score is None else f", score {label.score:.2f} over {label.n_judgements} texts"
            return {self.said: note(f"{self._llm}: {label.label}{score}", "fine")} | self._again(values)
        except ConnectionError:  # which says where its server is: that is not for everybody
            return {self.said: note(f"{self._llm} does not answer now; try again later", "error")}
        except Exception as error:
            return {self.said: note(explain(error), "error")}

    def label(
        self,
        feature: int,
        label: str,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        note: str = "",
        view: str = "",
    ) -> dict[str, Any]:
        """Give a feature a name that says what it fires on, for everybody who looks. Read its examples first.

        Args:
            feature: the feature's index.
            label: a short phrase in one line, such as "days of the week in dates"; empty takes your own label back.
            note: more about it, in any number of lines; empty for none.
            view: one of the app's views, by name; empty is the first.

        Returns:
            {feature, label, note, author, source, time}, as it is kept
        """
        # Never queued: for a client of MCP the queue would ask anew from this machine, on behalf of anybody.
        author = self._writers.author(request, profile)
        given = self._give(feature, label, note, author, view)
        return json_data({k: v for k, v in asdict(given).items() if k not in ("score", "n_judgements")})

    def export(self, view: Any) -> str:
        """All labels as a CSV file, to be downloaded by who may see them: everybody who sees the app."""
        return labels_csv(self._offline(view).labels.last())

    def _offline(self, view: Any) -> OfflineDashboard:
        return self._views.of(view).served.offline

    def _give(self, feature: Any, label: Any, text: Any, author: str | None, view: Any) -> Any:
        who = {} if author is None else {"author": author}
        return self._offline(view).label(whole_number(feature, "feature"), str(label), note=str(text), **who)

    def _again(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """The tab with the new label, where it still shows the feature."""
        off, look = self._off, self._off.look(values)
        same = look.view == values[self.at] and str(look.feature).strip() == str(values[self.feature]).strip()
        return off.placed(off.see.show(look)) if same else {}

    def _kept(self, view: Any) -> str:
        why = self._offline(view).labels.kept_in_memory
        if why:
            return note(f"kept until this app ends, so download the labels: {why}", "error")
        return note("saved", "fine")


def _is_here(request: Any) -> bool:
    """Whether a request comes from a browser on this machine, of a page of this app, by no proxy that says so."""
    headers = request.headers
    places = [headers.get("host", ""), *([urlsplit(headers["origin"]).netloc] if headers.get("origin") else [])]
    hosts = [urlsplit(f"//{place}").hostname for place in places]
    return request.client.host in _HERE and all(host in _HERE for host in hosts) and "x-forwarded-for" not in headers

"""What both tabs are made of: the token view, and pieces of JavaScript that Gradio's events run in the browser."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial, wraps
from typing import Any

import gradio as gr

from tiny_dashboard.core.highlight import Html, plain_text
from tiny_dashboard.core.static import assets, instrument, read_static
from tiny_dashboard.dashboards.question import Question

LINKED = [field.name for field in fields(Question)]  # names in a link of the online tab
# And of the offline tab, besides the view.
OFFLINE_LINKED = ("feature", "with", "examples", "window", "scale", "mask", "color", "as", "find", "sort")


def look() -> gr.HTML:
    """The style and the scripts, once for the whole page, and first of all in it; keys and links are attached here.

    In a page of others, a <gradio-app> has its own only.
    """
    files = "".join(map(read_static, ("token_view.js", "online.js", "save.js", "address.js")))
    scripts = f"""{assets()["js"]}{instrument()}{files}
Object.assign(window, {{ tinyTokenView, tinyDashboardList }});
if (!window.tinyDashboardSheet) {{
  const place = document.querySelector('gradio-app:not([embed=false])') ?? document;
  tinyDashboardAddress(place);
  tinyDashboardKeys(place);
  tinyDashboardOnline(place, tinyDashboardKeys.buttons, {json.dumps(LINKED)});
  tinyDashboardSaving(place);
}}"""
    style = f"<style>{assets()['css']}</style>"
    return gr.HTML(style, padding=False, elem_classes="td-hidden", js_on_load=scripts)


def list_view(find: Callable[..., Any], cloud: Callable[..., Any], **how: Any) -> gr.HTML:
    """The list of features; `find` and `cloud` answer its script. Its event is `action`, with a feature to open."""
    asked: list[Callable[..., Any]] = [
        partial(find),
        partial(cloud),
    ]  # Gradio marks what it is given, and a method takes no mark
    for call, name in zip(asked, ("find", "cloud"), strict=True):
        call.__name__ = name
    return gr.HTML(
        value="",
        html_template="<div class='td-mount'></div>",
        js_on_load="""
const mount = element.querySelector('.td-mount');
const open = (value) => trigger('action', { action: 'open', value });
mount.tinyList = tinyDashboardList(mount, server, open, (given) => window.tinyAddressPut?.(given));
// Its field is made after it.
requestAnimationFrame(() => mount.tinyList.current(document.querySelector('#td-feature input')?.value));""",
        server_functions=asked,
        apply_default_css=False,
        **how,
    )


def token_view(value: str = "", **how: Any) -> gr.HTML:
    """A place for fragments of the highlighter. Its events are `token`, `example` and `action`."""
    # The fragments' <script> holds JSON for ours to read; that a browser does not run it is what we want.
    warnings.filterwarnings("ignore", message="A `<script>` tag was found")
    return gr.HTML(
        value=value,
        html_template="<div class='td-mount'></div>",
        # Gradio takes its events from the quoted names.
        js_on_load="""tinyTokenView(element, props, watch, {
  token: (detail) => trigger('token', detail),
  example: (detail) => trigger('example', detail),
  action: (detail) => trigger('action', detail),
});""",
        apply_default_css=False,
        **how,
    )


def url_js(tab: str, usual: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """JavaScript that writes what a tab shows into the address; see `address.js`."""
    names = ", ".join(map(json.dumps, (tab, dict(usual), list(others))))
    return f"(...values) => tinyAddress({names}, values)"


def said_js(done: bool, others: Iterable[str] = ()) -> str:
    """JavaScript that takes what was said of the online view (see `Seen.said`), and writes it into the address."""
    return f"(text) => tinyOnline(text, {json.dumps(done)}, {json.dumps(list(others))})"


def note(text: str, kind: str = "empty", more: str = "", *, field: str = "") -> Html:
    """A sentence, and HTML, in place of a view ("empty", "loading" or "error"), or a small one beside it ("fine").

    `field` is what the sentence is about: its part of an element's id, for `address.js`.
    """
    role = "alert" if kind == "error" else "status"
    about = f' data-field="{field}"' if field else ""
    return Html(f'<div class="td td-note td-{kind}" role="{role}"{about}>{plain_text(text)}{more}</div>')


def explain(error: Exception) -> str:
    """An error in words for the person who asked; what is not theirs to mend is logged whole.

    A file is called by its name alone: where it lies on the server is the log's business.
    """
    log = logging.getLogger(__name__)
    if not isinstance(error, (ValueError, LookupError, OSError)):
        log.error("a request failed", exc_info=error)
        return _without_folders(f"{type(error).__name__}: {error}")
    told = _without_folders(str(error))
    if told != str(error):
        log.warning("%s", error)
    return told


def _without_folders(text: str) -> str:
    """A text in which absolute paths are the last names of these; addresses of the web stay."""
    return re.sub(r"(?<![\w.:/\\])(?:[A-Za-z]:)?(?:[/\\][^/\\\s'\",;:]+)+[/\\](?=[^/\\\s'\",;:])", "", text)


def endpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose errors reach the client in words: as they are, since it is no page that shows them."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise gr.Error(explain(error), print_exception=False) from error

    return call

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

# The value is data, never a template: the script builds the page from it, once here and again after each change.
_BUILD = """
const mount = element.querySelector('.td-mount');
const tell = {
  token: (d) => trigger('token', d),
  example: (d) => trigger('example', d),
  action: (d) => trigger('action', d),
  view: () => window.tinyAddressPut?.({ as: window.tinyView === 'lines' ? '' : window.tinyView }),
};
const refresh = tinyDashboard(mount, (kind, detail) => tell[kind](detail));
// Long lists come in over several frames, so that the page never stalls; a newer value ends an older one's turn.
const CHUNK = 60000;
let turn = 0;
const build = () => {
  const held = mount.contains(document.activeElement) && document.activeElement.dataset;
  const parts = (props.value || '').split('<!---->'), tail = parts.length > 2 ? parts.pop() : '', mine = ++turn;
  const take = () => { let html = ''; while (parts.length && html.length < CHUNK) html += parts.shift(); return html; };
  mount.innerHTML = parts.shift() + take() + tail;
  refresh();
  if (held?.action) {
    const same = [...mount.querySelectorAll('[data-action]')].filter((node) => node.dataset.action === held.action);
    (same.find((node) => node.dataset.value === held.value) ?? same[0])?.focus();
  }
  const more = () => {
    if (mine !== turn || !parts.length) return;
    mount.querySelector('.td-list').insertAdjacentHTML('beforeend', take());
    refresh();
    requestAnimationFrame(more);
  };
  requestAnimationFrame(more);
};
build();
watch('value', build);
"""


def keys_js() -> str:
    """JavaScript that attaches the keys, once for each page, and follows steps in the browser's history.

    In a page of others, a <gradio-app> has its own only.
    """
    place = "document.querySelector('gradio-app:not([embed=false])') ?? document"
    return (
        f"() => {{ {instrument()} {read_static('online.js')} {read_static('save.js')} {read_static('address.js')}"
        f"if (window.tinyDashboardSheet) return; tinyDashboardAddress({place});"
        f"tinyDashboardKeys({place}); tinyDashboardOnline({place}, tinyDashboardKeys.buttons);"
        f"tinyDashboardSaving({place});"
        "}"
    )


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
        js_on_load=instrument()
        + """
const mount = element.querySelector('.td-mount');
const open = (value) => trigger('action', { action: 'open', value });
mount.tinyList = tinyDashboardList(mount, server, open, (given) => window.tinyAddressPut?.(given));
mount.tinyList.current(document.querySelector('#td-feature input')?.value);""",
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
        js_on_load=assets()["js"] + _BUILD,
        apply_default_css=False,
        **how,
    )


def url_js(tab: str, usual: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """JavaScript that writes what a tab shows into the address; see `address.js`."""
    names = ", ".join(map(json.dumps, (tab, dict(usual), list(others))))
    return f"(...values) => tinyAddress({names}, values)"


def said_js(done: bool, others: Iterable[str] = ()) -> str:
    """JavaScript that takes what was said of the online view (see `Seen.said`), and writes it into the address."""
    write = url_js("online", dict.fromkeys(LINKED, ""), others)
    return (
        f"(text) => {{ const said = tinyOnline(text, {json.dumps(done)});"
        f"if (said?.link && !said.wrong) ({write})(...{json.dumps(LINKED)}.map((name) => said.link[name])); }}"
    )


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

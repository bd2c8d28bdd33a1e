"""The menu "Save" of both tabs: what is shown as a page, as a figure for a paper, or as the Python that makes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from tiny_dashboard.app.components import explain, token_view
from tiny_dashboard.core.static import assets, page

_QUICK: Any = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}
_KINDS = {"svg": "SVG", "latex": "LaTeX", "png": "PNG", "code": "copy as code"}

# What is saved, of the values of the components: the file's name without its ending, and the text of a kind: "svg",
# "latex" or "code".
Make = Callable[[Mapping[Any, Any], str], tuple[str, str]]


class SaveMenu:
    """The menu.

    Args:
        of: what the tab shows, "feature" or "text".
    """

    def __init__(self, of: str) -> None:
        self._of, self._id = of, f"td-save-{of}"
        page_id = f"td-page-{of}"
        entries = [f'<button type="button" data-press="{page_id}">HTML</button>']
        entries += [
            f'<button type="button" data-action="save" data-value="{kind}">{name}</button>'
            for kind, name in _KINDS.items()
        ]
        menu = f"td-menu-{of}"
        self._menu = token_view(
            f'<div class="td td-save"><button type="button" popovertarget="{menu}">Save</button>'
            f'<div class="td-menu" id="{menu}" popover>{"".join(entries)}</div>'
            '<div class="td-menu" role="status" popover></div></div>',
            elem_id=self._id,
        )
        self._page = gr.Button(visible="hidden", elem_id=page_id)
        self._made, self._framed = gr.Textbox(visible="hidden"), gr.Textbox(visible="hidden")

    def wire(self, make: Make, asked: set[Any], shown: Sequence[Any], **how: Any) -> None:
        """Let its entries save.

        Args:
            make: what the server makes.
            asked: the components that it is given.
            shown: those that a page is made of, in the browser: what says what is shown, then the fragments.
            how: of the event.
        """

        def save(values: Mapping[Any, Any], event: gr.EventData) -> str:
            kind = event.value if event.value in _KINDS else "svg"
            try:
                name, text = make(values, "svg" if kind == "png" else kind)  # a browser draws the one from the other
                return json.dumps({"name": name, "kind": kind, "text": text})
            except Exception as error:
                return json.dumps({"error": explain(error)})

        made = self._menu.action(save, asked, self._made, **_QUICK | how)
        made.then(None, self._made, None, js=f"(made) => tinySave('{self._id}', made)")
        given, told = "said", "said, ''"
        if self._of == "feature":
            given, told = "feature, other", "null, [feature, other].filter(Boolean).join(' and ')"
        save_page = f"(frame, {given}, ...parts) => tinySavePage(JSON.parse(frame), {told}, parts)"
        framed = self._page.click(_frame, None, self._framed, **_QUICK)
        framed.then(None, [self._framed, *shown], None, js=save_page)


def _frame() -> str:
    """What stands around the fragments of a page: what is before them and what is after, as JSON."""
    return json.dumps(page("\0", **assets()).split("\0"))

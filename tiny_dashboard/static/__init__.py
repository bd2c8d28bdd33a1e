"""The one style sheet and the one script, as text: the same in a page, a notebook and the app."""

from pathlib import Path


def read_static(name: str) -> str:
    """The text of `dashboard.css` or `dashboard.js`; both are edited in place, with no build step."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")

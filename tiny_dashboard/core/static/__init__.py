"""The one style sheet and the one script, as text: the same in a page, a notebook and the app."""

from pathlib import Path


def assets() -> dict[str, str]:
    """The texts of `dashboard.css` and `dashboard.js`, by "css" and "js"; both are edited in place, with no build."""
    return {kind: read_static(f"dashboard.{kind}") for kind in ("css", "js")}


def read_static(name: str) -> str:
    """The text of one file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")

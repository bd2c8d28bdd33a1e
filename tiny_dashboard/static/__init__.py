"""The one style sheet and the one script, as text: the same in a page, a notebook and the app."""

from pathlib import Path


def assets() -> dict[str, str]:
    """The texts of `dashboard.css` and `dashboard.js`, by "css" and "js"; both are edited in place, with no build."""
    return {kind: (Path(__file__).parent / f"dashboard.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}

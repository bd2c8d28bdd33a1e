"""Style and scripts as texts, and the page that holds them."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from tiny_dashboard.core.highlight import Html, plain_text


def assets() -> dict[str, str]:
    """The texts of `dashboard.css` and `dashboard.js`, by "css" and "js"; both are edited in place, with no build."""
    return {kind: read_static(f"dashboard.{kind}") for kind in ("css", "js")}


def instrument() -> str:
    """The scripts of the live faces, the app and the static site: the list of features, and the keys."""
    return read_static("list.js") + read_static("keys.js")


def icon_path() -> Path:
    """Where the pages' icon is."""
    return Path(__file__).parent / "icon.svg"


def read_static(name: str) -> str:
    """The text of a file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def page(body: str, *, title: str = "", css: str = "", js: str = "", script_sources: str = "") -> Html:
    """A whole self-contained page around fragments; it loads nothing and runs no script but `js`.

    Args:
        body: HTML of this module.
        title: the window's title, as plain text.
        css, js: the texts of `static/dashboard.css` and `static/dashboard.js`.
        script_sources: where else scripts may come from, as a content security policy says it: "'self'".
    """
    script = f"{js}\ntinyDashboard(document)" if js else ""
    trusted = b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{trusted}' {script_sources}"
    )
    icon = b64encode(icon_path().read_bytes()).decode()
    # The body's own style stands on the tag, so that a page shown inside a notebook leaves the notebook alone.
    look = "margin:0 auto;max-width:110rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif"
    return Html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<link rel="icon" href="data:image/svg+xml;base64,{icon}"><title>{plain_text(title)}</title>'
        f'<style>{css}</style></head><body style="{look}">{body}<script>{script}</script></body></html>'
    )

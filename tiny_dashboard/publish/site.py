"""The offline tab as a static site, with no Python behind it: for static Spaces, GitHub Pages, a paper's supplement.

    index.html        the toolbar, and all style and script
    data/index.js     the feature table, by columns
    data/NNNNN.js     a group of features: what `highlight` and `card` make of each

A data file hands over the base64 of deflated JSON, 6 to 9 bytes for an example's token; `static/site.js` reads it.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiny_dashboard.core.card import no_examples
from tiny_dashboard.core.concordance import HOW_TO_READ
from tiny_dashboard.core.examples import check_feature
from tiny_dashboard.core.files import whole_folder
from tiny_dashboard.core.highlight import plain_text
from tiny_dashboard.core.static import assets, instrument, page, read_static
from tiny_dashboard.core.statistics import TOKENS
from tiny_dashboard.dashboards.offline import OfflineDashboard

GROUP_FEATURES, GROUP_BYTES = 16, 2_000_000  # a data file ends after so many features, or characters of HTML

Entry = tuple[str, str, str, str]  # card, examples, a note in words, and its kind: "empty" or "error"

_PICKER = """<div class="td-site">
<button id="td-view-before" title="view before (b)" aria-label="view before">‹</button>
<select id="td-views" aria-label="View">{}</select>
<button id="td-view-next" title="next view (v)" aria-label="next view">›</button></div>"""
_BODY = """<div class="td td-head"><h1>{title}</h1>{picker}<p>{facts}</p><p>{read}</p></div>
<div class="td-beside"><aside class="td-side" id="td-table"></aside><main class="td-main">
<div class="td td-site"><button id="td-previous" title="feature before (p)" aria-label="feature before">‹</button>
<input id="td-feature" aria-label="Feature" inputmode="numeric" autocomplete="off">
<button id="td-next" title="next feature (n)" aria-label="next feature">›</button>
<button id="td-random" title="any feature (r)">random</button>
<button id="td-star">☆</button>
<input id="td-with" aria-label="Compare with feature" placeholder="compare with" inputmode="numeric" autocomplete="off">
<button id="td-list-button" title="show or hide the list (t)">list</button></div>
<div id="td-view"></div></main></div>
<noscript>This page reads its features with a script: allow scripts to see them.</noscript>"""


def export_site(
    dashboard: OfflineDashboard,
    folder: str | Path,
    features: Iterable[int] | None = None,
    *,
    title: str = "tiny-dashboard",
    description: str = "",
    start: int | None = None,
    progress: bool = False,
) -> Path:
    """Write the offline tab as a static site: the whole folder, or nothing.

    Args:
        dashboard: its examples, `window_size` and `max_examples`.
        folder: where to write; it must not exist, or be empty.
        features: which; None takes all.
        title, description: the heading and the line under it, as plain text.
        start: the feature shown first; None takes the first there is. A link `?feature=N` shows another.
        progress: show a progress bar on stderr.

    Returns:
        `folder`; any web server shows it, from any path, and so does a browser that opens its index.html.

    Raises:
        FileExistsError: `folder` holds something already.
        ValueError: no feature at all can be read.
        ConnectionError: the examples lie on the Hub, and it does not answer.
    """
    view = SiteView(dashboard, "", description, start)
    return export_views([view], folder, features, title=title, progress=progress)


class SiteView(NamedTuple):
    """One view of a site: its examples, its name in the picker, the line under the heading, and what it shows first."""

    dashboard: OfflineDashboard
    name: str = ""
    description: str = ""
    start: int | None = None


def export_views(
    views: Sequence[SiteView],
    folder: str | Path,
    features: Iterable[int] | None = None,
    *,
    title: str = "tiny-dashboard",
    progress: bool = False,
) -> Path:
    """Write a site of several views, each in a folder of its own; as `export_site` otherwise.

    Args:
        views: the first stands in `folder` itself, the others in view-2, view-3, …
        folder, features, title, progress: as there.
    """
    folder = Path(folder).expanduser().absolute()
    with whole_folder(folder) as partial:
        for place, view in enumerate(views):
            names = [_link(place, other, one.name) for other, one in enumerate(views)]
            picker = _PICKER.format("".join(names)) if len(views) > 1 else ""
            inside = partial / _inside(place)
            inside.mkdir(exist_ok=True)
            _write_view(view, inside, features, title, picker, progress)
    return folder


def _inside(place: int) -> str:
    """The folder of a view."""
    return f"view-{place + 1}" if place else "."


def _link(at: int, to: int, name: str) -> str:
    """A view in the picker of another."""
    link = f"{'../' if at else ''}{_inside(to)}/index.html"
    return f'<option value="{link}"{" selected" if at == to else ""}>{plain_text(name)}</option>'


def _write_view(
    view: SiteView, folder: Path, features: Iterable[int] | None, title: str, picker: str, progress: bool
) -> None:
    from tqdm import tqdm

    dashboard, _, description, start = view
    source = dashboard.max_activation_examples
    wanted = dashboard.features if features is None else sorted({check_feature(f, source) for f in features})
    if start is not None:
        check_feature(start, dict.fromkeys(wanted, ()))
    broken: dict[int, Exception] = {}
    (folder / "data").mkdir()
    starts = [0]
    entries = (_entry(dashboard, f, broken) for f in tqdm(wanted, unit=" features", disable=not progress))
    for number, group in enumerate(_groups(entries)):
        _write(folder / "data" / f"{number:05d}.js", f"{number:05d}", group)
        starts.append(starts[-1] + len(group))
    index = _index(dashboard, wanted) | {"starts": starts[:-1], "title": title}
    index["start"] = start if start is not None or not wanted else wanted[0]
    _write(folder / "data" / "index.js", "index", index)
    facts = " · ".join(filter(None, [description, dashboard.about]))
    body = _BODY.format(title=plain_text(title), picker=picker, facts=plain_text(facts), read=HOW_TO_READ)
    script = f"{assets()['js']}\n{instrument()}\n{read_static('site.js')}"
    html = page(body, title=title, css=assets()["css"], js=script, script_sources="'self'")
    (folder / "index.html").write_text(html, encoding="utf-8")
    if broken and len(broken) == len(wanted):
        raise next(iter(broken.values()))
    if broken:
        first = next(iter(broken))
        print(f"{len(broken)} features cannot be read, {first} is the first; the site says so", file=sys.stderr)


def _entry(dashboard: OfflineDashboard, feature: int, broken: dict[int, Exception]) -> Entry:
    """A feature as the page shows it; one that cannot be read is an error in its own place only."""
    try:
        stats, rows = dashboard.stats(feature), dashboard.read(feature, scale="feature")
        near = dashboard.near(stats.nearest) if stats and stats.nearest else None
        card = dashboard.card(stats, near, [example for example, _ in rows])
        if not rows:
            return card, "", no_examples(feature, stats), "empty"
        return card, dashboard.draw([passage for _, passage in rows]), "", ""
    except ConnectionError:
        raise
    except Exception as error:  # a damaged feature is an error in its own place only
        broken[feature] = error
        return "", "", str(error), "error"


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size = 0
    for entry in entries:
        group.append(entry)
        size += len(entry[1])
        if len(group) >= GROUP_FEATURES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _index(dashboard: OfflineDashboard, features: Sequence[int]) -> dict[str, Any]:
    """The feature table, by columns, and what the columns are; what is not known is null, or ""."""
    table = dashboard.table
    places = {feature: place for place, feature in enumerate(table.ids.tolist())}
    order = [places.get(feature) for feature in features]
    index: dict[str, Any] = {"feature": list(features), "columns": [vars(column) for column in table.columns]}
    for name in (*TOKENS, *(column.name for column in table.columns)):
        values = table.column(name).tolist()
        missing = "" if table.column(name).dtype == object else None
        index[name] = [missing if at is None else _short(values[at]) for at in order]
    return index


def _short(value: Any) -> Any:
    """Numbers in four digits, which is more than is shown."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _write(file: Path, name: str, content: Any) -> None:
    # Level 6 takes a third more time, and spares 1 to 3% of the bytes.
    # ASCII, so that a lone surrogate of a token reaches the browser as it is.
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 5)
    file.write_text(f'tinyDashboardData("{name}","{base64.b64encode(packed).decode()}")', encoding="ascii")

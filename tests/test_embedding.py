"""The app inside another page, in each way that the README shows: a link's feature and tab are what it shows."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import gradio
import pytest
from playwright.sync_api import expect

FRONTEND = Path(gradio.__file__).parent / "templates" / "frontend"  # has the script that makes <gradio-app>
# A page with a tab and an address of its own.
PAPER = """<!doctype html><title>Paper</title><button role="tab" aria-selected="true">Mine</button><p>A paper.</p>
<script type="module" src="gradio.js"></script><gradio-app src="{}"></gradio-app>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def web_server(folder):
    """The address of a server of these files: another origin than the app's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def expect_link(offline, online):
    """Feature 9 with its examples here, the other tab there."""
    expect(offline.locator("#td-examples .td-x").first).to_be_visible(timeout=60_000)
    expect(feature_box(offline)).to_have_value("9")
    expect(online.locator(".gradio-container").get_by_role("tab", selected=True)).to_contain_text(
        "Online", timeout=60_000
    )
    expect(online.locator("#td-text")).to_be_visible()


def feature_box(place):
    return place.locator("#td-feature input, #td-feature textarea").first


def test_deep_links_in_a_frame(visits, app_url, tmp_path):
    visits.origin = app_url
    page = tmp_path / "paper.html"
    frame = '<iframe id="{0}" src="{1}/?feature=9&tab={0}" width="100%" height="700"></iframe>'
    page.write_text(frame.format("offline", app_url) + frame.format("online", app_url))
    shown = visits(page.as_uri())
    expect_link(shown.frame_locator("#offline"), shown.frame_locator("#online"))


def test_deep_links_in_a_notebook(visits, app_url, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import ExecutePreprocessor

    call = "from IPython.display import IFrame\nIFrame('{}/?feature=9&tab={}', width='100%', height=700)"
    cells = [nbformat.v4.new_code_cell(call.format(app_url, tab)) for tab in ("offline", "online")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    ExecutePreprocessor(timeout=120, kernel_name="python3").preprocess(notebook, {})
    saved = tmp_path / "notebook.html"
    saved.write_text(HTMLExporter(template_name="basic").from_notebook_node(notebook)[0])
    visits.origin = app_url
    frames = visits(saved.as_uri()).frame_locator("iframe")
    expect_link(frames.nth(0), frames.nth(1))


def test_deep_links_in_an_element(visits, app_url, tmp_path):
    """`<gradio-app>` is no frame: the address is the page's own, and so are its tabs, its look and its keys."""
    for name in ("gradio.js", "assets"):
        (tmp_path / name).symlink_to(FRONTEND / name)
    (tmp_path / "paper.html").write_text(PAPER.format(app_url))
    visits.origin = "http://127.0.0.1:"
    with web_server(tmp_path) as url:
        page, other = (visits(f"{url}/paper.html?own=1&feature=9&tab={tab}") for tab in ("offline", "online"))
        expect_link(page, other)
        page.locator("#td-examples .td-p > span:last-child > i").first.hover()
        expect(page.locator(".td-tip")).to_contain_text("feature 9")
        page.locator("body > p").click()
        page.keyboard.press("n")
        page.locator(".td-head").click()
        expect(feature_box(page)).to_have_value("9")
        page.locator("#td-next").focus()
        page.keyboard.press("n")
        expect(feature_box(page)).to_have_value("10")
        page.wait_for_function("location.search.includes('feature=10')")
        assert page.url == f"{url}/paper.html?own=1&feature=10&tab=offline"

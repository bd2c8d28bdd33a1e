"""The app inside another page, in each way that the README shows: a link's feature and tab are what it shows."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import gradio as gr
import pytest
from playwright.sync_api import expect

from tests.helpers.app_page import wait_for_query
from tiny_dashboard import OfflineFeatureCentricDashboard, build_app

FRONTEND = Path(gr.__file__).parent / "templates" / "frontend"  # has the script that makes <gradio-app>
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
    """As a notebook makes it, and as the README writes it."""
    IFrame = pytest.importorskip("IPython.display").IFrame
    visits.origin = app_url
    page = tmp_path / "paper.html"
    made = IFrame(f"{app_url}/?feature=9&tab=offline", width="100%", height=700)._repr_html_()
    page.write_text(f'{made}<iframe src="{app_url}/?feature=9&tab=online" width="100%" height="700"></iframe>')
    frames = visits(page.as_uri()).frame_locator("iframe")
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


def test_in_a_tab_of_another_app_that_is_not_seen_at_first(visits, bundle):
    inner = build_app(OfflineFeatureCentricDashboard.open(bundle.root / "examples", bundle.tokenizer))
    with gr.Blocks() as app:
        with gr.Tab("First"):
            gr.Textbox(label="mine")
        with gr.Tab("Features"):
            inner.render()
    _, visits.origin, _ = app.launch(prevent_thread_lock=True, quiet=True)
    page = visits("?feature=9")
    page.get_by_role("tab", name="Features").click()
    expect(page.locator("#td-examples .td-x").first).to_be_visible()
    expect(feature_box(page)).to_have_value("9")
    expect(page.locator("#td-table [aria-current]")).to_contain_text("9")
    page.locator("#td-next").click()
    wait_for_query(page, feature=10, tab="offline")
    app.close()

"""A Space's cold start: from the start of its process to what a visitor sees, with everything still on the Hub.

The Hub is a stand-in on loopback with the demo's examples, tokenizer, dictionary and models. Weights it gives whole
only once the first examples have been seen. Once with one view, and once with two.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.helpers.hub_server import Dataset, Hub
from tiny_dashboard.demo import FOLDER

SPACE = Path(__file__).parent.parent / "space" / "app.py"
CONFIG = """
examples = "me/examples"
dictionary = "me/crosscoder"
models = ["me/base", "me/chat"]
tokenizer = "me/tokenizer"
layer = 2
feature = 656
"""
VIEWS = '[[view]]\nname = "first"\n[[view]]\nname = "second"\n'
LIMITS = {  # seconds, but for the last
    "the port answers": 12.0,
    "first paint": 15.0,
    "first example": 20.0,
    "from the weights to an online tab that is ready": 10.0,
    "fetched by then, of the examples": 0.1,
}
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def when(page: Page, condition: str) -> float:
    """The time at which a condition comes true in the page."""
    found = page.wait_for_function(f"({condition}) && performance.timeOrigin + performance.now()", timeout=120_000)
    return found.json_value() / 1000


def watch(page: Page, url: str, server: subprocess.Popen, hub: Any, weights: threading.Event) -> dict[str, float]:
    """Visit the Space that is just starting; what came when, and how much of the examples was fetched."""
    start = time.time()
    seen = {}
    while not seen:
        try:
            urllib.request.urlopen(url, timeout=60).close()
            seen["the port answers"] = time.time() - start
        except OSError:
            if server.poll() is not None or time.time() - start > 120:
                raise
            time.sleep(0.02)
    page.goto(url)
    example = when(page, "document.querySelector('#td-examples .td-x')")
    seen["first paint"] = page.evaluate(f"performance.timeOrigin + {PAINT}") / 1000 - start
    seen["first example"] = example - start
    requests = hub.taken()
    for kind in ("examples", "features"):
        fetched = sum(r.bytes for r in requests if re.search(rf"/resolve/\w+/{kind}/", r.path))
        size = sum(file.stat().st_size for file in (FOLDER / "examples" / kind).iterdir())
        seen[f"fetched by then, of the {kind}"] = fetched / size  # the list of features reads the latter whole
    page.get_by_role("tab", name="Online").click()
    page.get_by_text("loading the models").wait_for()
    weights.set()
    there = time.time()
    ready = when(page, "!document.querySelector('.td-loading')")
    seen["from the weights to an online tab that is ready"] = ready - there
    page.locator("#td-text textarea").fill("def read(path):")
    page.get_by_role("button", name="Analyze").click()
    shown = when(page, "document.querySelector('#td-analysis i')")
    seen["its first analysis, typing included"] = shown - ready
    return seen


def run() -> None:
    for views in ("", VIEWS):
        print("two views" if views else "one view")
        visit(CONFIG + views)


def visit(config: str) -> None:
    """Start a Space of this config, visit it, and print what was seen."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as place, Hub() as hub, sync_playwright() as playwright:
        (Path(place) / "dashboard.toml").write_text(config)
        app = shutil.copy(SPACE, place)
        hub.datasets["me/examples"] = Dataset(FOLDER / "examples")
        for name in ("crosscoder", "base", "chat", "tokenizer"):
            hub.datasets[f"models/me/{name}"] = Dataset(FOLDER / name)
        weights = hub.held["model.safetensors"] = threading.Event()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1120, "height": 900})
        environment = {
            "PYTHONPATH": str(SPACE.parents[1]),
            "GRADIO_SERVER_PORT": port,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(Path(place) / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "120",  # the weights are held longer than the client would wait
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen([sys.executable, app], env=os.environ | environment, **quiet)
        try:
            seen = watch(page, f"http://127.0.0.1:{port}", server, hub, weights)
        finally:
            weights.set()
            server.terminate()
            server.wait(30)
            browser.close()
    for what, value in seen.items():
        limit = LIMITS.get(what)
        verdict = "" if limit is None else f"   limit {limit:g}: {'holds' if value <= limit else 'BROKEN'}"
        print(f"  {what:50} {value:8.2f}{verdict}")


if __name__ == "__main__":
    run()

"""The app in a browser: how soon a click, a key and the first visit are answered, and how long the page stalls.

The stalls are those of a feature of 30 examples of 1,024 tokens; clicks and analyses are on the demo, keys in a list of
131,072 features, and the first visit is held against an empty page of Gradio's in the same run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.rendering import N_EXAMPLES, N_TOKENS, passages
from tiny_dashboard import OfflineFeatureCentricDashboard, launch
from tiny_dashboard.core.examples import Example, ExampleSource
from tiny_dashboard.core.statistics import FeatureTable
from tiny_dashboard.models import sharing

SWITCHES, VISITS = 8, 7
N_FEATURES = 131_072
LIMIT = 100  # milliseconds
COUNT = f"document.querySelectorAll('#td-examples i').length == {N_EXAMPLES * N_TOKENS}"


def longest_task(browser: Browser, page: Page, act: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of the page's longest task while `act` runs and after it: by the clock, and of processor time.

    The clock's is what a person feels on this machine now; the processor's leaves out what else the machine does.
    """
    browser.start_tracing(page=page, categories=["devtools.timeline", "toplevel"])
    act()
    page.wait_for_timeout(500)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {e["tid"] for e in events if e["name"] == "thread_name" and e["args"]["name"] == "CrRendererMain"}
    tasks = [e for e in events if e["name"].endswith("RunTask") and e["tid"] in main and e["ph"] == "X"]
    return max(task["dur"] for task in tasks) / 1000, max(task.get("tdur", 0) for task in tasks) / 1000


# Resolves when what `ready` says is so and has been painted, with the milliseconds since `act`.
PAINTED = """([act, ready]) => new Promise((resolve) => {
  const start = performance.now(), is = new Function(`return ${ready}`);
  new Function(act)();
  const end = () => setTimeout(() => resolve(performance.now() - start));
  const look = () => requestAnimationFrame(is() ? end : look);
  look();
})"""


class Many(ExampleSource):
    """A long list of features, of each of which something is known."""

    def features(self) -> range:
        return range(N_FEATURES)

    def load(self, feature: int) -> list[Example]:
        return [Example(1.0, ["a", " word"], [0.0, 1.0])]

    def table(self) -> FeatureTable:
        ids = np.arange(N_FEATURES)
        known = {
            "label": [f"the word {n} where it stands for another" for n in range(N_FEATURES)],
            "density": (ids % 997 + 1) / 1e4,
            "max_activation": (ids % 1009 + 1) / 10,
        }
        return FeatureTable(ids, known.get)


def percentiles(times: list[float]) -> str:
    return f"p50 {np.percentile(times, 50):.0f} ms, p95 {np.percentile(times, 95):.0f} ms"


def clicks(browser: Browser, url: str) -> None:
    """From a click on a feature in the list until its examples are painted, on the demo."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_selector("#td-examples .td-x")
    page.wait_for_timeout(3000)
    times = []
    for n in range(24):
        act = (
            "document.querySelector('#td-examples .td').classList.add('old');"
            "const rows = document.querySelectorAll('#td-table tbody tr[data-at]:not([aria-current])');"
            f"rows[{2 + n % 20}].querySelector('button').click()"
        )
        times.append(page.evaluate(PAINTED, [act, "document.querySelector('#td-examples .td:not(.old) .td-x')"]))
        page.wait_for_timeout(100)
    print(f"click on a feature to paint, demo: {percentiles(times[1:])} (limit p95 150 ms)")
    page.close()


def analyses(browser: Browser, url: str) -> None:
    """From a click on Analyze until a text is painted, on the demo, and the models' forward passes in it."""
    passes: list[float] = []
    read = sharing.read_places

    def timed(*args: Any) -> Any:
        start = perf_counter()
        found = read(*args)
        passes.append(1000 * (perf_counter() - start))
        return found

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{url}?tab=online")
    page.wait_for_selector("#td-analysis i")
    page.wait_for_timeout(2000)
    times, without = [], []
    with patch.object(sharing, "read_places", timed):
        for n in range(24):
            passes.clear()
            act = (
                "document.querySelector('#td-analysis .td').classList.add('old');"
                "const text = document.querySelector('#td-text textarea');"
                f"text.value = `def read(path, n={n}): # the first lines of a file, when it is there, or else none`;"
                "text.dispatchEvent(new Event('input', { bubbles: true }));"
                "document.getElementById('td-analyze').click()"
            )
            times.append(page.evaluate(PAINTED, [act, "document.querySelector('#td-analysis .td:not(.old) i')"]))
            without.append(times[-1] - sum(passes))
            page.wait_for_timeout(100)
    print(
        f"Analyze to paint, demo: {percentiles(times[1:])}; without the {len(passes)} forward passes: "
        f"{percentiles(without[1:])} (limit p95 150 ms)"
    )
    page.close()


def floor(browser: Browser, url: str) -> None:
    """From a click until what a handler that does nothing answers is painted: Gradio's own share of every click."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_selector("button")
    page.wait_for_timeout(1000)
    times = [
        page.evaluate(
            PAINTED,
            [
                "window.said = document.querySelector('b').textContent; document.querySelector('button').click()",
                "document.querySelector('b')?.textContent > window.said",
            ],
        )
        for _ in range(16)
    ]
    print(f"click to paint of a Gradio app that does nothing: {percentiles(times[1:])}")
    page.close()


def keystrokes(browser: Browser, url: str, said: str) -> None:
    """From a key in the filter of a long list until the list is painted, its wait for a next key included."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.wait_for_function(f"{said}?.textContent.includes('features')")
    page.wait_for_timeout(1000)
    times = []
    for word in ("word 12", "max>99", "word 7777", "density<1%"):
        for end in (end for end in range(1, len(word) + 1) if word[end - 1] != " "):  # which asks nothing new
            act = (
                f"const said = {said}, field = document.getElementById('td-search');"
                f"field.value = {json.dumps(word[:end])}; said.textContent = 'old';"
                "field.dispatchEvent(new Event('input'))"
            )
            times.append(page.evaluate(PAINTED, [act, f"{said}.textContent !== 'old'"]))
    print(f"keystroke to paint, {N_FEATURES:,} features: {percentiles(times)} (limit p95 150 ms)")
    page.close()


def first_paint(browser: Browser, url: str) -> float:
    """Milliseconds until a new visitor sees the page: the median of some."""
    times = []
    for _ in range(VISITS):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector(".gradio-container h1")
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        times.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        context.close()
    return float(np.median(times))


def answers(browser: Browser) -> None:
    """Clicks, keys and first visits."""
    import gradio as gr

    with gr.Blocks() as empty:
        gr.HTML("<h1>empty</h1>")
    with gr.Blocks() as answering:
        counted = count(1)
        told = gr.HTML("<b>0000</b>")
        gr.Button().click(lambda: f"<b>{next(counted):04}</b>", None, told, show_progress="hidden")
    for app in (empty, answering):
        app.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    demo = launch(prevent_thread_lock=True, quiet=True)
    long_list = launch(OfflineFeatureCentricDashboard(Many(), None), prevent_thread_lock=True, quiet=True)
    floor(browser, answering.local_url)
    clicks(browser, demo.local_url)
    analyses(browser, demo.local_url)
    keystrokes(browser, long_list.local_url, "document.querySelector('#td-table [role=status]')")
    bare, ours = first_paint(browser, empty.local_url), first_paint(browser, demo.local_url)
    print(f"first paint: {ours:.0f} ms, {ours / bare:.2f} times an empty Gradio page's {bare:.0f} ms (limit 1.4)")
    for app in (empty, answering, demo, long_list):
        app.close()


def run() -> None:
    rows = [(float(p.tracks[0].values.max()), p.tokens, p.tracks[0].values.tolist()) for p in passages()]
    app = launch(
        OfflineFeatureCentricDashboard(dict.fromkeys(range(3), rows), None), prevent_thread_lock=True, quiet=True
    )
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1120, "height": 900})
        page.goto(app.local_url)
        page.wait_for_function(COUNT)
        page.wait_for_timeout(500)

        def switch() -> None:
            page.evaluate("document.querySelector('#td-examples i').id = 'old'")
            page.click("#td-next")
            page.wait_for_function(f"!document.getElementById('old') && {COUNT}")

        times = [longest_task(browser, page, switch) for _ in range(SWITCHES)]
        wall, processor = (sorted(column) for column in zip(*times, strict=True))
        print(
            f"longest task of the page when the feature is switched to {N_EXAMPLES} x {N_TOKENS} tokens, {SWITCHES} "
            f"times: median {wall[SWITCHES // 2]:.0f} ms, worst {wall[-1]:.0f} ms (limit {LIMIT} ms); "
            f"of processor time {processor[SWITCHES // 2]:.0f} and {processor[-1]:.0f} ms"
        )
        row = page.locator("#td-examples .td-x").nth(3)
        reading = {
            "a token's tooltip": row.locator(".td-p > span:last-child > i").first.hover,
            "unfolding an example": row.locator(".td-v").click,
            "all as paragraphs": page.locator("#td-examples .td-view").click,  # a search by role is a task of its own
        }
        for name, act in reading.items():
            clock, cpu = longest_task(browser, page, act)
            print(f"  {name}: {clock:.0f} ms, of processor time {cpu:.0f} ms (limit {LIMIT} ms)")
        app.close()
        answers(browser)
        browser.close()


if __name__ == "__main__":
    run()

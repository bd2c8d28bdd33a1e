"""The app in a browser: how long the page stalls when a feature of 30 examples of 1,024 tokens is shown and read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.rendering import N_EXAMPLES, N_TOKENS, passages
from tiny_dashboard import OfflineFeatureCentricDashboard, launch

SWITCHES = 8
LIMIT = 200  # milliseconds
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
            "all as paragraphs": page.get_by_role("button", name="paragraphs").click,
        }
        for name, act in reading.items():
            clock, cpu = longest_task(browser, page, act)
            print(f"  {name}: {clock:.0f} ms, of processor time {cpu:.0f} ms (limit {LIMIT} ms)")
        browser.close()
    app.close()


if __name__ == "__main__":
    run()

"""The app in a browser: how long the page stalls when a feature of 30 examples of 1,024 tokens is shown."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import sync_playwright

from benchmarks.rendering import N_EXAMPLES, N_TOKENS, passages
from tiny_dashboard import OfflineFeatureCentricDashboard, launch

SWITCHES = 8


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
        page.wait_for_function(f"document.querySelectorAll('#td-examples i').length == {N_EXAMPLES * N_TOKENS}")
        page.evaluate(
            "() => { window.tasks = []; new PerformanceObserver((list) => window.tasks.push("
            "...list.getEntries().map((entry) => entry.duration))).observe({type: 'longtask'}); }"
        )
        longest = []
        for _ in range(SWITCHES):
            page.evaluate("() => { window.tasks.length = 0; document.querySelector('#td-examples i').id = 'old'; }")
            page.click("#td-next")
            page.wait_for_function(
                "!document.getElementById('old') && "
                f"document.querySelectorAll('#td-examples i').length == {N_EXAMPLES * N_TOKENS}"
            )
            page.wait_for_timeout(500)
            longest.append(max(page.evaluate("window.tasks"), default=0.0))
        browser.close()
    app.close()
    longest.sort()
    print(
        f"longest task of the page when the feature is switched to {N_EXAMPLES} x {N_TOKENS} tokens, {SWITCHES} times: "
        f"median {longest[SWITCHES // 2]:.0f} ms, worst {longest[-1]:.0f} ms (limit 200 ms)"
    )


if __name__ == "__main__":
    run()

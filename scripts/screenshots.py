"""Take the screenshots of the README from the running demo: `python scripts/screenshots.py [FOLDER]`.

They are of the view on a real model, which must have been downloaded from the Hub before.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import sync_playwright

from tiny_dashboard import launch

TEXT = "Wash your hands before you cook: soap removes bacteria, and it breaks up the shell of many viruses."
FEATURE = "3876"  # bacteria and microorganisms


def main(folder: Path) -> None:
    """Offline and online tab, light and dark, wide and narrow."""
    app = launch(prevent_thread_lock=True, quiet=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme in ("light", "dark"):
            for size, width, height in (("", 1280, 900), ("-narrow", 400, 800)):
                page = browser.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.5
                )
                page.goto(f"{app.local_url}?feature={FEATURE}")
                page.wait_for_selector("#td-examples .td-x")
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"offline-{scheme}{size}.png")
                page.goto(f"{app.local_url}?tab=online&text={quote(TEXT)}&highlight={FEATURE}")
                page.wait_for_selector("#td-analysis .td-p", timeout=120_000)
                page.wait_for_selector("#td-top .td-f")
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"online-{scheme}{size}.png")
                page.close()
        browser.close()
    app.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))

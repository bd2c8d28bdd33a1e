"""axe-core finds nothing, of any severity, in either tab and in each state of it.

axe-core is fetched once through the machine's own npm, and kept outside the repository.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.helpers.app_page import ANALYSIS, EXAMPLES, rows

VERSION = "4.14.1"
# What is not ours to mend: parts of Gradio's own frame around the app.
GRADIO_FRAME = ["footer"]


@pytest.fixture(scope="module")
def axe():
    """The script of axe-core; skipped, with the reason, where it cannot be had."""
    kept = Path(tempfile.gettempdir()) / f"axe-core-{VERSION}-{os.getuid()}.js"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            try:
                command = ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", folder]
                subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)
                (archive,) = Path(folder).glob("*.tgz")
                with tarfile.open(archive) as tar:
                    script = tar.extractfile("package/axe.min.js").read()
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                pytest.skip(f"axe-core cannot be had: {error}")
            part = Path(folder) / "axe.js"
            part.write_bytes(script)
            kept.write_bytes(part.read_bytes())
    return kept.read_text(encoding="utf-8")


def findings(page, axe):
    """What axe-core finds on the page in light and in dark: rule, severity, elements."""
    page.add_style_tag(content="*{transition:none!important}")
    page.wait_for_timeout(300)
    page.evaluate(axe)
    found = page.evaluate("(exclude) => axe.run({ exclude })", GRADIO_FRAME)["violations"]
    # The app's theme is this class; what differs in the dark is the colours.
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.classList.add('dark')")
    page.wait_for_timeout(300)
    found += page.evaluate(
        "(exclude) => axe.run({ exclude }, { runOnly: ['color-contrast', 'link-in-text-block'] })", GRADIO_FRAME
    )["violations"]
    page.emulate_media(color_scheme="light")
    page.evaluate("document.body.classList.remove('dark')")
    return [(v["id"], v["impact"], [n["html"][:160] for n in v["nodes"]][:4]) for v in found]


def test_axe_finds_nothing_in_the_offline_tab(visit, axe, rich):
    page = visit(f"?feature={rich}&__theme=light", wait=f"{EXAMPLES} .td-x")
    expect(page.locator("#td-table tbody tr[aria-current]")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    assert findings(page, axe) == []
    rows(page).first.locator(".td-v").click()
    page.locator("#td-search").fill("loudness>1")
    expect(page.locator("#td-table [role=alert]")).to_be_visible()
    assert findings(page, axe) == []
    page.goto(f"{page.url.split('?')[0]}?feature=9999&with={rich}")
    expect(page.locator(f"{EXAMPLES} .td-error")).to_be_visible()
    assert findings(page, axe) == []
    page.goto(f"{page.url.split('?')[0]}?feature=9&with={rich}&scale=loud")
    expect(page.locator("#td-other-examples .td-x").first).to_be_visible()
    expect(page.locator("#td-said .td-error")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert findings(page, axe) == []


def test_axe_finds_nothing_on_a_phone(visit, axe, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x", viewport={"width": 400, "height": 800})
    assert findings(page, axe) == []
    page.get_by_role("button", name="list", exact=True).click()
    expect(page.locator("#td-table table")).to_be_visible()
    assert findings(page, axe) == []


def test_axe_finds_nothing_in_the_online_tab(visit, axe):
    page = visit("?tab=online&text=The+quick+brown+fox&__theme=light")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    assert findings(page, axe) == []

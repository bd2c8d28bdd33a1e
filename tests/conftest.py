"""What several test files share: a tiny bundle made here, the app that runs on it, and a headless browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.helpers.browser import PERSON, Visits
from tests.helpers.bundle import N_FEATURES, make_bundle

settings.register_profile("shared", deadline=None)  # the machine may be busy with other things
settings.load_profile("shared")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two cores and tiny tensors: more threads only wait for each other
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> SimpleNamespace:
    """A tokenizer, a model pair, their crosscoder, the true activations as examples, and a dashboard.toml on them."""
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def app_url(bundle) -> Iterator[str]:
    """The address of the app that runs on the bundle; it is started once."""
    from tiny_dashboard.app.launch import launch

    app = launch(bundle.toml, prevent_thread_lock=True, quiet=True)
    yield app.local_url.rstrip("/")
    app.close()


@pytest.fixture(scope="session")
def app_client(app_url):
    """A client of the app that runs on the bundle."""
    from gradio_client import Client

    return Client(app_url, verbose=False)


@pytest.fixture(scope="session")
def rich(bundle):
    """A feature with three examples or more, the hostile text not the strongest of them."""
    counts = [sum(bool((v[:, f] > 0).any()) for v in bundle.values) for f in range(N_FEATURES)]
    return next(f for f in range(10, N_FEATURES) if counts[f] >= 3)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--process-per-site"]
    # Module by module: while it runs, its event loop belongs to this thread, and others could not start theirs.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        chromium.new_context(**PERSON)  # the first, which most pages share
        yield chromium
        chromium.close()


@pytest.fixture
def visits(browser):
    """Opens files and strings of HTML in the browser; no dialog, no stray request, no script error is allowed."""
    made = Visits(browser, "")
    yield made
    made.check_and_close()


@pytest.fixture
def visit(browser, app_url):
    """Opens the app in the browser; no dialog, no request elsewhere, no script error is allowed."""
    made = Visits(browser, app_url)
    yield made
    made.check_and_close()


@pytest.fixture
def slow_model(monkeypatch):
    """The model of an app in this process answers as slowly as a large one: a person has the time to stop it."""
    from tiny_dashboard.models.featurizer import Featurizer

    generate = Featurizer.generate

    def slowly(self, *args, **options):
        for token in generate(self, *args, **options):
            time.sleep(0.1)
            yield token

    monkeypatch.setattr(Featurizer, "generate", slowly)


def pytest_collection_modifyitems(items) -> None:
    """A browser on a busy machine may miss a key or a deadline: what drives one is tried once more before it fails."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter) -> None:
    """What was tried again is named, with why: a test that often needs it wants mending."""
    if again := terminalreporter.stats.get("rerun"):
        terminalreporter.section("tried again")
        for report in again:
            why = next((line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")), "")
            terminalreporter.line(f"{report.nodeid}: {why}")

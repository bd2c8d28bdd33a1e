"""space/app.py: what it shows, and where it listens."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from gradio_client.exceptions import AppError
from playwright.sync_api import expect
from safetensors.torch import load_file, save_file

import tiny_dashboard
from tests.helpers.hub_client import IMPATIENT
from tests.helpers.hub_server import Dataset, Hub
from tests.helpers.serving import free_port, serving
from tiny_dashboard import DashboardConfig

APP = Path(__file__).parent.parent / "space" / "app.py"


@pytest.fixture
def launched(monkeypatch):
    """What is launched, and how."""
    calls = []
    monkeypatch.setattr(tiny_dashboard, "launch", lambda what, **options: calls.append((what, options)), False)
    monkeypatch.delenv("DASHBOARD_CONFIG", raising=False)
    monkeypatch.setitem(sys.modules, "spaces", None)
    return calls


def test_what_is_shown(launched, monkeypatch, tmp_path):
    beside = tmp_path / "dashboard.toml"
    app = shutil.copy(APP, tmp_path)
    runpy.run_path(app)
    beside.write_text('title = "Mine"\nlayer = 3')
    runpy.run_path(app)
    monkeypatch.setenv("TINY_DASHBOARD_LAYER", "4")
    monkeypatch.setenv("TINY_DASHBOARD_MODELS", "me/base, me/chat")
    runpy.run_path(app)
    monkeypatch.setenv("DASHBOARD_CONFIG", "other.toml")
    runpy.run_path(app)
    how = {"patient": True, "gpu": None}
    mine = DashboardConfig(title="Mine", layer=3)
    more = mine.model_copy(update={"layer": 4, "models": ("me/base", "me/chat")})
    assert launched == [(DashboardConfig.demo(here_first=False), how), (mine, how), (more, how), ("other.toml", how)]


def test_variables_that_are_wrong_are_named(tmp_path):
    for variables, said in (
        ({"TINY_DASHBOARD_LAYER": "two"}, "TINY_DASHBOARD_LAYER is 'two'"),
        ({"TINY_DASHBOARD_LAYER": "-1"}, "layer is -1"),
        ({"TINY_DASHBOARD_WHICH": "[1]"}, "which is .1.; it must be a table"),
    ):
        with pytest.raises(ValueError, match=said):
            DashboardConfig.of_space(tmp_path, variables)
    assert DashboardConfig.of_space(tmp_path, {"TINY_DASHBOARD_WHICH": '{width = "16k"}'}).which == {"width": "16k"}


def test_zero_gpu_gets_the_decorator(launched, monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU="decorator"))
    runpy.run_path(APP)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    runpy.run_path(APP)
    assert [options["gpu"] for _, options in launched] == [None, "decorator"]


# Loaded by a Python before all else: writes down whom it calls, and whose address it looks up.
LISTENER = """
import sys
def listen(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        print("connect", arguments[1][0], file=open(LOG, "a"))
    if event == "socket.getaddrinfo":
        print("look up", arguments[0], file=open(LOG, "a"))
sys.addaudithook(listen)
"""


def test_a_space_on_a_hub_that_fails_and_is_slow(tmp_path, bundle, visits):
    """It listens where Gradio is told to, says what is missing, recovers, and calls nobody but the Hub.

    Examples do not wait for models; the online tab says how far these are, why they are not there, and what is.
    """
    (tmp_path / "dashboard.toml").write_text(f"""
tokenizer = "me/tokenizer"
layer = 1
device = "cpu"
[[view]]
name = "far"
examples = "me/examples"
dictionary = "me/crosscoder"
models = ["me/base", "me/chat"]
[[view]]
name = "near & here"
dictionary = "{bundle.root}/crosscoder"
models = ["{bundle.root}/base", "{bundle.root}/chat"]
""")
    large = shutil.copytree(bundle.root / "base", tmp_path / "base")  # the client writes ten million bytes at a time
    save_file(
        load_file(large / "model.safetensors"), large / "model.safetensors", {"format": "pt", "pad": "x" * 10**7 * 3}
    )
    app = shutil.copy(APP, tmp_path)
    port = free_port()
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(f"LOG = {str(log)!r}{LISTENER}{IMPATIENT}")
    path = f"{tmp_path}{os.pathsep}{APP.parents[1]}"
    place = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": port, "PYTHONPATH": path}
    with Hub() as hub:
        hub.datasets["me/examples"] = Dataset(bundle.root / "examples")
        hub.datasets["models/me/base"] = Dataset(large)
        for name in ("crosscoder", "chat", "tokenizer"):
            hub.datasets[f"models/me/{name}"] = Dataset(bundle.root / name)
        weights = hub.held["base/.*model.safetensors"] = threading.Event()
        hub.fail |= {"me/base": 503, "me/examples": 500}
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DOWNLOAD_TIMEOUT": "120"}
        visits.origin = f"http://127.0.0.1:{port}"
        with serving([sys.executable, str(app)], port, **place, **home) as client:

            def ask(feature):
                try:
                    return client.predict(feature=feature, max_examples=1, scale="feature", api_name="/examples")
                except AppError as error:
                    return str(error)

            def until_it_works(feature):
                for _ in range(60):
                    if not isinstance(answer := ask(feature), str):
                        return answer
                    time.sleep(0.5)
                raise AssertionError(answer)

            try:
                assert "the Hub fails (status 500)" in ask(0)
                del hub.fail["me/examples"]
                assert until_it_works(0)["examples"]
                hub.fail["examples/"] = 404
                asked = next(f for f in range(63, 0, -1) if isinstance(ask(f), str))
                assert "the Hub fails (status 404)" in ask(asked)
                del hub.fail["examples/"]
                assert until_it_works(asked)["examples"]
                page = visits("/?feature=9", wait="#td-examples .td-x")
                page.get_by_role("tab", name="Online").click()
                failed = page.locator("#td-status .td-error")
                said = "did not load: the Hub cannot be reached, and this part of me/base is not in the cache"
                expect(failed).to_contain_text(said, timeout=30_000)
                near = page.get_by_role("link", name="near & here")
                assert near.get_attribute("href") == "?view=near+%26+here&tab=online"
                hub.fail.clear()
                text = {"text": "The quick fox", "highlight_features": "9", "api_name": "/analyze"}
                there = client.predict(**text, view="near & here")
                page.locator("#td-text textarea").fill("The quick fox")
                expect(failed).to_contain_text("Analyze tries again")
                while failed.count():  # not at once: the Hub is given a pause
                    page.get_by_role("button", name="Analyze").click()
                    page.wait_for_timeout(300)
                far = "me/base: 10 of 30 MB from the Hub, me/chat: 0 of 0 MB from the Hub"
                expect(page.locator("#td-status")).to_contain_text(far, timeout=30_000)
                expect(near).to_be_visible()
                expect(failed).to_have_count(0)
            finally:
                weights.set()
            page.wait_for_selector("#td-analysis i")
            expect(page.get_by_text("loading the models")).to_have_count(0)
            expect(near).to_have_count(0)
            assert client.predict(**text)["tokens"] == there["tokens"]
        served = {urlsplit(request.path).path.split("/")[1] for request in hub.taken()}
        assert served <= {"api", "datasets", "large", "me"}
    assert set(log.read_text().splitlines()) <= {"connect 127.0.0.1", "look up 127.0.0.1", "look up localhost"}


def test_the_endpoints_have_their_names(bundle):
    from tiny_dashboard.app.launch import _app_of

    names = {f.api_name for f in _app_of(bundle.toml, False, None).fns.values() if f.api_visibility == "public"}
    assert names >= {"examples", "features", "analyze", "top_features"}

"""Labels in the app: the editor, the endpoint, who may write, and where labels go on a Space."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import expect

from tests.helpers.app_page import feature_box, show_feature
from tests.helpers.browser import Visits
from tests.helpers.bundle import PWN
from tests.helpers.hub_client import Client as HubClient
from tests.helpers.hub_server import Hub
from tests.helpers.language_model import StandIn
from tiny_dashboard import OfflineFeatureCentricDashboard, build_app
from tiny_dashboard.app.label_editor import Writers


@pytest.fixture(scope="module")
def llm():
    with StandIn(lambda messages: "cats" if "You name" in messages[0]["content"] else "no idea") as server:
        yield server


@pytest.fixture(scope="module")
def own(bundle, tmp_path_factory, llm):
    """An app of its own copy of the examples, and what it shows."""
    folder = shutil.copytree(bundle.root / "examples", tmp_path_factory.mktemp("labels") / "examples")
    dashboard = OfflineFeatureCentricDashboard.open(folder, bundle.tokenizer)
    app = build_app(dashboard, llm="m", llm_url=llm.url)
    _, url, _ = app.launch(prevent_thread_lock=True, quiet=True)
    yield SimpleNamespace(folder=folder, dashboard=dashboard, url=url.rstrip("/"))
    app.close()


def test_a_label_is_typed_with_a_key_and_shown_at_once(own, browser):
    visits = Visits(browser, own.url)
    page = visits("?feature=7")
    card, said = page.locator("#td-card"), page.locator("#td-label-said")
    expect(card).to_contain_text("label 7")
    page.keyboard.press("l")
    box = page.locator("#td-label textarea")
    expect(box).to_be_focused()
    text = f"{PWN} dates 🙂"
    box.fill(text)
    page.locator("#td-note textarea").fill("why")
    box.press("Enter")
    expect(said).to_contain_text("saved")
    expect(card).to_contain_text(text)
    expect(page.locator("#td-table tbody tr", has_text=text)).to_have_count(1)
    assert own.dashboard.stats(7).label == text and own.dashboard.stats(7).extra["note"] == "why"
    number = feature_box(page)
    number.press("Control+a")
    number.press_sequentially("12", delay=100)
    expect(page.get_by_label("Label of feature 7")).to_be_visible()
    number.press("Enter")  # the editor goes along, and leaves the person where they type
    expect(page.get_by_label("Label of feature 12")).to_be_visible()
    expect(number).to_be_focused()
    show_feature(page, 8)
    expect(page.get_by_label("Label of feature 8")).to_have_value("")
    box.fill("x" * 400)
    page.locator("#td-label-editor").get_by_role("button", name="Save").click()
    expect(said).to_contain_text("it has 400 characters, at most 300 are kept")
    expect(box).to_have_value("x" * 400)
    page.get_by_role("button", name="Explain this feature").click()
    expect(said).to_contain_text("m: cats")
    expect(card).to_contain_text("cats")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download labels").click()
    assert "cats" in download.value.path().read_text() and download.value.suggested_filename == "labels.csv"
    box.press("Escape")
    expect(box).to_be_hidden()
    visits.check_and_close()


def test_the_endpoint_writes_from_this_machine_only(own):
    client = Client(own.url, verbose=False)
    kept = client.predict(feature=3, label="dogs", note="n", api_name="/label")
    assert (kept["feature"], kept["label"], kept["note"], kept["source"]) == (3, "dogs", "n", "person")
    assert client.predict(query="dogs", api_name="/features")["total"] == 1
    for feature, label, says in [
        (10**6, "x", "has no examples here"),
        (3, "x" * 400, "at most 300"),
        ("a", "x", "whole"),
    ]:
        with pytest.raises(AppError, match=says):
            client.predict(feature=feature, label=label, note="", api_name="/label")
    for headers in ({"Origin": "https://evil.example"}, {"X-Forwarded-For": "1.2.3.4"}):
        with pytest.raises(Exception, match="labels cannot be written from here|403|CORS|JSON"):
            Client(own.url, verbose=False, headers=headers).predict(3, "evil", "", api_name="/label")
    assert own.dashboard.stats(3).label == "dogs"


def request(host="127.0.0.1", client="127.0.0.1", **headers):
    return SimpleNamespace(client=SimpleNamespace(host=client), headers={"host": host, **headers})


def profile(name):
    return gr.OAuthProfile({"preferred_username": name, "name": name, "profile": "", "picture": ""})


def test_who_may_write(monkeypatch):
    here = Writers(None)
    assert here.possible and here.author(request("localhost:7860"), None) is None
    for asked in (
        request("x.gradio.live"),
        request(client="10.0.0.9"),
        request(origin="https://evil.example"),
        request(**{"x-forwarded-for": "1.2.3.4"}),
    ):
        with pytest.raises(PermissionError, match="labels cannot be written from here"):
            here.author(asked, None)
    some = Writers(["ada"])
    assert some.author(request("s.hf.space", "10.0.0.9"), profile("ada")) == "ada"
    with pytest.raises(PermissionError, match="eve is not among label_authors"):
        some.author(request(), profile("eve"))
    with pytest.raises(PermissionError, match="sign in first"):
        some.author(request(), None)
    assert Writers(["anyone"]).author(request("x", "10.0.0.9"), None) == ""
    assert not Writers([]).possible
    monkeypatch.setenv("SPACE_ID", "me/space")
    assert not Writers(None).possible
    with pytest.raises(PermissionError):
        Writers(None).author(request(), None)


def test_on_a_space_labels_go_to_a_dataset_of_the_hub_and_come_back(bundle, tmp_path):
    with Hub() as hub:
        for author in ("ada", "bob"):
            (home := tmp_path / author).mkdir()
            client = HubClient(hub, home, HF_TOKEN=hub.writer, HF_HUB_DISABLE_XET="1")
            client("from tiny_dashboard import OfflineFeatureCentricDashboard as D")
            client(f"d = D.open({str(bundle.root / 'examples')!r}, labels='me/labels')")
            assert client("d.stats(1).label") == ("label 1" if author == "ada" else "by ada")
            client(f"d.label(1 if {author!r} == 'ada' else 2, 'by {author}', author={author!r}) and None")
            client.close()  # what is left is sent as it ends
        names = [name for name in hub.files("me/labels") if name.startswith("labels/")]
        assert len(names) == 2
    with pytest.raises(ValueError, match="labels is 'nowhere'; name a .jsonl file, or a dataset on the Hub"):
        OfflineFeatureCentricDashboard.open(bundle.root / "examples", labels="nowhere")

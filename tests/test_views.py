"""Several views in one app: their config, what is loaded when, one pass for all of their layers, and the page."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from gradio_client import Client
from playwright.sync_api import expect

from tests.helpers.app_page import ANALYSIS, TOP, feature_box, rows, tokens, unfold_steering, wait_for_query
from tests.helpers.browser import Visits
from tests.helpers.bundle import BARE_FEATURE, LAYER, write_crosscoder
from tiny_dashboard import DashboardConfig, build_app, launch
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.offline_view import Look, OfflineView
from tiny_dashboard.app.opening import views_of, views_of_config
from tiny_dashboard.app.views import Views
from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.models.featurizer import Featurizer

TEXT = "The quick brown fox"
NAMES = ["the pair", "a layer before", "examples alone"]


@pytest.fixture(scope="module")
def toml(bundle, tmp_path_factory):
    """Two dictionaries on the layers of one pair of models, and examples without a model."""
    folder = tmp_path_factory.mktemp("views")
    write_crosscoder(folder / "before", torch.randn(50, 2, 32), seed=3)
    path = folder / "dashboard.toml"
    root = bundle.root
    path.write_text(f"""
title = "Three views"
device = "cpu"
tokenizer = "{root}/tokenizer"

[[view]]
name = "{NAMES[0]}"
models = ["{root}/base", "{root}/chat"]
examples = "{root}/examples"
dictionary = "{root}/crosscoder"
layer = {LAYER}
feature = 7
labels = "{folder}/pair.jsonl"
[[view.start]]
title = "a fox"
text = "{TEXT}"
[[view.start]]
title = "feature three"
feature = 3
[[view.start]]
title = "steered"
text = "{TEXT}"
steer = "1"
strength = 2

[[view]]
name = "{NAMES[1]}"
description = "with no examples"
models = ["{root}/base", "{root}/chat"]
dictionary = "before"
layer = {LAYER - 1}

[[view]]
name = "{NAMES[2]}"
examples = "{root}/examples"
labels = "{folder}/alone.jsonl"
feature = 3
""")
    return path


@pytest.fixture
def views(toml):
    return views_of_config(DashboardConfig.read(toml))


@pytest.fixture(scope="module")
def url(toml):
    app = launch(toml, prevent_thread_lock=True, quiet=True)
    yield app.local_url.rstrip("/")
    app.close()


# --- config ----------------------------------------------------------------------------------------------------------


def test_what_stands_outside_the_views_is_common_to_all(toml):
    config = DashboardConfig.read(toml)
    assert [view.name for view in config.views] == NAMES
    assert {view.device for view in config.views} == {"cpu"} and config.title == "Three views"
    assert [view.layer for view in config.views] == [LAYER, LAYER - 1, None]
    assert config.views[1].dictionary == str((toml.parent / "before").resolve())  # found beside the file
    other = config.but({"dtype": "float32"}, "the command line")
    assert {view.dtype for view in other.views} == {"float32"} and [view.name for view in other.views] == NAMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[view]]\nlayer = 3", r"each \[\[view\]\] needs a name of its own; they are \[None\]"),
        ('[[view]]\nname = "a"\n[[view]]\nname = "a"', "needs a name of its own"),
        ('[[view]]\nname = "a"\nlayre = 3', "view 'a': there is no setting 'layre'"),
        ('[[view]]\nname = "a"\n[[view.view]]\nname = "b"', "a view has no views of its own"),
        ("view = 3", r"view is 3; it must be tables, each begun by \[\[view\]\]"),
        ("max_loaded = 0", "max_loaded is 0; it must be at least 1"),
    ],
)
def test_views_that_cannot_be(tmp_path, text, said):
    path = tmp_path / "dashboard.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        DashboardConfig.read(path)


# --- what is loaded when ---------------------------------------------------------------------------------------------


def test_nothing_is_opened_before_it_is_looked_at(views):
    assert [views.of(name).served.live for name in NAMES] == [None] * 3
    assert views.of(NAMES[2]).served.offline.features
    with pytest.raises(ValueError, match="there is no view 'another'; there are the pair, a layer before"):
        views.of("another")


def test_models_are_shared_and_one_pass_reads_all_layers(views):
    mine, other = (views.of(name).served for name in NAMES[:2])
    assert [a is b for a, b in zip(mine.online.featurizer.models, other.online.featurizer.models, strict=True)] == [
        True,
        True,
    ]
    passes = []
    for model in mine.online.featurizer.models:
        model.model.register_forward_pre_hook(lambda *_: passes.append(1))
    encoded = mine.encode(TEXT)
    readings = [served.online.read(encoded) for served in (mine, other)]
    found = views.across(NAMES[0], encoded, 2)
    assert len(passes) == 2  # one of each model
    for served, reading in zip((mine, other), readings, strict=True):
        alone = Featurizer(
            served.online.featurizer.models, served.online.featurizer.dictionary, layer=served.online.featurizer.layer
        )
        torch.testing.assert_close(reading.x, alone.activations(encoded.ids))
    for row in found:
        values = dict(zip(NAMES, readings, strict=False))[row["view"]].values(range(64))[2]
        assert row["activation"] == pytest.approx(float(values[row["feature"]]))
    by_view = {row["view"]: row for row in found}
    assert set(by_view) == set(NAMES[:2])
    values = readings[0].values(range(64))[2].numpy() / mine.maxima(range(64))
    assert by_view[NAMES[0]]["feature"] == int(np.nanargmax(values))
    assert by_view[NAMES[0]]["share"] == pytest.approx(float(np.nanmax(values)))
    assert by_view[NAMES[1]]["share"] is None  # nothing says what its maxima are
    assert views.across(NAMES[2], encoded, 2) == []


def test_models_leave_memory(toml):
    views = views_of_config(DashboardConfig.read(toml).but({"max_loaded": 1}, "here"))
    first, second = (views.of(name).served for name in NAMES[:2])
    model = weakref.ref(first.online.model)
    assert second.online.featurizer.layer == LAYER - 1
    gc.collect()
    assert first.live is None and model() is second.online.model  # which the other view holds still
    assert first.encode(TEXT).ids and second.live is None


# --- dashboards and endpoints ----------------------------------------------------------------------------------------


def test_views_of_dashboards(bundle, monkeypatch):
    offline = OfflineDashboard.open(bundle.root / "examples")
    pair = FeaturizerDashboard(Featurizer(bundle.pair, bundle.dictionary, bundle.tokenizer, LAYER))
    app = build_app({"all": (offline, pair), "text": pair, "examples": offline})
    assert {f.api_name for f in app.fns.values() if f.api_visibility == "public"} >= {"examples", "analyze"}
    with pytest.raises(TypeError, match="a view is an offline and an online dashboard"):
        build_app({"wrong": 3})
    with pytest.raises(TypeError, match="launch takes dashboards, views by name"):
        launch({3: offline})
    with pytest.raises(ValueError, match="each view needs a name of its own; given are none"):
        build_app({})


def test_every_endpoint_takes_a_view(url):
    client = Client(url, verbose=False)
    first = client.predict(TEXT, "1", api_name="/analyze")
    assert client.predict(TEXT, "1", view=NAMES[0], api_name="/analyze") == first
    other = client.predict(TEXT, "1", view=NAMES[1], api_name="/analyze")
    assert other["tokens"] == first["tokens"] and other["activations"] != first["activations"]
    assert client.predict(view=NAMES[2], api_name="/features")["total"] == 64
    assert client.predict(3, view=NAMES[2], api_name="/examples")["examples"]
    with pytest.raises(Exception, match="no examples are configured"):
        client.predict(3, view=NAMES[1], api_name="/examples")
    with pytest.raises(Exception, match="there is no view 'x'; there are the pair"):
        client.predict(TEXT, view="x", api_name="/top_features")
    kept = client.predict(3, "of the third view", view=NAMES[2], api_name="/label")
    assert kept["label"] == "of the third view"
    assert client.predict("third view", view=NAMES[2], api_name="/features")["total"] == 1
    assert client.predict("third view", api_name="/features")["total"] == 0


def test_another_view_begins_with_its_own_feature_where_the_number_is_not_there():
    rows = [(1.0, ["a"], [1.0])]
    dashboards = {"a": OfflineDashboard({7: rows, 9: rows}, None), "b": OfflineDashboard({2: rows, 9: rows}, None)}
    see = OfflineView(views_of(dashboards, 100, None))
    assert [see.there(Look("b", feature))["feature"] for feature in ("7", "9")] == ["2", "9"]


# --- the page --------------------------------------------------------------------------------------------------------


def picked(page):
    return page.locator("#td-view input")


def test_from_view_to_view(browser, url):
    visit = Visits(browser, url)
    page = visit(f"?view={NAMES[2]}", wait="#td-examples .td-x")
    expect(picked(page)).to_have_value(NAMES[2])
    expect(feature_box(page)).to_have_value("3")
    page.locator("body").press("v")  # around the end, to the first: the same feature
    expect(picked(page)).to_have_value(NAMES[0])
    wait_for_query(page, view=None, feature="3")
    page.locator("body").press("b")
    wait_for_query(page, view=NAMES[2], feature="3")
    page.go_back()
    expect(picked(page)).to_have_value(NAMES[0])
    expect(rows(page).first).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 780})  # on a phone, too, the picker and its buttons are one line
    tops = [page.locator(f"#td-view-{name}").bounding_box()["y"] for name in ("before", "next")]
    assert tops[0] == tops[1]
    visit.check_and_close()


def test_a_step_back_to_another_view_finds_its_list_as_it_was(browser, bundle):
    bare = OfflineDashboard({1: [(1.0, ["a"], [1.0])]}, None)
    views = {"full": OfflineDashboard.open(bundle.root / "examples", bundle.tokenizer), "bare": bare}
    app = launch(views, prevent_thread_lock=True, quiet=True)
    visit = Visits(browser, app.local_url.rstrip("/"))
    page = visit("?feature=1&find=density%3E1%25&sort=-max_activation", wait="#td-table th[aria-sort]")
    page.locator("body").press("v")
    wait_for_query(page, view="bare")
    expect(page.locator("#td-table [role=alert]")).to_contain_text("'density' in 'density>1%' is no column")
    page.go_back()
    expect(picked(page)).to_have_value("full")
    expect(page.locator("#td-table th[aria-sort]")).to_have_text("max")
    wait_for_query(page, view=None, sort="-max_activation", find="density>1%")
    visit.check_and_close()
    app.close()


def test_the_same_text_in_another_view_and_across(browser, url):
    visit = Visits(browser, url)
    page = visit(wait="#td-examples .td-x")
    page.get_by_role("tab", name="Online").click()
    expect(tokens(page).first).to_be_visible()  # the view's starting point, analysed
    picked(page).click()
    page.get_by_role("option", name=NAMES[1]).click()
    wait_for_query(page, view=NAMES[1], text=TEXT)
    expect(page.locator(".td-head")).to_contain_text("with no examples")
    tokens(page).nth(2).click()
    strip = page.locator(f"{TOP} .td-at")
    expect(strip).to_have_count(2)
    expect(page.locator(f"{TOP} .td-at[aria-current]")).to_contain_text(NAMES[1])
    goes = page.locator(f"{TOP} .td-at:not([aria-current])")
    feature = goes.text_content().split()[2]
    goes.click()
    expect(picked(page)).to_have_value(NAMES[0])
    wait_for_query(page, view=None, highlight=feature, token="2", text=TEXT)
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text(f"feature {feature}")
    page.get_by_role("tab", name="Offline").click()
    expect(page.locator(".td-head")).not_to_contain_text("with no examples")
    visit.check_and_close()


def test_starting_points(browser, url, slow_model):
    visit = Visits(browser, url)
    page = visit(wait="#td-examples .td-x")
    steered, answer = page.get_by_role("button", name="steered", exact=True), page.locator(f"{ANALYSIS} .td-answer")
    stop = page.get_by_role("button", name="Stop", exact=True)
    steered.click()
    expect(page.get_by_role("tab", name="Online")).to_have_attribute("aria-selected", "true")
    expect(answer.first).to_be_visible()
    # Another waits for no answer.
    page.get_by_role("button", name="feature three").click()
    expect(page.get_by_role("tab", name="Offline")).to_have_attribute("aria-selected", "true")
    expect(feature_box(page)).to_have_value("3")
    # What there is of the answer is drawn when the tab is looked at again.
    page.get_by_role("tab", name="Online").click()
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_be_visible()
    page.get_by_role("button", name="a fox").click()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(f"<s>{TEXT}")
    expect(stop).to_be_hidden()
    steered.click()
    expect(answer.first).to_be_visible()
    stop.click()
    expect(stop).to_be_hidden()
    unfold_steering(page)
    page.get_by_label("number input for New tokens").fill("2")
    steered.click()
    wait_for_query(page, steer="1", strength="2", text=TEXT)
    expect(page.locator("#td-unsteered .td-answer")).to_have_count(2)
    expect(answer).to_have_count(2)
    expect(page.locator(".td-says")).to_have_count(0)  # nothing is out of date
    visit.check_and_close()


def test_a_link_to_no_view_is_said(browser, url):
    visit = Visits(browser, url)
    page = visit("?view=nonsense", wait="#td-examples .td-x")
    expect(page.locator("#td-said")).to_contain_text("there is no view 'nonsense'; there are the pair")
    wait_for_query(page, view=None)
    visit.check_and_close()


def test_a_label_is_of_the_view_that_it_was_written_in(browser, url):
    visit = Visits(browser, url)
    page = visit(f"?view={NAMES[2]}&feature=9", wait="#td-examples .td-x")
    page.locator("body").press("l")
    page.locator("#td-label textarea").fill("nine of the third")
    page.locator("#td-label textarea").press("Enter")
    expect(page.locator("#td-card")).to_contain_text("nine of the third")
    page.goto(f"{url}/?feature=9")
    expect(rows(page).first).to_be_visible()
    expect(page.locator("#td-card")).not_to_contain_text("nine of the third")
    visit.check_and_close()


def test_nearest_features_are_asked_of_models_that_are_not_loaded_yet(bundle):
    offline = OfflineDashboard.open(bundle.root / "examples")
    later = Loading(lambda: FeaturizerDashboard(bundle.featurizer))
    view = OfflineView(Views.one(offline, later))
    assert 'data-action="nearest"' in view.show(Look(feature=BARE_FEATURE))["card"] and later.value is None
    card = view.follow(Look(), "nearest", BARE_FEATURE)["card"]
    assert card.count('data-action="open"') == 6 and view.show(Look(feature=BARE_FEATURE))["card"] == card

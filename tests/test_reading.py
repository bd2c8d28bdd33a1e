"""A text is read once, whatever is asked of it; tokens out of all proportion are left out of what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.bundle import LAYER, N_FEATURES
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.online_html import Seen
from tiny_dashboard.app.online_view import OnlineView
from tiny_dashboard.app.views import Views
from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
from tiny_dashboard.dashboards.question import Question
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.models.reading import outliers

TEXT = "The quick brown fox"
COLORS = ("#d55e00", "#0072b2")


@pytest.fixture
def counted(bundle):
    """A dashboard whose models count their forward passes."""
    passes = []
    handles = [
        model.model.register_forward_pre_hook(lambda *_, name=name: passes.append(name))
        for name, model in enumerate(bundle.pair)
    ]
    dashboard = FeaturizerDashboard(Featurizer(bundle.pair, bundle.dictionary, bundle.tokenizer, LAYER))
    yield dashboard, passes
    for handle in handles:
        handle.remove()


def test_one_pass_for_a_text_and_none_for_its_looks(counted):
    dashboard, passes = counted
    see = OnlineView(Views.one(None, Loading.of(dashboard)))
    seen = Seen.of(see.ask(Question(TEXT), None)["state"])
    assert sorted(passes) == [0, 1]
    for highlight, max_act, split, mask, colors in (
        ("1", "", True, False, COLORS),
        ("1, 2", "5", False, True, ("#111111", "#222222")),
        ("3", "", False, False, COLORS),
    ):
        looks = Question("", False, highlight, "4", max_act, split, mask, *colors)
        assert "wrong" not in see.redraw(looks, seen)["said"]
    dashboard.top_features(TEXT, 5)
    dashboard.analyze(TEXT, 7, split=True)
    assert sorted(passes) == [0, 1]
    dashboard.analyze(TEXT + " again", 7)
    assert sorted(passes) == [0, 0, 1, 1]


def test_an_outlier_is_left_out(counted, monkeypatch):
    dashboard, _ = counted
    real = dashboard.featurizer.activations

    def with_sink(ids):
        x = real(ids).clone()
        x[2] *= 500
        return x

    monkeypatch.setattr(dashboard.featurizer, "activations", with_sink)
    views = Views.one(None, Loading.of(dashboard))
    ask = Endpoints(views)
    assert 2 not in [row["position"] for row in ask.top_features(TEXT)["features"]]
    feature = ask.top_features(TEXT)["features"][0]["feature"]
    answer = ask.analyze(TEXT, str(feature))
    assert answer["left_out"] == [2] and answer["activations"][2] == [None]
    result = dashboard.analyze(TEXT, feature)
    assert np.isnan(result.activations[2]).all() and 'title="left out: its norm' in result.fragment
    fires = dashboard.read(dashboard.encode(TEXT)).values(range(N_FEATURES))[2] > 0
    for fires_there, feature in ((True, fires.nonzero()[0]), (False, (~fires).nonzero()[0])):
        view = OnlineView(views).ask(Question(TEXT, highlight=str(int(feature))), None)["analysis"]
        assert view.startswith('<div class="td td-note') == fires_there, "it is said where it matters"
        assert "token 2 left out: its norm is out of all proportion" in view or not fires_there


def test_outliers_are_told_by_the_median_of_what_counts():
    x = torch.ones(2, 6, 1, 4)
    x[0, 0] *= 300
    x[1, 3] *= 11
    keep = torch.ones(2, 6, dtype=torch.bool)
    assert outliers(x, keep).nonzero().tolist() == [[0, 0], [1, 3]]
    assert not outliers(x, keep, 400.0).any()


def test_a_model_that_gives_nan_is_said(counted, monkeypatch):
    dashboard, _ = counted
    real = dashboard.featurizer.activations

    def broken(ids):
        x = real(ids).clone()
        x[1, 0, 3] = torch.nan
        return x

    monkeypatch.setattr(dashboard.featurizer, "activations", broken)
    with pytest.raises(
        ValueError, match=r"gives NaN or infinite activations at 1 of \d tokens \(resid_post of layer 1"
    ):
        dashboard.analyze(TEXT, 3)

"""The feature card: each part that is known is shown, the others are left out, and text stays text."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.hostile import ANY_TEXT
from tests.helpers.html_tree import parse
from tiny_dashboard.core.card import CardInfo, card_html
from tiny_dashboard.core.highlight import COLORS
from tiny_dashboard.core.statistics import FeatureStats

FULL = FeatureStats(
    417,
    n_active=1234,
    density=0.00123,
    max_activation=12.8,
    mean_activation=0.0456,
    histogram=[1, 40, 10, 0],
    histogram_edges=[0.0, 3.2, 6.4, 9.6, 12.8],
    label="the word “from” & its kin",
    top_logits=[[(" base only", 1.0)], [(" the", 2.0), ("a\n", 1.5), *[(f"t{i}", 1.0) for i in range(20)]]],
    bottom_logits=[[(" no", -1.0)], [("():", -2.5)]],
    decoder_norms=[1.0, 3.0],
    relative_norm_difference=5 / 6,
    decoder_cosine=-0.125,
    peak_tokens=[(" from", 9)],
)


def test_all_that_is_known_is_shown():
    tree = parse(card_html(FULL, CardInfo(["org/base-model", "org/chat-model"])))
    activity, promotes, suppresses, split = tree.one("div", "td-card").children
    assert activity.one("strong").text == "the word “from” & its kin"
    assert activity.all("small")[-1].text == "maximum 12.80 · mean 0.0456 · fires on 0.123% of tokens"
    assert [s.attrs["style"] for s in tree.one("div", "td-bars").all("s")] == [
        "height:2%", "height:100%", "height:25%", "height:0%",
    ]  # fmt: skip
    assert tree.one("div", "td-bars").attrs["aria-label"] == "histogram of activations, 0 to 12.80"
    assert tree.one("small", "td-ends").text == "012.80"
    assert promotes.one("small").text == "Promotes (chat-model)"
    shown = promotes.all("code")
    assert [c.text for c in shown[:2]] == ["␣the", "a↵"] and len(shown) == 8
    assert shown[0].attrs["title"] == "+2"
    assert suppresses.one("small").text == "Suppresses (chat-model)" and suppresses.one("code").attrs["title"] == "-2.5"
    assert split.all("small")[0].text == "Decoder norm, base-model 1.00 / chat-model 3.00"
    assert split.all("small")[1].text == "0.83 relative norm (0 base-model, 1 chat-model) · -0.12 cosine"
    bar = split.one("div", "td-split").attrs["style"]
    assert re.findall(r"(#[0-9a-f]{6})c0 ([0-9.]+)%", bar) == [(COLORS[1], "25.0"), (COLORS[0], "25.0")]


def test_nothing_known_is_nothing_shown():
    assert card_html(None) == ""
    assert parse(card_html(FeatureStats(1))).text == ""


@pytest.mark.parametrize("left_out", [f.name for f in fields(FeatureStats) if f.name != "feature"])
def test_any_part_may_be_missing(left_out):
    default = getattr(FeatureStats(1), left_out)
    known = {f.name: getattr(FULL, f.name) for f in fields(FeatureStats)} | {left_out: default}
    card = card_html(FeatureStats(**known))
    assert "None" not in card and "nan" not in card
    assert len(card) < len(card_html(FULL)) or left_out in ("n_active", "peak_tokens", "extra")
    alone = card_html(FeatureStats(1, **{left_out: getattr(FULL, left_out)}))
    assert parse(alone).one("div", "td-card") and "None" not in alone


def test_a_feature_that_never_fires_says_so():
    assert "never fires" in card_html(FeatureStats(1, n_active=0, density=0.0))
    assert "fires on 0% of tokens" in card_html(FeatureStats(1, density=0.0))
    assert "td-bars" not in card_html(FeatureStats(1, histogram=[0, 0], histogram_edges=[0, 1, 2]))


def test_a_feature_without_label_is_named_by_what_it_fires_on():
    assert parse(card_html(FeatureStats(1, peak_tokens=[("<b>", 3)]))).one("strong").text == "<b>"


def test_one_model_is_not_split():
    stats = FeatureStats(1, decoder_norms=[2.0], top_logits=[[("x", 1.0)]])
    card = card_html(stats, CardInfo(["gpt2"]))
    assert "Decoder norm" not in card and "gpt2" not in card
    three = FeatureStats(1, decoder_norms=[2.0, 1.0, 1.0], top_logits=[[("x", 1.0)]] * 3)
    assert "Decoder norm" not in card_html(three, CardInfo(["a", "b", "c"]))
    assert "Decoder norm, base 1.00 / chat 3.00" in card_html(FULL)
    assert "b1 1.00 / c1 3.00" in card_html(FULL, CardInfo(["/models/b1/", "models/c1"]))


def test_norms_of_nothing():
    for norms in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0]):
        style = parse(card_html(FeatureStats(1, decoder_norms=norms))).one("div", "td-split").attrs["style"]
        assert re.search(r"[0-9.]+%", style) and "nan" not in style


def test_arrays_and_unknown_values():
    stats = FeatureStats(1, histogram=np.array([0.25, 0.5]), histogram_edges=np.array([0.0, 1.0, 2.0]))
    assert [s.attrs["style"] for s in parse(card_html(stats)).all("s")] == ["height:50%", "height:100%"]
    # Some formats know the tokens and not their logits, or the counts and not their edges.
    tokens = parse(card_html(FeatureStats(1, top_logits=[[("x", float("nan"))]]))).one("code")
    assert tokens.text == "x" and "nan" not in str(tokens.attrs)
    assert len(parse(card_html(FeatureStats(1, histogram=[1, 2]))).all("s")) == 2


@given(ANY_TEXT)
def test_text_stays_text(text):
    stats = FeatureStats(
        1, label=text, top_logits=[[(text, 1.0)]] * 2, decoder_norms=[1.0, 1.0], peak_tokens=[(text, 1)]
    )
    html = card_html(stats, CardInfo([text, text]))
    html.encode("utf-8")
    tree = parse(html)
    assert {n.tag for n in tree.walk()} <= {"div", "small", "p", "code", "strong"}
    assert not [a for n in tree.walk() for a in n.attrs if a not in ("class", "style", "title")]
    assert len(tree.one("code").text) == len(text)

"""The feature card: each part that is known is shown, the others are left out, and text stays text."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given

from tests.helpers.hostile import ANY_TEXT
from tests.helpers.html_tree import parse
from tiny_dashboard.core.card import Band, CardInfo, Near, card_html
from tiny_dashboard.core.highlight import COLORS
from tiny_dashboard.core.statistics import FeatureStats, visible

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
    nearest=[(7, 0.5)],
)


BANDS = [Band("strongest · 6.40 to 12.80", 6.4, 12.8), Band("0.10 · drawn at random", 0.1, 0.1)]


def test_all_that_is_known_is_shown():
    tree = parse(card_html(FULL, CardInfo(["org/base-model", "org/chat-model"], bands=BANDS)))
    head, activity, promotes, suppresses, nearest = tree.one("div", "td-card").children
    assert nearest.one("button").text.split() == ["7", "0.50"]
    assert head.one("h2").text == "the word “from” & its kin"
    verdict = head.one("p", "td-verdict")
    assert verdict.one("strong").text == "leans to chat"
    norms = "decoder norm base-model 1.00, chat-model 3.00"
    assert verdict.one("small").text == f"relative norm 0.83 · cosine -0.12 · {norms}"
    bar = verdict.one("span", "td-split").attrs["style"]
    assert re.findall(r"(#[0-9a-f]{6})c0 ([0-9.]+)%", bar) == [(COLORS[1], "25.0"), (COLORS[0], "25.0")]
    assert activity.all("small")[-1].text == "maximum 12.80 · mean 0.0456 · fires on 0.123% of tokens"
    assert [s.attrs["style"] for s in tree.one("div", "td-bars").all("s")] == [
        "height:2%", "height:100%", "height:25%", "height:0%;min-height:0",
    ]  # fmt: skip
    assert tree.one("div", "td-bars").attrs["aria-label"] == "histogram of activations, 0 to 12.80"
    assert tree.one("div", "td-ends").text == "0 12.80"
    assert promotes.children[0].text == "Promotes" and suppresses.children[0].text == "Suppresses"
    base, chat = promotes.all("p")
    assert [c.text for c in base.all("code")] == ["␣base␣only"] and base.one("small").text == "base-model"
    shown = chat.all("code")
    assert [c.text for c in shown[:2]] == ["␣the", "a↵"] and len(shown) == 6 and chat.one("small").text == "chat-model"
    # One scale for the bars of all four lists, and each model's own colour.
    assert shown[0].attrs["title"] == "+2" and f"{COLORS[0]} 0 0) 0 100%/80% " in shown[0].attrs["style"]
    assert f"{COLORS[1]} 0 0) 0 100%/40% " in base.one("code").attrs["style"]
    worst = suppresses.all("code")[-1].attrs
    assert worst["title"] == "-2.5" and "/100% " in worst["style"]


def test_the_histogram_ends_where_the_feature_does():
    longer = replace(FULL, histogram=[1, 40, 10, 0, 0, 0], histogram_edges=[0.0, 3.2, 6.4, 9.6, 12.8, 25.6, 51.2])
    assert card_html(longer) == card_html(FULL)


def test_who_named_it_stands_beside_the_name():
    tree = parse(card_html(replace(FULL, extra={"label_source": "ada <b>", "p": 0.5})))
    assert tree.one("h2", "td-name").one("small").text == "named by ada <b>"
    assert "label by" not in tree.text and "0.50" in tree.text


def test_bands_are_marked_under_the_histogram():
    """Each mark stands below the bars of its strengths, and leads to its heading."""
    marks = parse(card_html(FULL, CardInfo(bands=BANDS))).one("div", "td-marks").all("button")
    assert [m.attrs["style"] for m in marks] == ["left:50.0%;width:50.0%", "left:0.8%;width:0.0%"]
    assert [m.attrs["data-value"] for m in marks] == [band.heading for band in BANDS]
    assert all(m.attrs["data-action"] == "band" and m.attrs["aria-label"] for m in marks)
    assert not parse(card_html(replace(FULL, histogram_edges=(), nearest=()), CardInfo(bands=BANDS))).all("button")


@pytest.mark.parametrize(
    ("norm", "says"),
    [(0.0, "base-only"), (0.099, "base-only"), (0.1, "leans to base"), (0.5, "shared"), (0.88, "leans to chat"),
     (0.97, "chat-only"), (1.0, "chat-only"), (float("nan"), None)],
)  # fmt: skip
def test_the_verdict_of_a_crosscoder(norm, says):
    found = parse(card_html(FeatureStats(1, relative_norm_difference=norm))).all("strong")
    assert [s.text for s in found] == ([says] if says else [])


def test_nearest_features_have_names():
    near = [Near(7, 0.913, "a <label>"), Near(12, 0.5, "", [" of", "\n"])]
    buttons = parse(card_html(FeatureStats(1), CardInfo(nearest=near))).all("button")
    assert [words(b) for b in buttons] == ["7 a <label> 0.91", "12 ␣of ↵ 0.50"]
    assert [(b.attrs["data-action"], b.attrs["data-value"]) for b in buttons] == [("open", "7"), ("open", "12")]
    (offer,) = parse(card_html(FeatureStats(1), CardInfo(nearest=[]))).all("button")
    assert offer.attrs["data-action"] == "nearest"


def test_what_has_no_glyph_is_told_apart():
    shown = parse(card_html(FeatureStats(1, top_logits=[[("\x18", 1.0), ("\x1d", 1.0), ("⟨E2⟩⟨82⟩", 1.0)]]))).all(
        "code"
    )
    assert [c.text for c in shown] == ["⟨18⟩", "⟨1D⟩", "⟨E2⟩⟨82⟩"]


def words(node):
    return " ".join(node.text.split())


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
    assert parse(card_html(FeatureStats(1, peak_tokens=[("<b>", 3)]))).one("h2").one("code").text == "<b>"


def test_one_model_is_not_split():
    stats = FeatureStats(1, decoder_norms=[2.0], top_logits=[[("x", 1.0)]])
    card = card_html(stats, CardInfo(["gpt2"]))
    assert "decoder norm" not in card and "gpt2" not in card
    three = FeatureStats(1, decoder_norms=[2.0, 1.0, 1.0], top_logits=[[("x", 1.0)]] * 3)
    shown = card_html(three, CardInfo(["a", "b", "c"]))
    assert "decoder norm" not in shown and [s.text for s in parse(shown).all("small")] == ["Promotes", "a", "b", "c"]
    assert "decoder norm base 1.00, chat 3.00" in card_html(FULL)
    assert "b1 1.00, c1 3.00" in card_html(FULL, CardInfo(["/models/b1/", "models/c1"]))


def test_norms_of_nothing():
    for norms in ([0.0, 0.0], [0.0, 1.0], [1.0, 0.0]):
        style = parse(card_html(FeatureStats(1, decoder_norms=norms))).one("span", "td-split").attrs["style"]
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
    assert {n.tag for n in tree.walk()} <= {"div", "small", "p", "code", "strong", "h2", "span"}
    assert not [a for n in tree.walk() for a in n.attrs if a not in ("class", "style", "title", "data-feature")]
    assert [c.text for c in tree.all("code")] == [visible(text)] * (2 if text else 3)

"""The highlighter core: regressions are tests on the HTML it makes, read back by the standard library's parser."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers.colors import alpha_of, contrast_on, rgb, shade
from tests.helpers.hostile import ANY_TEXT, shown
from tests.helpers.html_tree import data_of, ids_of, parse, passages_of, tokens_of
from tiny_dashboard.core import highlight
from tiny_dashboard.core.concordance import examples_html, likes_together, share_scale
from tiny_dashboard.core.highlight import (
    COLORS,
    NEGATIVE_COLORS,
    SURROUNDINGS,
    Html,
    Passage,
    Track,
    format_number,
    hex_color,
    max_alpha,
    passage_html,
    plain_text,
)
from tiny_dashboard.core.static import page

NAN = float("nan")


def one(*tokens, values=None, **how):
    """A passage of some tokens with one track."""
    return Passage(tokens, [Track("f", [0.0] * len(tokens) if values is None else values)], **how)


def styles(html):
    return [token.attrs.get("style", "") for token in tokens_of(parse(html))]


# --- what stands on the page -----------------------------------------------------------------------------------------


def test_one_element_for_each_token_and_nothing_on_the_quiet_ones():
    html = passage_html(one("The", " cat", " sat", values=[0, 2.0, 0]))
    tree = parse(html)
    assert [(t.text, t.attrs) for t in tokens_of(tree)][0::2] == [("The", {}), (" sat", {})]
    active = tokens_of(tree)[1]
    strongest = f"{round(255 * max_alpha(COLORS[0])):02x}"
    assert active.attrs == {"style": f"background:{COLORS[0]}{strongest}", "title": "2"}
    assert tree.one("div", "td").attrs["data-view"] == "text"
    assert tree.one("div", "td-p").text == "The cat sat"
    assert isinstance(html, Html) and html._repr_html_() == html


@pytest.mark.parametrize("view", ["passage", "lines", "paragraphs"])
def test_text_is_exact_with_breaks_and_tabs(view):
    tokens = ["def f():\r\n", "\t", "\treturn", " ", "  ", "\n", "\n\n", "\r", "é", "", "日本", "\u2028", "end "]
    passage = one(*tokens, values=[0, 1, 0, NAN, -1, 2, 0, 1, 0, 0, 1, 1, 1])
    html = passage_html(passage) if view == "passage" else examples_html([passage], view=view, window=2)
    (place,) = passages_of(parse(html))
    assert [t.text for t in tokens_of(place)] == tokens
    # Raw, a browser would make of it a line feed; escaped, it stays.
    assert "\r" not in html and "&#13;" in html
    assert html.count("<b>\n</b>") == 4


def test_newlines_tabs_and_unseen_characters_are_made_visible_by_the_style_sheet_alone():
    tree = parse(passage_html(one("a\n", "\t", "\r", "\u200b", "x\u202ey", "\x07")))
    marks = [[(n.tag, n.attrs.get("data-x"), n.text) for n in t.all()] for t in tokens_of(tree)]
    assert marks == [
        [("b", None, "\n")],
        [("bdi", "⇥", "\t")],
        [("bdi", "␍", "\r")],
        [("bdi", "U+200B", "\u200b")],
        [("bdi", "U+202E", "\u202e")],
        [("bdi", "U+0007", "\x07")],
    ]


def test_bytes_of_a_split_character_show_as_chips_and_add_no_text():
    tree = parse(passage_html(one("", "", "€", "x\ufffd", values=[1, 0, 2, 0], chips={0: "E2", 1: "82", 3: "FF"})))
    tokens = tokens_of(tree)
    assert [t.text for t in tokens] == ["", "", "€", "x\ufffd"]
    assert [[b.attrs["data-x"] for b in t.all("b")] for t in tokens] == [["E2"], ["82"], [], ["FF"]]
    assert tokens[0].attrs["title"] == "1"


def test_special_tokens_are_set_back():
    tree = parse(passage_html(one("<s>", "a", "b", values=[3, 0, 1], special=[True, False, False])))
    assert [t.classes for t in tokens_of(tree)] == [["td-s"], [], []]
    assert tokens_of(tree)[0].attrs["title"] == "3"
    arrays = one("<s>", "a", "b", values=[3, 0, 1], special=np.array([True, False, False]))
    assert passage_html(arrays) == passage_html(replace(arrays, special=[True, False, False]))


def test_two_tracks_split_the_background():
    tracks = [Track("a", [1, 0, 2, NAN]), Track("b", [0, 3, 3, 1.5])]
    html = passage_html(Passage(["w", "x", "y", "z"], tracks))
    full = [f"{color}{round(255 * max_alpha(color)):02x}" for color in COLORS]
    found = styles(html)
    assert found[2] == f"background:linear-gradient({full[0]} 50%,{full[1]} 50%)"
    assert found[1] == f"background:linear-gradient(#0000 50%,{full[1]} 50%)"
    assert re.fullmatch(rf"background:linear-gradient\({COLORS[0]}[0-9a-f]{{2}} 50%,#0000 50%\)", found[0])
    assert [t.attrs["title"] for t in tokens_of(parse(html))] == ["1.00 · 0", "0 · 3.00", "2.00 · 3.00", "1.50"]
    assert [alpha_of(s) for s in found][3] == 0


def test_the_data_of_the_tooltip_travels_once():
    tracks = [
        Track("quiet <b>", [0, 0, 0.123456]),
        Track("loud", [NAN, -2, 1e-9], highlighted=False),
        Track("kept back", [1, 1, 1], highlighted=False, in_tooltip=False),
    ]
    html = passage_html(Passage(["a", "b", "c"], tracks, ids=[7, 65535, 0]))
    data = data_of(parse(html))
    assert data["names"] == ["quiet <b>", "loud"]
    assert data["colors"] == [COLORS[0], ""]
    (own,) = data["passages"]
    assert own["v"] == [[[2], [0.1235]], [[1, 2], [-2, 1e-9]]]
    assert ids_of(own)[:3] == [7, 65535, 0]
    for ids in ([8280, 5, 0], [5, 37_000, 9], [1, 2, 78_989], [91**3 - 1, 5, 0], [-1, 2, 3], [1, 2, 1 << 24]):
        (own,) = data_of(parse(passage_html(Passage(["a", "b", "c"], ids=ids))))["passages"]
        assert ids_of(own)[:3] == ids
    assert "x" not in own
    assert "NaN" not in html


def test_a_text_that_html_cannot_hold_travels_in_the_data():
    tokens = ["ok", "a\x00b", "\ud800", "\ud83d\ude00"]
    tree = parse(passage_html(one(*tokens)))
    assert [t.text for t in tokens_of(tree)] == ["ok", "a\ufffdb", "\ufffd", "\ufffd\ufffd"]
    (own,) = data_of(tree)["passages"]
    lost = {int(at): text for at, text in own["x"].items()}
    # JSON cannot tell two halves from the character, nor can a browser's string.
    assert lost == {1: "a\x00b", 2: "\ud800", 3: "\U0001f600"}


def test_values_of_every_kind():
    torch = pytest.importorskip("torch")
    plain = passage_html(one("a", "b", "c", values=[0.0, 1.5, -2.0]))
    kinds = [
        (0.0, 1.5, -2.0),
        np.array([0, 1.5, -2], dtype=np.float16),
        torch.tensor([0, 1.5, -2], dtype=torch.bfloat16, requires_grad=True),
        [0.0, np.float32(1.5), torch.tensor(-2.0)],
    ]
    for values in kinds:
        assert passage_html(one("a", "b", "c", values=values)) == plain
    assert passage_html(one("a", "b", values=[None, 1])) == passage_html(one("a", "b", values=[NAN, 1]))
    assert passage_html(one("a", "b", values=np.array([True, False]))) == passage_html(one("a", "b", values=[1, 0]))
    assert passage_html(one("a", "b", "c", values=[0, 1.5, -2], ids=np.array([1, 2, 3]))) == passage_html(
        one("a", "b", "c", values=[0, 1.5, -2], ids=torch.tensor([1, 2, 3]))
    )


# --- scales ----------------------------------------------------------------------------------------------------------


def test_colour_grows_with_the_value_and_never_vanishes():
    values = [0.0, 1e-12, 1.0, 2.0, 3.0, 10.0]
    alphas = [alpha_of(s) if s else 0 for s in styles(passage_html(one(*"abcdef", values=values)))]
    assert alphas == sorted(alphas) and alphas[0] == 0 < alphas[1] and len(set(alphas)) == 6
    assert alphas[5] == round(255 * max_alpha(COLORS[0]))
    # Linear above a faint floor, by an independent formula.
    for value, alpha in zip(values[1:], alphas[1:], strict=True):
        assert abs(alpha - shade(COLORS[0], value / 10)) <= 1


def test_negative_values_have_their_own_colour_and_scale():
    html = passage_html(one("a", "b", "c", "d", values=[10, -0.5, -1, 5]))
    found = styles(html)
    assert [re.search("#[0-9a-f]{6}", s)[0] for s in found] == [
        COLORS[0],
        NEGATIVE_COLORS[0],
        NEGATIVE_COLORS[0],
        COLORS[0],
    ]
    assert alpha_of(found[2]) == round(255 * max_alpha(NEGATIVE_COLORS[0]))
    assert alpha_of(found[1]) < alpha_of(found[2])
    legend = parse(html).one("span", "td-legend").text
    assert "10.00" in legend and "−1.00" in legend
    # One number is the scale of both sides.
    clamped = passage_html(Passage(list("abcd"), [Track("f", [10, -0.5, -1, 5], scale=2)]))
    assert alpha_of(styles(clamped)[0]) == alpha_of(styles(clamped)[3]) == round(255 * max_alpha(COLORS[0]))
    assert alpha_of(styles(clamped)[2]) == shade(NEGATIVE_COLORS[0], 1 / 2)
    assert "clamped (10.00 at most)" in parse(clamped).one("span", "td-legend").text
    assert "−2.00" in parse(clamped).one("span", "td-legend").text


def test_the_second_track_is_negative_in_a_colour_of_its_own():
    html = passage_html(Passage(["a"], [Track("f", [-1.0]), Track("g", [-1.0])]))
    assert re.findall("#[0-9a-f]{6}", styles(html)[0]) == list(NEGATIVE_COLORS)


def test_a_clamped_scale_is_said_and_a_kept_one_is_not():
    def legend(scale):
        return parse(passage_html(Passage(["a", "b"], [Track("f", [4.0, 1.0], scale=scale)]))).one("span", "td-legend")

    assert "clamped (4.00 at most)" in legend(2.0).text and "2.00" in legend(2.0).text
    assert "clamped" not in legend(4.0).text
    assert "clamped" not in legend(8.0).text and "8.00" in legend(8.0).text
    # Activations that went through float16 are not "more" than the maximum that did not.
    value = float(np.float16(6.7998))
    assert value > 6.7998
    rounded = Passage(["a"], [Track("f", [value], scale=6.7998)])
    assert "clamped" not in parse(passage_html(rounded)).one("span", "td-legend").text
    gradient = legend(2.0).one("span", "td-ramp").attrs["style"]
    assert f"{COLORS[0]}00" in gradient and f"{COLORS[0]}{round(255 * max_alpha(COLORS[0])):02x}" in gradient


def test_scales_of_examples_are_their_own_or_shared():
    weak, strong = one("a", "b", values=[1, 0.5]), one("a", "b", values=[10, -20])
    own = examples_html([weak, strong])
    assert alpha_of(styles(own)[0]) == alpha_of(styles(own)[2])
    assert "each example's own maximum" in parse(own).one("span", "td-legend").text
    shared = examples_html(share_scale([weak, strong]))
    full = round(255 * max_alpha(COLORS[0]))
    assert alpha_of(styles(shared)[2]) == shade(COLORS[0], 1 / 2) < full
    assert "own maximum" not in parse(shared).one("span", "td-legend").text
    assert "20.00" in parse(shared).one("span", "td-legend").text
    given = share_scale([weak, strong], 5.0)
    assert [p.tracks[0].scale for p in given] == [5.0, 5.0]
    assert "clamped (10.00 at most)" in parse(examples_html(given)).one("span", "td-legend").text
    # One example alone has no one to differ from.
    assert "1.00" in parse(examples_html([weak])).one("span", "td-legend").text
    assert [p.tracks[0].scale for p in share_scale([one("a", values=[0]), one("b", values=[NAN])])] == [None, None]


def test_each_track_has_its_own_shared_scale():
    passages = [
        Passage(["a"], [Track("f", [1]), Track("g", [100])]),
        Passage(["b"], [Track("f", [2]), Track("g", [50])]),
    ]
    assert [[t.scale for t in p.tracks] for p in share_scale(passages)] == [[2, 100], [2, 100]]
    legend = parse(examples_html(share_scale(passages))).one("span", "td-legend")
    assert words(legend) == "f: 0 to 2.00 g: 0 to 100.00"


def words(node):
    return " ".join(node.text.split())


def test_a_legend_names_each_track_once_and_says_its_scale_on_both_sides_of_zero():
    def legend(*tracks):
        return parse(passage_html(Passage(["a", "b"], tracks))).one("span", "td-legend")

    # A figure needs the name, were it the only one; a feature's examples stand below it.
    assert words(legend(Track("feature 3", [6.37, 0]))) == "feature 3: 0 to 6.37"
    assert words(parse(examples_html([one("a", values=[6.37])])).one("span", "td-legend")) == "scale: 0 to 6.37"
    both = legend(Track("feature 0, base", [-2, 5]), Track("feature 0, chat", [-1, 0]))
    assert words(both) == "feature 0, base: −2.00 to 0 to 5.00 feature 0, chat: −1.00 to 0"
    below, above, _ = both.all("span", "td-ramp")
    assert re.search(f"270deg,{NEGATIVE_COLORS[0]}00,{NEGATIVE_COLORS[0]}", below.attrs["style"])
    assert re.search(f"90deg,{COLORS[0]}00,{COLORS[0]}", above.attrs["style"])
    own = parse(examples_html([one("a", "b", values=[1, -1]), one("a", "b", values=[2, -9])]))
    assert words(own.one("span", "td-legend")) == (
        "scale: 0 to each example's own maximum: shades of two lines cannot be compared"
    )
    assert len(own.all("span", "td-ramp")) == 2


@pytest.mark.parametrize("values", [[0.0, 0.0], [NAN, NAN], [0.0, NAN], []])
def test_a_track_that_never_fires_colours_nothing_and_says_so(values):
    passage = one(*"ab"[: len(values)], values=values)
    for html in (passage_html(passage), examples_html([passage]), examples_html(share_scale([passage]))):
        assert not any(styles(html))
        assert parse(html).one("span", "td-legend").text == "f: never active"
        assert "nan" not in html.lower()


def test_a_passage_without_tracks_is_just_text():
    html = passage_html(Passage(["a", "b"]))
    assert parse(html).one("div", "td-p").text == "ab" and "td-legend" not in html and "td-bar" not in html
    assert parse(examples_html([Passage(["a", "b"])])).one("span", "td-v").text == ""
    assert "td-legend" not in passage_html(one("a", values=[1]), legend=False)


@given(
    st.lists(st.floats(allow_infinity=False, width=64) | st.just(0.0), min_size=1, max_size=8),
    st.none() | st.floats(1e-300, 1e300),
)
@example([5e-324, -5e-324], None)
@example([1.7e308, -1.7e308], 1e-300)
def test_any_values_draw_within_bounds(values, scale):
    html = passage_html(Passage(["x"] * len(values), [Track("f", values, scale=scale)]))
    strongest = [round(255 * max_alpha(c)) for c in (COLORS[0], NEGATIVE_COLORS[0])]
    for value, token in zip(values, tokens_of(parse(html)), strict=True):
        if value == 0 or math.isnan(value):
            assert not token.attrs
        else:
            assert re.search("#[0-9a-f]{6}", token.attrs["style"])[0] == (COLORS, NEGATIVE_COLORS)[value < 0][0]
            assert 1 <= alpha_of(token.attrs["style"]) <= strongest[value < 0]
            assert token.attrs["title"] == f"{value:.4g}"


# --- contrast: WCAG 2.2 by code of its own ---------------------------------------------------------------------------


RANDOM = random.Random(5)
SOME_COLORS = [f"#{RANDOM.randrange(256**3):06x}" for _ in range(200)]


@pytest.mark.parametrize("color", [*COLORS, *NEGATIVE_COLORS])
def test_the_faintest_colour_can_be_told_from_the_page(color):
    weakest = alpha_of(styles(passage_html(Passage(["x", "y"], [Track("f", [1e-9, 1.0], color=color)])))[0])
    for _, ground in SURROUNDINGS:
        assert contrast_on(ground, ground, color, weakest) >= 1.15


@pytest.mark.parametrize("color", [*COLORS, *NEGATIVE_COLORS, "#000000", "#ffffff", "#ffff00", "#0000ff", "#808080"])
def test_text_keeps_its_contrast_at_every_intensity(color):
    steps = np.linspace(0.001, 1, 300)
    html = passage_html(Passage(["x"] * len(steps), [Track("f", steps, color=color)]))
    drawn = {alpha_of(s) for s in styles(html)}
    assert max(drawn) == alpha_of(styles(html)[-1]) and len(drawn) > 3
    for ink, ground in SURROUNDINGS:
        for alpha in drawn:
            assert contrast_on(ink, ground, color, alpha) >= 4.5, (ink, ground, alpha)


def test_any_colour_keeps_the_contrast_of_text():
    for color in SOME_COLORS:
        strongest = alpha_of(styles(passage_html(Passage(["x"], [Track("f", [1.0], color=color)])))[0])
        for ink, ground in SURROUNDINGS:
            worst = min(contrast_on(ink, ground, color, a) for a in range(strongest + 1))
            assert worst >= 4.5, (color, strongest, ink, worst)


def test_the_default_colours_are_strong_enough_to_be_seen():
    for color in (*COLORS, *NEGATIVE_COLORS):
        for _, ground in SURROUNDINGS:
            strongest = round(255 * max_alpha(color))
            mixed = [
                (c * strongest + g * (255 - strongest)) / 255 for c, g in zip(rgb(color), rgb(ground), strict=True)
            ]
            assert max(abs(m - g) for m, g in zip(mixed, rgb(ground), strict=True)) > 60


# --- windows ---------------------------------------------------------------------------------------------------------


def folds(node):
    return [(n.all("summary")[0].text, len(tokens_of(n))) for n in node.all("details")]


def test_examples_fold_what_is_far_from_the_peak():
    values = [0.0] * 200
    values[100], values[10] = 5.0, 1.0
    html = examples_html([one(*[f" {i}" for i in range(200)], values=values)], window=20)
    left, right = passages_of(parse(html))[0].children
    assert folds(left) == [("80 tokens", 80)] and folds(right) == [("79 tokens", 79)]
    assert [t.text for t in tokens_of(right)][0] == " 100"
    assert [t.text for t in tokens_of(left)] + [t.text for t in tokens_of(right)] == [f" {i}" for i in range(200)]
    opened = examples_html([one(*[f" {i}" for i in range(200)], values=values)], window=None)
    assert "<details" not in opened


def test_a_text_folds_what_is_far_from_everything_that_fires():
    values = [0.0] * 100
    values[20], values[60] = 1.0, -2.0
    html = passage_html(one(*["x"] * 100, values=values), window=5)
    assert folds(passages_of(parse(html))[0]) == [("15 tokens", 15), ("29 tokens", 29), ("34 tokens", 34)]
    # Nothing fires: there is nothing to fold towards.
    assert "<details" not in passage_html(one(*["x"] * 100), window=5)


def test_a_fold_as_long_as_its_line_is_not_made():
    values = [0.0] * 30
    values[15] = 1.0
    for window in range(30):
        for _, hidden in folds(passages_of(parse(passage_html(one(*["x"] * 30, values=values), window=window)))[0]):
            assert hidden >= 8


@given(st.data())
def test_folding_loses_no_token_and_shows_the_window(data):
    n = data.draw(st.integers(1, 80))
    values = data.draw(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.0, NAN]), min_size=n, max_size=n))
    window = data.draw(st.none() | st.integers(0, 100))
    peak = data.draw(st.none() | st.integers(0, n - 1))
    tokens = [f"{i}," for i in range(n)]
    passage = one(*tokens, values=values, peak=peak)
    for html in (passage_html(passage, window=window), examples_html([passage], window=window)):
        (place,) = passages_of(parse(html))
        assert [t.text for t in tokens_of(place)] == tokens
        hidden = {t.text for d in place.all("details") for t in tokens_of(d)}
        for d in place.all("details"):
            assert d.all("summary")[0].text == f"{len(tokens_of(d))} tokens"
        near = [i for i, v in enumerate(values) if v and not math.isnan(v)]
        if 'data-view="lines"' in html:
            kept = [t.text for t in tokens_of(place.children[1])][0]
            near = [tokens.index(kept)]
            assert peak is None or near == [peak]
        if window is not None:
            for at in near:
                assert hidden.isdisjoint(tokens[max(0, at - window) : at + window + 1])


# --- the concordance -------------------------------------------------------------------------------------------------


def test_peaks_stand_under_each_other():
    passages = [
        one("a", "b", "c", values=[0, 9, 1]),
        one("d", "e", values=[3, 3]),  # the first of equals
        one("f", "g", values=[-4, -1]),
        one("h", "i", values=[NAN, NAN]),
        one("j", "k", values=[5, 1], peak=1),
        Passage(["l", "m"], [Track("a", [0, 2], highlighted=False), Track("b", [1, 0])]),
    ]
    passages = [replace(p, tracks=[replace(t, name="f") for t in p.tracks[-1:]]) for p in passages]
    tree = parse(examples_html(passages))
    rows = tree.all("div", "td-x")
    assert [tokens_of(r.one("div", "td-p").children[1])[0].text for r in rows] == ["b", "d", "g", "h", "k", "l"]
    assert [r.one("span", "td-v").text for r in rows] == ["9.00", "3.00", "-1.00", "", "1.00", "1.00"]
    assert [r.attrs["tabindex"] for r in rows] == ["0", "-1", "-1", "-1", "-1", "-1"]
    assert tree.one("div", "td-bar").children[0].text == "6 examples"


def test_groups_are_headed_once():
    passages = [one("a", values=[1], group=g) for g in ("band 2", "band 2", "band <1>", "", "band 2")]
    tree = parse(examples_html(passages, note="window 5 & more"))
    assert [h.text for h in tree.all("h3")] == ["band 2", "band <1>", "", "band 2"]
    assert tree.one("div", "td-bar").children[0].text == "5 examples · window 5 & more"
    assert parse(examples_html(passages[:1])).one("div", "td-bar").children[0].text == "1 example"


def test_examples_with_the_same_words_up_to_the_peak_are_one_line_with_a_count():
    same = [one(*"abcde", f"{i}", values=[0, 0, 0, 0, 5, 0], group="g", origin=f"document {i}") for i in range(3)]
    other = one(*"xbcde", values=[0, 0, 0, 0, 4], group="g")
    short = one("d", "e", values=[0, 4], group="g")  # less than that says little
    passages = [same[0], other, same[1], short, short, same[2], replace(same[0], group="h")]
    assert likes_together(passages) == [0, 2, 5, 1, 3, 4, 6]
    tree = parse(examples_html([passages[at] for at in likes_together(passages)]))
    (likes,) = tree.all("details", "td-like")
    assert likes.one("summary").text == "× 3" and len(likes.all("div", "td-x")) == 2
    assert [tokens_of(row)[-1].text for row in tree.all("div", "td-x")] == [*"012", "e", "e", "e", "0"]
    assert [s.text for s in tree.all("small", "td-from")] == ["document 0", "document 1", "document 2", "document 0"]


def test_no_examples_and_no_tokens():
    tree = parse(examples_html([]))
    assert tree.one("div", "td-bar").text == "0 examples" and data_of(tree)["passages"] == []
    for passage in (Passage([]), one(), one(special=[], chips={}, ids=[])):
        for html in (passage_html(passage), examples_html([passage]), passage_html(passage, window=3)):
            assert passages_of(parse(html))[0].text == "" and not tokens_of(parse(html))


def test_views():
    assert parse(examples_html([one("a")], view="paragraphs")).one("div", "td").attrs["data-view"] == "paragraphs"
    with pytest.raises(ValueError, match="view is 'table'; it is 'lines' or 'paragraphs'"):
        examples_html([one("a")], view="table")


def test_titles_and_legends_are_plain_text():
    passage = Passage(["a"], [Track("<f>", [1.0]), Track("&g", [1.0])])
    tree = parse(passage_html(passage, title="A <b>title</b>\nin lines"))
    assert tree.one("h3").text == "A <b>title</b> in lines"
    legend = tree.one("span", "td-legend").text
    assert "<f>" in legend and "&g" in legend and not tree.all("f")


def test_names_belong_to_values_whatever_their_order():
    tracks = [Track("a", [1, 0], highlighted=False), Track("b", [0, 2]), Track("c", [3, 0])]
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        data = data_of(parse(passage_html(Passage(["x", "y"], [tracks[i] for i in order]))))
        values = dict(zip(data["names"], data["passages"][0]["v"], strict=True))
        assert values == {"a": [[0], [1]], "b": [[1], [2]], "c": [[0], [3]]}


def test_names_belong_to_values_in_every_example():
    first = Passage(["x"], [Track("a", [1.0]), Track("b", [2.0])])
    second = Passage(["x"], [Track("b", [2.0]), Track("a", [1.0])])
    with pytest.raises(ValueError, match="passage 1 .* b, a.* a, b"):
        examples_html([first, second])
    with pytest.raises(ValueError, match="passage 1 "):
        examples_html([first, Passage(["x"], [Track("a", [1.0])])])


@pytest.mark.parametrize(
    ("colors", "in_tooltip"),
    [((None, None), (True, True)), (("#123456", None), (True, True)), ((None, "#123456"), (True, True)),
     ((None, None), (False, True)), (("#123456", None), (False, True))],
)  # fmt: skip
def test_the_tooltip_has_the_colours_of_the_tokens(colors, in_tooltip):
    tracks = [
        Track("quiet", [1.0], highlighted=False),
        *(Track(n, [1.0], color=c, in_tooltip=t) for n, c, t in zip("ab", colors, in_tooltip, strict=True)),
    ]
    html = passage_html(Passage(["x"], tracks))
    drawn = dict(zip("ab", re.findall("#[0-9a-f]{6}", styles(html)[0]), strict=True))
    data = data_of(parse(html))
    assert {n: c for n, c in zip(data["names"], data["colors"], strict=True) if c} == {
        n: drawn[n] for n, t in zip("ab", in_tooltip, strict=True) if t
    }


# --- hostile text ----------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.lists(ANY_TEXT, min_size=1, max_size=6), ANY_TEXT, st.data())
def test_any_text_is_only_text(tokens, label, data):
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, -1.0, NAN]), min_size=len(tokens), max_size=len(tokens)))
    chips = {0: "E2"} if data.draw(st.booleans()) else {}
    passage = Passage(tokens, [Track(label, values)], chips, special=[True] * len(tokens), group=label)
    clean = Passage(["x"] * len(tokens), [Track("x", values)], chips, special=[True] * len(tokens), group="x")
    for html, plain in (
        (passage_html(passage, title=label), passage_html(clean, title="x")),
        (examples_html([passage], title=label, note=label), examples_html([clean], title="x", note="x")),
    ):
        tree = parse(html)
        (place,) = passages_of(tree)
        assert [t.text for t in tokens_of(place)] == [shown(t) for t in tokens]
        # The same elements and attributes as for a harmless text, but for what makes characters visible.
        kept = [(n.tag, sorted(n.attrs)) for n in tree.walk() if n.tag not in ("b", "bdi", "h3")]
        assert kept == [(n.tag, sorted(n.attrs)) for n in parse(plain).walk() if n.tag not in ("b", "bdi", "h3")]
        for node in tree.all("b") + tree.all("bdi"):
            assert set(node.attrs) <= {"data-x"}
            assert re.fullmatch(r"U\+[0-9A-F]{4}|⇥|␍|E2|", node.attrs.get("data-x", ""))
        names = data_of(tree)["names"]
        assert names == json.loads(json.dumps([label]))
        own = data_of(tree)["passages"][0]
        exact = [own.get("x", {}).get(str(i), t.text) for i, t in enumerate(tokens_of(place))]
        assert exact == json.loads(json.dumps(tokens))
        html.encode("utf-8")


@settings(max_examples=200)
@given(ANY_TEXT)
def test_labels_hold_any_text_without_breaking_out(text):
    html = plain_text(text)
    html.encode("utf-8")
    tree = parse(f'<p title="{html}">{html}</p>')
    assert [n.tag for n in tree.walk()] == ["p"] and list(tree.one("p").attrs) == ["title"]
    assert not re.search(r"[<>\"'\x00-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    assert tree.one("p").text == tree.one("p").attrs["title"] and len(tree.one("p").text) == len(text)


@settings(max_examples=50)
@given(ANY_TEXT, ANY_TEXT)
def test_a_page_is_one_document_whatever_stands_in_it(title, token):
    html = page(passage_html(one(token, values=[1])), title=title, css=".td{}", js="function tinyDashboard(){}")
    head, body = parse(html.removeprefix("<!doctype html>")).one("html").children
    assert [n.tag for n in body.walk() if n.tag == "script"] == ["script", "script"]
    assert [n.tag for n in head.walk()] == ["meta", "meta", "meta", "meta", "link", "title", "style"]
    html.encode("utf-8")


def test_a_token_of_100_kilobytes():
    for token in ("<" * 100_000, "a" * 100_000, "日\x00\u202e" * 15_000):
        html = passage_html(one(token, "b", values=[1, 0]))
        assert tokens_of(parse(html))[0].text == shown(token)


def test_text_that_looks_like_a_template_stays():
    for text in ("{{x}}", "${x}", "`x`", "{% raw %}", "#{x}", "<%= x %>"):
        assert tokens_of(parse(passage_html(one(text))))[0].text == text


def test_script_data_cannot_end_its_element():
    html = passage_html(Passage(["</script>"], [Track("</script><!--<script>", [1.0])], ids=[3]))
    (payload,) = re.findall(r'<script type="application/json">(.*)</script>', html)
    assert "<" not in payload and json.loads(payload)["names"] == ["</script><!--<script>"]


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_page_stands_alone():
    html = page("<p>x</p>", title="T <1>", css=".td { color: red }", js="function tinyDashboard() {}")
    tree = parse(html.removeprefix("<!doctype html>"))
    assert tree.one("title").raw == "T <1>"
    assert not re.findall(r"(?:src|href)=(?!\"data:)|@import|url\(|https?:", html)
    policy = next(n.attrs["content"] for n in tree.all("meta") if "Content-Security" in n.attrs.get("http-equiv", ""))
    assert policy.startswith("default-src 'none'") and "'unsafe-eval'" not in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy) and "unsafe-inline' 'sha" not in policy
    assert "<script></script>" in page("x")


def test_a_page_in_a_notebook_leaves_the_windows_title_out():
    html = page(f"<p>{plain_text('<title>x</title>')}</p>", title="A </title><b>")
    shown = html._repr_html_()
    assert "A &lt;/title&gt;" in html and "A &lt;" not in shown
    assert len(html) - len(shown) == len("<title>A &lt;/title&gt;&lt;b&gt;</title>")
    assert "&lt;title&gt;x" in shown


def test_the_size_of_a_big_view():
    """30 examples of 1,024 tokens, 4% active, in words of a corpus: at most 25 bytes for each token."""
    rng = np.random.default_rng(0)
    words = sorted({w for path in Path(highlight.__file__).parent.glob("*.py") for w in path.read_text().split()})
    passages = []
    for _ in range(30):
        values = np.where(rng.random(1024) < 0.04, rng.gamma(2.0, 2.0, 1024), 0.0)
        tokens = [" " + words[i][:7] for i in rng.integers(0, len(words), 1024)]
        ids = rng.integers(0, 50_000, 1024).tolist()
        passages.append(Passage(tokens, [Track("feature 12", values)], ids=ids))
    html = examples_html(share_scale(passages), window=50)
    assert len(html.encode()) / (30 * 1024) <= 25, len(html.encode()) / (30 * 1024)


# --- numbers and colours ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1.00"), (0.1, "0.10"), (0.09999, "0.1"), (0.0123456, "0.0123"), (-2.346, "-2.35"),
     (999.4, "999.40"), (1000, "1e+03"), (123456, "1.23e+05"), (1e-30, "1e-30"), (-1e300, "-1e+300")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("color", "hex_"),
    [("#d55e00", "#d55e00"), ("#ABCDEF", "#ABCDEF"), ((0, 128, 255), "#0080ff"), ([1.0, 2.0, 3.0], "#010203"),
     (np.array([213, 94, 0]), "#d55e00")],
)  # fmt: skip
def test_colours(color, hex_):
    assert hex_color(color) == hex_


@pytest.mark.parametrize(
    "color",
    ["red", "#fff", "#12345g", "#1234567", "", "url(x)", "#d55e00;x:y", "#d55e00\n", (1, 2), (1, 2, 256), (1, 2, -1),
     (1, 2, 3, 4), 7, None, ("a", "b", "c"), (1, NAN, 2)],
)  # fmt: skip
def test_what_is_no_colour(color):
    with pytest.raises(ValueError, match="is neither '#rrggbb' nor three numbers from 0 to 255"):
        hex_color(color)


@pytest.mark.parametrize("name", ["color", "negative_color"])
def test_a_track_checks_its_colours(name):
    with pytest.raises(ValueError, match="'red' is neither"):
        passage_html(Passage(["a"], [Track("f", [1.0], **{name: "red"})]))
    html = passage_html(Passage(["a", "b"], [Track("f", [1.0, -1.0], **{name: (1, 2, 3)})]))
    assert "#010203" in html


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passage", "says"),
    [
        (one("a", "b", values=[1.0]), "track 'f' has 1 values for 2 tokens; give one for each token"),
        (one("a", values=[1.0, 2.0]), "track 'f' has 2 values for 1 tokens"),
        (one("a", values=[float("inf")]), "track 'f' is inf at token 0; clip it, or set it to NaN"),
        (one("a", "b", values=[1, -float("inf")]), "track 'f' is -inf at token 1"),
        (one("a", values=[[1.0]]), r"track 'f' have shape (1, 1); give one number for each token"),
        (one("a", values=np.zeros((1, 1, 1))), "shape (1, 1, 1)"),
        (one("a", "b", values=[[1.0], [1.0, 2.0]]), "are not numbers: [[1.0]"),
        (one("a", values=["loud"]), "the values of track 'f' are not numbers: ['loud']"),
        (one("a", values=[1j]), "are not numbers"),
        (one("a", values=7), "the values of track 'f' are not numbers: 7"),
        (one("a", values=np.float64(3.0)), "shape ()"),
        (one("a", values=[1.0], ids=[1, 2]), "2 token ids for 1 tokens; give one for each token"),
        (one("a", values=[1.0], special=[True, False]), "2 marks of special tokens for 1 tokens"),
        (one("a", values=[1.0], chips={1: "E2"}), "the chip 'E2' stands at token 1 of 1"),
        (one("a", values=[1.0], chips={-1: "E2"}), "the chip 'E2' stands at token -1 of 1"),
        (Passage(["a"], [Track("f", [1.0], scale=0.0)]), "the scale of track 'f' is 0.0; give a number above 0"),
        (Passage(["a"], [Track("f", [1.0], scale=-1)]), "the scale of track 'f' is -1"),
        (Passage(["a"], [Track("f", [1.0], scale=NAN)]), "the scale of track 'f' is nan"),
        (Passage(["a"], [Track("f", [1.0], scale=float("inf"))]), "the scale of track 'f' is inf"),
        (Passage(["a"], [Track(n, [1.0]) for n in "fgh"]), "3 tracks are highlighted; set highlighted=False"),
    ],
)
def test_what_does_not_fit_is_said_with_its_value(passage, says):
    for draw in (passage_html, lambda p: examples_html([p])):
        with pytest.raises(ValueError) as error:
            draw(passage)
        assert says in str(error.value)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("peak", [-1, 2, 10**9])
def test_a_peak_outside_the_passage(peak):
    with pytest.raises(ValueError, match=f"peak is {peak} in a passage of 2 tokens"):
        examples_html([one("a", "b", values=[1, 0], peak=peak)])


# --- the file alone --------------------------------------------------------------------------------------------------


def test_the_file_works_when_copied_alone(tmp_path):
    shutil.copy(highlight.__file__, tmp_path / "their_highlight.py")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from their_highlight import *\n"
        "html = passage_html(Passage(['a', ' b'], [Track('f', [0, 1.5])]))\n"
        "assert 'background:#d55e00' in html, html\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch', 'gradio', 'tiny_dashboard')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_rendering_is_a_function_of_its_arguments():
    passage = one("a", "b", values=np.array([1.0, 0.0]))
    before = passage.tracks[0].values.copy()
    assert examples_html([passage]) == examples_html([passage]) and passage_html(passage) == passage_html(passage)
    assert (passage.tracks[0].values == before).all()

"""One call, no dashboard: tokens and activations in, a page out."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.colors import alpha_of, shade
from tests.helpers.hostile import HOSTILE, shown
from tests.helpers.html_tree import data_of, ids_of, parse, passages_of, tokens_of
from tests.helpers.tokenizers import byte_level, sentencepiece
from tiny_dashboard import activation_visualization
from tiny_dashboard.core.highlight import COLORS, Html, max_alpha

FULL = [round(255 * max_alpha(color)) for color in COLORS]
TOKENS = ["The", " cat", " sat"]


def look(*args, **kwargs):
    """The drawn tokens' styles, the names in the tooltip, and the tree."""
    html = activation_visualization(*args, **kwargs)
    assert isinstance(html, Html) and html.startswith("<!doctype html>")
    tree = parse(html.removeprefix("<!doctype html>"))
    styles = [t.attrs.get("style", "") for t in tokens_of(passages_of(tree)[0])]
    return styles, data_of(tree), tree


def test_one_column_colours_the_tokens():
    styles, data, tree = look(TOKENS, [0.0, 1.0, 4.0], None, title="A <title>")
    assert styles[0] == "" and alpha_of(styles[2]) == FULL[0] and COLORS[0] in styles[1]
    assert passages_of(tree)[0].text == "The cat sat"
    assert tree.one("h3").text == "A <title>" and tree.one("title").raw == "A <title>"
    assert data["names"] == ["feature 0"]


@pytest.mark.parametrize(
    "kind",
    [list, np.array, torch.tensor, lambda a: torch.tensor(a).bfloat16().requires_grad_(),
     lambda a: np.array(a)[:, None], lambda a: [torch.tensor(v) for v in a]],
)  # fmt: skip
def test_activations_of_every_kind(kind):
    assert activation_visualization(TOKENS, kind([0.0, 1.0, -4.0]), None) == activation_visualization(
        TOKENS, [0.0, 1.0, -4.0], None
    )


def test_two_columns_split_the_tokens_and_all_are_in_the_tooltip():
    values = np.array([[1.0, 0, 5], [0, 2, 5], [1, 2, 0]])
    styles, data, _ = look(TOKENS, values, None, activation_names=["a", "b", "c"])
    assert styles[2].startswith("background:linear-gradient") and COLORS[0] in styles[2] and COLORS[1] in styles[2]
    assert data["names"] == ["a", "b", "c"] and data["colors"] == [*COLORS, ""]
    assert data["passages"][0]["v"] == [[[0, 2], [1, 1]], [[1, 2], [2, 2]], [[0, 1], [5, 5]]]


@pytest.mark.parametrize("idx", [2, [2], np.int64(2), (2,), np.array([2]), torch.tensor([2])])
def test_a_chosen_column_keeps_its_name(idx):
    values = np.array([[1.0, 0, 5], [0, 2, 0], [1, 2, 0]])
    styles, data, _ = look(TOKENS, values, None, highlight_idx=idx, activation_names=["a", "b", "c"])
    assert [bool(s) for s in styles] == [True, False, False] and COLORS[0] in styles[0]
    assert dict(zip(data["names"], data["passages"][0]["v"], strict=True))["c"] == [[0], [5]]
    assert dict(zip(data["names"], data["colors"], strict=True)) == {"a": "", "b": "", "c": COLORS[0]}


def test_the_order_of_highlight_idx_is_the_order_of_the_colours():
    values = [[1.0, 2.0]] * 3
    _, data, _ = look(TOKENS, values, None, highlight_idx=[1, 0], color1="#111111", color2="#eeeeee")
    assert dict(zip(data["names"], data["colors"], strict=True)) == {"feature 1": "#111111", "feature 0": "#eeeeee"}
    styles, data, _ = look(TOKENS, values, None, color1="#111111", color2=(238, 238, 238))
    assert dict(zip(data["names"], data["colors"], strict=True)) == {"feature 0": "#111111", "feature 1": "#eeeeee"}
    assert re.findall("#[0-9a-f]{6}", styles[0]) == ["#111111", "#eeeeee"]
    # One column takes the first colour, whichever column it is.
    _, data, _ = look(TOKENS, values, None, highlight_idx=1, color1="#111111", color2="#eeeeee")
    assert dict(zip(data["names"], data["colors"], strict=True)) == {"feature 0": "", "feature 1": "#111111"}


def test_tooltip_columns():
    values = [[1.0, 2.0, 3.0, 4.0]] * 3
    assert look(TOKENS, values, None, highlight_idx=1, tooltip_features=[3])[1]["names"] == ["feature 1", "feature 3"]
    alone = look(TOKENS, values, None, highlight_idx=1, tooltip_features=[3], highlight_features_in_tooltip=False)
    assert alone[1]["names"] == ["feature 3"] and COLORS[0] in alone[0][0]
    assert look(TOKENS, values, None, tooltip_features=[])[1]["names"] == ["feature 0", "feature 1"]
    none = look(TOKENS, values, None, tooltip_features=[], highlight_features_in_tooltip=False)
    assert none[1]["names"] == [] and none[1]["passages"][0]["v"] == []
    assert look(TOKENS, values, None, highlight_idx=[], tooltip_features=2)[1]["names"] == ["feature 2"]


def test_columns_have_scales_of_their_own_or_share_one():
    values = [[1.0, -10.0]] * 3
    own, _, _ = look(TOKENS, values, None)
    # Two columns that share: the weak one is a tenth of the strong one.
    shared, _, tree = look(TOKENS, values, None, relative_normalization=False)
    assert alpha_of(own[0], 0) == FULL[0]
    assert alpha_of(shared[0], 0) == shade(COLORS[0], 1 / 10)
    assert tree.one("span", "td-legend").text.count("10.00") == 2
    # What is not highlighted has no part in the scale.
    quiet, _, _ = look(TOKENS, [[1.0, 99.0]] * 3, None, highlight_idx=0, relative_normalization=False)
    assert alpha_of(quiet[0]) == FULL[0]
    assert not any(look(TOKENS, [[0.0, np.nan]] * 3, None, relative_normalization=False)[0])


def test_ids_and_pieces_are_read_by_the_tokenizer():
    tokenizer = byte_level()
    text = "Ça été über\n\tnaïve 日本"
    ids = tokenizer(text)["input_ids"]
    values = np.linspace(0, 1, len(ids))
    for tokens in (ids, torch.tensor(ids), np.array(ids)):
        _, data, tree = look(tokens, values, tokenizer)
        assert passages_of(tree)[0].text == text
        assert ids_of(data["passages"][0]) == ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    for given_tokenizer in (tokenizer, None):
        _, data, tree = look(pieces, values, given_tokenizer)
        assert passages_of(tree)[0].text == text and "id" not in data["passages"][0]
    prefixed = sentencepiece("prepend")
    ids = prefixed("a café", add_special_tokens=False)["input_ids"]
    assert passages_of(look(ids, [1.0] * len(ids), prefixed)[2])[0].text == "a café"


def test_nothing_to_show():
    assert passages_of(look([], [], None)[2])[0].text == ""
    assert passages_of(look([], np.zeros((0, 3)), None)[2])[0].text == ""
    styles, _, tree = look(TOKENS, np.zeros((3, 0)), None)
    assert styles == ["", "", ""] and passages_of(tree)[0].text == "The cat sat"
    assert "never active" in look(TOKENS, [np.nan] * 3, None)[2].one("span", "td-legend").text
    assert "never active" in look(TOKENS, [0] * 3, None)[2].one("span", "td-legend").text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"activations": [1.0, 2.0]}, "activations have shape (2,) for 3 tokens; give [3] or [3, n_features]"),
        ({"activations": np.zeros((1, 3))}, "shape (1, 3) for 3 tokens"),
        (
            {"activations": np.zeros((1, 3, 2))},
            "shape (1, 3, 2) for 3 tokens; give [3] or [3, n_features], with no batch",
        ),
        ({"activations": 1.0}, "shape () for 3 tokens"),
        ({"activations": [[1.0], [1.0, 2.0], [1.0]]}, "activations are not an array of numbers but [[1.0], [1.0, 2.0]"),
        ({"activations": ["a", "b", "c"]}, "activations are not an array of numbers but ['a', 'b', 'c']"),
        ({"highlight_idx": 0.5}, "column 0.5 is asked for"),
        ({"highlight_idx": "0"}, "column 0 is asked for"),
        ({"activations": [1.0, np.inf, 0]}, "track 'feature 0' is inf at token 1; clip it, or set it to NaN"),
        ({"activations": [[1.0, 0], [0, -np.inf], [0, 0]]}, "track 'feature 1' is -inf at token 1"),
        ({"highlight_idx": 1}, "column 1 is asked for, and activations have 1: 0 to 0"),
        ({"highlight_idx": -1}, "column -1 is asked for"),
        ({"tooltip_features": [0, 7]}, "column 7 is asked for"),
        (
            {"activations": np.ones((3, 4)), "highlight_idx": [0, 1, 2]},
            "3 columns are to be highlighted; choose one or two",
        ),
        ({"activation_names": ["a", "b"]}, "2 activation_names for 1 columns; give one for each"),
        ({"color1": "red"}, "color 'red' is neither"),
        ({"color1": (300, 0, 0)}, "color (300, 0, 0) is neither"),
        ({"tokens": [1, 2, 3]}, "token ids can be read only with their tokenizer"),
    ],
)
def test_what_does_not_fit(arguments, says):
    given_ = {"tokens": TOKENS, "activations": [0.0, 1.0, 2.0], "tokenizer": None} | arguments
    with pytest.raises(ValueError) as error:
        activation_visualization(**given_)
    assert says in str(error.value)


@given(
    st.lists(st.sampled_from([t for t in HOSTILE if "Ġ" not in t]), min_size=1, max_size=4), st.sampled_from(HOSTILE)
)
def test_hostile_text_is_text(tokens, label):
    _, data, tree = look(tokens, [1.0] * len(tokens), None, title=label, activation_names=[label])
    assert passages_of(tree)[0].text == shown("".join(tokens))
    assert len(tree.all("script")) == 2 and not tree.all("img") and not tree.all("svg")

"""What the tabs and the API clients ask: every argument is checked and bounded, every answer is plain JSON data."""

from __future__ import annotations

import json
import math
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.bundle import BARE_FEATURE, DEAD, HOSTILE_FEATURE, HOSTILE_LABEL, N_FEATURES
from tests.helpers.hostile import HOSTILE
from tests.helpers.tokenizers import byte_level
from tiny_dashboard import (
    CrosscoderOnlineFeatureDashboard,
    Example,
    OfflineFeatureCentricDashboard,
    OnlineFeatureCentricDashboard,
)
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.served import MAX_EXAMPLES, MAX_TOP, Served, bounded, whole_number
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.statistics import COLUMNS, PAGE
from tiny_dashboard.dashboards.question import MAX_FEATURES

TEXT = "The quick brown fox"
MAX_TEXT = 5000
NAMES = ("feature", *(column.name for column in COLUMNS))


def asking(*served):
    """The endpoints of one view."""
    return Endpoints(Views.one(*served))


@pytest.fixture(scope="module")
def ask(bundle):
    offline = OfflineFeatureCentricDashboard.open(bundle.root / "examples")
    online = CrosscoderOnlineFeatureDashboard(
        *bundle.pair, bundle.dictionary, 1, tokenizer=bundle.tokenizer, max_acts=offline.max_acts
    )
    online.max_new_tokens = 5
    return asking(offline, Loading.of(online), MAX_TEXT)


@pytest.fixture(scope="module")
def from_dict():
    rows = {f: [(float(f), ["a", "b"], [0.0, float(f)])] for f in (3, 12, 120, 1200)}
    rows[5] = [Example(math.inf, ["a\ud800", "\x00"], [math.nan, 1.0], np.array([1, 2]), quantile=3, doc="d", start=7)]

    def ones(text, features):
        return np.full((len(byte_level()(text)["input_ids"]), len(features)), math.nan)

    online = OnlineFeatureCentricDashboard(ones, byte_level())
    return asking(OfflineFeatureCentricDashboard(rows, None), Loading.of(online))


def plain(answer):
    """The answer is JSON, with no NaN in it and no text that is no text."""
    return json.loads(json.dumps(answer, allow_nan=False, ensure_ascii=False).encode("utf-8"))


# --- /examples -------------------------------------------------------------------------------------------------------


def test_examples(ask, bundle):
    feature = next(f for f in range(N_FEATURES) if len(ask.examples(f)["examples"]) >= 3)
    answer = ask.examples(feature)
    assert plain(answer) == answer
    assert set(answer) == {"feature", "stats", "examples"} and answer["feature"] == feature
    offline = OfflineFeatureCentricDashboard.open(bundle.root / "examples")
    stored = offline.max_activation_examples[feature]
    assert len(answer["examples"]) == len(stored)
    for row, example in zip(answer["examples"], stored, strict=True):
        assert set(row) == {
            "max_activation", "tokens", "token_ids", "activations", "scale", "quantile", "doc", "start",
        }  # fmt: skip
        assert row["token_ids"] == list(example.token_ids) and row["activations"] == list(example.activations)
        assert "".join(row["tokens"]) == bundle.tokenizer.decode(row["token_ids"])
        assert len(row["tokens"]) == len(row["token_ids"]) == len(row["activations"])
    assert [r["max_activation"] for r in answer["examples"]] == sorted(
        (r["max_activation"] for r in answer["examples"]), reverse=True
    )
    stats = offline.stats(feature)
    assert answer["stats"]["label"] == stats.label and answer["stats"]["histogram"] == list(stats.histogram)
    assert answer["stats"]["max_activation"] == pytest.approx(stats.max_activation)


def test_the_scale_of_examples(ask):
    feature = next(f for f in range(N_FEATURES) if len(ask.examples(f)["examples"]) >= 3)
    scales = lambda **how: [r["scale"] for r in ask.examples(feature, **how)["examples"]]  # noqa: E731
    peaks = [max(r["activations"]) for r in ask.examples(feature)["examples"]]
    assert len(set(scales())) == 1 and scales()[0] == pytest.approx(peaks[0], rel=1e-3)
    assert scales(scale="example") == pytest.approx(peaks)
    assert set(scales(scale=3)) == set(scales(scale="3.0")) == {3.0}
    for wrong in ("loud", 0, -1, "", None, [], {}, "nan"):
        with pytest.raises(ValueError, match="the scale is"):
            ask.examples(feature, scale=wrong)


def test_the_number_of_examples_is_bounded(ask):
    assert len(ask.examples(0, 1)["examples"]) == 1
    assert len(ask.examples(0, 1.0)["examples"]) == len(ask.examples("0", "1")["examples"]) == 1
    for wrong in (0, -1, MAX_EXAMPLES + 1, 10**9):
        with pytest.raises(ValueError, match=f"max_examples is {wrong}; it must be from 1 to {MAX_EXAMPLES}"):
            ask.examples(0, wrong)


def test_features_with_little_to_say(ask, from_dict):
    assert plain(ask.examples(DEAD))["examples"] == []
    bare = plain(ask.examples(BARE_FEATURE))
    assert bare["examples"] and bare["stats"]["max_activation"] is None and bare["stats"]["label"] is None
    odd = plain(from_dict.examples(5, scale="example"))
    assert odd["stats"] is None
    (row,) = odd["examples"]
    assert row["max_activation"] is None and row["activations"] == [None, 1.0] and row["token_ids"] == [1, 2]
    assert row["tokens"] == ["a\ufffd", "\x00"] and (row["quantile"], row["doc"], row["start"]) == (3, "d", 7)


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        (-1, "feature -1 is negative"),
        (9999, "feature 9999 has no examples here; of the 64 features that have, the nearest are 61, 62, 63"),
        (10**30, "feature 1000000000000000000000000000000 has no examples"),
        ("9" * 5000, "has no examples"),
        (1.5, "feature is '1.5'; give a whole number"),
        ("1.5", "feature is '1.5'; give a whole number"),
        ("x" * 5000, "give a whole number"),
        ("", "feature is ''; give a whole number"),
        (None, "feature is 'None'; give a whole number"),
        (True, "feature is 'True'; give a whole number"),
        ([1], "feature is '[1]'; give a whole number"),
        ("<img src=x onerror=alert(1)>", "give a whole number"),
        (math.nan, "feature is 'nan'; give a whole number"),
        (math.inf, "feature is 'inf'; give a whole number"),
    ],
)
def test_a_feature_that_is_not_there(ask, feature, says):
    with pytest.raises((ValueError, LookupError)) as error:
        ask.examples(feature)
    assert says in str(error.value) and len(str(error.value)) < 300


@given(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
)
def test_a_number_or_a_sentence(value):
    try:
        number = whole_number(value, "it")
    except ValueError as error:
        assert str(error).startswith("it is ")
    else:
        assert type(number) is int and not isinstance(value, bool) and float(number) == pytest.approx(float(value))
        if -5 <= number <= 5:
            assert bounded(value, "it", -5, 5) == number
        else:
            with pytest.raises(ValueError, match="must be from -5 to 5"):
                bounded(value, "it", -5, 5)


# --- /features -------------------------------------------------------------------------------------------------------


def test_features_are_listed_in_pages(ask):
    first = ask.features()
    assert plain(first) == first
    assert (first["total"], first["page"], first["pages"]) == (N_FEATURES, 1, math.ceil(N_FEATURES / PAGE))
    assert [r["feature"] for r in first["features"]] == list(range(PAGE))
    assert set(first["features"][0]) == {"feature", *NAMES[1:]}
    listed = [r["feature"] for page in (1, 2, 3) for r in ask.features(page=page)["features"]]
    assert listed == list(range(N_FEATURES))
    assert [r["feature"] for r in ask.features(descending=True)["features"]][:2] == [N_FEATURES - 1, N_FEATURES - 2]
    # Beyond the last page is the last page.
    assert ask.features(page=10**6) == ask.features(page=3) == ask.features(page="3") == ask.features(page=3.0)
    for wrong in (0, -1, 10**10, "x", None, 1.5):
        with pytest.raises(ValueError, match="page is"):
            ask.features(page=wrong)


@pytest.mark.parametrize("sort", NAMES[2:])
@pytest.mark.parametrize("descending", [False, True])
def test_sorting_by_a_number_puts_the_unknown_last(ask, sort, descending):
    rows = [r for page in (1, 2, 3) for r in ask.features(sort=sort, page=page, descending=descending)["features"]]
    assert sorted(r["feature"] for r in rows) == list(range(N_FEATURES))
    values = [r[sort] for r in rows]
    known = [v for v in values if v is not None]
    assert known == sorted(known, reverse=descending) and len(known) >= N_FEATURES - 2
    assert values[len(known) :] == [None] * (len(values) - len(known))
    assert rows[-1]["feature"] == BARE_FEATURE or sort == "max_activation"


def test_sorting_by_label(ask):
    rows = [r for page in (1, 2, 3) for r in ask.features(sort="label", page=page)["features"]]
    assert sorted(r["feature"] for r in rows) == list(range(N_FEATURES))
    labels = [r["label"] for r in rows]
    assert [label for label in labels if label] == sorted(label for label in labels if label)
    down = [
        r["label"] for page in (1, 2, 3) for r in ask.features(sort="label", page=page, descending=True)["features"]
    ]
    assert [label for label in down if label] == sorted((label for label in down if label), reverse=True)
    assert labels[-1] == down[-1] == "", "what has no name comes last either way"


def test_search(ask):
    found = lambda query: [r["feature"] for r in ask.features(query)["features"]]  # noqa: E731
    assert found("label 7") == found("  LABEL 7 ") == [7]
    assert found("label 1") == [1, *range(10, 20)]
    ones = [1, HOSTILE_FEATURE, *range(10, 20)] + [f for f in range(20, N_FEATURES) if f % 10 == 1]
    answers = [ask.features("1", page=page + 1) for page in range(ask.features("1")["pages"])]
    assert {r["feature"] for answer in answers for r in answer["features"]} >= set(ones), "what begins so, or is told"
    assert found("1") == found(" 1 ") == found(1)
    assert HOSTILE_FEATURE in found("onerror") and found(HOSTILE_LABEL) == [HOSTILE_FEATURE]
    assert found("fox")[:3] == [0, 1, 2], "what a feature fires on is searched too"
    assert ask.features("no such label") == {"total": 0, "told": 0, "page": 1, "pages": 1, "features": []}
    assert found("") == found(None) == list(range(PAGE))
    assert found("x" * 10**6) == []
    assert ask.features("label 1", sort="feature", descending=True)["features"][0]["feature"] == 19
    for regex in ("lab.*", "(label", "label [1]", "label %", "label _", "\\"):
        assert found(regex) == [], "words, no pattern"


def test_what_cannot_be_sorted_by(ask):
    for wrong in ("", "n_active", "histogram", "__class__", None, 3, ["feature"], "feature; drop table"):
        with pytest.raises(ValueError, match="sort is .*; it is one of feature, label, density"):
            ask.features(sort=wrong)


def test_features_of_a_dict(from_dict):
    answer = plain(from_dict.features())
    assert [r["feature"] for r in answer["features"]] == [3, 5, 12, 120, 1200]
    assert answer["features"][0] == {"feature": 3, "label": ""} | dict.fromkeys(NAMES[2:])
    assert [r["feature"] for r in from_dict.features("12")["features"]] == [12, 120, 1200]
    for sort in NAMES:
        assert [r["feature"] for r in from_dict.features(sort=sort)["features"]] == [3, 5, 12, 120, 1200]
    empty = asking(OfflineFeatureCentricDashboard({}, None), None)
    assert empty.features("x") == {"total": 0, "told": 0, "page": 1, "pages": 1, "features": []}
    assert empty.features(sort="label") == empty.features(sort="density", descending=True) == empty.features("x")


@settings(max_examples=50)
@given(st.text(max_size=20) | st.sampled_from(HOSTILE))
def test_any_query_is_answered(ask, query):
    try:
        answer = plain(ask.features(query))
    except ValueError as error:
        assert re.search(" is no column; there are feature| is no number; write | is a text; compare it", str(error))
    else:
        assert answer["total"] >= len(answer["features"])


# --- /analyze --------------------------------------------------------------------------------------------------------


def test_analyze(ask, bundle):
    answer = ask.analyze(TEXT, "12, 30", "3, 5-7")
    assert plain(answer) == answer
    assert answer["text"] == TEXT and "".join(answer["tokens"]) == "<s>" + TEXT
    assert answer["token_ids"] == bundle.tokenizer(TEXT)["input_ids"]
    assert answer["features"] == [12, 30, 3, 5, 6, 7] and answer["response"] == ""
    expected = bundle.featurizer.read(answer["token_ids"]).values(answer["features"]).numpy()
    np.testing.assert_allclose(answer["activations"], expected, rtol=1e-5, atol=1e-5)


def test_analyze_as_a_chat_and_with_an_answer(ask):
    chat = ask.analyze("hi<eot>ho", "1", chat=True)
    assert chat["text"] == "<|user|>hi</s><|assistant|>ho" and chat["response"] == ""
    answered = ask.analyze("hi", "1", chat=True, generate=True)
    assert answered["text"] == "<|user|>hi</s><|assistant|>" + answered["response"] and answered["response"]
    assert len(answered["tokens"]) == len(answered["activations"])
    assert ask.analyze(TEXT, "1", generate=True)["text"] == TEXT + ask.analyze(TEXT, "1", generate=True)["response"]


def test_max_act_of_an_analysis(ask):
    for fine in ("", "  ", None, "auto", "3", 3, 2.5):
        assert ask.analyze(TEXT, "1", max_act=fine)["features"] == [1]
    for wrong in (0, -1, "loud", "0", "nan", [1], {}, True):
        with pytest.raises(ValueError, match="the scale is"):
            ask.analyze(TEXT, "1", max_act=wrong)


def test_numbers_that_json_has_not_are_null(from_dict):
    answer = plain(from_dict.analyze("the fox", "1, 2"))
    assert all(row == [None, None] for row in answer["activations"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("", "1"), "the text is empty"),
        (
            ("x" * (MAX_TEXT + 1), "1"),
            f"the text has {MAX_TEXT + 1} characters; at most {MAX_TEXT} are analysed at once",
        ),
        ((None, "1"), "the text is NoneType, not a string"),
        ((7, "1"), "the text is int, not a string"),
        ((["a"], "1"), "the text is list, not a string"),
        (("a\ud800", "1"), "lone surrogate"),
        (("abc " * 1200, "1"), "the context of LlamaForCausalLM is 1024; shorten the text"),
        ((TEXT, ""), "no feature is named"),
        ((TEXT, "1, 2, 3"), "3 features to highlight; choose one or two"),
        ((TEXT, "64"), "this dictionary has 64 features"),
        ((TEXT, "-1"), "is not a feature number"),
        ((TEXT, "1,,2"), "comma with no number beside it"),
        ((TEXT, "1.5"), "is not a feature number"),
        ((TEXT, [[1]]), "is not a feature number"),
        ((TEXT, {"a": 1}), "is not a feature number"),
        ((TEXT, "1", "0-999999999"), "this dictionary has 64 features"),
    ],
)
def test_questions_that_make_no_sense(ask, arguments, says):
    with pytest.raises((ValueError, TypeError)) as error:
        ask.analyze(*arguments)
    assert says in str(error.value) and len(str(error.value)) < 400


def test_what_is_neither_true_nor_false(ask):
    for yes in (True, 1):
        assert ask.analyze(TEXT, "1", chat=yes)["text"].startswith("<|user|>")
        assert ask.features(descending=yes)["features"][0]["feature"] == N_FEATURES - 1
    for wrong in ("false", "", None, 2, [], math.nan):
        for name, question in (
            ("chat", lambda no: ask.analyze(TEXT, "1", chat=no)),
            ("generate", lambda no: ask.analyze(TEXT, "1", generate=no)),
            ("chat", lambda no: ask.top_features(TEXT, chat=no)),
            ("descending", lambda no: ask.features(descending=no)),
        ):
            with pytest.raises(ValueError) as error:
                question(wrong)
            assert str(error.value) == f"{name} is {wrong!r}; give true or false"


def test_features_of_one_request_are_bounded(from_dict):
    assert len(from_dict.analyze("fox", "1", f"2-{MAX_FEATURES}")["features"]) == MAX_FEATURES
    with pytest.raises(ValueError, match=f"{MAX_FEATURES + 1} features are asked for; at most {MAX_FEATURES} at once"):
        from_dict.analyze("fox", "1", f"2-{MAX_FEATURES + 1}")


# --- /top_features ---------------------------------------------------------------------------------------------------


def test_top_features(ask, bundle):
    answer = ask.top_features(TEXT, 7)
    assert plain(answer) == answer
    rows = answer["features"]
    assert len(rows) == 7 and set(rows[0]) == {"feature", "label", "activation", "position", "token"}
    values = bundle.featurizer.read(bundle.tokenizer(TEXT)["input_ids"]).values(range(N_FEATURES)).numpy()[1:]
    order = np.argsort(-values.max(0), kind="stable")[:7]
    assert [r["feature"] for r in rows] == order.tolist()
    tokens = ask.analyze(TEXT, "1")["tokens"]
    for row in rows:
        assert row["activation"] == pytest.approx(values[row["position"] - 1, row["feature"]], rel=1e-4)
        assert row["token"] == tokens[row["position"]]
        known = {HOSTILE_FEATURE: HOSTILE_LABEL, BARE_FEATURE: ""}.get(row["feature"], f"label {row['feature']}")
        assert row["label"] == known
    assert len(ask.top_features(TEXT, str(MAX_TOP))["features"]) <= N_FEATURES
    assert ask.top_features("hi<eot>ho", 3, chat=True)["features"]
    for wrong in (0, -1, MAX_TOP + 1, "x", None, 1.5):
        with pytest.raises(ValueError, match="k is"):
            ask.top_features(TEXT, wrong)
    with pytest.raises(ValueError, match="characters; at most"):
        ask.top_features("x" * (MAX_TEXT + 1))


def test_a_dashboard_of_functions_ranks_nothing(from_dict):
    with pytest.raises(ValueError, match="this dashboard computes chosen features only; name them"):
        from_dict.top_features(TEXT)


def test_labels_where_there_are_none(bundle):
    online = CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, 1, tokenizer=bundle.tokenizer)
    for offline in (None, OfflineFeatureCentricDashboard({1: []}, None)):
        rows = asking(offline, Loading.of(online)).top_features(TEXT, 3)["features"]
        assert [r["label"] for r in rows] == ["", "", ""]


# --- what is missing, and what is on its way -------------------------------------------------------------------------


def test_missing_parts_are_said():
    nothing = asking(None, None)
    for question in (lambda: nothing.examples(1), nothing.features):
        with pytest.raises(ValueError, match="no examples are configured; start with --examples SRC"):
            question()
    for question in (lambda: nothing.analyze("x", "1"), lambda: nothing.top_features("x")):
        with pytest.raises(ValueError, match="no model is configured; start with --model M --dictionary SRC"):
            question()


def test_models_that_do_not_load_say_why():
    def fail():
        raise OSError("no such weights")

    with pytest.raises(ValueError, match="the models did not load: no such weights"):
        asking(None, Loading(fail)).analyze("x", "1")


def test_models_that_are_loading_are_waited_for(from_dict):
    def slow():
        time.sleep(0.2)
        return OnlineFeatureCentricDashboard(lambda text, features: [[1.0]] * 2, byte_level())

    assert asking(None, Loading(slow)).analyze("fox", "1")["features"] == [1]


def test_the_longest_text_is_refused_before_the_models_are_there():
    with pytest.raises(ValueError, match="at most 10 are analysed at once"):
        Served(None, Loading(lambda: None), 10).encode("x" * 11)


def test_clients_are_told_names_and_not_paths():
    from tiny_dashboard.app.components import explain

    for said, told in {
        "cannot read /srv/secret/data/x.db: broken": "cannot read x.db: broken",
        "feature 3 in '/srv/a/out' has 3/4": "feature 3 in 'out' has 3/4",
        r"cannot read C:\Users\me\x.db": "cannot read x.db",
        "see https://huggingface.co/a/b/c or </s>": "see https://huggingface.co/a/b/c or </s>",
    }.items():
        assert explain(ValueError(said)) == told

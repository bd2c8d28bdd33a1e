"""The records: examples, statistics, sources of examples, and the checks on what comes in."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_dashboard.core.examples import Example, ExampleSource, UnknownFeatureError, check_example, check_feature
from tiny_dashboard.core.statistics import FeatureStats


class Two(ExampleSource):
    """A source of two features that counts how often it is asked."""

    def __init__(self):
        self.listed = self.loaded = 0

    def features(self):
        self.listed += 1
        return [3, 8]

    def load(self, feature):
        self.loaded += 1
        return [Example(1.0, ["a"], [1.0])]


def test_a_row_of_three_is_an_example_and_unpacks_as_before():
    example = Example(*[2.0, ["a", "b"], [0.0, 2.0]])
    assert example[:3] == (2.0, ["a", "b"], [0.0, 2.0])
    assert set(example[3:]) == {None}
    value, tokens, activations = example[:3]
    assert (value, tokens, activations) == (example.max_activation, example.tokens, example.activations)


def test_a_source_is_a_read_only_lazy_mapping():
    source = Two()
    assert isinstance(source, Mapping)
    assert list(source) == [3, 8] and len(source) == 2 and list(source.keys()) == [3, 8]
    assert source.loaded == 0
    assert source[3][0].tokens == ["a"] and source.loaded == 1
    assert 8 in source and 5 not in source and "8" not in source and None not in source
    listed = source.listed
    assert all(8 in source for _ in range(50)) and source.listed <= listed + 1
    with pytest.raises(KeyError):
        source[5]
    assert source.loaded == 1, "a feature that is not there is not looked for"
    assert source.get(5) is None
    with pytest.raises(TypeError):
        source[3] = []
    assert source.stats(3) is None and source.info.format == "unknown"


def test_a_source_may_be_asked_from_several_threads():
    source, wrong = Two(), []

    def ask():
        for _ in range(200):
            if 3 not in source or 4 in source or len(source[8]) != 1:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((1.0, ["a", "b"], [1.0]), "2 tokens and 1 activations"),
        ((1.0, ["a"], [1.0, 2.0]), "1 tokens and 2 activations"),
        ((1.0, [], [1.0, 2.0], [5]), "1 tokens and 2 activations"),
        ((1.0, ["a"]), "is not (max_activation, tokens, activations)"),
        ((1.0, ["a"], 3.0), "is not (max_activation, tokens, activations)"),
        ((1.0, None, [1.0]), "is not (max_activation, tokens, activations)"),
        (7, "is not (max_activation, tokens, activations) but '7'"),
        (None, "is not (max_activation, tokens, activations) but 'None'"),
        (tuple(range(9)), "is not (max_activation, tokens, activations)"),
        (("strong", ["a"], [1.0]), "max_activation 'strong'"),
        ((None, ["a"], [1.0]), "max_activation None"),
    ],
)
def test_a_row_that_is_no_example_says_where_and_why(row, says):
    with pytest.raises(ValueError) as error:
        check_example(row, 12, 3)
    assert "example 3 of feature 12" in str(error.value)
    assert says in str(error.value)
    assert len(str(error.value)) < 300


def test_good_rows_pass():
    assert check_example((1, ["a"], [1]), 0, 0) == Example(1, ["a"], [1])
    example = Example(1.0, [], np.array([1.0, 0.0]), np.array([4, 5]))
    assert check_example(example, 0, 0) is example
    assert check_example([np.float32(1), ("a",), (1.0,)], 0, 0).tokens == ("a",)
    assert check_example((0.0, [], []), 0, 0) == Example(0.0, [], [])
    assert np.isnan(check_example((float("nan"), ["a"], [float("nan")]), 0, 0).max_activation)


@pytest.mark.parametrize("feature", [3, np.int32(3), np.uint64(3), np.array(3)])
def test_a_feature_of_any_whole_kind(feature):
    found = check_feature(feature, {3: []})
    assert found == 3 and type(found) is int


@pytest.mark.parametrize(
    "feature",
    [1.0, 1.5, "1", None, [1], True, float("nan"), b"1", np.float32(3), "x" * 10**6],
    ids=lambda f: repr(f)[:9],
)
def test_a_feature_that_is_no_whole_number(feature):
    with pytest.raises(ValueError, match="is not a whole number; give its index, 0 or above") as error:
        check_feature(feature, {1: [], 3: []})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("feature", [-1, -(10**30), -(10**5000)], ids=["-1", "-1e30", "-1e5000"])
def test_a_negative_feature(feature):
    with pytest.raises(ValueError, match="negative; features are counted from 0") as error:
        check_feature(feature, {1: []})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("feature", [4, 10**9, 2**63, 10**40, 10**400, 10**5000], ids=lambda f: f"{len(hex(f))} hex")
def test_an_unknown_or_huge_feature_is_told_its_neighbours(feature):
    source = dict.fromkeys([0, 3, 6, 9, 100], [])
    with pytest.raises(UnknownFeatureError) as error:
        check_feature(feature, source)
    assert isinstance(error.value, KeyError)
    assert ("nearest are 0, 3, 6" if feature == 4 else "nearest are 6, 9, 100") in str(error.value)
    assert "of the 5 features" in str(error.value)
    assert len(str(error.value)) < 200 and not str(error.value).startswith(("'", '"')), "KeyError quotes its message"


def test_an_empty_source_says_so():
    with pytest.raises(UnknownFeatureError, match="feature 1 has no examples: the source is empty"):
        check_feature(1, {})


@given(st.sets(st.integers(0, 2**40), min_size=1), st.integers(0, 2**70))
def test_any_number_is_a_feature_of_the_source_or_an_error(ids, feature):
    source = dict.fromkeys(ids, [])
    if feature in ids:
        assert check_feature(feature, source) == feature
    else:
        with pytest.raises(UnknownFeatureError) as error:
            check_feature(feature, source)
        nearest = min(ids, key=lambda i: abs(i - feature))
        assert str(nearest) in str(error.value).rsplit("nearest are", 1)[1]


def test_a_feature_has_a_name():
    assert FeatureStats(1).name == ""
    assert FeatureStats(1, label="questions").name == "questions"
    tokens = [(f" t{i}", 9 - i) for i in range(9)]
    assert FeatureStats(1, label="", peak_tokens=tokens).name == "␣t0 ␣t1 ␣t2 ␣t3 ␣t4"
    assert FeatureStats(1, label="x", peak_tokens=tokens).name == "x"


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, tiny_dashboard, tiny_dashboard.core.examples, "
        "tiny_dashboard.core.highlight, tiny_dashboard.core.text\n"
        "heavy = {'torch', 'gradio', 'transformers', 'datasets', 'pyarrow', 'sqlite3', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

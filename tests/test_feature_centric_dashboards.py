"""The two dashboards: what they read, draw, compute and write, and what they say of what they cannot."""

from __future__ import annotations

import copy
import json
import math
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.bundle import BARE_FEATURE, DEAD, HOSTILE_FEATURE, N_FEATURES, make_model
from tests.helpers.colors import alpha_of, shade
from tests.helpers.hostile import ANY_TEXT, HOSTILE, shown
from tests.helpers.html_tree import data_of, ids_of, parse, passages_of, tokens_of
from tests.helpers.tokenizers import byte_level, slow_byte_level, wordpiece
from tiny_dashboard import (
    AbstractOnlineFeatureCentricDashboard,
    Example,
    OfflineFeatureCentricDashboard,
    OnlineFeatureCentricDashboard,
)
from tiny_dashboard.core.examples import UnknownFeatureError
from tiny_dashboard.core.files import write_text
from tiny_dashboard.core.highlight import COLORS, Html, max_alpha

FULL = round(255 * max_alpha(COLORS[0]))
NAN = float("nan")
EXAMPLES = {
    3: [(2.0, ["Ġthe", "Ġcat"], [0.5, 2.0]), (1.0, ["Ġa", "Ċ", "Ġdog"], [0.0, 1.0, 0.0])],
    7: [(-0.5, ["x"], [-0.5])],
    40: [],
}


def tree_of(html):
    return parse(html.removeprefix("<!doctype html>"))


def texts_of(html):
    return [p.text for p in passages_of(tree_of(html))]


def offline(examples=EXAMPLES, tokenizer=None, **options):
    return OfflineFeatureCentricDashboard(examples, tokenizer, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_db(path: Path, rows, table="data_table", key="key", column="examples") -> Path:
    quoted = ['"' + name.replace('"', '""') + '"' for name in (table, key, column)]
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE {quoted[0]} ({quoted[1]} INTEGER PRIMARY KEY, {quoted[2]} TEXT)")
        db.executemany(f"INSERT INTO {quoted[0]} VALUES (?, ?)", [(k, json.dumps(v)) for k, v in rows.items()])
    db.close()
    return path


# --- offline: reading ------------------------------------------------------------------------------------------------


def test_a_dict_is_enough():
    dashboard = offline()
    html = dashboard.generate_html(3)
    assert isinstance(html, Html) and html._repr_html_() == html.replace("<title>Feature 3</title>", "")
    assert dashboard[3] == html and "[feature]" in dashboard._repr_html_() and not isinstance(dashboard, Iterable)
    assert repr(dashboard) == f"<OfflineFeatureCentricDashboard · {dashboard.about}; .display() opens it>"
    nothing = OfflineFeatureCentricDashboard({9: []}, None)
    assert "feature 9 is there, and no examples of it are stored" in nothing[9]
    assert texts_of(html) == [" the cat", " a\n dog"]
    assert tree_of(html).one("h2").text == "Feature 3" and tree_of(html).one("title").raw == "Feature 3"
    assert dashboard.features == [3, 7, 40] and dashboard.stats(3) is None and dashboard.info.format == "dict"
    assert dict(dashboard.max_acts) == {3: 2.0, 7: -0.5, 40: 0.0}
    assert [e.max_activation for e in dashboard.examples(3)] == [2.0, 1.0]


def test_the_old_rows_and_the_new_ones_draw_alike():
    rows = EXAMPLES[3]
    as_lists = {3: [[v, list(t), list(a)] for v, t, a in rows]}
    as_examples = {3: [Example(*row) for row in rows]}
    as_arrays = {3: [(np.float32(v), tuple(t), np.array(a, dtype=np.float32)) for v, t, a in rows]}
    as_tensors = {np.int64(3): tuple((torch.tensor(v), t, torch.tensor(a)) for v, t, a in rows)}
    expected = offline().generate_html(3, use_absolute_max=True)
    for examples in (as_lists, as_examples, as_arrays, as_tensors):
        assert offline(examples).generate_html(3, use_absolute_max=True) == expected


def test_token_ids_are_read_by_the_tokenizer():
    tokenizer = byte_level()
    ids = tokenizer("été\tnaïve")["input_ids"]
    values = [0.0] * (len(ids) - 1) + [1.0]
    for kept in (ids, np.array(ids), torch.tensor(ids)):
        dashboard = offline({1: [Example(1.0, [], values, kept)]}, tokenizer)
        html = dashboard.generate_html(1)
        assert texts_of(html) == ["été\tnaïve"]
        assert ids_of(data_of(tree_of(html))["passages"][0]) == ids
        assert dashboard.ids_of(dashboard.examples(1)[0]) == (ids, [False] * len(ids))
    with pytest.raises(ValueError, match="token ids can be read only with their tokenizer"):
        offline({1: [Example(1.0, [], values, ids)]}).generate_html(1)
    with pytest.raises(ValueError, match="token id 999999 is outside"):
        offline({1: [Example(1.0, [], [1.0], [999999])]}, tokenizer).generate_html(1)


def test_a_tokenizer_may_be_a_folder(tmp_path):
    byte_level().save_pretrained(tmp_path)
    for name in (tmp_path, str(tmp_path)):
        dashboard = offline(tokenizer=name)
        assert dashboard.tokenizer.get_vocab() == byte_level().get_vocab()
        assert dashboard.tokenizer is dashboard.tokenizer


def test_ids_of_pieces_are_looked_up():
    tokenizer = byte_level(bos=True)
    pieces = ["<s>", *tokenizer.tokenize("the fox")]
    dashboard = offline({1: [(1.0, pieces, [1.0] * len(pieces))]}, tokenizer)
    ids, special = dashboard.ids_of(dashboard.examples(1)[0])
    assert ids == tokenizer("the fox")["input_ids"] and special == [True] + [False] * (len(ids) - 1)
    words = wordpiece()
    with pytest.raises(ValueError, match="not in the tokenizer's vocabulary"):
        offline({}, words).ids_of(Example(1.0, ["hello", "zebra"], [1.0, 0]))
    # An unknown token that stands in the text is a token; and GPT-2's BOS is its unknown token too.
    assert offline({}, words).ids_of(Example(1.0, ["[UNK]", "hello"], [1.0, 0]))[0] == [0, 6]
    assert offline({}, words).ids_of(Example(1.0, [], [1.0, 0], [0, 6]))[0] == [0, 6]
    with pytest.raises(ValueError, match="not in the tokenizer's vocabulary"):
        offline({}).ids_of(Example(1.0, ["a"], [1.0]))


@pytest.mark.parametrize(
    "called",
    [("data_table", "key", "examples"), ("select", "from", "where"), ('a"b', "c'd", "e`f"), ("Ünï tab", "k y", "[x]"),
     ("t;drop table t", "--", "/*")],
)  # fmt: skip
def test_from_db_with_any_names(tmp_path, called):
    table, key, column = called
    path = make_db(tmp_path / "x y'.db", {5: EXAMPLES[3], 0: []}, table, key, column)
    before = path.read_bytes()
    dashboard = OfflineFeatureCentricDashboard.from_db(path, None, column, table, window_size=7, max_examples=1)
    assert dashboard.features == [0, 5] and (dashboard.window_size, dashboard.max_examples) == (7, 1)
    assert texts_of(dashboard.generate_html(5)) == [" the cat"]
    assert texts_of(dashboard.generate_html(0)) == []
    assert path.read_bytes() == before and names(tmp_path) == [path.name]
    assert OfflineFeatureCentricDashboard.open(path).features == [0, 5]


def test_from_db_from_many_threads(tmp_path):
    rows = {i: [(float(i), [f" t{i}", " u"], [float(i), 0.0])] for i in range(1, 60)}
    dashboard = OfflineFeatureCentricDashboard.from_db(make_db(tmp_path / "x.db", rows), None)
    wrong = []

    def look(start):
        for i in range(1, 60):
            feature = (start * 7 + i) % 59 + 1
            try:
                if texts_of(dashboard.generate_html(feature)) != [f" t{feature} u"]:
                    wrong.append(feature)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=look, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_dataset_on_disk_knows_its_tokenizer(bundle):
    dashboard = OfflineFeatureCentricDashboard.open(bundle.root / "examples", max_examples=2)
    html = dashboard.generate_html(0, use_absolute_max=True)
    assert 0 < len(texts_of(html)) <= 2 and all(t.startswith("<s>") for t in texts_of(html))
    assert tree_of(html).one("div", "td-card").all("strong")[0].text == "label 0"
    assert dashboard.about == f"base ↔ chat · layer 1, resid_post · {N_FEATURES} features with examples"
    assert dashboard.max_acts[0] == dashboard.stats(0).max_activation
    # A feature that never fired, and one without statistics.
    assert texts_of(dashboard.generate_html(DEAD, use_absolute_max=True)) == []
    assert dashboard.max_acts[DEAD] == 0.0
    bare = dashboard.examples(BARE_FEATURE)
    assert bare and dashboard.max_acts[BARE_FEATURE] == bare[0].max_activation
    assert 999 not in dashboard.max_acts and len(dashboard.max_acts) == N_FEATURES


def test_options_reach_the_format(tmp_path):
    path = make_db(tmp_path / "x.db", {1: EXAMPLES[3]}, table="mine")
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE yours (key INTEGER PRIMARY KEY, examples TEXT)")
    opened = OfflineFeatureCentricDashboard.open(path, byte_level(), window_size=3, table_name="mine")
    assert opened.features == [1] and opened.window_size == 3 and opened.tokenizer is byte_level()
    with pytest.raises(FileNotFoundError):
        OfflineFeatureCentricDashboard.open(tmp_path / "no")
    with pytest.raises(FileNotFoundError, match="there is no database"):
        OfflineFeatureCentricDashboard.from_db(tmp_path / "no.db", None)


@pytest.mark.parametrize(
    ("feature", "error", "says"),
    [
        (
            4,
            UnknownFeatureError,
            "feature 4 has no examples here; of the 3 features that have, the nearest are 3, 7, 40",
        ),
        (10**30, UnknownFeatureError, "feature 1000000000000000000000000000000 has no examples here"),
        (-1, ValueError, "feature -1 is negative"),
        (1.5, ValueError, "feature 1.5 is not a whole number"),
        ("3", ValueError, "feature '3' is not a whole number"),
        (None, ValueError, "feature None is not a whole number"),
        (True, ValueError, "feature True is not a whole number"),
    ],
)
def test_a_feature_that_is_not_there(tmp_path, feature, error, says):
    database = OfflineFeatureCentricDashboard.from_db(make_db(tmp_path / "x.db", EXAMPLES), None)
    for dashboard in (offline(), database):
        for ask in (dashboard.examples, dashboard.read, dashboard.generate_html, dashboard.fragment):
            with pytest.raises(error) as raised:
                ask(feature)
            assert says in str(raised.value)
        with pytest.raises(error):
            dashboard.export_to_html(tmp_path / "out.html", feature)
        with pytest.raises(error):
            dashboard.export_to_html(tmp_path / "out.html", [3, feature])
    assert names(tmp_path) == ["x.db"]


def test_features_that_are_no_numbers_are_told_at_once():
    with pytest.raises(TypeError, match="features are numbers, and '12' is a str"):
        offline({"12": EXAMPLES[3]})


def test_a_broken_example_breaks_its_feature_only(tmp_path):
    broken = {1: [(1.0, ["a"], [1.0]), (1.0, ["a", "b"], [1.0])], 2: EXAMPLES[3], 3: [(None, ["a"], [1.0])], 4: [7]}
    for dashboard in (
        offline(broken),
        OfflineFeatureCentricDashboard.from_db(make_db(tmp_path / "x.db", broken), None),
    ):
        assert len(texts_of(dashboard.generate_html(2))) == 2
        with pytest.raises(ValueError, match="example 1 of feature 1 has 2 tokens and 1 activations"):
            dashboard.generate_html(1)
        with pytest.raises(ValueError, match="example 0 of feature 3 has max_activation None"):
            dashboard.generate_html(3)
        with pytest.raises(ValueError, match="example 0 of feature 4 is not"):
            dashboard.generate_html(4)


def test_infinite_and_unknown_activations():
    html = offline({1: [(NAN, ["a", "b"], [NAN, NAN]), (2.0, ["c"], [2.0])]}).generate_html(1, use_absolute_max=True)
    assert texts_of(html) == ["ab", "c"] and "nan" not in html.split("<body")[1].split("<script>")[0].lower()
    assert alpha_of(tokens_of(tree_of(html))[2].attrs["style"]) == FULL


# --- offline: what is shown ------------------------------------------------------------------------------------------


def drawn(dashboard, feature, **how):
    """Values at the peaks and opacities of the active tokens, by example."""
    tree = parse(dashboard.fragment(feature, **how))
    rows = tree.all("div", "td-x")
    return [
        (r.one("span", "td-v").text, [alpha_of(t.attrs["style"]) for t in tokens_of(r) if "style" in t.attrs])
        for r in rows
    ]


def test_scales():
    dashboard = offline({1: [(4.0, ["a", "b"], [4.0, 1.0]), (2.0, ["c"], [2.0])]})
    part = partial(shade, COLORS[0])
    assert drawn(dashboard, 1) == [("4.00", [FULL, part(1 / 4)]), ("2.00", [FULL])]
    assert drawn(dashboard, 1, scale="feature") == [("4.00", [FULL, part(1 / 4)]), ("2.00", [part(1 / 2)])]
    for number in (8, 8.0, "8", " 8.0 ", np.float32(8)):
        assert drawn(dashboard, 1, scale=number) == [("4.00", [part(1 / 2), part(1 / 8)]), ("2.00", [part(1 / 4)])]
    assert drawn(dashboard, 1, scale=1) == [("4.00", [FULL, FULL]), ("2.00", [FULL])]
    assert "clamped (4.00 at most)" in dashboard.fragment(1, scale=1)
    assert drawn(dashboard, 1, scale="feature", max_examples=1) == [("4.00", [FULL, part(1 / 4)])]
    assert dashboard.generate_html(1) != dashboard.generate_html(1, use_absolute_max=True)


def test_the_scale_of_a_feature_is_that_of_all_its_examples(bundle):
    dashboard = OfflineFeatureCentricDashboard.open(bundle.root / "examples")
    feature = next(f for f in range(N_FEATURES) if len(dashboard.examples(f)) > 1)
    top = dashboard.stats(feature).max_activation
    passages = [p for _, p in dashboard.read(feature, scale="feature", max_examples=1)]
    assert passages[0].tracks[0].scale == pytest.approx(top)


@pytest.mark.parametrize(
    "scale", [0, -1, "0", "-2", "loud", "", "nan", "inf", "1e999", 10**400, math.inf, NAN, None, True, [1]]
)
def test_what_is_no_scale(scale):
    with pytest.raises(ValueError, match="the scale is .*; give a number above 0, or one of 'example', 'feature'"):
        offline().fragment(3, scale=scale)


def test_negative_examples_are_drawn_on_any_scale():
    dashboard = offline({1: [(-1.0, ["a", "b"], [-1.0, -4.0]), (-2.0, ["c"], [-2.0])]})
    for scale in ("example", "feature", 4):
        assert [row[0] for row in drawn(dashboard, 1, scale=scale)] == ["-1.00", "-2.00"]
    assert "−4.00" in dashboard.fragment(1, scale="feature")


def test_window_view_number_and_colour():
    tokens = [f" {i}" for i in range(100)]
    dashboard = offline({1: [(9.0, tokens, [0.0] * 50 + [9.0] + [0.0] * 49)] * 5}, window_size=10, max_examples=3)
    assert len(texts_of(dashboard.generate_html(1))) == 3
    assert dashboard.fragment(1).count("40 tokens") == 3 and dashboard.fragment(1).count("39 tokens") == 3
    assert "3 examples · window 10" in dashboard.fragment(1)
    assert dashboard.fragment(1, window_size=20, max_examples=1).count("30 tokens") == 1
    assert "window 0" in dashboard.fragment(1, window_size=0)
    assert len(texts_of(dashboard.fragment(1, max_examples=100))) == 5
    assert dashboard.fragment(1, max_examples=0).count("td-x") == 0
    assert 'data-view="paragraphs"' in dashboard.fragment(1, view="paragraphs")
    assert "#0072b2" in dashboard.fragment(1, color="#0072b2") and "#010203" in dashboard.fragment(1, color=(1, 2, 3))


def test_special_tokens_are_marked_and_can_be_left_out():
    tokenizer = byte_level(bos=True)
    rows = [
        (9.0, ["<s>", "a", "b"], [9.0, 1.0, 0.0]),
        (5.0, ["<s>", "c", "d"], [0.0, 5.0, 1.0]),
        (2.0, ["<s>"], [2.0]),
    ]
    dashboard = offline({1: rows}, tokenizer)
    assert [r[0] for r in drawn(dashboard, 1)] == ["9.00", "5.00", "2.00"]
    assert [t.classes for t in tokens_of(parse(dashboard.fragment(1)))][:3] == [["td-s"], [], []]
    # Out of the ranking, the scale and the colours; the token is still there.
    masked = dashboard.read(1, mask_special=True)
    assert [e.max_activation for e, _ in masked] == [5.0, 1.0, 0.0]
    assert [p.tokens[0] for _, p in masked] == ["<s>"] * 3
    values = [p.tracks[0].array() for _, p in masked]
    assert all(np.isnan(v[0]) for v in values)
    assert drawn(dashboard, 1, mask_special=True)[1] == ("1.00", [FULL])
    by_feature = dashboard.read(1, mask_special=True, scale="feature")
    assert {p.tracks[0].scale for _, p in by_feature} == {5.0}
    # By ids just as by pieces.
    ids = {1: [Example(v, [], a, tokenizer.convert_tokens_to_ids(t)) for v, t, a in rows]}
    assert [e.max_activation for e, _ in offline(ids, tokenizer).read(1, mask_special=True)] == [5.0, 1.0, 0.0]
    assert dashboard.examples(1)[0].activations == [9.0, 1.0, 0.0], "the source is not touched"


def test_bands_share_the_room_and_are_headed():
    rows = [Example(10.0 - i, [f" {q}{i}"], [10.0 - i], quantile=q) for i, q in enumerate([2, 2, 2, 2, 1, 1, 0])]
    dashboard = offline({1: rows})
    assert [e.quantile for e in dashboard.examples(1, 4)] == [2, 2, 1, 0]
    assert [e.quantile for e in dashboard.examples(1, 100)] == [2, 2, 2, 2, 1, 1, 0]
    assert [e.quantile for e in dashboard.examples(1, 2)] == [2, 1]
    assert [e.max_activation for e in dashboard.examples(1, 5)] == sorted(
        (e.max_activation for e in dashboard.examples(1, 5)), reverse=True
    )
    headings = parse(dashboard.fragment(1)).all("h3")
    assert [h.text for h in headings] == [
        "strongest · 7.00 to 10.00", "5.00 to 6.00 · drawn at random", "4.00 · drawn at random",
    ]  # fmt: skip
    one_band = offline({1: [e._replace(quantile=4) for e in rows]})
    assert not parse(one_band.fragment(1)).all("h3")
    assert [e.quantile for e, _ in dashboard.read(1, mask_special=True, max_examples=4)] == [2, 2, 1, 0]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.none() | st.integers(0, 4), st.floats(0.01, 10)), max_size=30),
    st.integers(0, 40),
)
def test_any_bands_fill_the_room_evenly(members, limit):
    members.sort(key=lambda m: (-(-1 if m[0] is None else m[0]), -m[1]))
    rows = [Example(v, ["a"], [v], quantile=q, start=i) for i, (q, v) in enumerate(members)]
    found = offline({1: rows}).examples(1, limit)
    assert len(found) == min(limit, len(rows))
    assert [e.start for e in found] == sorted(e.start for e in found), "the source's order is kept"
    counts = {q: sum(e.quantile == q for e in found) for q in {m[0] for m in members}}
    for q, count in counts.items():
        whole = sum(m[0] == q for m in members)
        assert count == whole or count >= max(counts.values()) - 1
        assert [e.start for e in found if e.quantile == q] == [e.start for e in rows if e.quantile == q][:count]


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=5), st.sampled_from([None, "byte-level"]))
def test_any_tokens_make_a_page(tokens, scheme):
    dashboard = offline({0: [(1.0, tokens, [1.0] * len(tokens))]}, byte_level() if scheme else None)
    html = dashboard.generate_html(0)
    html.encode("utf-8")
    tree = tree_of(html)
    assert len(tokens_of(passages_of(tree)[0])) == len(tokens)
    assert len(tree.all("script")) == 2 and not tree.all("img") and not tree.all("svg")
    if scheme is None and not any(set("ĠĊ▁") & set(t) or t.startswith("<0x") for t in tokens):
        assert passages_of(tree)[0].text == shown("".join(tokens))


# --- offline: writing ------------------------------------------------------------------------------------------------


def test_export_one_and_many(tmp_path):
    dashboard = offline()
    assert dashboard.export_to_html(tmp_path / "one.html", 3) == tmp_path / "one.html"
    one = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert one == dashboard.generate_html(3, use_absolute_max=True)
    assert dashboard.export_to_html(tmp_path / "zero.html", np.array(3)).read_text(encoding="utf-8") == one
    many = Path(dashboard.export_to_html(str(tmp_path / "deep" / "er" / "many.html"), (f for f in (7, 3, 40))))
    tree = tree_of(many.read_text(encoding="utf-8"))
    assert [a.attrs["href"] for a in tree.one("nav").all("a")] == ["#f7", "#f3", "#f40"]
    assert [s.attrs["id"] for s in tree.all("section")] == ["f7", "f3", "f40"]
    assert [len(passages_of(s)) for s in tree.all("section")] == [1, 2, 0]
    assert len(tree.all("style")) == 1, "the assets travel once"
    assert tree.one("title").raw == "3 features"
    with pytest.raises(ValueError, match="no feature is named; give at least one"):
        dashboard.export_to_html(tmp_path / "none.html", [])
    assert not (tmp_path / "none.html").exists()
    assert dashboard.export_to_html(tmp_path / "np.html", np.int64(3)).exists()
    assert dashboard.export_to_html(tmp_path / "np2.html", np.array([3, 7])).exists()


def test_an_export_replaces_whole_or_not_at_all(tmp_path):
    dashboard = offline(EXAMPLES | {9: [(1.0, ["a"], [1.0, 2.0])]})
    path = tmp_path / "x.html"
    path.write_text("before")
    with pytest.raises(ValueError, match="feature 9"):
        dashboard.export_to_html(path, [3, 9])
    assert path.read_text() == "before" and names(tmp_path) == ["x.html"]
    dashboard.export_to_html(path, 3)
    assert "the" in path.read_text() and names(tmp_path) == ["x.html"]


@pytest.mark.parametrize("kind", ["a folder", "under a file", "a name too long"])
def test_a_path_that_cannot_be_written(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    path = {
        "a folder": tmp_path / "folder",
        "under a file": tmp_path / "file" / "x.html",
        "a name too long": tmp_path / ("x" * 300 + ".html"),
    }[kind]
    with pytest.raises(OSError) as error:
        offline().export_to_html(path, 3)
    assert path.name[:20] in str(error.value) or "file" in str(error.value)
    assert names(tmp_path) == ["file", "folder"] and (tmp_path / "file").read_text() == "kept"
    assert names(tmp_path / "folder") == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    path.write_text("before")

    def no_space(self, target):
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "replace", no_space)
        write_text(path, "after")
    assert path.read_text() == "before" and names(tmp_path) == ["x.html"]
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "before" and names(tmp_path) == ["x.html"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_a_file_can_be_read_by_those_who_may_read_its_neighbours(tmp_path):
    (tmp_path / "neighbour").write_text("x")
    path = write_text(tmp_path / "x.html", "<p>")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "neighbour").stat().st_mode)


def test_the_longest_name_that_a_disk_takes(tmp_path):
    path = write_text(tmp_path / ("x" * 250 + ".html"), "<p>")
    assert path.read_text() == "<p>" and names(tmp_path) == [path.name]


def test_home_and_line_ends_are_as_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_text("~/x.html", "a\r\nb\nc\r") == tmp_path / "x.html"
    assert (tmp_path / "x.html").read_bytes() == b"a\r\nb\nc\r"


# --- online ----------------------------------------------------------------------------------------------------------


def lengths(text, features):
    """A feature function: token lengths times (feature + 1)."""
    ids = byte_level()(text)["input_ids"]
    sizes = torch.tensor([float(len(p)) for p in byte_level().convert_ids_to_tokens(ids)])
    return sizes[:, None] * (torch.tensor(features) + 1)


def online(function=lengths, tokenizer=None, **options):
    return OnlineFeatureCentricDashboard(function, tokenizer or byte_level(), **options)


TEXT = "the quick brown fox"


def test_an_analysis_is_data_and_a_page():
    result = online().analyze(TEXT, 12, [3], [5, 12])
    ids = byte_level()(TEXT)["input_ids"]
    assert result.text == "".join(result.tokens) == TEXT and result.ids == ids
    assert result.features == [12, 3, 5]
    assert result.activations.shape == (len(ids), 3) and result.activations.dtype == np.float64
    np.testing.assert_allclose(result.activations, lengths(TEXT, (12, 3, 5)).numpy())
    assert result.response == ""
    tree = tree_of(result.html)
    assert passages_of(tree)[0].text == TEXT
    data = data_of(tree)
    assert data["names"] == ["feature 12", "feature 3"], "what is only computed is not in the tooltip"
    assert data["colors"] == [COLORS[0], ""]
    assert result._repr_html_() == result.html._repr_html_() and isinstance(result.html, Html)
    assert parse(result.fragment).one("div", "td")


@pytest.mark.parametrize("asked", [(12, 30), "12, 30", "12 30", [12, "30"], np.array([12, 30]), torch.tensor([12, 30])])
def test_features_in_any_form(asked):
    result = online().analyze(TEXT, asked)
    assert result.features == [12, 30]
    assert data_of(tree_of(result.html))["colors"] == list(COLORS)


def test_labels_and_colours_follow_their_features():
    dashboard = online(second_highlight_color="#123456")
    result = dashboard.analyze(TEXT, [30, 12], [12, 3])
    data = data_of(tree_of(result.html))
    assert dict(zip(data["names"], data["colors"], strict=True)) == {
        "feature 30": COLORS[0],
        "feature 12": "#123456",
        "feature 3": "",
    }
    values = dict(zip(data["names"], data["passages"][0]["v"], strict=True))
    for feature in (30, 12, 3):
        assert values[f"feature {feature}"][1] == lengths(TEXT, [feature])[:, 0].tolist()


@pytest.mark.parametrize("shape", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).half(), tuple])
def test_rows_of_any_kind(shape):
    dashboard = online(lambda text, features: shape(lengths(text, features).tolist()))
    np.testing.assert_allclose(dashboard.analyze(TEXT, [1, 2]).activations, lengths(TEXT, [1, 2]).numpy())


def test_one_feature_may_come_flat():
    dashboard = online(lambda text, features: lengths(text, features)[:, 0])
    assert dashboard.analyze(TEXT, 4).activations.shape == (len(byte_level()(TEXT)["input_ids"]), 1)
    with pytest.raises(ValueError, match=r"returned shape \(\d+,\) for \d+ tokens and 2 features"):
        dashboard.analyze(TEXT, [4, 5])


N = len(byte_level()(TEXT)["input_ids"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.zeros((N - 1, 1)), f"returned {N - 1} rows for {N} tokens; tokenise with add_special_tokens=True, or drop"),
        (np.zeros((N + 1, 1)), f"returned {N + 1} rows for {N} tokens"),
        (
            np.zeros((1, N, 1)),
            rf"returned shape (1, {N}, 1) for {N} tokens and 1 features; return [{N}, 1], with no batch",
        ),
        (np.zeros((N, 2)), f"returned shape ({N}, 2) for {N} tokens and 1 features"),
        (np.zeros((1, N)), f"returned shape (1, {N})"),
        (np.zeros((0, 1)), f"returned 0 rows for {N} tokens"),
        (3.0, f"returned shape () for {N} tokens"),
        (None, "get_feature_activation returned"),
        ([["a"]] * N, "get_feature_activation returned"),
        ([[1.0], [1.0, 2.0]], "get_feature_activation returned"),
    ],
)
def test_rows_that_do_not_match(rows, says):
    with pytest.raises(ValueError) as error:
        online(lambda text, features: rows).analyze(TEXT, 1)
    assert says in str(error.value)


def test_values_that_are_not_numbers_to_draw():
    quiet = online(lambda text, features: np.full((N, len(features)), NAN)).analyze(TEXT, [1, 2])
    assert "never active" in quiet.html and not any(t.attrs for t in tokens_of(tree_of(quiet.html)))
    zero = online(lambda text, features: np.zeros((N, len(features)))).analyze(TEXT, [1, 2])
    assert "never active" in zero.html
    loud = online(lambda text, features: np.full((N, 1), math.inf))
    with pytest.raises(ValueError, match="'feature 1' is inf at token 0; clip it, or set it to NaN"):
        loud.analyze(TEXT, 1).html  # noqa: B018


def test_an_exception_of_the_user_is_kept():
    class Mine(RuntimeError):
        pass

    def broken(text, features):
        raise Mine("my own words")

    with pytest.raises(Mine, match="^my own words$"):
        online(broken).analyze(TEXT, 1)
    with pytest.raises(Mine, match="^my own words$"):
        online(generate_model_response=lambda text: broken(text, ())).analyze(TEXT, 1, generate=True)


def test_functions_get_the_dashboard_when_asked():
    seen = []

    def function(dashboard, text, features):
        seen.append((dashboard, text, features))
        return lengths(text, features)

    dashboard = online(
        function, generate_model_response=lambda d, text: text + f" {d.window_size}", call_with_self=True
    )
    result = dashboard.analyze(TEXT, 1, [2], generate=True)
    assert seen == [(dashboard, TEXT + " 50", (1, 2))] and type(seen[0][2]) is tuple
    assert result.response == " 50" and result.text == TEXT + " 50"


def test_a_subclass_says_how():
    class Mine(AbstractOnlineFeatureCentricDashboard):
        def get_feature_activation(self, text, feature_indices):
            return lengths(text, feature_indices) * self.window_size

    result = Mine(byte_level(), window_size=2).analyze(TEXT, 0)
    np.testing.assert_allclose(result.activations, 2 * lengths(TEXT, [0]).numpy())
    assert result.window_size == 2
    with pytest.raises(TypeError, match="abstract"):
        AbstractOnlineFeatureCentricDashboard(byte_level())
    with pytest.raises(NotImplementedError, match="Mine computes chosen features only; name them"):
        Mine(byte_level()).top_features(TEXT)


def test_the_function_gets_the_text_whose_tokens_are_shown():
    tokenizer = copy.deepcopy(byte_level(bos=True))
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    seen = []

    def function(text, features):
        seen.append(text)
        return np.zeros((len(tokenizer(text)["input_ids"]), len(features)))

    dashboard = online(function, tokenizer)
    for text, chat in [(TEXT, False), ("<s>" + TEXT, False), (TEXT + "<eot>and then", True), (TEXT, True)]:
        result = dashboard.analyze(text, 1, chat=chat)
        assert tokenizer(seen[-1])["input_ids"] == result.ids
        assert result.ids.count(0) == 1, "one BOS"
    assert "<|im_start|>user\n" in result.text and result.text == seen[-1]


def test_an_answer_is_analysed_with_the_text():
    dashboard = online(generate_model_response=lambda text: text + " jumps\nover")
    result = dashboard.analyze(TEXT, 1, generate=True)
    assert result.text == TEXT + " jumps\nover" and result.response == " jumps\nover"
    assert "".join(result.tokens) == result.text
    # An answer that comes without its prompt.
    assert online(generate_model_response=lambda text: " alone").analyze(TEXT, 1, generate=True).text == TEXT + " alone"
    assert online(generate_model_response=lambda text: text).analyze(TEXT, 1, generate=True).response == ""
    chat = online(generate_model_response=lambda text: text + "yes").analyze(TEXT, 1, chat=True, generate=True)
    assert chat.text.endswith("<|im_start|>assistant\nyes") and chat.response == "yes"


def test_an_answer_that_goes_on_in_the_middle_of_a_word():
    """The function sees one text, whose tokens need not be those of prompt and answer apart."""
    tokenizer = byte_level(bos=True)
    prompt, answer = "the qu", "ick brown"
    whole = tokenizer(prompt + answer)["input_ids"]
    apart = tokenizer(prompt)["input_ids"] + tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert whole != apart
    function = lambda text, features: np.ones((len(tokenizer(text)["input_ids"]), len(features)))  # noqa: E731
    dashboard = online(function, tokenizer, generate_model_response=lambda text: text + answer)
    result = dashboard.analyze(prompt, 1, generate=True)
    assert result.ids == whole and result.text == prompt + answer and result.response == answer
    assert result.passage.special[0] and not any(result.passage.special[1:])


def test_generating_needs_a_model():
    with pytest.raises(ValueError, match="there is no model to generate with; give `model`, or override"):
        online().analyze(TEXT, 1, generate=True)


def test_generating_with_a_model(bundle):
    tokenizer, model = bundle.tokenizer, bundle.pair[1]

    def ones(text, features):
        return np.ones((len(tokenizer(text)["input_ids"]), len(features)))

    dashboard = OnlineFeatureCentricDashboard(ones, tokenizer, model=model)
    dashboard.max_new_tokens = 5
    ids = tokenizer("The quick", return_tensors="pt")
    expected = model.generate(**ids, max_new_tokens=5, do_sample=False)[0]
    response = dashboard.generate_model_response("The quick")
    assert response == "The quick" + tokenizer.decode(expected[ids["input_ids"].shape[1] :])
    # The model's context is the end of an answer, and of a prompt.
    dashboard = OnlineFeatureCentricDashboard(ones, tokenizer, model=make_model(len(tokenizer), 1, context=8))
    room = 8 - ids["input_ids"].shape[1]
    assert dashboard.generate_model_response("The quick") == "The quick" + tokenizer.decode(expected[-5:][:room])
    ids = tokenizer("The quick brown fox jumps over the lazy dog")["input_ids"]
    for n, says in ((8, "8 tokens, which is all the context of"), (9, "9 tokens and the context of")):
        with pytest.raises(ValueError, match=f"the text has {says} LlamaForCausalLM.*; shorten the text"):
            dashboard.analyze(tokenizer.decode(ids[1:n]), 1, generate=True)


@pytest.mark.parametrize("max_act", [0, -1, 0.0, "0", "-3", "loud", "nan", "inf", math.inf, NAN, [2], True, "Auto"])
def test_what_is_no_max_act(max_act):
    with pytest.raises(ValueError, match="the scale is .*; give a number above 0, or one of empty, 'auto'"):
        online().analyze(TEXT, 1, max_act=max_act)


def test_max_act():
    def scale(dashboard, **how):
        return [t.scale for t in dashboard.analyze(TEXT, [1, 2], [3], **how).passage.tracks]

    assert scale(online()) == scale(online(), max_act="") == [None] * 3
    assert scale(online(), max_act=5) == scale(online(), max_act="5.0") == [5.0] * 3
    assert scale(online(max_acts={1: 7.0, 2: 0.0, 3: -1.0}), max_act="auto") == [7.0, None, None]
    assert scale(online(max_acts={}), max_act="auto") == scale(online(), max_act="auto") == [None] * 3
    assert "clamped" in online().analyze(TEXT, 1, max_act=0.5).html


def test_max_act_auto_from_examples(bundle):
    acts = OfflineFeatureCentricDashboard.open(bundle.root / "examples").max_acts
    tracks = online(max_acts=acts).analyze(TEXT, [0, DEAD], [BARE_FEATURE, 9999], max_act="auto").passage.tracks
    assert [t.scale for t in tracks] == [acts[0], None, acts[BARE_FEATURE], None]
    acts = offline({1: [], 2: [(-3.0, ["a"], [-3.0])], 3: [(NAN, ["a"], [NAN])]}).max_acts
    tracks = online(max_acts=acts).analyze(TEXT, [1, 2], [3], max_act="auto").passage.tracks
    assert [t.scale for t in tracks] == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("", 1), ValueError, "the text is empty"),
        ((None, 1), TypeError, "the text is a str"),
        (("a\ud800", 1), ValueError, "lone surrogate"),
        ((TEXT, ()), ValueError, "no feature is named; give at least one to highlight"),
        ((TEXT, ""), ValueError, "no feature is named"),
        ((TEXT, [1, 2, 3]), ValueError, "3 features to highlight; choose one or two"),
        ((TEXT, "1,,2"), ValueError, "'1,,2' has a comma with no number beside it"),
        ((TEXT, [1, "x"]), ValueError, "'x' is not a feature number"),
        ((TEXT, 1.5), ValueError, "1.5 is not a feature number"),
        ((TEXT, "1.5"), ValueError, "'1.5' is not a feature number"),
        ((TEXT, [[1]]), ValueError, "[1] is not a feature number"),
        ((TEXT, -1), ValueError, "-1"),
        ((TEXT, 10**40), ValueError, "does not exist"),
        ((TEXT, 1, "x"), ValueError, "'x' is not a feature number"),
        ((TEXT, 1, (), "5-3"), ValueError, "ends before it begins"),
    ],
)
def test_questions_that_make_no_sense(arguments, error, says):
    with pytest.raises(error) as raised:
        online().analyze(*arguments)
    assert says in str(raised.value)


def test_tooltip_features_alone_colour_nothing():
    result = online().analyze(TEXT, (), [1, 2, 3])
    assert data_of(tree_of(result.html))["names"] == ["feature 1", "feature 2", "feature 3"]
    assert not any(t.attrs for t in tokens_of(tree_of(result.html)))


def test_special_tokens_can_be_masked():
    tokenizer = byte_level(bos=True)
    rows = lambda text, features: np.full((len(tokenizer(text)["input_ids"]), len(features)), 5.0)  # noqa: E731
    plain = online(rows, tokenizer).analyze(TEXT, 1)
    masked = online(rows, tokenizer).analyze(TEXT, 1, mask_special=True)
    assert plain.activations[0, 0] == 5.0
    assert np.isnan(masked.activations[0, 0]) and (masked.activations[1:] == 5.0).all()
    assert "style" not in tokens_of(tree_of(masked.html))[0].attrs
    assert tokens_of(tree_of(masked.html))[0].classes == ["td-s"]


def test_colours_may_be_given_for_one_analysis():
    result = online().analyze(TEXT, [1, 2], colors=["#111111"])
    assert data_of(tree_of(result.html))["colors"] == ["#111111", COLORS[1]]


def test_the_users_rows_are_not_touched():
    tokenizer, kept = byte_level(bos=True), []

    def rows(text, features):
        kept.append(np.full((len(tokenizer(text)["input_ids"]), len(features)), 5.0))
        return kept[-1]

    online(rows, tokenizer).analyze(TEXT, 1, mask_special=True)
    assert (kept[0] == 5.0).all()


def test_save_html(tmp_path, monkeypatch):
    dashboard = online()
    with pytest.raises(ValueError, match=r"there is nothing to save yet; call analyze\(\) first"):
        dashboard.save_html(tmp_path)
    result = dashboard.analyze(TEXT, [1, 2], [3])
    path = dashboard.save_html(tmp_path / "new", "mine.html")
    assert path == tmp_path / "new" / "mine.html" and path.read_text(encoding="utf-8") == result.html
    assert dashboard.save_html(tmp_path).name == "features-1-2-3.html"
    monkeypatch.chdir(tmp_path / "new")
    assert dashboard.save_html().resolve().parent == tmp_path / "new"
    with pytest.raises(OSError):
        dashboard.save_html(tmp_path / "new" / "mine.html")
    assert names(tmp_path / "new") == ["features-1-2-3.html", "mine.html"]


def test_a_failed_analysis_leaves_the_last_one(tmp_path):
    dashboard = online()
    result = dashboard.analyze(TEXT, 1)
    with pytest.raises(ValueError):
        dashboard.analyze("", 1)
    assert dashboard.save_html(tmp_path).read_text(encoding="utf-8") == result.html


def test_slow_tokenizers_and_those_without_bos_or_template():
    slow = slow_byte_level()
    rows = lambda text, features: np.ones((len(slow(text)["input_ids"]), len(features)))  # noqa: E731
    assert online(rows, slow).analyze("été\n", 1).text == "été\n"
    bare = wordpiece()
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        online(tokenizer=bare).analyze("hello", 1, chat=True)
    rows = lambda text, features: np.ones((len(bare(text)["input_ids"]), len(features)))  # noqa: E731
    assert online(rows, bare).analyze("hello unaffable", 1).tokens == ["hello", " un", "aff", "able"]


def test_hostile_text_is_text():
    tokenizer = byte_level()
    for text in HOSTILE:
        if not text or any("\ud800" <= c <= "\udfff" for c in text):
            continue
        html = online().analyze(text, 1).html
        assert passages_of(tree_of(html))[0].text == shown(text)
        assert len(tree_of(html).all("script")) == 2
    assert tokenizer is byte_level()


def test_a_feature_with_a_hostile_label_makes_a_page(bundle):
    html = OfflineFeatureCentricDashboard.open(bundle.root / "examples").generate_html(HOSTILE_FEATURE)
    tree = tree_of(html)
    assert not tree.all("img") and len(tree.all("script")) == 2 and "{{7*7}}" in tree.all("strong")[0].text


def test_many_threads_may_analyse_at_once():
    dashboard, wrong = online(), []

    def work(number):
        for i in range(10):
            text = f"thread {number} says {i}"
            result = dashboard.analyze_encoded(dashboard.encode(text), [number])
            if result.text != text or result.features != [number] or "".join(result.tokens) != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_infinite_value_hides_no_feature(tmp_path):
    rows = {3: [(2.0, ["a", "b", "c"], [0.0, float("inf"), 2.0]), (1.0, ["d"], [1.0])]}
    dashboard = OfflineFeatureCentricDashboard(rows, None)
    page = dashboard.generate_html(3)
    assert 'title="left out: its activation is infinite">b</i>' in page and "2 examples" in page
    dashboard.export_to_html(tmp_path / "all.html", [3])
    # The stored maximum may be the infinite value itself: it is then no scale, for these examples or for a text.
    stored = OfflineFeatureCentricDashboard({3: [(float("inf"), ["a", "b"], [float("inf"), 2.0]), *rows[3]]}, None)
    assert stored.max_acts[3] == 2.0
    for mask in (True, False):
        assert [p.tracks[0].scale for _, p in stored.read(3, scale="feature", mask_special=mask)] == [2.0] * 3
    arrays = {3: [(1.0, np.array(["a", "b"]), np.array([0.0, 1.0]))]}
    assert "<i>a</i>" in OfflineFeatureCentricDashboard(arrays, None).generate_html(3)

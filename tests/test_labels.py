"""Labels and notes: kept beside the examples, by many at once, and shown by every view."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.bundle import PWN
from tiny_dashboard import OfflineFeatureCentricDashboard
from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.core.examples import Example, UnknownFeatureError
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.publish.site import export_site
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.convert import convert
from tiny_dashboard.sources.label_store import LabelStore
from tiny_dashboard.sources.labels import Label
from tiny_dashboard.sources.write import write_dataset


@pytest.fixture
def dataset(tmp_path):
    rows = ((f, [Example(1.0 + f, ["a", "b"], [0.0, 1.0 + f])]) for f in range(5))
    stats = (FeatureStats(f, label=f"old {f}", extra={"label_score": 0.6, "p": 0.5}) for f in range(5))
    return write_dataset(tmp_path / "set", rows, stats)


def open_dashboard(source, **options):
    return OfflineFeatureCentricDashboard.open(source, **options)


def label_row(dashboard, feature):
    return next(row for row in dashboard.table.find(f"feature={feature}")["features"])


def test_a_label_is_shown_at_once_in_every_view(dataset, tmp_path):
    dashboard, other = open_dashboard(dataset), open_dashboard(dataset)
    assert label_row(other, 3)["label_score"] == 0.6
    kept = dashboard.label(np.int64(3), f"  dates\nand {PWN} 🙂 ", note="two\r\nlines\x00\u202e", author="ada")
    assert (kept.feature, kept.label, kept.note, kept.author) == (3, f"dates and {PWN} 🙂", "two\nlines", "ada")
    for seen in (dashboard, other, open_dashboard(dataset)):
        stats = seen.stats(3)
        assert stats.label == kept.label and stats.extra == {"p": 0.5, "label_source": "ada", "note": "two\nlines"}
        row = label_row(seen, 3)
        assert (row["label"], row["label_source"], row["label_score"], row["p"]) == (kept.label, "ada", None, 0.5)
        assert [found["feature"] for found in seen.table.find("dates")["features"]] == [3]
        assert "dates" in seen.generate_html(3) and "<img" not in seen.generate_html(3)
    assert label_row(other, 2)["label"] == "old 2" and label_row(other, 2)["label_score"] == 0.6
    dashboard.label(1, "hedging", source="a/model", score=0.875, n_judgements=20, author="")
    assert [row["feature"] for row in other.table.find("score>0.8")["features"]] == [1]
    assert [column.name for column in other.table.known_columns()][:2] == ["label", "label_score"]
    card = other.card(other.stats(1))
    assert all(said in card for said in ("0.88", "judgements <strong>20", "a/model"))
    site = export_site(other, tmp_path / "site")
    assert "label_score" not in (site / "index.html").read_text()  # the data file has it, packed
    assert open_dashboard({0: [(1.0, ["a"], [1.0])]}).labels.kept_in_memory


def test_the_last_of_each_author_counts_and_all_are_kept(dataset):
    dashboard = open_dashboard(dataset)
    dashboard.label(0, "a model's", source="m", author="", score=0.9)
    dashboard.label(0, "hers", author="ada", note="sure")
    dashboard.label(0, "his", author="bob")
    dashboard.label(0, "a later model's", source="n", author="")
    assert dashboard.stats(0).label == "his" and "label_score" not in dashboard.stats(0).extra
    dashboard.label(0, "", author="bob")  # takes it back
    assert dashboard.stats(0).label == "hers" and dashboard.stats(0).extra["note"] == "sure"
    dashboard.label(0, "hers, better", author="ada")
    assert dashboard.stats(0).extra["note"] == "sure"
    assert [label.label for label in dashboard.labels.of(0)] == ["a model's", "a later model's", "", "hers, better"]
    assert len(dashboard.labels.all()) == 6
    older = Label.of({"feature": 0, "label": "older", "author": "ada", "time": "2020-01-01T00:00:00+02:00"})
    dashboard.labels.add(older)
    assert older.time == "2019-12-31T22:00:00.000Z" and dashboard.stats(0).label == "hers, better"


def test_two_processes_both_keep_theirs(dataset):
    code = """
import sys
from tiny_dashboard.sources.label_store import LabelStore
from tiny_dashboard.sources.labels import Label
store = LabelStore(sys.argv[1])
for i in range(200):
    store.add(Label.of({"feature": i, "label": "x" * 250, "note": "y" * 9000, "author": sys.argv[2]}))
"""
    path = dataset / "labels.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in ("ada", "bob")]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = LabelStore(path)
    assert len(store.all()) == 400 and store.complaints(range(200)) == []
    assert {label.author for label in store.of(7)} == {"ada", "bob"}


def test_a_line_cut_short_is_skipped_and_the_next_one_is_whole(dataset):
    path, store = dataset / "labels.jsonl", LabelStore(dataset / "labels.jsonl")
    store.add(Label(1, "one"))
    with path.open("ab") as file:
        file.write(b'{"feature": 2, "label": "cut sh')  # a kill
    assert [label.label for label in store.all()] == ["one"]
    LabelStore(path).add(Label(3, "three"))
    for seen in (store, LabelStore(path)):
        assert [label.label for label in seen.all()] == ["one", "three"]
        assert seen.complaints(range(9)) == ["1 lines of the labels cannot be read"]
    with path.open("a") as file:
        file.write('[1]\n{"feature": -1}\n{"feature": 4, "label": "by hand", "later": {}}')  # and no end of line
    assert store.known()[4]["label"] == "by hand"
    store.add(Label(4, "again"))
    assert [label.label for label in store.of(4)] == ["again"] and len(store.all()) == 4
    path.write_text('{"feature": 5, "label": "another file"}\n')
    assert [label.label for label in store.all()] == ["another file"]


def test_labels_of_another_dictionary_are_said_not_lost(dataset):
    LabelStore(dataset / "labels.jsonl").add(Label(4, "here"), Label(70_000, "elsewhere"))
    dashboard = open_dashboard(dataset)
    assert "labels of 1 features that are not here (70000): another dictionary's?" in dashboard.about
    assert len(dashboard.labels.all()) == 2 and dashboard.stats(4).label == "here"
    with pytest.raises(UnknownFeatureError):
        dashboard.label(70_000, "x")


@pytest.mark.parametrize(
    "wrong, says",
    [
        (
            {"label": "x" * 10_000},
            "label is '.*it has 10,000 characters, at most 300 are kept; the rest can stand in the",
        ),
        ({"label": 7}, "label is 7: give a text"),
        ({"score": float("nan")}, "score is nan: give a number"),
        ({"score": "high"}, "score is 'high'"),
    ],
)
def test_what_is_no_label_is_refused_in_words(dataset, wrong, says):
    with pytest.raises(ValueError, match=says):
        open_dashboard(dataset).label(1, **wrong)
    assert not (dataset / "labels.jsonl").exists()


def test_a_file_that_cannot_be_written_keeps_labels_in_memory_and_says_so(dataset, tmp_path):
    (tmp_path / "in-the-way").write_text("")
    dashboard = open_dashboard(dataset, labels=tmp_path / "in-the-way" / "labels.jsonl")  # root may write anywhere else
    with pytest.warns(UserWarning, match="kept in memory only: labels.jsonl cannot be written"):
        dashboard.label(2, "mine")
    assert dashboard.stats(2).label == "mine"
    assert "labels are kept in memory only" in dashboard.about


def test_labels_lie_where_the_config_says_and_those_beside_the_examples_are_read(dataset, tmp_path):
    open_dashboard(dataset).label(0, "beside", author="ada")
    (tmp_path / "dashboard.toml").write_text('examples = "set"\nlabels = "mine/labels.jsonl"\n')
    dashboard = DashboardConfig.read(tmp_path / "dashboard.toml").open_offline()
    dashboard.label(1, "elsewhere")
    assert (tmp_path / "mine" / "labels.jsonl").is_file()
    assert (dashboard.stats(0).label, dashboard.stats(1).label) == ("beside", "elsewhere")
    assert open_dashboard(dataset).stats(1).label == "old 1"


def test_a_file_has_its_own_labels_however_it_is_opened(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "examples.json").write_text(json.dumps({"3": [[1.0, ["a"], [1.0]]]}))
    open_dashboard(tmp_path / "one" / "examples.json").label(3, "named", author="ada")
    assert (tmp_path / "one" / "examples.json.labels.jsonl").is_file()
    assert open_dashboard(tmp_path / "one").stats(3).label == "named"
    assert open_dashboard(tmp_path / "two").stats(3) is None


def test_convert_takes_labels_along_into_table_and_file(dataset, tmp_path):
    dashboard = open_dashboard(dataset)
    dashboard.label(1, "model's", source="m", author="", score=0.75)
    dashboard.label(2, "hers", author="ada", note="n")
    (tmp_path / "plain.json").write_text(json.dumps({"1": [[1.0, ["a"], [1.0]]], "9": [[1.0, ["a"], [1.0]]]}))
    open_dashboard(tmp_path / "plain.json").label(9, "late", source="m", author="", score=0.5)
    copied = convert(dataset, tmp_path / "copied", progress=False)
    again = convert(copied, tmp_path / "again", progress=False)
    for folder in (copied, again):
        rows = {row["feature"]: row for row in pq.read_table(folder / "features").to_pylist()}
        assert (rows[1]["label"], rows[1]["label_source"], rows[1]["label_score"]) == ("model's", "m", 0.75)
        assert (rows[2]["label"], rows[2]["label_source"], rows[2]["label_score"], rows[2]["note"]) == (
            "hers", "ada", None, "n",
        )  # fmt: skip
        assert (rows[3]["label"], rows[3]["label_score"], rows[3]["p"]) == ("old 3", 0.6, 0.5)
        (folder / "labels.jsonl").rename(folder / "aside")
        source = open_examples(folder)
        assert source.stats(1).label == "model's" and len(source[1]) == 1
        (folder / "aside").rename(folder / "labels.jsonl")
    written = convert(tmp_path / "plain.json", tmp_path / "written", progress=False)
    assert open_examples(written).stats(9).extra == {"label_score": 0.5, "label_source": "m"}
    assert len(LabelStore(Path(written) / "labels.jsonl").all()) == 1

"""Labels out and in, as CSV and as JSON lines."""

from __future__ import annotations

import csv
import json

import pytest

from tests.helpers.bundle import HOSTILE_LABEL
from tiny_dashboard import OfflineFeatureCentricDashboard
from tiny_dashboard.cli import main
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.sources.write import write_dataset


@pytest.fixture
def make(tmp_path):
    def dataset(name):
        rows = ((f, [Example(1.0 + f, ["a", "b"], [0.0, 1.0 + f])]) for f in range(5))
        stats = [FeatureStats(f, label="of the dataset" if f == 4 else None) for f in range(5)]
        return write_dataset(tmp_path / name, rows, stats, {"models": ["org/m"], "layer": 3, "dictionary": "res-16k"})

    return dataset


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_goes_out_comes_in_again(make, tmp_path, kind, capsys):
    one, two, file = make("one"), make("two"), tmp_path / f"labels.{kind}"
    dashboard = OfflineFeatureCentricDashboard.open(one)
    dashboard.label(1, HOSTILE_LABEL, note='=HYPERLINK("x")\nline, "two" 🙂 中', author="@ada")
    dashboard.label(1, "-1 to 1", source="org/llm", author="", score=0.875, n_judgements=20)
    dashboard.label(2, "'quoted", author="bob")
    assert main(["labels", "export", str(one), "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"4 labels in {file}\n"
    assert main(["labels", "import", str(two), str(file)]) == 0
    assert "4 new labels" in capsys.readouterr().out
    there = OfflineFeatureCentricDashboard.open(two)
    given = [label for label in there.labels.last() if label.source != "parquet dataset"]
    assert given == dashboard.labels.last()
    assert there.stats(4).label == "of the dataset"
    assert main(["labels", "import", str(two), str(file)]) == 0
    assert "0 new labels" in capsys.readouterr().out
    if kind == "csv":  # no cell begins as a formula
        cells = [cell for row in csv.reader(file.open(newline="")) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    else:
        records = {(r["index"], r["explanationModelName"]): r for r in map(json.loads, file.read_text().splitlines())}
        mine = records["1", "org/llm"]
        assert (mine["modelId"], mine["layer"], mine["description"]) == ("org/m", "3-res-16k", "-1 to 1")


def test_what_others_wrote_comes_in(make, tmp_path, capsys):
    folder = make("one")
    lines = [
        {"modelId": "m", "layer": "3-x", "index": "2", "description": "cats", "explanationModelName": "gpt-4o-mini"},
        {"index": "99", "description": "elsewhere", "scoreV1": 0.2},
    ]
    (tmp_path / "np.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "mine.csv").write_text("\ufefffeature,label,colour\n3,dogs,red\n3,,\n", encoding="utf-8")
    assert main(["labels", "import", str(folder), str(tmp_path / "np.jsonl"), "--source", "np"]) == 0
    said = capsys.readouterr()
    assert "2 new labels" in said.out and "labels of 1 features that are not here (99)" in said.err
    assert main(["labels", "import", str(folder), str(tmp_path / "mine.csv"), "--author", "ada"]) == 0
    dashboard = OfflineFeatureCentricDashboard.open(folder)
    assert dashboard.stats(2).extra["label_source"] == "gpt-4o-mini"
    assert (dashboard.stats(3).label, dashboard.stats(3).extra["label_source"]) == ("dogs", "ada")
    assert dashboard.labels.of(99)[0].source == "np"


@pytest.mark.parametrize(
    "name, text, says",
    [
        (
            "a.csv",
            "feature,label\n1,good\nx,bad\n2,y,z\n",
            "1 lines are no labels, and nothing was imported; line 3: fea",
        ),
        ("a.csv", "id,label\n1,good\n", "a.csv has no column feature; its columns are"),
        ("a.jsonl", '{"feature": 1, "label": "good"}\n{"fea', "a.jsonl, line 2, is no JSON record"),
        ("a.jsonl", '{"feature": 1.5, "label": "good"}\n', "feature is 1.5"),
    ],
)
def test_a_broken_file_imports_nothing(make, tmp_path, capsys, name, text, says):
    folder = make("one")
    (tmp_path / name).write_text(text)
    assert main(["labels", "import", str(folder), str(tmp_path / name)]) == 1
    assert says in capsys.readouterr().err
    assert not (folder / "labels.jsonl").exists()
    assert main(["labels", "export", str(folder), "--out", str(tmp_path / "a.txt")]) == 1
    assert "a.txt is neither .csv nor .jsonl" in capsys.readouterr().err

"""What is known of features: columns that a file lacks, columns that we never heard of, and panels of one's own."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tiny_dashboard import DashboardConfig, OfflineFeatureCentricDashboard, open_examples
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.card import PANELS
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import COLUMNS, FeatureStats, FeatureTable
from tiny_dashboard.publish.site import export_site
from tiny_dashboard.sources.convert import convert
from tiny_dashboard.sources.write import write_dataset

ROWS = [(f, [Example(1.0 + f, ["a", "b"], [0.0, 1.0 + f])]) for f in range(3)]
STATS = [FeatureStats(f, label=f"layer {12 + f}", density=f / 10, extra={"p_value": 0.5 - f / 10}) for f in range(3)]


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "ours", ROWS, STATS)


def rewrite(folder, change):
    """The features table as another writer has it."""
    (file,) = (folder / "features").glob("*.parquet")
    pq.write_table(change(pq.read_table(file)), file)
    metadata = json.loads((folder / "metadata.json").read_text())
    sizes = {"bytes": file.stat().st_size, "footer": pq.read_metadata(file).serialized_size + 8}
    metadata["features_files"][0] |= sizes
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def of_site(folder, name):
    """What a data file of a static site holds."""
    return json.loads(zlib.decompress(b64decode((folder / "data" / f"{name}.js").read_text().split('"')[3])))


@pytest.mark.parametrize("lacking", [c.name for c in COLUMNS] + ["histogram", "top_logits", "peak_tokens", "n_active"])
def test_a_column_that_a_file_lacks_is_unknown(dataset, tmp_path, lacking):
    offline = OfflineFeatureCentricDashboard.open(rewrite(dataset, lambda table: table.drop_columns([lacking])))
    assert offline.stats(1).feature == 1 and offline.generate_html(1)
    ask = Endpoints(Views.one(offline, None))
    rows = ask.features()["features"]
    assert len(rows) == 3 and rows[1].get(lacking, "") in (None, "")
    for sort in ("feature", *(column.name for column in COLUMNS)):
        assert ask.features("1", sort=sort)["total"]
    assert (export_site(offline, tmp_path / "site") / "index.html").exists()


def test_a_file_of_tomorrow_opens(dataset):
    def tomorrow(table):
        lists = pa.array([[1.0, 2.0]] * 3)
        return table.append_column("embedding", lists).append_column("score", pa.array([0.1, None, 0.9]))

    source = open_examples(rewrite(dataset, tomorrow))
    assert source.stats(0).extra == {"p_value": 0.5, "score": 0.1} and source.stats(1).extra == {"p_value": 0.4}
    found = source.table().find(sort="score", descending=True)["features"]
    assert [row["feature"] for row in found] == [2, 0, 1] and found[2]["score"] is None


def test_what_we_never_heard_of_is_kept_everywhere(tmp_path):
    db = convert(dict(ROWS), tmp_path / "plain", progress=False)
    (db / "feature_df.csv").write_text(",tag,auto score,kind\n0,first,0.25,odd\n2,third,0.75,even\n")
    source = open_examples(db)
    assert source.stats(2).extra == {"auto score": 0.75, "kind": "even"}
    offline = OfflineFeatureCentricDashboard(source, None)
    ask = Endpoints(Views.one(offline, None))
    assert [r["feature"] for r in ask.features("EVEN")["features"]] == [2]
    assert [r["feature"] for r in ask.features(sort="auto score", descending=True)["features"]] == [2, 0, 1]
    assert ask.examples(2)["stats"]["extra"] == {"auto score": 0.75, "kind": "even"}
    assert "auto score <strong>0.75</strong>" in offline.generate_html(2)
    index = of_site(export_site(offline, tmp_path / "site"), "index")
    assert index["auto score"] == [0.25, None, 0.75] and index["kind"] == ["odd", "", "even"]
    assert [c["title"] for c in index["columns"]][-2:] == ["auto score", "kind"]
    again = open_examples(convert(source, tmp_path / "copied", progress=False))
    assert [c.name for c in again.table().columns[-2:]] == ["auto score", "kind"]
    assert again.stats(2).extra == {"auto score": 0.75, "kind": "even"} and not again.stats(1).extra


def test_extra_columns_are_columns_of_the_file(tmp_path, dataset):
    assert pq.read_table(dataset / "features" / "00000.parquet").column("p_value").to_pylist() == [0.5, 0.4, 0.3]
    many = (FeatureStats(f, extra={"late": 1.0} if f == 300 else {}) for f in range(400))
    with pytest.raises(ValueError, match=r"feature 256 or one behind it has late"):
        write_dataset(tmp_path / "late", [], many)


def test_what_digits_find():
    records = [FeatureStats(f, label=label) for f, label in ((7, "layer 12"), (12, "dogs"), (120, ""), (3, "cats"))]
    table = FeatureTable.of([3, 7, 12, 120], records)
    assert [row["feature"] for row in table.find("12")["features"]] == [7, 12, 120]
    with pytest.raises(ValueError, match="'norm' in 'norm>0.9' is no column; there are feature, label"):
        table.find("norm>0.9")  # nothing is known of it here
    with pytest.raises(ValueError, match="sort is 'nosuch'; it is one of feature, label"):
        table.find(sort="nosuch")


def test_words_find_features_by_their_examples_after_those_that_are_called_so(tmp_path, monkeypatch):
    said = {3: ["the", " Zebra\n", "runs"], 5: [" a", " zebra", " «crosses»"], 8: [" horses", " run", " i<n"]}
    rows = {feature: [Example(1.0, tokens, [1.0] * len(tokens))] for feature, tokens in said.items()}
    folder = write_dataset(tmp_path / "ours", rows.items(), [FeatureStats(8, label="zebra")])
    told, plain = OfflineFeatureCentricDashboard.open(folder), OfflineFeatureCentricDashboard(rows, None)
    for dashboard, named in ((told, [8]), (plain, [])):
        ask = Endpoints(Views.one(dashboard, None)).features
        assert [row["feature"] for row in ask("i<n")["features"]] == [8], "code is words, too"
        found = ask("ZEBRA")
        assert [row["feature"] for row in found["features"]] == [*named, 3, 5] and found["told"] == len(named)
        assert [row["feature"] for row in dashboard.table.find("zebra runs")["features"]] == [3]
        assert dashboard.table.find("ze")["total"] == len(named), "so short a word stands in almost all"
    file = write_dataset(tmp_path / "lacking", rows.items()) / "examples/00000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["snippet"]), file)
    lacking = OfflineFeatureCentricDashboard.open(tmp_path / "lacking")
    assert lacking.texts.start().result()[1] == "" and lacking.table.find("zebra")["total"] == 2
    monkeypatch.setattr("tiny_dashboard.dashboards.texts.MOST", 3 * 6)
    dashboard = OfflineFeatureCentricDashboard.open(folder)
    assert dashboard.texts.start().result()[1] == "of the examples' texts 6 characters of each feature are searched"
    assert dashboard.table.find("zebra")["total"] == 1
    monkeypatch.setattr("tiny_dashboard.dashboards.texts.MOST_FEATURES", 2)
    dashboard = OfflineFeatureCentricDashboard(rows, None)
    assert "tiny-dashboard convert" in dashboard.texts.start().result()[1]
    assert dashboard.table.find("horse")["total"] == 0


def shout(stats, info):
    return f"<em>feature {stats.feature} of {len(info.models)} models</em>"


def test_a_panel_of_ones_own_shows_in_every_face(tmp_path, dataset):
    said = "<div><em>feature 1 of 0 models</em></div>"
    offline = OfflineFeatureCentricDashboard.open(dataset, panels=(*PANELS, shout))
    assert said in offline.generate_html(1)
    assert said in of_site(export_site(offline, tmp_path / "site"), "00000")[1][0]
    config = DashboardConfig(examples=str(dataset), panels=("tests.test_statistics:shout",))
    assert said in config.open_offline().generate_html(1)
    with pytest.raises(ValueError, match=r"panels names 'nosuch:f': No module named 'nosuch'"):
        DashboardConfig(examples=str(dataset), panels=("nosuch:f",)).open_offline()

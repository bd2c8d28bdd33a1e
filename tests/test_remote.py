"""Examples on the Hub: the true clients (huggingface_hub, datasets, fsspec) against a stand-in on loopback."""

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.hub_client import Client, Refused
from tests.helpers.hub_server import Dataset, Hub
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.hub import parse_name
from tiny_dashboard.sources.label_store import LabelStore
from tiny_dashboard.sources.labels import Label
from tiny_dashboard.sources.write import write_dataset


def make_examples(feature, seq=128, n=20, shift=0):
    rng = np.random.default_rng((feature, shift))
    ids = np.minimum(rng.zipf(1.3, (n, seq)), 30_000)
    activations = np.where(rng.random((n, seq)) < 0.04, rng.integers(1, 999, (n, seq)), 0)
    activations[:, 5] = 2000 - np.arange(n)
    return [Example(float(a.max()), [], a.tolist(), i.tolist()) for a, i in zip(activations, ids, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "ours"
    stats = (FeatureStats(f, density=f / 1000, label=f"feature {f}") for f in range(64))
    write_dataset(folder, ((f, make_examples(f)) for f in range(64)), stats, {"tokenizer": "gpt2"})
    return folder


@pytest.fixture(scope="module")
def hub(folder):
    with Hub() as hub:
        hub.datasets["me/ours"] = Dataset(folder)
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def process(hub, home):
    client = Client(hub, home)
    yield client
    client.close()


@pytest.fixture
def client(hub, process):
    hub.fail = {}
    hub.cut = []
    hub.taken()
    return process


@pytest.fixture(scope="module")
def offline(hub, home):
    """A later session without a connection, with the same cache."""
    client = Client(hub, home, HF_HUB_OFFLINE="1")
    yield client
    client.close()


SAME = "[[e.max_activation, list(e.activations), list(e.token_ids)] for e in s[{}]]"


def plain(examples):
    return [[e.max_activation, list(e.activations), list(e.token_ids)] for e in examples]


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("me/ours", ("me/ours", "", None)),
        ("hf://datasets/me/ours", ("me/ours", "", None)),
        ("me/ours/chat_examples.pt", ("me/ours", "chat_examples.pt", None)),
        ("me/ours@v1.0", ("me/ours", "", "v1.0")),
        ("ours", None),
        ("./me/ours", None),
        ("/me/ours", None),
        ("../me/ours", None),
    ],
)
def test_what_names_a_dataset(source, parts):
    assert parse_name(source) == parts


def test_a_feature_costs_one_small_request_after_the_footer(client, hub, folder):
    hub.datasets["me/fresh"] = Dataset(folder)
    client("s = open_examples('me/fresh')")
    assert client("[s.info.format, s.info.tokenizer, len(s), 63 in s, 64 in s]") == [
        "parquet dataset",
        "gpt2",
        64,
        True,
        False,
    ]
    hub.taken()
    assert client(SAME.format(0)) == plain(make_examples(0))
    footer, *first = [r for r in hub.taken("parquet") if r.status == 206]
    assert footer.range
    assert len(first) == 1
    assert first[0].bytes < 300_000
    assert client(SAME.format(3)) == plain(make_examples(3))  # the same row group: from the cache on disk
    assert not hub.taken()
    assert client(SAME.format(50)) == plain(make_examples(50))
    asked = hub.taken()
    assert len(asked) == 2  # one answer, behind one redirection
    assert sum(r.bytes for r in asked) < 300_000
    assert client("[s.stats(50).label, s.stats(51).density]") == ["feature 50", 0.051]


def test_a_second_session_asks_for_nothing_but_the_revision(client, offline, hub, folder):
    hub.datasets["me/again"] = Dataset(folder)
    client("s = open_examples('me/again'); s[0]; s.stats(0)")
    hub.taken()
    again = Client(hub, client.home)
    again("s = open_examples('me/again')")
    assert again(SAME.format(7)) == plain(make_examples(7))
    assert not hub.taken("resolve")
    again.close()
    offline("s = open_examples('me/again')")
    assert offline(SAME.format(7)) == plain(make_examples(7))
    with pytest.raises(Refused, match="ConnectionError.*this part of me/again is not in the cache"):
        offline("s[40]")
    assert not hub.taken()


def test_a_push_during_a_session_does_not_mix_files(client, hub, tmp_path):
    for number in (0, 1):
        rows = ((f, make_examples(f, seq=64, shift=number)) for f in range(64))
        write_dataset(tmp_path / f"commit{number}", rows)
    hub.datasets["me/moving"] = Dataset(tmp_path / "commit0")
    client("s = open_examples('me/moving'); s[0]")
    hub.datasets["me/moving"].push(tmp_path / "commit1")
    assert client(SAME.format(60)) == plain(make_examples(60, seq=64))
    client("s = open_examples('me/moving')")
    assert client(SAME.format(60)) == plain(make_examples(60, seq=64, shift=1))
    first = hub.datasets["me/moving"].sha(0)
    client(f"s = open_examples('me/moving@{first}')")
    assert client(SAME.format(60)) == plain(make_examples(60, seq=64))


def test_all_statistics_come_as_columns(client):
    client("s = open_examples('me/ours')")
    assert client("s.table().column('density').tolist()") == [f / 1000 for f in range(64)]
    assert client("s.stats(9).label") == "feature 9"


def test_labels_on_the_hub_are_shown_and_new_ones_are_not_written_into_the_cache(client, hub, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "named")
    LabelStore(tmp_path / "named" / "labels.jsonl").add(Label(9, "theirs"))
    hub.datasets["me/named"] = Dataset(tmp_path / "named")
    client("from tiny_dashboard import OfflineFeatureCentricDashboard as D; d = D.open('me/named')")
    client("d.label(8, 'mine') and None")
    assert client("[d.stats(9).label, d.stats(8).label]") == ["theirs", "mine"]
    assert client("D.open('me/named').stats(8).label") == "feature 8"
    assert client("d.about").endswith("the examples lie on the Hub; name a file with labels=")


def test_other_formats_are_downloaded_and_their_size_is_said_first(client, offline, hub, tmp_path):
    from tests.helpers.quantile_database import quantile_db

    (tmp_path / "stats").mkdir()
    _, truth, _ = quantile_db(tmp_path / "stats")
    (tmp_path / "stats/feature_df.csv").write_text(",tag\n3,Chat only\n")
    (tmp_path / "stats/huge.bin").write_bytes(b"0" * 100_000)
    hub.datasets["me/stats"] = Dataset(tmp_path / "stats")
    hub.taken()
    assert client("s = open_examples('me/stats', tokenizer='gpt2'); s.info.format") is None
    assert client("[s.info.format, s.info.tokenizer, s.stats(3).label]") == ["quantile database", "gpt2", "Chat only"]
    assert client("[list(e.activations) for e in s[3]]") == [a for _, a, _ in truth[3]]
    assert not [r for r in hub.taken() if "huge" in r.path]
    assert "me/stats: 2 files, 0.0 MB" in client.stderr
    assert offline("len(open_examples('me/stats'))") == len(truth)


def test_a_download_that_breaks_is_resumed(client, hub, tmp_path):
    (tmp_path / "big").mkdir()
    with closing(sqlite3.connect(tmp_path / "big/examples.db")) as db:
        db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
        rows = [(i, json.dumps([[1.0, ["a" * 1_000_000], [1.0]]])) for i in range(25)]
        db.executemany("INSERT INTO data_table VALUES (?, ?)", rows)
        db.commit()
    hub.datasets["me/big"] = Dataset(tmp_path / "big")
    size = (tmp_path / "big/examples.db").stat().st_size
    assert size > 20_000_000
    hub.cut.append(15_000_000)
    hub.taken()
    client("s = open_examples('me/big')")
    assert client("len(s[24][0].tokens[0])") == 1_000_000
    parts = [r for r in hub.taken("examples.db") if r.method == "GET" and r.status in (200, 206)]
    # The client keeps what came in chunks of 10 MB.
    assert [r.range for r in parts][1] == f"bytes={10 * 1024**2}-"
    assert [r.bytes for r in parts] == [15_000_000, size - 10 * 1024**2]


def test_legacy_pickles_ask_which(client, hub, tmp_path):
    (tmp_path / "legacy").mkdir()
    for name in ("base", "chat"):
        with zipfile.ZipFile(tmp_path / f"legacy/{name}_examples.pt", "w") as archive:
            archive.writestr("archive/data.pkl", "")
    hub.datasets["me/legacy"] = Dataset(tmp_path / "legacy")
    with pytest.raises(Refused, match=r"open one of them: me/legacy/base_examples\.pt \(0\.0 MB\)"):
        client("open_examples('me/legacy')")
    assert client("open_examples('me/legacy/chat_examples.pt').info.format") == "pickled dict"
    with pytest.raises(Refused, match="FileNotFoundError.*no nope.pt; it has base_examples"):
        client("open_examples('me/legacy/nope.pt')")


def test_what_is_missing_private_gated_failing_or_offline_says_which(client, offline, hub, folder, tmp_path):
    hub.datasets["me/failing"] = Dataset(folder)
    hub.datasets["me/gated"] = Dataset(folder, gated=True)
    hub.datasets["me/private"] = Dataset(folder, token="hf_secret")
    for code, message in [
        ("open_examples('me/nothing')", "FileNotFoundError: there is no file, folder or Hub repository me/nothing"),
        ("open_examples('me/private')", "FileNotFoundError.*private.*hf auth login"),
        ("open_examples('me/gated')", "PermissionError.*gated: ask for access"),
        ("open_examples('me/ours@v9')", "FileNotFoundError.*no such revision"),
    ]:
        with pytest.raises(Refused, match=message):
            client(code)
    client("s = open_examples('me/failing')")
    for status, message in [(429, "limits your requests"), (403, "PermissionError.*may not read"), (404, "fails")]:
        hub.fail = {"parquet": status}
        with pytest.raises(Refused, match=message):
            client("s[33]")
    hub.fail = {}
    hub.cut = [1000] * 9
    with pytest.raises(Refused, match="ConnectionError"):
        client("s[33]")
    hub.cut = []
    assert client(SAME.format(33)) == plain(make_examples(33))  # nothing broken was cached
    known = Client(hub, tmp_path, HF_TOKEN="hf_secret")
    assert known("len(open_examples('me/private'))") == 64
    known.close()
    with pytest.raises(Refused, match="ConnectionError: there is no file or folder me/never; as a Hub repository it"):
        offline("open_examples('me/never')")


def test_no_connection_is_said(tmp_path):
    with Hub() as gone:
        pass
    client = Client(gone, tmp_path)
    with pytest.raises(Refused, match="no file or folder me/ours/examples.db; .* Hub cannot be reached"):
        client("open_examples('me/ours/examples.db')")
    client.close()


def test_a_tokenizer_in_the_dataset_comes_along(client, hub, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "with")
    meta = json.loads((tmp_path / "with/metadata.json").read_text())
    (tmp_path / "with/metadata.json").write_text(json.dumps(meta | {"tokenizer": "./tokenizer"}))
    (tmp_path / "with/tokenizer").mkdir()
    (tmp_path / "with/tokenizer/tokenizer.json").write_text("{}")
    hub.datasets["me/with"] = Dataset(tmp_path / "with")
    found = Path(client("open_examples('me/with').info.tokenizer"))
    assert (found / "tokenizer.json").read_text() == "{}"


def test_datasets_streams_our_layout_with_a_filter(client, hub):
    client("import datasets")
    hub.taken()
    code = (
        "datasets.load_dataset('me/ours', 'examples', split='train', streaming=True, filters=[('feature', '==', 42)])"
    )
    assert client(f"[row['activations'] for row in {code}]") == [e.activations for e in make_examples(42)]
    assert client("datasets.load_dataset('me/ours', 'features', split='train')[5]['label']") == "feature 5"


def test_fsspec_reads_a_row_group_by_ranges(client, hub):
    hub.taken()
    client("import pyarrow.parquet as pq; from huggingface_hub import HfFileSystem")
    client("file = HfFileSystem().open('datasets/me/ours/examples/00000.parquet', cache_type='none')")
    table = "pq.ParquetFile(file, pre_buffer=True).read_row_group(1).column('feature').to_pylist()"
    assert client(table)[0] == 16
    assert {r.status for r in hub.taken("resolve.*parquet")} == {206, 302}


def test_a_hub_dataset_converts_to_the_same_files(client, hub, folder, tmp_path):
    client("from tiny_dashboard.sources.convert import convert")
    client(f"convert('me/ours', {str(tmp_path / 'copy')!r}, progress=False) and None")
    for file in folder.rglob("*.parquet"):
        assert (tmp_path / "copy" / file.relative_to(folder)).read_bytes() == file.read_bytes()

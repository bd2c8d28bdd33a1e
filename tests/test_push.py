"""Pushing a dataset with the true client to a stand-in Hub that takes uploads, and can break off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.hub_client import IMPATIENT
from tests.helpers.hub_server import Hub
from tiny_dashboard.core.examples import Example
from tiny_dashboard.publish.push import push_dataset
from tiny_dashboard.sources.label_store import LabelStore
from tiny_dashboard.sources.labels import Label
from tiny_dashboard.sources.parquet import ParquetExamples
from tiny_dashboard.sources.write import write_dataset

PUSH = """
import sys
from tiny_dashboard.publish.push import push_dataset
print(push_dataset(*sys.argv[1:]))
"""


def push(hub, folder, code=PUSH):
    """Push in a fresh process, whose client knows this Hub; by git LFS, which it prefers only without xet."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.writer, "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", IMPATIENT + code, str(folder), "me/examples"],
        env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def make_dataset(folder, features, monkeypatch):
    monkeypatch.setattr("tiny_dashboard.sources.write.FEATURES_PER_FILE", 2)
    monkeypatch.setattr("tiny_dashboard.sources.write.FEATURES_PER_GROUP", 2)
    rows = ((f, [Example(1.0 + f, ["a", "b"], [0.0, 1.0 + f])]) for f in features)
    return write_dataset(folder, rows, metadata={"models": ["m"]})


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def test_push_breaks_off_goes_on_and_replaces(hub, tmp_path, monkeypatch):
    folder = make_dataset(tmp_path / "one", range(6), monkeypatch)
    n_files = len(list(folder.glob("*/*.parquet")))
    hub.fail_once = [("/commit/", None), ("/commit/", 400)]
    broken = push(hub, folder)
    assert broken.returncode and "the Hub refuses this upload to me/examples" in broken.stderr
    assert len(hub.datasets["me/examples"].commits) == 1 + 1, broken.stderr  # the data made it, the card did not
    assert "metadata.json" not in hub.files("me/examples")
    done = push(hub, folder)
    assert done.returncode == 0, done.stderr
    assert len(hub.datasets["me/examples"].commits) == 1 + 2
    assert len([request for request in hub.taken() if request.method == "PUT"]) == n_files  # none was sent twice
    files, before = hub.files("me/examples"), hub.files("me/examples", -2)
    assert {name for name in files if files[name] != before.get(name)} == {"metadata.json", "README.md"}
    here = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == here | {"README.md": here["README.md"].replace(b"<this dataset>", b"me/examples")}
    assert 'load_dataset("me/examples", "examples"' in files["README.md"].decode()
    assert re.search("config_name: examples", files["README.md"].decode())
    assert ParquetExamples(hub.datasets["me/examples"].commits[-1])[5][0].max_activation == 6.0
    # Labels come along, and those of other people that are there stay.
    hub.commit("me/examples", files | {"labels.jsonl": b'{"feature": 1, "label": "theirs"}\n'})
    LabelStore(folder / "labels.jsonl").add(Label(2, "ours"))
    assert push(hub, folder).returncode == 0
    known = LabelStore(hub.datasets["me/examples"].commits[-1] / "labels.jsonl").known()
    assert {feature: told["label"] for feature, told in known.items()} == {1: "theirs", 2: "ours"}
    # Another, smaller dataset takes its place; nothing of the first is left.
    other = make_dataset(tmp_path / "two", range(2), monkeypatch)
    assert push(hub, other).returncode == 0
    left = ["README.md", "examples/00000.parquet", "features/00000.parquet", "labels.jsonl", "metadata.json"]
    assert sorted(hub.files("me/examples")) == left


def test_why_a_large_file_was_not_taken_is_said(hub, tmp_path, monkeypatch):
    hub.fail["^/put/"] = 413
    folder = make_dataset(tmp_path / "one", range(2), monkeypatch)
    broken = push(hub, folder, "import sys; from tiny_dashboard.cli import main; main(['push', *sys.argv[1:]])")
    assert re.search("(examples|features)/00000.parquet'.*413 .*run it again", broken.stderr.splitlines()[-1])


def test_only_datasets_are_pushed_and_only_over_their_own(hub, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="is no examples dataset of ours; .*collect"):
        push_dataset(tmp_path, "me/examples")
    hub.commit("me/examples", {"README.md": b"years of work", "data/train.parquet": b"more"})
    refused = push(hub, make_dataset(tmp_path / "one", range(2), monkeypatch))
    assert "me/examples holds another dataset (data/train.parquet)" in refused.stderr
    assert hub.files("me/examples")["README.md"] == b"years of work"

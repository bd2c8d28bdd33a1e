"""Pushing a dataset with the true client to a stand-in Hub that takes uploads, and can break off."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiny_dashboard.examples import Example
from tiny_dashboard.hub import push_dataset
from tiny_dashboard.sources.parquet import ParquetExamples, write_dataset

PUSH = "import sys; from tiny_dashboard.hub import push_dataset; print(push_dataset(*sys.argv[1:], files_per_commit=1))"


class UploadHub:
    """The part of the Hub's protocol that commits need; large files go through git LFS.

    Attributes:
        files: what the dataset holds, by name.
        commits: the names of each commit's files.
        refuse: numbers of commits that fail with a 500.
    """

    def __init__(self):
        self.files, self.large, self.commits, self.refuse, self.stored = {}, {}, [], [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, value, status=200):
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                if "/tree/" in self.path:
                    return self.reply([hub.entry(name) for name in sorted(hub.files)])
                self.reply({"error": self.path}, 404)

            def do_PUT(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hub.large[self.path.rsplit("/", 1)[1]] = content
                hub.stored.append(len(content))
                self.reply({})

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/api/repos/create":
                    return self.reply({"url": f"{hub.url}/datasets/me/examples"})
                if self.path == "/api/validate-yaml":
                    return self.reply({"errors": [], "warnings": []})
                if "/preupload/" in self.path:
                    asked = json.loads(body)["files"]
                    mode = {True: "lfs", False: "regular"}
                    return self.reply(
                        {"files": [
                            {"path": f["path"], "uploadMode": mode[".parquet" in f["path"]], "shouldIgnore": False}
                            for f in asked
                        ]}
                    )  # fmt: skip
                if self.path.endswith("/info/lfs/objects/batch"):
                    objects = [
                        {
                            "oid": o["oid"],
                            "size": o["size"],
                            "actions": {"upload": {"href": f"{hub.url}/put/{o['oid']}"}},
                        }
                        for o in json.loads(body)["objects"]
                    ]
                    return self.reply({"transfer": "basic", "objects": objects})
                if "/commit/" in self.path:
                    return self.commit([json.loads(line) for line in body.splitlines()])
                self.reply({"error": self.path}, 404)

            def commit(self, lines):
                if len(hub.commits) in hub.refuse:
                    hub.refuse.remove(len(hub.commits))
                    return self.reply({"error": "broken"}, 400)
                names = []
                for line in lines[1:]:
                    value = line["value"]
                    names.append((line["key"], value["path"]))
                    if line["key"] == "deletedFile":
                        del hub.files[value["path"]]
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.large[value["oid"]]
                    else:
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                hub.commits.append(names)
                self.reply(
                    {
                        "commitUrl": f"{hub.url}/datasets/me/examples/commit/1",
                        "commitOid": "1" * 40,
                        "pullRequestUrl": None,
                    }
                )

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def entry(self, name):
        content = self.files[name]
        entry = {"type": "file", "path": name, "size": len(content)}
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if name.endswith(".parquet"):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return entry

    def push(self, folder):
        """Push in a fresh process, whose client knows this Hub."""
        environment = os.environ | {"HF_ENDPOINT": self.url, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
        return subprocess.run(
            [sys.executable, "-c", PUSH, str(folder), "me/examples"],
            env=environment, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=200,
        )  # fmt: skip


def make_dataset(folder, features, monkeypatch):
    monkeypatch.setattr("tiny_dashboard.sources.parquet.FEATURES_PER_FILE", 2)
    monkeypatch.setattr("tiny_dashboard.sources.parquet.FEATURES_PER_GROUP", 2)
    rows = ((f, [Example(1.0 + f, ["a", "b"], [0.0, 1.0 + f])]) for f in features)
    return write_dataset(folder, rows, metadata={"models": ["m"]})


def test_push_breaks_off_goes_on_and_replaces(tmp_path, monkeypatch):
    hub = UploadHub()
    folder = make_dataset(tmp_path / "one", range(6), monkeypatch)
    n_files = len(list(folder.glob("*/*.parquet")))
    hub.refuse = [2]
    broken = hub.push(folder)
    assert broken.returncode and "push again to go on" in broken.stderr
    assert len(hub.commits) == 2, broken.stderr
    assert "metadata.json" not in hub.files
    done = hub.push(folder)
    assert done.returncode == 0, done.stderr
    assert len(hub.commits) == n_files + 1
    assert {name for _, name in hub.commits[-1]} == {"metadata.json", "README.md"}
    assert hub.files == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert re.search("config_name: examples", hub.files["README.md"].decode())
    for name, content in hub.files.items():
        path = tmp_path / "down" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert ParquetExamples(tmp_path / "down")[5][0].max_activation == 6.0
    # Another, smaller dataset takes its place; nothing of the first is left.
    other = make_dataset(tmp_path / "two", range(2), monkeypatch)
    assert hub.push(other).returncode == 0
    assert sorted(hub.files) == ["README.md", "examples/00000.parquet", "features/00000.parquet", "metadata.json"]


def test_only_datasets_are_pushed(tmp_path):
    with pytest.raises((FileNotFoundError, ValueError)):
        push_dataset(tmp_path, "me/examples")

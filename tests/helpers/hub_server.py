"""A stand-in for the Hugging Face Hub on loopback, for the true clients: set HF_ENDPOINT to `Hub.url`.

It serves datasets from folders: their information, trees, files and byte ranges of these; large files are redirected.
It counts requests and bytes, and can refuse, fail and cut short. Models and Spaces are served as well, and repositories
can be made and written to by commits; large files come before their commit, by git LFS or by xet. Of the latter only
the SHA-256 is seen here: hf_xet itself keeps them, in the folder `Hub.xet`.
"""

import base64
import hashlib
import json
import re
import shutil
import tempfile
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".safetensors", ".pt", ".npz", ".db")  # by git LFS, as are all of more than 10 MB


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    status: int
    bytes: int


class Dataset:
    """One dataset: a list of commits, each a folder; the newest is `main`.

    Attributes:
        gated: it is answered for with "ask for access".
        token: a private dataset is shown to this token only.
    """

    def __init__(self, folder, gated=False, token=None):
        self.commits = [Path(folder)]
        self.gated = gated
        self.token = token

    def push(self, folder):
        self.commits.append(Path(folder))

    def sha(self, number):
        return hashlib.sha1(f"{number}".encode()).hexdigest()

    def at(self, revision):
        """`(sha, folder)` of a revision, or None."""
        if revision == "main":
            revision = self.sha(len(self.commits) - 1)
        found = [(self.sha(i), folder) for i, folder in enumerate(self.commits) if self.sha(i) == revision]
        return found[0] if found else None


class Hub:
    """The server; a context manager.

    Attributes:
        datasets: `{"owner/name": Dataset}`; models and Spaces under "models/owner/name", "spaces/owner/name".
        writer: the token that may make repositories and write to them.
        stored: large files by repository and SHA-256, with a commit or not yet.
        requests: what was asked, in order.
        fail: `{regular expression of a path: status}`; that status is answered instead; 0 breaks the connection off.
        fail_once: `[(regular expression of a path, status)]`: each is answered once, in this order; None lets one pass.
        held: `{regular expression of a path: threading.Event}`; a GET of it has half at once, the rest with the event.
        cut: answers to GETs of files break off after this many bytes, once for each True in the list.
    """

    def __init__(self):
        self.datasets, self.requests, self.fail, self.cut = {}, [], {}, []
        self.writer, self.fail_once, self.stored, self.held = "hf_writer", [], {}, {}
        self._commits = tempfile.TemporaryDirectory()
        self.xet = f"{self._commits.name}/xet"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._commits.cleanup()

    def commit(self, name, changes):
        """A new commit of a repository, which is made where there is none; `{path: content, or None to delete}`."""
        folder = Path(self._commits.name) / f"{len(list(Path(self._commits.name).iterdir()))}"
        if name in self.datasets:
            shutil.copytree(self.datasets[name].commits[-1], folder)
            self.datasets[name].push(folder)
        else:
            folder.mkdir()
            self.datasets[name] = Dataset(folder)
        for path, content in changes.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).unlink() if content is None else (folder / path).write_bytes(content)

    def files(self, name, commit=-1):
        """What a repository holds: `{path: content}`."""
        folder = self.datasets[name].commits[commit]
        return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}

    def taken(self, pattern="."):
        """Requests since the last call whose path matches."""
        seen, self.requests = self.requests, []
        return [request for request in seen if re.search(pattern, request.path)]


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def do_POST(self):
            self.answer()

        def do_PUT(self):
            self.answer()

        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            url = urlsplit(self.path)
            path = unquote(url.path)
            status = next((status for pattern, status in hub.fail.items() if re.search(pattern, path)), None)
            if status is None and hub.fail_once and re.search(hub.fail_once[0][0], path):
                status = hub.fail_once.pop(0)[1]
            if status == 0:
                self.rfile.read(length // 2)
                self.close_connection = True
                return None
            body = self.rfile.read(length)
            if status:
                return self.send(status, b"{}", {"Retry-After": "0"} if status == 429 else {})
            if path == "/api/validate-yaml":
                self.json({"errors": [], "warnings": []})
            elif path == "/api/repos/create" or re.search(r"/preupload/|/commit/|\.git/info/lfs/", path):
                self.write(path, body)
            elif "/xet-write-token/" in path:
                self.json({"accessToken": "xet", "exp": 2**32, "casUrl": f"local://{hub.xet}"})
            elif match := re.fullmatch(r"/put/(.+)/(\w+)", path):
                hub.stored[match.groups()] = body
                self.json({})
            elif match := re.fullmatch(
                r"/api/(datasets|models|spaces)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path
            ):
                what, name, kind, revision, inside = match.groups()
                if found := self.find(_key(what, name), revision or "main"):
                    self.api(name, kind, *found, inside or "", body, parse_qs(url.query))
            elif match := re.fullmatch(r"(/large)?/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                direct, what, name, revision, inside = match.groups()
                if found := self.find(_key(what or "models", name), revision):
                    self.file(*found, inside, direct)
            else:
                self.send(404, b"{}")

        def find(self, name, revision):
            """The commit and folder, or None when it was refused."""
            dataset = hub.datasets.get(name)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if dataset is None or (dataset.token and token != dataset.token):
                self.send(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            elif dataset.gated:
                self.send(403, b'{"error": "gated"}', {"X-Error-Code": "GatedRepo"})
            elif (found := dataset.at(revision)) is None:
                self.send(404, b'{"error": "no revision"}', {"X-Error-Code": "RevisionNotFound"})
            else:
                return found
            return None

        def write(self, path, body):
            """Make a repository, say how its files are to be sent, take a commit."""
            if self.headers.get("Authorization") != f"Bearer {hub.writer}":
                return self.send(403, b'{"error": "forbidden"}', {})
            if path == "/api/repos/create":
                asked = json.loads(body)
                what, name = asked["type"] + "s", f"{asked['organization']}/{asked['name']}"
                answer = {"url": f"{hub.url}/{what}/{name}", "name": name}
                if _key(what, name) in hub.datasets:
                    return self.json(answer, 409)
                hub.commit(_key(what, name), {"README.md": b"---\ntitle: Template\n---\nfrom the Hub"})
                return self.json(answer)
            place = r"(?:/api)?/(?:(datasets|models|spaces)/)?([^/]+/[^/]+?)(?:\.git/info/lfs/objects)?/(\w+)(?:/main)?"
            what, name, step = re.fullmatch(place, path).groups()
            key = _key(what or "models", name)
            if not (found := self.find(key, "main")):
                return None
            if step == "preupload":
                answer = {"files": []}
                for file in json.loads(body)["files"]:
                    mode = "lfs" if is_large(file["path"], file["size"]) else "regular"
                    answer["files"].append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
                    if (there := found[1] / file["path"]).is_file():
                        answer["files"][-1]["oid"] = oid(there)
            elif step == "batch":
                verify = {"href": f"{hub.url}{path.removesuffix('batch')}verify"}
                objects = [{"oid": o["oid"], "size": o["size"]} for o in json.loads(body)["objects"]]
                for o in objects:
                    if (key, o["oid"]) not in hub.stored:
                        o["actions"] = {"upload": {"href": f"{hub.url}/put/{key}/{o['oid']}"}, "verify": verify}
                answer = {"transfer": "basic", "objects": objects}
            elif step == "verify":
                asked = json.loads(body)
                content = hub.stored[key, asked["oid"]]
                good = [len(content), hashlib.sha256(content).hexdigest()] == [asked["size"], asked["oid"]]
                return self.json({}, 200 if good else 422)
            else:
                changes = {}
                for kind, value in (json.loads(line).values() for line in body.splitlines()[1:]):
                    path = value["path"]
                    if kind == "file":
                        changes[path] = base64.b64decode(value["content"])
                    elif kind == "lfsFile":
                        changes[path] = hub.stored.get((key, value["oid"]), value["oid"].encode())
                    else:
                        changes[path] = None
                hub.commit(key, changes)
                answer = {"commitUrl": f"{hub.url}/{name}/commit/1", "commitOid": "1" * 40, "pullRequestUrl": None}
            return self.json(answer)

        def api(self, name, kind, sha, folder, inside, body, query):
            files = sorted(f for f in folder.rglob("*") if f.is_file())
            entries = [
                {
                    "type": "file",
                    "path": f.relative_to(folder).as_posix(),
                    "rfilename": f.relative_to(folder).as_posix(),
                    "size": f.stat().st_size,
                    "oid": oid(f),
                    "blobId": oid(f),
                }
                for f in files
            ]
            for e in entries:
                if is_large(e["path"], e["size"]):
                    e["lfs"] = {"oid": e["oid"], "sha256": e["oid"], "size": e["size"], "pointerSize": 130}
            if kind == "tree":
                folders = sorted({f.parent.relative_to(folder).as_posix() for f in files} - {"."})
                entries += [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders]
                entries = [e for e in entries if not inside or e["path"].startswith(f"{inside}/")]
                if query.get("recursive", ["false"])[0].lower() != "true":
                    depth = inside.count("/") + 1 if inside else 0
                    entries = [e for e in entries if e["path"].count("/") == depth]
                answer = entries
            elif kind == "paths-info":
                wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
                answer = [e for e in entries if e["path"] in wanted]
                for one in wanted:
                    if any(e["path"].startswith(f"{one}/") for e in entries):
                        answer.append({"type": "directory", "path": one, "oid": "0" * 40, "size": 0})
            else:
                answer = {"id": name, "sha": sha, "siblings": entries, "private": False, "gated": False, "tags": []}
                answer |= {"author": name.split("/")[0], "lastModified": "2026-01-01T00:00:00.000Z", "disabled": False}
            self.json(answer)

        def file(self, sha, folder, inside, direct):
            file = folder / inside
            if not file.is_file():
                return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            headers = {"ETag": f'"{oid(file)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
            size = file.stat().st_size
            if is_large(inside, size) and not direct:
                headers |= {"X-Linked-Size": str(size), "X-Linked-ETag": headers["ETag"]}
                return self.send(302, b"", headers | {"Location": f"{hub.url}/large{self.path}"})
            status, first, last = 200, 0, size - 1
            if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
                status = 206
                first = int(match[1]) if match[1] else size - int(match[2])
                last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
                if first >= size:
                    return self.send(416, b"", {"Content-Range": f"bytes */{size}"})
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            with file.open("rb") as stream:
                stream.seek(first)
                content = stream.read(last + 1 - first)
            return self.send(status, content, headers)

        def json(self, answer, status=200):
            self.send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def send(self, status, content, headers=None):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            sent = b"" if self.command == "HEAD" else content
            if sent and hub.cut and status in (200, 206) and "/resolve/" in self.path:
                sent = sent[: hub.cut.pop(0)]
                self.close_connection = True
            hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), status, len(sent)))
            for event in (event for pattern, event in hub.held.items() if sent and re.search(pattern, self.path)):
                self.wfile.write(sent[: len(sent) // 2])
                sent = sent[len(sent) // 2 :]
                event.wait()
            self.wfile.write(sent)

    return Handler


def _key(what, name):
    return name if what == "datasets" else f"{what}/{name}"


def is_large(path, size):
    return path.endswith(LARGE) or size > 10_000_000


def oid(file):
    """What the Hub knows a file by: SHA-256 where it is large, or else git's blob id."""
    return _hashed(file, file.stat().st_mtime_ns)


@lru_cache
def _hashed(file, _):
    content = file.read_bytes()
    if is_large(file.name, len(content)):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

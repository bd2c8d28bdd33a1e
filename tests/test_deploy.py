"""Deploying with the true client to a stand-in Hub: what is uploaded, what is kept, what is refused."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from importlib.util import find_spec

import pytest

from tests.helpers.hub_client import Client, Refused
from tests.helpers.hub_server import Dataset, Hub, is_large
from tiny_dashboard.publish.deploy import PACKAGE

TOKEN = "hf_writer"
CONFIG = """title = "My: SAE"
examples = "me/examples"
dictionary = "me/crosscoder"
models = ["me/base", "me/chat"]
tokenizer = "me/tokenizer"
layer = 1
device = "cpu"
label_authors = ["ada"]
"""


@pytest.fixture(scope="module")
def hub(bundle, tmp_path_factory):
    from transformers import LlamaConfig

    known = tmp_path_factory.mktemp("smollm")  # of the demo's model only the shape is looked at
    LlamaConfig(hidden_size=576, num_hidden_layers=30, num_attention_heads=9).save_pretrained(known)
    with Hub() as hub:
        hub.datasets["models/HuggingFaceTB/SmolLM2-135M-Instruct"] = Dataset(known)
        hub.datasets["me/examples"] = Dataset(bundle.root / "examples")
        for name in ("base", "chat", "crosscoder", "tokenizer"):
            hub.datasets[f"models/me/{name}"] = Dataset(bundle.root / name)
        yield hub


@pytest.fixture(scope="module")
def process(hub, tmp_path_factory):
    # Large files go by git LFS, which the client uses only where it may not use xet; it asks no server which.
    client = Client(hub, tmp_path_factory.mktemp("home"), HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET="1")
    client("from tiny_dashboard.publish.deploy import deploy")
    client("said = []")
    yield client
    client.close()


@pytest.fixture
def deploy(process, tmp_path):
    """Deploys a config's text, or the demo: `(url, host, embed, what was said)`."""

    def run(space, config=CONFIG, **options):
        path = config and str(tmp_path / "dashboard.toml")
        if path:
            (tmp_path / "dashboard.toml").write_text(config)
        process("said.clear()")
        process(f"done = deploy({space!r}, {path!r}, say=said.append, **{options!r})")
        return process("[done.url, done.host, done.embed, '\\n'.join(said)]")

    return run


def front_matter(hub, space):
    return hub.files(f"spaces/{space}")["README.md"].decode()


def sent(hub):
    """What the Hub has taken since the last call: the SHA-256 of each large file, and how many commits."""
    taken = [request for request in hub.taken() if request.status == 200]
    large = [request.path.rpartition("/")[2] for request in taken if request.method == "PUT"]
    return sorted(large), len([request for request in taken if "/commit/" in request.path])


def large_files(folder):
    """The SHA-256 of the files that are too large for a commit."""
    files = [f.read_bytes() for f in folder.rglob("*") if f.is_file() and is_large(f.name, f.stat().st_size)]
    return sorted(hashlib.sha256(content).hexdigest() for content in files)


def test_a_new_space_gets_the_list_and_nothing_else(hub, deploy, tmp_path):
    (tmp_path / ".env").write_text(f"HF_TOKEN={TOKEN}")
    (tmp_path / "notes.txt").write_text("mine")
    url, host, embed, said = deploy("me/My_Space")
    assert url == f"{hub.url}/spaces/me/My_Space"
    assert host == "https://me-my-space.hf.space" and f'<iframe src="{host}"' in embed and "<gradio-app" in embed
    files = hub.files("spaces/me/My_Space")
    package = {name for name in files if name.startswith("tiny_dashboard/")}
    assert files.keys() - package == {"README.md", "app.py", "requirements.txt", "dashboard.toml"}
    assert {"tiny_dashboard/app/launch.py", "tiny_dashboard/core/static/dashboard.css"} <= package
    assert not [name for name in package if "demo/" in name or "__pycache__" in name or name.endswith(".pyc")]
    assert files["dashboard.toml"].decode() == CONFIG
    assert not [name for name, content in files.items() if TOKEN.encode() in content]
    card = front_matter(hub, "me/My_Space")
    for line in (
        "title: 'My: SAE'",
        "sdk: gradio",
        "- me/examples",
        "- me/base",
        "- tiny-dashboard",
        "app_file: app.py",
        "hf_oauth: true",
    ):
        assert line in card, card
    assert re.search(r"- me/base \S*config.json\S*model.safetensors", card)
    assert "64 features with examples" in said and "fits me/base and me/chat at resid_post 1" in said
    assert "dashboard.toml" in said and re.search(r"tiny_dashboard/core/static/ \(\d+ files\) +[\d.,]+ kB", said)


def test_an_update_keeps_what_others_put_there(hub, deploy):
    deploy("me/kept")
    card = front_matter(hub, "me/kept").replace("title: 'My: SAE'", "title: Theirs\nhf_oauth: true")
    hub.commit("spaces/me/kept", {"extra.py": b"theirs", "README.md": card.encode() + b"their words"})
    hub.commit("spaces/me/kept", {"theirs.safetensors": b"large", "tiny_dashboard/demo/theirs.parquet": b"too"})
    deploy("me/kept", CONFIG.replace("layer = 1", "layer = 1\nmax_examples = 5"))
    files = hub.files("spaces/me/kept")
    assert files["theirs.safetensors"] == b"large" and files["tiny_dashboard/demo/theirs.parquet"] == b"too"
    assert files["extra.py"] == b"theirs" and b"max_examples" in files["dashboard.toml"]
    card = files["README.md"].decode()
    assert "title: Theirs" in card and "hf_oauth: true" in card and card.endswith("their words")
    hub.taken()
    deploy("me/kept", CONFIG.replace("layer = 1", "layer = 1\nmax_examples = 5"))
    after = hub.files("spaces/me/kept")
    assert {k: v for k, v in after.items() if files.get(k) != v} == {}
    assert not hub.taken("/commit/")  # nothing changed: nothing is sent


def test_a_broken_upload_is_tried_again_then_gone_on_with(hub, deploy, process):
    hub.fail_once[:] = [("/commit/", 502), ("/commit/", 500)]
    deploy("me/broken")
    assert "tiny_dashboard/app/launch.py" in hub.files("spaces/me/broken")
    hub.fail["(?<!create)/commit/"] = 503
    with pytest.raises(Refused, match="ConnectionError: the upload to me/later broke off .*run it again"):
        deploy("me/later")
    hub.fail.clear()
    deploy("me/later")
    assert hub.files("spaces/me/later").keys() == hub.files("spaces/me/broken").keys()


def test_the_demo_goes_by_git_lfs_and_once(hub, process, deploy):
    sent(hub)
    deploy("me/demo", None)
    assert "UserWarning" not in process.stderr
    files = hub.files("spaces/me/demo")
    for file in (PACKAGE / "demo").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert files[f"tiny_dashboard/{file.relative_to(PACKAGE).as_posix()}"] == file.read_bytes()
    assert sent(hub) == (large_files(PACKAGE / "demo"), 1)
    deploy("me/demo", None)
    assert sent(hub) == ([], 0)


def test_large_files_that_break_off(hub, deploy, bundle, tmp_path):
    config = 'examples = "examples"\ntokenizer = "me/tokenizer"'
    folder = shutil.copytree(bundle.root / "examples", tmp_path / "examples")
    (folder / "large.bin").write_bytes(os.urandom(11_000_000))
    large, name = large_files(folder), hashlib.sha256((folder / "large.bin").read_bytes()).hexdigest()
    assert len(large) > 2
    sent(hub)
    hub.fail_once[:] = [("^/put/", 500), ("^/put/", 0), ("/commit/", 502)]
    deploy("me/once", config)
    assert not hub.fail_once and sent(hub) == (large, 1)
    assert hub.files("spaces/me/once")["examples/large.bin"] == (folder / "large.bin").read_bytes()
    for status in (500, 413, 0):
        hub.fail[f"^/put/.*{name}"] = status
        with pytest.raises(Refused, match=rf"ConnectionError: the upload to me/s{status} broke off .*large.bin.*again"):
            deploy(f"me/s{status}", config)
        hub.fail.clear()
        before, _ = sent(hub)
        deploy(f"me/s{status}", config)
        assert sorted(before + sent(hub)[0]) == large


XET_READ = """
import hf_xet
with hf_xet.XetSession().new_file_download_group({store!r}) as group:
    for number, known in enumerate(hf_xet.hash_files({files!r})):
        group.start_download_file(hf_xet.XetFileInfo(known.hash, known.file_size), f"{to}/{{number}}")
"""


@pytest.mark.skipif(not find_spec("hf_xet"), reason="needs hf_xet, which huggingface_hub brings on most machines")
def test_large_files_by_xet(hub, process, deploy, tmp_path):
    process("from huggingface_hub import constants; constants.HF_HUB_DISABLE_XET = False")
    hub.fail["/xet-write-token/"] = 403
    try:
        with pytest.raises(Refused, match="ConnectionError: the upload to me/xet broke off .*403 .*run it again"):
            deploy("me/xet", None)
        hub.fail.clear()
        deploy("me/xet", None)
    finally:
        hub.fail.clear()
        process("constants.HF_HUB_DISABLE_XET = True")
    files = hub.files("spaces/me/xet")
    large = [f for f in (PACKAGE / "demo").rglob("*") if f.is_file() and is_large(f.name, f.stat().st_size)]
    process(XET_READ.format(store=f"local://{hub.xet}", files=[str(f) for f in large], to=tmp_path))
    for number, file in enumerate(large):
        content = file.read_bytes()
        assert (tmp_path / f"{number}").read_bytes() == content
        name = f"tiny_dashboard/{file.relative_to(PACKAGE).as_posix()}"
        assert files[name].decode() == hashlib.sha256(content).hexdigest()


def test_static(hub, deploy):
    _, host, embed, _ = deploy("me/site", static=True)
    files = hub.files("spaces/me/site")
    assert files.keys() == {"README.md", "index.html", "data/index.js"} | {f"data/{n:05d}.js" for n in range(4)}
    card = front_matter(hub, "me/site")
    assert "sdk: static" in card and "app_file: index.html" in card and "sdk_version" not in card
    assert host == "https://me-site.static.hf.space" and "<gradio-app" not in embed


def test_what_lies_beside_the_config_goes_along(hub, deploy, tmp_path, bundle):
    shutil.copytree(bundle.root / "examples", tmp_path / "examples")
    shutil.copytree(bundle.root / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "examples" / ".secret").write_text("x")
    deploy("me/beside", 'examples = "examples"\ntokenizer = "tokenizer"')
    files = hub.files("spaces/me/beside")
    assert "examples/metadata.json" in files and "tokenizer/tokenizer.json" in files and "examples/.secret" not in files


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('examples = "me/nosuch"', "there is no file, folder or Hub repository me/nosuch"),
        (CONFIG.replace("me/base", "me/nosuch"), "me/nosuch"),
        (CONFIG.replace("me/crosscoder", "me/nosuch"), "me/nosuch"),
        (CONFIG.replace("layer = 1", "layer = 7"), "layer 7 is out of range"),
        (CONFIG.replace('"me/base", ', ""), "the dictionary reads 2 model"),
        ('title = "nothing"', "there is nothing to show"),
        ('examples = "{root}/examples"\ntokenizer = "{root}/tokenizer"', "a place on this machine"),
        ('examples = "me/examples"\ntokenizer = "me/tokenizer"\ndescription = "hf_writer"', "holds your token"),
    ],
)
def test_what_is_refused_before_anything_is_made(hub, deploy, bundle, config, said):
    with pytest.raises(Refused, match=re.escape(said)):
        deploy("me/refused", config.replace("{root}", str(bundle.root)))
    assert "spaces/me/refused" not in hub.datasets


def test_another_app_and_another_owner(hub, deploy, process):
    hub.commit("spaces/me/app", {"app.py": b"another", "README.md": b"---\ntitle: x\n---\n"})
    with pytest.raises(Refused, match="me/app holds another app"):
        deploy("me/app")
    assert hub.files("spaces/me/app")["app.py"] == b"another"
    hub.writer = "hf_other"
    try:
        with pytest.raises(Refused, match="PermissionError: your token may not write to me/theirs"):
            deploy("me/theirs")
    finally:
        hub.writer = TOKEN
    with pytest.raises(Refused, match="no name of a Space"):
        deploy("nobody")
    assert "to me/dry: " in deploy("me/dry", dry_run=True)[3] and "spaces/me/dry" not in hub.datasets


def test_several_views(hub, deploy):
    """Each is checked, and the one that fails is named; what two of them name goes in once."""
    views = '[[view]]\nname = "all"\n[[view]]\nname = "again"\n'
    _, _, _, said = deploy("me/views", CONFIG + views)
    assert "checked: view 'all': " in said and "checked: view 'again': " in said
    card = front_matter(hub, "me/views")
    assert card.count("- me/base\n") == 1 and card.count("- me/examples\n") == 1
    with pytest.raises(Refused, match=r"view 'again': .*layer 7 is out of range"):
        deploy("me/views", CONFIG + views + "layer = 7")
    _, _, _, said = deploy("me/both", CONFIG + views, static=True)
    assert {"index.html", "view-2/index.html", "view-2/data/index.js"} <= set(hub.files("spaces/me/both"))

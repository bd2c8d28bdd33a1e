"""The command line: what is printed, where, and the exit status."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import types
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.helpers.collect_fixtures import LAYER, make_all, make_corpus
from tests.helpers.serving import free_port, serving
from tiny_dashboard import __version__
from tiny_dashboard.cli import main
from tiny_dashboard.collect import collect_examples
from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.sources import open_examples

COMMANDS = ["launch", "info", "export", "convert", "collect", "recheck", "explain", "merge", "push", "deploy", "labels"]
PROGRAM = [sys.executable, "-m", "tiny_dashboard"]


@pytest.fixture
def tiny(capsys):
    """Runs a command line: `(exit status, what stdout got, what stderr got)`."""

    def run(*words):
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Examples as SQLite JSON: features 0 to 9 with two each, and a row for 12 that is broken."""
    file = tmp_path_factory.mktemp("db") / "examples.db"
    with sqlite3.connect(file) as db:
        db.execute("create table data_table (key integer primary key, examples text)")
        rows = [(f, json.dumps([[f + 1.0, ["Ġone", "Ġtwo"], [0.0, f + 1.0]]] * 2)) for f in range(10)]
        db.executemany("insert into data_table values (?, ?)", [*rows, (12, "[[1.0, [")])
    return file


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Models, dictionary and corpus on disk; the corpus is a file of JSON lines."""
    folder = tmp_path_factory.mktemp("kept")
    (base, chat), _, tokenizer = make_all(folder)
    for name, model in (("base", base), ("chat", chat)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    texts = [document for document in make_corpus(24) if isinstance(document, str)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def launched(monkeypatch):
    """What `launch` hands to the app, instead of a server that runs for ever."""
    from tiny_dashboard.app import launch as app

    calls = []
    monkeypatch.setattr(app, "launch", lambda what=None, **options: calls.append((what, options)))
    return calls


def one_line(err):
    return err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1


def test_help_of_every_command(tiny):
    status, out, err = tiny("--help")
    assert status == 0 and not err
    assert re.findall(r"^  (\w+)  +[A-Z]", out.partition("Commands:")[2], re.M) == COMMANDS
    for command in COMMANDS:
        status, out, _ = tiny(command, "-h")
        assert status == 0 and "Usage: tiny-dashboard " + command in out
    assert tiny("--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["info"], "Missing argument 'SRC'"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["launch", "--nosuch"], "No such option"),
        (["launch", "--layer", "x"], "'--layer'"),
        (["launch", "--layer", "3"], "nothing to show: name --examples"),
        (["launch", "--examples", "x", "--model", "m"], "both --model and --dictionary"),
        (["launch", "--dictionary", "d"], "both --model and --dictionary"),
        (["launch", "--which", "width", "--dictionary", "d", "--model", "m"], "--which width is not of the form"),
        (["export", "x", "--out", "y"], "--features names none; write them as in 1,2,5-9, or all of them with --site"),
        (["export", "x", "--features", "1,,2", "--out", "y"], "'1,,2' has a comma with no number beside it"),
        (["export", "x", "--features", "1.5", "--out", "y"], "'1.5' is not a feature number"),
        (["export", "x", "--features", "", "--out", "y"], "--features names none"),
        (["collect", "--dictionary", "d", "--corpus", "c", "--out", "o"], "name the model with --model"),
        (["merge", "--out", "o"], "Missing argument 'SHARD...'"),
    ],
)
def test_a_wrong_call_ends_with_2_and_one_line(tiny, words, said):
    status, out, err = tiny(*words)
    assert (status, out) == (2, "")
    assert one_line(err) and said in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["info", "no.db"], "there is no file or folder no.db"),
        (["export", "no.db", "--features", "1", "--out", "x.html"], "no.db"),
        (["export", "{db}", "--features", "1,99", "--out", "x.html"], "feature 99 has no examples here"),
        (["export", "{db}", "--features", "12", "--out", "x.html"], "feature 12"),
        (["export", "{db}", "--features", "1", "--out", "{db}/x.html"], "examples.db"),
        (["convert", "{db}", "{here}"], "exists"),
        (["launch", "no.toml"], "no.toml"),
        (["launch", "{db}"], "is not a TOML file"),
        (["launch", "--examples", "no.db"], "there is no file or folder no.db"),
        (["launch", "--examples", "{db}", "--layer", "-3"], "layer is -3; it must be at least 0"),
        (["merge", "no-shard", "--out", "x"], "no-shard is no shard of a collection"),
        (["push", "{here}", "owner/name"], "is no examples dataset of ours"),
        (["deploy", "name"], "'name' is no name of a Space"),
        (["deploy", "owner/name", "no.toml"], "no.toml"),
        (["collect", "--model", "m", "--dictionary", "no.pt", "--corpus", "c", "--out", "x"], "no.pt"),
    ],
)
def test_a_failure_ends_with_1_and_one_line(tiny, database, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    status, out, err = tiny(*(word.format(db=database, here=tmp_path) for word in words))
    assert (status, out) == (1, "")
    assert one_line(err) and said in err
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_verbose_gives_the_traceback_too(tiny):
    for words in (["--verbose", "info", "no.db"], ["info", "no.db", "--verbose"]):
        status, _, err = tiny(*words)
        assert status == 1 and "Traceback" in err and err.endswith("\nerror: there is no file or folder no.db\n")
    assert tiny("--verbose", "nosuch")[0] == 2


def test_errors_are_one_printable_line_whatever_they_say(tiny, monkeypatch):
    def fail(error):
        def raises(*_, **__):
            raise error

        monkeypatch.setattr("tiny_dashboard.sources.describe.open_examples", raises)
        return tiny("info", "x")

    noted = OSError("disk full")
    noted.add_note("go on with --resume")
    assert fail(noted)[2] == "error: disk full; go on with --resume\n"
    assert fail(KeyError("no column 'a'"))[2] == "error: no column 'a'\n"
    assert fail(ValueError("known are:\n  a: b\n\n  c"))[2] == "error: known are:; a: b; c\n"
    assert fail(ValueError("\x1b[31mred\x07 \u202eleft"))[2] == "error: \ufffd[31mred\ufffd \ufffdleft\n"
    assert fail(ZeroDivisionError("by zero"))[2] == "error: ZeroDivisionError: by zero\n"
    assert fail(ValueError())[2] == "error: ValueError\n"
    assert fail(KeyboardInterrupt("stopped; saved"))[::2] == (130, "error: stopped; saved\n")


def facts(out):
    return dict(re.split(r":  +", line, maxsplit=1) for line in out.splitlines())


def test_info_of_a_database(tiny, database):
    status, out, err = tiny("info", database)
    assert status == 0 and not err
    assert facts(out) == {
        "format": "sqlite JSON",
        "features": "11 (0 to 12)",
        "examples": "20; 1 features cannot be read, 12 is the first",
        "tokenizer": "not said",
        "models": "not said",
        "layer": "not said",
        "table": "data_table",
        "column": "examples",
        "key": "key",
    }


def test_info_looks_at_some_features_of_many(tiny, tmp_path):
    with sqlite3.connect(tmp_path / "many.db") as db:
        db.execute("create table data_table (key integer primary key, examples text)")
        row = json.dumps([[1.0, ["a"], [1.0]]] * 3)
        db.executemany("insert into data_table values (?, ?)", [(f, row) for f in range(1000)])
    assert facts(tiny("info", tmp_path / "many.db")[1])["examples"] == "about 3 for each feature, 63 were looked at"


def test_info_of_a_config_lists_what_its_views_need(tiny, database, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "dashboard.toml").write_text(
        f"""examples = "{database}"
        [[view]]
        name = "with a model"
        models = ["model", "somebody/else"]
        dictionary = "somebody/sae"
        which = {{ width = "16k" }}
        layer = 3
        [[view]]
        name = "examples alone"
        """
    )
    status, out, err = tiny("info", tmp_path / "dashboard.toml")
    assert status == 0 and not err
    first, second = out.split("view:")[1:]
    assert first.split()[:3] == ["with", "a", "model"] and second.split()[:2] == ["examples", "alone"]
    assert "model (here), somebody/else (from the Hub)" in first and "somebody/sae width=16k" in first
    assert str(database) in second and "models" not in second


def test_export(tiny, database, tmp_path):
    file = tmp_path / "new" / "report.html"
    assert tiny("export", database, "--features", "1, 3-4", "--out", file) == (0, f"{file}\n", "")
    text = file.read_text()
    assert [f'<section id="f{f}">' in text for f in range(6)] == [False, True, False, True, True, False]
    assert tiny("export", database, "--features", "7", "--out", file)[0] == 0
    assert "Feature 7" in file.read_text() and "<section" not in file.read_text()


def test_collect_shards_merge_and_convert_are_the_python_calls(tiny, kept, tmp_path):
    words = ["collect", "--model", kept / "base", "--model", kept / "chat", "--dictionary", kept / "dictionary"]
    words += ["--layer", LAYER, "--corpus", kept / "corpus.jsonl", "--device", "cpu", "--context", 12, "--top-k", 3]
    words += ["--memory", 0.5, "--tokens", 100_000]
    expected = collect_examples(
        [str(kept / "base"), str(kept / "chat")],
        str(kept / "dictionary"),
        str(kept / "corpus.jsonl"),
        tmp_path / "python" / "out",
        layer=LAYER,
        device="cpu",
        context=12,
        top_k=3,
        memory=5e8,
        max_tokens=100_000,
    )
    whole = tmp_path / "whole" / "out"
    assert tiny(*words, "--out", whole)[:2] == (0, f"{whole}\n")
    for i in range(2):
        shard = [*words, "--out", tmp_path / f"shard{i}", "--shard", i, "--num-shards", 2, "--column", "body"]
        assert tiny(*shard)[0] == 0
    assert tiny("merge", tmp_path / "shard0", tmp_path / "shard1", "--out", tmp_path / "merged" / "out")[0] == 0
    assert tiny("convert", whole, tmp_path / "converted")[:2] == (0, f"{tmp_path / 'converted'}\n")
    source = open_examples(expected)
    assert len(source) == 24 and any(source[f] for f in source)
    for folder in (whole, tmp_path / "merged" / "out", tmp_path / "converted"):
        found = open_examples(folder)
        assert {f: found[f] for f in found} == {f: source[f] for f in source}
    assert facts(tiny("info", whole)[1])["models"] == f"{kept / 'base'}, {kept / 'chat'}"

    assert tiny(*words, "--out", whole, "--resume")[0] == 0
    status, _, said = tiny(*words, "--out", tmp_path / "x", "--column", "text")
    assert status == 1 and "choose one of body as column=" in said.splitlines()[-1]


def test_defaults_of_collect_are_those_of_the_function(monkeypatch, tiny):
    called = {}

    def stand_in(*given, **options):
        called.update(options, given=given)
        return "out"

    monkeypatch.setattr("tiny_dashboard.collect.collect_examples", stand_in)
    words = ["--model", "m", "--dictionary", "d", "--corpus", "c", "--out", "o"]
    assert tiny("collect", *words) == (0, "out\n", "")
    assert called == {"given": (["m"], "d", "c", Path("o"))}  # what is not written is as the function has it
    options = ["--layer", 3, "--hook", "mlp_out", "--tokenizer", "t", "--column", "x", "--split", "test", "--tokens", 9]
    options += ["--which", "width=16k", "--which", "l0=71", "--batch-size", 2, "--packed", "--memory", 1.5, "--resume"]
    options += ["--no-bos", "--subset", "en", "--samples", 0, "--outlier-norm", 0, "--save-every", 0.5]
    tiny("collect", *words, *options, "--shard", 1, "--num-shards", 4, "--top-k", 5, "--context", 6, "--device", "cpu")
    assert called == {
        "given": (["m"], "d", "c", Path("o")),
        "layer": 3,
        "hook_point": "mlp_out",
        "bos": False,
        "subset": "en",
        "samples": 0,
        "outlier_norm": None,
        "checkpoint_minutes": 0.5,
        "tokenizer": "t",
        "which": {"width": "16k", "l0": 71},
        "device": "cpu",
        "column": "x",
        "split": "test",
        "top_k": 5,
        "context": 6,
        "max_tokens": 9,
        "batch_size": 2,
        "packed": True,
        "memory": 1.5e9,
        "shard": 1,
        "num_shards": 4,
        "resume": True,
    }


def test_collect_on_ray(monkeypatch, tiny):
    called = {}
    module = types.ModuleType("tiny_dashboard.collect.ray")
    module.collect_on_ray = lambda *given, **options: called.update(options, given=given) or "out"
    monkeypatch.setitem(sys.modules, "tiny_dashboard.collect.ray", module)
    words = ["collect", "--model", "m", "--dictionary", "d", "--corpus", "c", "--out", "o", "--ray"]
    assert tiny(*words, "--num-shards", 8, "--gpus", 0.5, "--top-k", 7) == (0, "out\n", "")
    assert called["given"] == (["m"], "d", "c", Path("o"))
    assert (called["num_shards"], called["gpus"], called["top_k"]) == (8, 0.5, 7)
    assert not {"shard", "resume"} & set(called)  # it gives these itself
    for wrong in ([], ["--num-shards", 8, "--shard", 1]):
        status, _, err = tiny(*words, *wrong)
        assert status == 2 and one_line(err) and "--ray runs all shards" in err


def test_push(monkeypatch, tiny):
    called = []
    monkeypatch.setattr(
        "tiny_dashboard.publish.push.push_dataset", lambda *given, **how: called.append((*given, how)) or "url"
    )
    assert tiny("push", "folder", "owner/name") == (0, "url\n", "")
    assert tiny("push", "folder", "owner/name", "--private")[0] == 0
    assert called == [(Path("folder"), "owner/name", {"private": private}) for private in (False, True)]


def test_deploy(monkeypatch, tiny):
    called = []

    def stand_in(*given, **how):
        called.append((*given, how))
        return types.SimpleNamespace(url="url", embed="<iframe>")

    monkeypatch.setattr("tiny_dashboard.publish.deploy.deploy", stand_in)
    assert tiny("deploy", "owner/name") == (0, "url\n<iframe>\n", "")
    assert tiny("deploy", "owner/name", "x.toml", "--static", "--private", "--dry-run") == (0, "", "")
    ways = [dict.fromkeys(("static", "private", "dry_run"), on) for on in (False, True)]
    assert called == [("owner/name", None, ways[0]), ("owner/name", Path("x.toml"), ways[1])]


def test_export_a_site(tiny, database, tmp_path):
    folder = tmp_path / "site"
    assert tiny("export", database, "--site", "--features", "1,3", "--out", folder) == (0, f"{folder}\n", "")
    assert (folder / "index.html").is_file()


def test_launch_overrides_the_file(tiny, launched, tmp_path):
    file = tmp_path / "dashboard.toml"
    file.write_text('title = "T"\nexamples = "o/e"\nmodels = ["o/m"]\ndictionary = "o/d"\nlayer = 3\n')
    tiny("launch", file)
    tiny("launch", file, "--model", "a", "--model", "b", "--layer", 0, "--which", "l0=71", "--hook", "mlp_out")
    tiny("launch", file, "--examples", "e", "--dictionary", "d", "--tokenizer", "t", "--device", "cpu")
    read = {"title": "T", "examples": "o/e", "models": ("o/m",), "dictionary": "o/d", "layer": 3}
    models = {"models": ("a", "b"), "layer": 0, "which": {"l0": 71}, "hook_point": "mlp_out"}
    others = {"examples": "e", "dictionary": "d", "tokenizer": "t", "device": "cpu"}
    assert launched == [(DashboardConfig(**(read | over)), {}) for over in ({}, models, others)]


def test_launch_hands_the_server_its_options(tiny, launched):
    for words in ([], ["launch"], ["launch", "--port", 7999, "--host", "0.0.0.0", "--share"]):
        assert tiny(*words)[0] == 0
    assert launched == [
        (None, {}),
        (None, {}),
        (None, {"server_name": "0.0.0.0", "server_port": 7999, "share": True}),
    ]


def test_mcp_without_its_extra_or_with_one_that_gradio_does_not_know(tiny, launched, monkeypatch):
    def installed(version):
        def version_of(_):
            if version is None:
                raise PackageNotFoundError
            return version

        monkeypatch.setattr("tiny_dashboard.cli.version", version_of)
        return tiny("launch", "--mcp")

    assert installed(None)[::2] == (1, "error: --mcp needs an extra: install tiny-dashboard with [mcp]\n")
    assert installed("2.3.0")[::2] == (
        1,
        "error: --mcp needs mcp below 2, and 2.3.0 is installed: pip install 'mcp<2'\n",
    )
    assert installed("1.30.0")[0] == 0
    assert launched == [(None, {"mcp_server": True})]


def test_launch_serves(database):
    """The whole way: a process, a port, an answer, with a proxy that leads nowhere; and SIGTERM ends it quietly."""
    port, nowhere = free_port(), f"http://127.0.0.1:{free_port()}"
    command = [*PROGRAM, "launch", "--examples", str(database), "--port", port]
    with serving(command, port, end=signal.SIGTERM, HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere) as client:
        answer = client.predict(feature=3, max_examples=1, scale="feature", api_name="/examples")
    assert answer["examples"][0]["tokens"] == [" one", " two"]


def test_as_a_module_of_its_own_process(tmp_path):
    done = subprocess.run([*PROGRAM, "info", "no.db"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "") and one_line(done.stderr)

"""Names by a language model: prompts, answers of every kind, scores by simulated judges, and whole runs."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.bundle import PWN
from tests.helpers.language_model import StandIn
from tests.helpers.serving import free_port
from tiny_dashboard import OfflineFeatureCentricDashboard
from tiny_dashboard.cli import main
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.explain.prompts import Passage, ask_for_label, judgements, short_line
from tiny_dashboard.explain.scores import detection, fuzzing, negatives, split

N = 12  # features


def example(feature, number):
    """A text in which one word fires, and is the feature's own."""
    tokens = ["the ", f"word{feature} ", "stands ", "here ", f"{feature}.{number}"]
    return Example(20.0 - number, tokens, [0.0, 20.0 - number, 0.0, 0.0, 0.0])


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.json"
    path.write_text(json.dumps({str(f): [example(f, n)[:3] for n in range(20)] for f in range(N)}))
    return path


@pytest.fixture
def llm(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with StandIn(answers) as server:
        yield server


def texts_of(messages):
    return re.findall(r"Text \d+:\n(.*)", messages[-1]["content"])


def answers(messages):
    """A model that knows: its label is the word, and it judges by it."""
    content = messages[-1]["content"]
    if "You name features" in messages[0]["content"]:
        return f'**Label:** "the word {re.search("<<(word[0-9]+)", content)[1]}"'
    word = re.search(r"word\d+", content)[0]
    wanted = f"<<{word} >>" if "marked" in messages[0]["content"] else f"{word} "
    return f"Here you are: {[int(wanted in text) for text in texts_of(messages)]}"


def explain(source, server, *more):
    return main(["explain", str(source), "--llm", "org/model", "--base-url", server.url, *more])


def labels_of(source):
    dashboard = OfflineFeatureCentricDashboard.open(source)
    return {label.feature: label for label in dashboard.labels.last()}


def test_a_run_names_and_scores_and_the_same_again_asks_nothing(examples, llm, capsys):
    assert explain(examples, llm, "--fuzzing", "--features", "0-9", "--at-once", "4") == 0
    kept = labels_of(examples)
    assert {f: (label.label, label.score, label.n_judgements) for f, label in kept.items()} == {
        f: (f"the word word{f}", 1.0, 20) for f in range(10)
    }
    assert all(label.source == "org/model" and label.note == "fuzzing 1.00 of 10" for label in kept.values())
    assert len(llm.prompts) == 10 * 4 and 1 < llm.most <= 4
    assert llm.keys == {"Bearer none"}, "the Hub's token is not for other servers"
    assert "10 features named by org/model, 40 requests" in capsys.readouterr().out
    assert explain(examples, llm, "--features", "0-9") == 0 and len(llm.prompts) == 40
    assert OfflineFeatureCentricDashboard.open(examples).table.find("score>0.8")["total"] == 10


def test_a_server_that_is_busy_and_fails_is_asked_again(examples, llm, capsys):
    llm.fail = [(429, {"Retry-After": "1"}), (503, {}), (500, {})]
    assert explain(examples, llm, "--features", "3", "--at-once", "1") == 0
    assert llm.times[1] - llm.times[0] >= 1.0
    assert labels_of(examples)[3].score == 1.0
    llm.fail = [(401, {})]
    assert explain(examples, llm, "--features", "4") == 1
    assert "the server refuses org/model (status 401)" in capsys.readouterr().err
    llm.fail = [(400, {})]
    assert explain(examples, llm, "--features", "4") == 1 and 4 not in labels_of(examples)


def test_a_server_that_is_not_there_is_said(examples, monkeypatch, capsys):
    monkeypatch.setattr("tiny_dashboard.explain.requests.PAUSE", 0.0)
    with StandIn() as gone:
        pass
    assert explain(examples, gone, "--features", "1") == 1
    assert "did not answer for org/model, asked 6 times" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_there_and_the_same_command_goes_on(examples, llm):
    llm.delay = 0.15
    command = [sys.executable, "-m", "tiny_dashboard", "explain", str(examples), "--llm", "m", "--base-url", llm.url]
    listen = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a script's background ignores it
    run = subprocess.Popen([*command, "--at-once", "2"], stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    while len(llm.prompts) < 8:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and "stopped; " in said and "Traceback" not in said, said
    done = labels_of(examples)
    assert 0 < len(done) < N
    while llm.now:  # what was under way is counted when it is answered, whether somebody waits for it or not
        time.sleep(0.02)
    llm.delay, before = 0, len(llm.prompts)
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(labels_of(examples)) == N
    assert len(llm.prompts) - before == 3 * (N - len(done))


@pytest.mark.parametrize(
    "answer, label",
    [
        ('"Days of the week."', "Days of the week"),
        ("**Phrase:** `closing brackets`\n\nBecause they close.", "closing brackets"),
        ("Sure! Here is the phrase:\n- the verb *after* a modal", "the verb after a modal"),
        ("<think>hm, dates?\nno</think>\n# dates", "dates"),
        ("```text\ncode <b>blocks</b> &amp; <script>alert(1)</script>more\n```", "code blocks & more"),
        (f"names {PWN} \u202eevil\x00 🙂", "names evil 🙂"),
        ("<<def>> or <<class>>", "def or class"),
        ("星期几的名称", "星期几的名称"),
        ("word " * 10_000, ("word " * 24).strip() + "…"),
        ("It fires on dates. " + "word " * 10_000, "It fires on dates"),
        ("", ""),
        (" \n\t", ""),
        ("<think>and so on without an end", ""),
        ("***", ""),
    ],
)
def test_an_answer_becomes_one_short_line_or_nothing(answer, label):
    assert short_line(answer) == label
    assert len(short_line(answer)) <= 121


def test_a_model_that_says_nothing_counts_as_a_failure(examples, llm, capsys):
    llm.answer = ""
    assert explain(examples, llm, "--features", "0-5") == 1
    said = capsys.readouterr().err
    assert "6 features got no answer of use (0, 1, 2, 3, 4, …)" in said and labels_of(examples) == {}
    llm.answer = lambda messages: "a label" if "You name" in messages[0]["content"] else "I cannot judge that."
    assert explain(examples, llm, "--features", "0") == 0
    assert (labels_of(examples)[0].label, labels_of(examples)[0].score) == ("a label", None)


@pytest.mark.parametrize(
    "answer, found",
    [
        ("[1, 0, 1]", [True, False, True]),
        ("<think>[0,0,0]</think>So [1,0,1].", [True, False, True]),
        ("1, 0, 1", [True, False, True]),
        ("[1, 0]", None),
        ("Text 1 fits, 10 do not", None),
        ("[1, 0, 1, 1]", None),
    ],
)
def test_judgements_are_read_or_not_counted(answer, found):
    assert judgements(answer, 3) == found


def test_simulated_judges_score_as_they_should():
    own = [example(3, n) for n in range(40)]
    shown, held_out = split(own)
    assert not {p.text for p in shown} & {p.text for p in held_out} and len(held_out) == 10
    others = [(f, Passage.of(*example(f, n)[1:3])) for f in range(N) for n in (0, 15)]
    no = negatives(3, own, others, len(held_out))
    assert len(no) == 10 and not [p for p in no if "word3 " in p.text]
    chance = random.Random(0)

    async def knows(messages):
        return answers(messages)

    async def guesses(messages):
        return str([chance.randint(0, 1) for _ in texts_of(messages)])

    async def says_yes(messages):
        return str([1 for _ in texts_of(messages)])

    async def mean(judge, score, times):
        scores = [await score(judge, seed) for seed in range(times)]
        assert all(one.n for one in scores)
        return sum(one.value for one in scores) / times

    async def detect(judge, seed):
        return await detection(judge, "word3", held_out, no, seed=seed)

    async def fuzz(judge, seed):
        return await fuzzing(judge, "word3", held_out, seed=seed)

    for score in (detect, fuzz):
        assert asyncio.run(mean(knows, score, 3)) == 1.0
        assert asyncio.run(mean(says_yes, score, 3)) == 0.5
        assert abs(asyncio.run(mean(guesses, score, 200)) - 0.5) < 0.03


def test_the_prompt_shows_marked_texts_of_all_strengths_and_what_is_promoted(tmp_path):
    rows = [Example(v, [" a", " $x", "b", " c"], [0.0, v, v / 2, v / 10]) for v in (8.0, 4.0, 0.5)]
    passages = [Passage.of(row.tokens, row.activations) for row in rows]
    said = ask_for_label(passages, FeatureStats(1, top_logits=[[(" base", 1.0)], [(" fox", 2.0), ("\n", 1.0)]]))
    content = said[-1]["content"]
    assert "strength 10 of 10:\na<< $xb>> c" in content and "strength 1 of 10:" in content
    assert "likelier to come next: ␣fox ↵" in content and "␣base" not in content
    (tmp_path / "explain.txt").write_text("You are terse.\n---\n$examples for $$5")
    assert ask_for_label(passages, None, tmp_path)[-1]["content"].endswith("c for $5")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "explain.txt").write_text("x\n---\n$nosuch")
    with pytest.raises(ValueError, match="explain.txt: 'nosuch'; it may have \\$examples, \\$promoted"):
        ask_for_label(passages, None, tmp_path / "other")


def test_a_dry_run_shows_a_prompt_and_the_cost_and_asks_nothing(examples, llm, capsys):
    assert explain(examples, llm, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "<<word0 >>stands" in shown and "12 features: about 36 requests" in shown
    assert llm.prompts == [] and labels_of(examples) == {}
    assert re.search(r"requests, [1-9][\d,]+ tokens", shown)
    assert explain(examples, llm, "--features", "99") == 1
    assert "feature 99 has no examples here" in capsys.readouterr().err
    assert explain(examples, llm, "--out", "labels.csv") == 2
    assert "name a .jsonl file" in capsys.readouterr().err


@pytest.mark.real
def test_a_real_model_behind_a_real_server_names_a_feature(tmp_path, capsys):
    """By `transformers serve`; so small a model's names are poor, and what is tested is that there is one."""
    pytest.importorskip("openai", reason="transformers serve needs transformers[serving]")
    folder = Path(os.environ.get("TINY_DASHBOARD_CACHE") or Path.home() / ".cache") / "tiny-dashboard"
    (model,) = folder.glob("SmolLM2*") if folder.is_dir() else [pytest.skip("the real model is not here")]
    cities = ["Paris", "Rome", "Madrid", "Berlin", "Oslo", "Vienna"]
    rows = {"0": [[9.0 - i, ["I ", "love ", city], [0.0, 0.0, 9.0 - i]] for i, city in enumerate(cities)]}
    (tmp_path / "e.json").write_text(json.dumps(rows))
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--port", port]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log)
    try:
        while server.poll() is None:
            with suppress(OSError), socket.create_connection(("localhost", int(port))):
                break
            time.sleep(0.2)
        url = f"http://localhost:{port}/v1"
        words = ["explain", str(tmp_path / "e.json"), "--llm", str(model), "--base-url", url, "--max-tokens", "16"]
        assert main(words) == 0, (tmp_path / "log").read_text()
    finally:
        server.terminate()
        server.wait()
    assert labels_of(tmp_path / "e.json")[0].label

"""Collection on a local Ray cluster of several processes, one of which is killed."""

from __future__ import annotations

import builtins
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.collect_fixtures import make_all, make_corpus
from tiny_dashboard.cli import main
from tiny_dashboard.collect import collect_examples
from tiny_dashboard.collect.ray import collect_on_ray

torch.set_num_threads(1)
OPTIONS = {"context": 12, "top_k": 3, "samples": 2, "batch_size": 32, "block_size": 16, "layer": 1, "device": "cpu"}


@pytest.fixture
def names(tmp_path):
    """Models, dictionary, corpus and tokenizer on the disk, as a cluster needs them."""
    pair, _, tokenizer = make_all(tmp_path)
    for name, model in zip(("base", "chat"), pair):
        model.save_pretrained(tmp_path / name)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [{"text": document} for document in make_corpus(300) if isinstance(document, str)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    models = [str(tmp_path / "base"), str(tmp_path / "chat")]
    return (models, str(tmp_path / "dictionary"), str(tmp_path / "corpus.jsonl")), str(tmp_path / "tokenizer")


def workers():
    """Process ids of Ray workers that are at a shard."""
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and (path / "cmdline").read_bytes().startswith(b"ray::shard"):
                yield int(path.name)
        except OSError:
            continue


def test_a_lost_worker_changes_nothing(names, tmp_path):
    """From the command line, as a node of a cluster runs it."""
    ray = pytest.importorskip("ray")
    killed = []

    def kill_one():
        while not list((tmp_path / "ray").glob("out.shards/*.state/save-*/meta.json")):
            time.sleep(0.02)
        while not (busy := list(workers())):
            time.sleep(0.02)
        pid = busy[0]
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        threading.Thread(target=kill_one, daemon=True).start()
        (models, dictionary, corpus), tokenizer = names
        out = tmp_path / "ray" / "out"
        words = ["collect", "--ray", "--num-shards=2", "--save-every=0", f"--out={out}", f"--tokenizer={tokenizer}"]
        words += [f"--dictionary={dictionary}", f"--corpus={corpus}", *(f"--model={model}" for model in models)]
        assert main([*words, *(f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items())]) == 0
    finally:
        ray.shutdown()
    assert killed
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    single = collect_examples(models, dictionary, corpus, tmp_path / "single", tokenizer=tokenizer, **OPTIONS)
    for file in ("examples/00000.parquet", "features/00000.parquet"):
        assert (out / file).read_bytes() == (single / file).read_bytes()


def test_without_ray(names, tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "ray":
            raise ImportError("no ray")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"install tiny-dashboard with \[ray\]"):
        collect_on_ray(*names[0], tmp_path / "out", num_shards=2)


def test_objects_are_refused(names, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(TypeError, match="corpus must be given by name"):
        collect_on_ray(*names[0][:2], ["a text"], tmp_path / "out", num_shards=2)

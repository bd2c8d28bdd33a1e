"""A collection that is killed, at any moment, goes on to the bits of an uninterrupted one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.helpers.collect_fixtures import CONTEXT, collect, files, make_all, make_corpus
from tiny_dashboard.collect import run as collect_run
from tiny_dashboard.collect import saved as collect_saved

torch.set_num_threads(1)
OPTIONS = {"top_k": 2, "samples": 2, "batch_size": 8, "block_size": 16}
SMALL = {"context": CONTEXT, "top_k": 3, "samples": 3, "batch_size": 2, "block_size": 4}


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def whole(setup, tmp_path_factory):
    return files(collect(setup, make_corpus(), tmp_path_factory.mktemp("whole") / "out", **OPTIONS))


def die_after(n_steps):
    """Kill this process without a goodbye at its n-th touch of the disk while it saves."""
    left = [n_steps]

    def dying(function):
        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return step

    collect_saved.os.fsync = dying(os.fsync)
    Path.rename = dying(Path.rename)
    Path.mkdir = dying(Path.mkdir)
    Path.replace = dying(Path.replace)
    Path.write_text = dying(Path.write_text)
    collect_saved.shutil.rmtree = dying(collect_saved.shutil.rmtree)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_step_of_saving(setup, whole, tmp_path):
    corpus = make_corpus()
    deaths = 0
    for n_steps in range(3, 40, 2):
        child = os.fork()
        if child == 0:
            try:
                die_after(n_steps)
                collect(setup, corpus, tmp_path / "out", resume=True, checkpoint_minutes=0, **OPTIONS)
            finally:
                os._exit(1 if sys.exc_info()[0] else 0)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL)
        deaths += status == signal.SIGKILL
        if status == 0:
            break
    assert deaths > 5
    out = collect(setup, corpus, tmp_path / "out", resume=True, **OPTIONS)
    assert files(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Loud(list):
    """A corpus that says how far it was read."""

    def __init__(self, documents, read):
        super().__init__(documents)
        self.read = read

    def __getitem__(self, i):
        self.read.send(i)
        return super().__getitem__(i)


def run_aloud(setup, out, read, said):
    """What a process of its own does: collect, saving at every step, until it is stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr = said.open("w")
    collect(setup, Loud(make_corpus(120), read), out, resume=True, checkpoint_minutes=0, **SMALL)


@contextmanager
def running(setup, folder):
    """A run that has read 50 documents, in a process that is forked: it need not import torch again."""
    folder.mkdir()
    read, write = multiprocessing.Pipe(duplex=False)
    arguments = (setup, folder / "out", write, folder / "said")
    process = multiprocessing.get_context("fork").Process(target=run_aloud, args=arguments)
    process.start()
    write.close()
    while read.recv() < 50:
        pass
    yield process
    process.join(100)


def test_a_real_process_is_killed_and_another_interrupted(setup, tmp_path):
    with running(setup, tmp_path / "killed") as process:
        process.kill()
    with running(setup, tmp_path / "stopped") as process:
        os.kill(process.pid, signal.SIGINT)
    assert process.exitcode not in (0, -signal.SIGKILL)
    said = (tmp_path / "stopped" / "said").read_text()
    assert "tokens are saved in" in said and "--resume" in said
    straight = files(collect(setup, make_corpus(120), tmp_path / "out", **SMALL))
    for name in ("killed", "stopped"):
        out = tmp_path / name / "out"
        assert out.with_suffix(".state").exists() and not out.exists()
        assert files(collect(setup, make_corpus(120), out, resume=True, **SMALL)) == straight


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_result_that_cannot_be_written_is_not_lost(setup, whole, tmp_path, monkeypatch, num_shards):
    """Though the run never saved before."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    options = OPTIONS | {"num_shards": num_shards}
    monkeypatch.setattr(collect_run, "write_examples", full)
    monkeypatch.setattr(collect_run, "decoder_lines", full)
    with pytest.raises(OSError, match="No space left") as error:
        collect(setup, make_corpus(), tmp_path / "out", **options)
    assert "--resume writes it" in str(error.value.__notes__)
    assert [path.name for path in tmp_path.iterdir()] == ["out.state"]
    monkeypatch.undo()
    monkeypatch.setattr(collect_run.Run, "update", None)  # no model runs again
    out = collect(setup, make_corpus(), tmp_path / "out", resume=True, **options)
    assert num_shards > 1 or files(out) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_disk_full_keeps_what_was_saved(setup, whole, tmp_path, monkeypatch):
    saves = []
    real = collect_saved.os.fsync

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(collect_saved.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        collect(setup, make_corpus(), tmp_path / "out", checkpoint_minutes=0, **OPTIONS)
    assert "held before is kept" in str(error.value.__notes__)
    assert [path.name for path in tmp_path.iterdir()] == ["out.state"]
    monkeypatch.undo()
    assert files(collect(setup, make_corpus(), tmp_path / "out", resume=True, **OPTIONS)) == whole

"""A collection that is killed, at any moment, goes on to the bits of an uninterrupted one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.collect_fixtures import SCRIPT_OPTIONS, collect, files, make_all, make_corpus
from tiny_dashboard.collect import run as collect_run
from tiny_dashboard.collect import saved as collect_saved

torch.set_num_threads(1)
OPTIONS = {"top_k": 2, "samples": 2, "batch_size": 8, "block_size": 16}


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


def start(folder):
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.collect_fixtures", str(folder)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def read_until(process, document):
    for line in process.stdout:
        if line.strip() == str(document):
            return
    raise AssertionError(process.stderr.read())


def test_a_real_process_is_killed_and_another_interrupted(tmp_path):
    killed, stopped = start(tmp_path / "killed"), start(tmp_path / "stopped")
    read_until(killed, 50)
    killed.kill()
    killed.wait()
    read_until(stopped, 50)
    stopped.send_signal(signal.SIGINT)
    rest = stopped.communicate(timeout=100)[1]
    assert stopped.returncode not in (0, -signal.SIGKILL)
    assert "tokens are saved in" in rest and "--resume" in rest
    setup = make_all(tmp_path)
    straight = files(collect(setup, make_corpus(120), tmp_path / "out", **SCRIPT_OPTIONS))
    for name in ("killed", "stopped"):
        assert (tmp_path / name / "out.state").exists() and not (tmp_path / name / "out").exists()
        assert (
            files(collect(setup, make_corpus(120), tmp_path / name / "out", resume=True, **SCRIPT_OPTIONS)) == straight
        )


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

"""What is written whole or not at all touches nothing of other people's, whoever is killed and whoever else runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch

from tests.helpers.collect_fixtures import OPTIONS, collect, files, make_all, make_corpus
from tiny_dashboard.collect import merge
from tiny_dashboard.core.files import own_folder, whole_folder, working_folder, write_text
from tiny_dashboard.demo import FOLDER
from tiny_dashboard.sources.convert import convert

torch.set_num_threads(1)
BESIDE = ["old", "tmp", "state.old", "state.tmp", "merging", "merging.old", "merging.tmp", "partial-1"]


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("models"))


def precious(folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    return folder


def test_folders_of_other_people_are_kept(setup, tmp_path):
    theirs = [precious(tmp_path / f"{name}.{end}") for name in ("shard0", "merged") for end in BESIDE]
    corpus = make_corpus()
    shards = [collect(setup, corpus, tmp_path / f"shard{n}", shard=n, num_shards=2, **OPTIONS) for n in range(2)]
    merge(shards, tmp_path / "merged", tokenizer=setup[2])
    state = precious(tmp_path / "single.state")
    with pytest.raises(FileExistsError, match=r"single\.state is in the way, and is not ours"):
        collect(setup, corpus, tmp_path / "single", **OPTIONS)
    precious(tmp_path / "shard9.old")
    with pytest.raises(FileNotFoundError, match="shard9 is no shard"):
        merge([tmp_path / "shard9"], tmp_path / "m2")
    assert all((folder / "thesis.txt").exists() for folder in [*theirs, state, tmp_path / "shard9.old"])
    assert not (tmp_path / "shard9").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_a_killed_run_left_is_cleaned_and_what_lives_is_not(tmp_path):
    child = os.fork()
    if child == 0:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    precious(tmp_path / ".out.theirs.working")  # no mark of ours
    (left,) = set(tmp_path.iterdir()) - {tmp_path / ".out.theirs.working"}
    with working_folder(tmp_path / "out") as alive:
        assert not left.exists()
        with whole_folder(tmp_path / "out") as folder:
            (folder / "done").write_text("x")
        assert alive.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.theirs.working", "out"]


def test_of_two_at_once_one_wins(setup, tmp_path):
    corpus = make_corpus()
    shards = [collect(setup, corpus, tmp_path / f"s{n}", shard=n, num_shards=2, **OPTIONS) for n in range(2)]
    expected = files(merge(shards, tmp_path / "expected" / "merged", tokenizer=setup[2]))
    said: list[Exception | Path] = []

    def work():
        try:
            said.append(merge(shards, tmp_path / "merged", tokenizer=setup[2]))
        except Exception as error:
            said.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [one for one in said if isinstance(one, Exception)]
    assert len(errors) == 2 and all(isinstance(error, FileExistsError) for error in errors), said
    assert files(tmp_path / "merged") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expected", "merged", "s0", "s1"]
    with own_folder(tmp_path / "out.state"), pytest.raises(FileExistsError, match="another process is at work"):
        collect(setup, corpus, tmp_path / "out", **OPTIONS)


def test_a_folder_is_never_taken_for_what_a_killed_run_left(tmp_path):
    """Not even in the moment between its making and its locking."""
    wrong: list[Exception] = []

    def work():
        try:
            for _ in range(30):
                with working_folder(tmp_path / "out") as folder:
                    (folder / "half").write_text("x")
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert not wrong and not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        with pytest.raises(OSError, match="report.html"):
            write_text(tmp_path / "report.html", "x" * 100_000)
        for limit, names in ((10, "made-by-tiny"), (100_000, r"00000\.parquet")):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(OSError, match=f"File too large: .*{names}") as error:
                convert(FOLDER / "examples", tmp_path / "out", progress=False)
            assert type(error.value) is OSError
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())

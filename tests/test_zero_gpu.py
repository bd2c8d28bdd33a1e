"""The handlers through a stand-in for `spaces`, which forks and pickles as ZeroGPU does."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers.bundle import LAYER
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.opening import views_of_config
from tiny_dashboard.config import DashboardConfig

TEXT = "The quick brown fox"


class Spaces:
    """`spaces.GPU`: each call in a forked process; arguments and results pickled; only an error's name comes back.

    Attributes:
        calls: seconds asked for, by each call.
    """

    def __init__(self):
        self.calls, self.functions = [], 0

    def GPU(self, task=None, *, duration=60):
        if task is None:
            return lambda task: self.GPU(task, duration=duration)
        self.functions += 1
        context = multiprocessing.get_context("fork")

        def run(arguments):
            arguments = pickle.dumps(arguments)
            self.calls.append(duration(*pickle.loads(arguments)))
            ours, theirs = context.Pipe(False)

            def work():
                import torch

                torch.set_num_threads(1)  # OpenMP does not survive a fork
                try:
                    answer = task(*pickle.loads(arguments))
                    for item in answer if inspect.isgeneratorfunction(task) else [answer]:
                        theirs.send_bytes(pickle.dumps(("value", item)))
                    theirs.send_bytes(pickle.dumps(("end", None)))
                except Exception as error:
                    theirs.send_bytes(pickle.dumps(("error", type(error).__name__)))
                os._exit(0)

            process = context.Process(target=work, daemon=True)
            process.start()
            theirs.close()
            while (answer := pickle.loads(ours.recv_bytes()))[0] == "value":
                yield answer[1]
            process.join(10)
            if answer[0] == "error":
                raise RuntimeError(f"ZeroGPU worker error {answer[1]}")

        if inspect.isgeneratorfunction(task):
            return lambda *arguments: run(arguments)
        return lambda *arguments: next(run(arguments))


@pytest.fixture(scope="module")
def zero(bundle):
    spaces = Spaces()
    views = views_of_config(DashboardConfig.read(bundle.toml), patient=True, gpu=spaces.GPU)
    served = views.of().served
    assert spaces.functions == 2 and served.live  # as the platform demands before the app starts
    return SimpleNamespace(spaces=spaces, asked=Endpoints(views), served=served)


@pytest.fixture(scope="module")
def here(bundle):
    views = views_of_config(DashboardConfig.read(bundle.toml))
    return SimpleNamespace(asked=Endpoints(views), served=views.of().served)


def test_the_same_answers_as_here(zero, here):
    assert zero.asked.analyze(TEXT, "1, 2", "3") == here.asked.analyze(TEXT, "1, 2", "3")
    assert zero.asked.top_features(TEXT, 5) == here.asked.top_features(TEXT, 5)
    assert zero.served.online.code(TEXT, 1) == here.served.online.code(TEXT, 1)
    encoded = here.served.encode(TEXT)
    for mine, theirs in zip(
        zero.served.online.split_tracks(encoded, 1), here.served.online.split_tracks(encoded, 1), strict=True
    ):
        np.testing.assert_array_equal(mine.values, theirs.values)


def test_answers_that_are_known_spend_no_quota(zero):
    before = len(zero.spaces.calls)
    zero.asked.analyze(TEXT + " once", "7")
    assert len(zero.spaces.calls) == before + 1
    zero.asked.analyze(TEXT + " once", "8, 9", "1", max_act="2")
    zero.asked.top_features(TEXT + " once", 5)
    zero.served.online.split_tracks(zero.served.encode(TEXT + " once"), 1)
    assert len(zero.spaces.calls) == before + 1  # whatever is asked of a text that was read
    zero.asked.analyze(TEXT + " again", "7")
    assert len(zero.spaces.calls) == before + 2


def test_generation_streams_and_asks_for_time_by_length(zero, here):
    prompt = here.served.encode(TEXT)
    mine = [e.text for e in zero.served.online.respond(prompt, max_new_tokens=6)]
    short = zero.spaces.calls[-1]
    assert mine == [e.text for e in here.served.online.respond(prompt, max_new_tokens=6)] and len(mine) > 3
    first = next(iter(zero.served.online.respond(prompt, max_new_tokens=600, steer=[(1, 2.0)])))
    assert first.text == prompt.text
    list(zip(range(3), zero.served.online.respond(prompt, max_new_tokens=600), strict=False))
    assert zero.spaces.calls[-1] > short


def test_all_views_are_loaded_as_the_app_starts_and_stay(bundle):
    config = DashboardConfig.read(bundle.toml)
    two = [config.model_copy(update={"name": name}) for name in "ab"]
    views = views_of_config(
        config.model_copy(update={"view": tuple(two), "max_loaded": 1}), patient=True, gpu=Spaces().GPU
    )
    first, second = (views.of(name).served for name in "ab")
    assert first.live and second.live and first.online.model is second.online.model
    assert first.live and second.live


def test_errors_keep_their_words(zero):
    with pytest.raises(ValueError, match="feature .999. does not exist"):
        zero.asked.analyze(TEXT, "999")
    prompt = zero.served.encode(TEXT)
    with pytest.raises(ValueError, match="temperature"):
        list(zero.served.online.respond(prompt, temperature=-1.0))


def test_browsing_examples_spends_no_quota(zero):
    before = len(zero.spaces.calls)
    assert zero.asked.examples(3)["examples"] and zero.asked.features()["total"] == 64
    assert zero.served.decoder is None and len(zero.spaces.calls) == before and LAYER == 1

"""Something made in the background, and made again after a failure."""

from __future__ import annotations

import threading

import pytest

from tiny_dashboard.app.loading import LONGEST_PAUSE, PAUSE, Loading, Memory


class Maker:
    def __init__(self, failures=0):
        self.calls, self.failures, self.now = 0, failures, 0.0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"failure {self.calls}")
        return self.calls


def test_made_once_for_all_who_ask():
    gate = threading.Event()
    make = Maker()

    def slow():
        gate.wait(10)
        return make()

    later = Loading(slow)
    assert later.value is None
    with pytest.raises(TimeoutError):
        later.result(0.01)
    found = []
    threads = [threading.Thread(target=lambda: found.append(later.result())) for _ in range(8)]
    [thread.start() for thread in threads]
    gate.set()
    [thread.join() for thread in threads]
    assert found == [1] * 8 and later.value == 1


def test_a_failure_is_told_until_its_pause_is_over():
    make = Maker(failures=8)
    later = Loading(make, clock=lambda: make.now)
    pause = PAUSE
    for attempt in range(1, 9):
        with pytest.raises(ConnectionError, match=f"failure {attempt}"):
            later.result()
        assert later.value is None
        make.now += pause - 0.1
        with pytest.raises(ConnectionError, match=f"failure {attempt}"):
            later.result()
        assert make.calls == attempt
        make.now += 0.1
        pause = min(2 * pause, LONGEST_PAUSE)
    assert later.result() == 9 == later.result()


def test_who_was_not_asked_for_longest_is_forgotten():
    makers = [Maker() for _ in range(3)]
    all_of_them = [Loading(maker) for maker in makers]
    memory = Memory(2)
    for later in (all_of_them[0], all_of_them[1], all_of_them[0], all_of_them[2]):
        memory.use(later)
        later.result()
    assert [later.value for later in all_of_them] == [1, None, 1]
    memory.use(all_of_them[1])
    assert all_of_them[1].result() == 2 and all_of_them[0].value is None

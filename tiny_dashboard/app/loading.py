"""Something that takes time to make and may fail: made in the background, and tried again when it is next asked for."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PAUSE, LONGEST_PAUSE = 2.0, 60.0  # seconds after a failure before the next try; doubled each time


class Loading(Generic[T]):
    """What `make` returns, made at most once; after a failure again, with growing pauses in between.

    Args:
        make: called in a thread of its own.
        clock: seconds, for the pauses.
    """

    def __init__(self, make: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._future: Future[T] | None = None
        self._failures, self._again = 0, 0.0
        self._lock = Lock()

    @classmethod
    def of(cls, value: T) -> Loading[T]:
        """What is there already: nothing is made, and no thread starts."""
        there = cls(lambda: value)
        there._future = Future()
        there._future.set_result(value)
        return there

    def start(self) -> Future[T]:
        """Begin, where nothing is there or under way, and no failure was just now."""
        with self._lock:
            future = self._future
            failed = future is not None and future.done() and future.exception() is not None
            if future is None or (failed and self._clock() >= self._again):
                future = self._future = Future()
                Thread(target=self._run, args=(future,), daemon=True, name="load").start()
            return future

    def result(self, timeout: float | None = None) -> T:
        """The value; waits for it.

        Raises:
            TimeoutError: it is not there after `timeout` seconds.
            Exception: what `make` raised, until it is tried again.
        """
        return self.start().result(timeout)

    @property
    def value(self) -> T | None:
        """The value where it is there by now, else None."""
        future = self._future
        there = future is not None and future.done() and future.exception() is None
        return future.result() if future is not None and there else None

    def forget(self) -> None:
        """Let go of the value, where it is there: it is made again when it is next asked for."""
        with self._lock:
            if self.value is not None:
                self._future = None

    def _run(self, future: Future[T]) -> None:
        try:
            value = self._make()
        except BaseException as error:
            self._failures += 1
            self._again = self._clock() + min(PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
            future.set_exception(error)
        else:
            future.set_result(value)


class Memory:
    """What is held of many that load: at most so many, and who was not asked for longest goes first.

    Args:
        most: None holds all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self._used = most, OrderedDict[Loading[Any], None]()
        self._lock = Lock()

    def use(self, loading: Loading[Any]) -> None:
        """This one is asked for now."""
        with self._lock:
            self._used[loading] = None
            self._used.move_to_end(loading)
            while self._most is not None and len(self._used) > self._most:
                self._used.popitem(last=False)[0].forget()

"""Something that takes time to make and may fail: made in the background, and tried again when it is next asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Generic, TypeVar

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

    def done(self) -> bool:
        """Whether the last try has ended."""
        return self._future is not None and self._future.done()

    def exception(self) -> BaseException | None:
        """What the last try raised, once it has ended."""
        return self._future.exception() if self._future is not None else None

    def _run(self, future: Future[T]) -> None:
        try:
            value = self._make()
        except BaseException as error:
            self._failures += 1
            self._again = self._clock() + min(PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
            future.set_exception(error)
        else:
            future.set_result(value)

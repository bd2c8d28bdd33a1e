"""What the examples of all features say, for search: read in the background, once somebody looks for words."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

from tiny_dashboard.core.examples import ExampleSource
from tiny_dashboard.core.filters import Texts

MOST = 2**24  # characters of all features together, at most: so many are searched in some hundredths of a second
MOST_FEATURES = 4096  # of a source that tells its texts only with all else, one feature after the other


class ExampleTexts:
    """The texts of a dashboard's examples; another version of the examples is read anew.

    Args:
        dashboard: an `OfflineDashboard`.
    """

    def __init__(self, dashboard: Any) -> None:
        self._dashboard, self._lock = dashboard, Lock()
        self._begun: tuple[int, Future[tuple[Texts | None, str]]] | None = None

    def start(self) -> Future[tuple[Texts | None, str]]:
        """Begin to read them; gives the texts, None where they are not searched, and a sentence of what is not."""
        with self._lock:
            version = self._dashboard.version
            if self._begun is None or self._begun[0] != version:
                self._begun = version, Future()
                Thread(target=self._read, args=(self._begun[1],), daemon=True).start()
            return self._begun[1]

    @property
    def texts(self) -> Texts | None:
        """The texts, where they are read by now and searched."""
        begun = self._begun
        return begun[1].result()[0] if begun and begun[0] == self._dashboard.version and begun[1].done() else None

    def _read(self, future: Future[tuple[Texts | None, str]]) -> None:
        try:
            rows, said = self._rows()
        except Exception as error:  # the list is worth having without
            logging.getLogger(__name__).warning("the texts of the examples cannot be read: %s", error)
            rows, said = None, "the texts of the examples cannot be read"
        future.set_result((None if rows is None else Texts(rows), said))

    def _rows(self) -> tuple[Sequence[str] | None, str]:
        source, features = self._dashboard.max_activation_examples, self._dashboard.features
        most = MOST // max(1, len(features))
        rows = source.texts(most) if isinstance(source, ExampleSource) else None
        if rows is None:
            if getattr(source, "is_remote", False):
                return None, "the texts of examples on the Hub are not searched"
            if len(features) > MOST_FEATURES:
                return None, "the texts of so many examples are searched in a dataset of `tiny-dashboard convert` alone"
            rows = [self._text_of(feature)[:most] for feature in features]
        cut = any(len(row) >= most for row in rows)
        return rows, f"of the examples' texts {most:,} characters of each feature are searched" if cut else ""

    def _text_of(self, feature: int) -> str:
        """What all examples of a feature say; "" where they cannot be read."""
        with suppress(ValueError, LookupError, OSError):
            rows = self._dashboard.read(feature, max_examples=sys.maxsize)
            return "\uffff".join("".join(passage.tokens).replace("\n", " ") for _, passage in rows)
        return ""

"""What is said of a feature: one line of a file of labels, as `label_store` keeps them.

{"feature": 7, "label": "dates", "note": "", "author": "ada", "source": "person", "score": null,
 "n_judgements": null, "time": "2026-01-31T09:30:00.000Z"}
"""

from __future__ import annotations

import getpass
import math
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import index
from typing import Any

PERSON = "person"  # the source of what somebody typed
LONGEST = {"label": 300, "note": 10_000, "author": 100, "source": 200}  # characters
_DIRECTION = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}  # they turn what stands around them about


@dataclass(frozen=True)
class Label:
    """What one author, or one model, says of a feature.

    Attributes:
        feature: its index.
        label: a name in one line; "" names nothing.
        note: more of it, in any number of lines.
        author: who wrote it; "" is not known.
        source: "person", or what made it: a language model's name, another project.
        score: how well the label foretells where the feature fires: balanced accuracy, 0.5 by chance, 1 perfect.
        n_judgements: number of texts that the score was taken over.
        time: ISO 8601, UTC.
    """

    feature: int
    label: str = ""
    note: str = ""
    author: str = ""
    source: str = PERSON
    score: float | None = None
    n_judgements: int | None = None
    time: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any], *, cut: bool = False) -> Label:
        """A label from plain values, checked and cleaned; keys that it does not know are passed over.

        Args:
            record: by the names of the attributes; what is missing, None or "" is unknown.
            cut: shorten what is too long, as for what is read; else that is an error.

        Raises:
            ValueError: a value is not what it should be; it is named.
        """
        known: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            value = record.get(name)
            if value is None or value == "":
                continue
            try:
                known[name] = _CHECKS[name](value) if name in _CHECKS else _text(name, value, cut)
            except (TypeError, OverflowError, ValueError) as error:
                raise ValueError(f"{name} is {repr(value)[:80]}: {error}") from None
        if "feature" not in known:
            raise ValueError("it names no feature")
        return cls(**{"time": now()} | known)

    @property
    def by(self) -> str:
        """Who says so, for people."""
        return (self.author or PERSON) if self.source == PERSON else self.source


def this_person() -> str:
    """The name that this person has on this machine; "" where there is none."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


def now() -> str:
    """The time, as labels have it."""
    return _moment(datetime.now(UTC))


def clean(text: str, *, lines: bool = False) -> str:
    """A text without control characters, halves of letters and marks of direction; in one line unless `lines`."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").encode("utf-8", "replace").decode())
    kept = "".join(
        c if unicodedata.category(c) != "Cc" or c in "\n\t" else " " for c in text if ord(c) not in _DIRECTION
    )
    return kept.strip() if lines else " ".join(kept.split())


def _text(name: str, value: Any, cut: bool) -> str:
    if not isinstance(value, str):
        raise TypeError("give a text")
    text = clean(value, lines=name == "note")
    if len(text) > LONGEST[name] and not cut:
        where = "; the rest can stand in the note" if name == "label" else ""
        raise ValueError(f"it has {len(text):,} characters, at most {LONGEST[name]:,} are kept{where}")
    return text if len(text) <= LONGEST[name] else text[: LONGEST[name] - 1] + "…"


def _feature(value: Any) -> int:
    number = index(value)
    if isinstance(value, bool) or not 0 <= number < 2**63:
        raise ValueError("give a feature's index, 0 or above")
    return number


def _count(value: Any) -> int:
    return max(0, index(value))


def _score(value: Any) -> float:
    number = float(value)
    if isinstance(value, str) or not math.isfinite(number):
        raise ValueError("give a number")
    return number


def _checked_time(value: Any) -> str:
    moment = datetime.fromisoformat(value)
    return _moment(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_CHECKS = {
    "feature": _feature,
    "score": _score,
    "n_judgements": _count,
    "time": _checked_time,
}

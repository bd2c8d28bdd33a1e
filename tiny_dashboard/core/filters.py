"""What people type to find features: words, and conditions on columns, as in `density<1% norm>0.9 "when"`.

    NAME<NUMBER     also <= > >= = !=; NAME is a column's, its title's, or the beginning of a word of these;
                    NUMBER may end in %, and after = stand with others: `feature=3,5,8`
    "a phrase"      in a text that is told of the feature, in any case; or, from three letters on, in its examples'
                    texts, where these are known: what is told of a feature comes first
    other words     one phrase, in their order; digits find the features whose number begins so, too

`static/site.js` reads it the same way, for the static site, which does not know the examples' texts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np


class Column(Protocol):
    """What is asked of a column; `statistics.Column` is one."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def kind(self) -> str: ...


_TERM = re.compile(r'"([^"]*)"|([^\s"<>=!]+)(<=|>=|!=|<|>|=)(\S*)')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?%?", re.IGNORECASE)
_SHORTEST = 3  # bytes of a phrase that is looked for in examples: shorter ones stand in almost all
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Texts:
    """A text for each row, in which phrases are looked for in small letters and with plain spaces."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = [text.lower().replace("␣", " ") for text in texts]
        self._last = "", np.arange(len(self._texts))

    def saying(self, phrase: str) -> np.ndarray:
        """The rows in whose texts a phrase stands."""
        known, rows = self._last
        if known not in phrase:  # a phrase that goes on is only where it was before
            rows = np.arange(len(self._texts))
        rows = rows[np.fromiter((phrase in self._texts[row] for row in rows.tolist()), bool, len(rows))]
        self._last = phrase, rows
        return rows


def words_of(query: str) -> str:
    """What of a query may be looked for in texts: all but comparisons with numbers."""
    kept = _TERM.sub(lambda t: f" {t[1]} " if t[1] is not None else " " if _are_numbers(t[4]) else t[0], query)
    return " ".join(kept.split())


def matches(table: Any, query: str) -> np.ndarray:
    """Which features of a `FeatureTable` a query finds, `[n_features]`: 0 none, 1 by the examples' texts alone, else 2.

    Raises:
        ValueError: a condition names no column of which something is known, or compares a number with something else.
    """
    hits = np.ones(len(table.ids), dtype=bool)
    columns = [table.all_columns[0], *table.known_columns()]
    phrases = []

    def take(term: re.Match[str]) -> str:
        nonlocal hits
        quoted, name, sign, value = term.groups()
        if quoted is not None:
            phrases.append(quoted)
            return " "
        column = _column(columns, name)
        if column is None:
            if not _NUMBER.fullmatch(value):
                return term[0]  # words like any other: code has such signs, too
            known = ", ".join(c.title for c in columns)
            raise ValueError(f"{name!r} in {term[0]!r} is no column; there are {known}")
        if value:  # else it is being typed
            hits &= _holds(table, column, sign, value)
        return " "

    words = " ".join(_TERM.sub(take, query).split())
    told = hits.copy()
    for phrase in filter(None, [*phrases, words]):
        said = _says(table, phrase.lower(), is_number=phrase == words and phrase.isdecimal())
        told &= said
        if table.examples is not None and len(phrase.encode("utf-8", "replace")) >= _SHORTEST:
            said = said.copy()
            said[table.examples.saying(phrase.lower())] = True
        hits &= said
    return hits.astype(np.int8) + told


def _are_numbers(value: str) -> bool:
    return not value or all(map(_NUMBER.fullmatch, value.split(",")))


def _column(columns: Sequence[Column], name: str) -> Column | None:
    key = _plain(name)
    exact = [c for c in columns if key in (_plain(c.name), _plain(c.title))]
    begun = [c for c in columns for word in re.split(r"[\W_]+", f"{c.title} {c.name}".lower()) if word.startswith(key)]
    return next(iter([*exact, *begun]), None) if key else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _holds(table: Any, column: Column, sign: str, value: str) -> np.ndarray:
    known = table.ids.astype(np.float64) if column.name == "feature" else table.column(column.name)
    if column.kind == "text":
        if sign not in ("=", "!="):
            raise ValueError(f"{column.title} is a text; compare it with = or !=, or type its words alone")
        return np.array([text.lower() == value.lower() for text in known], dtype=bool) == (sign == "=")
    if not _are_numbers(value):
        raise ValueError(f"{value!r} after {column.title} is no number; write {column.title}{sign}0.5, for example")
    numbers = [float(part.rstrip("%")) / (100 if part.endswith("%") else 1) for part in value.split(",")]
    if sign in ("=", "!="):
        return np.isin(known, numbers) == (sign == "=")
    return _COMPARE[sign](known, numbers[0])  # what is unknown is NaN, and neither


def _says(table: Any, phrase: str, is_number: bool) -> np.ndarray:
    hits = np.zeros(len(table.ids), dtype=bool)
    hits[table.told.saying(phrase)] = True
    if is_number and str(int(phrase)) == phrase and len(phrase) < 19:
        longer = range(19 - len(phrase)) if phrase != "0" else range(1)
        hits |= np.logical_or.reduce([table.ids // 10**n == int(phrase) for n in longer])
    return hits

"""What people type to find features: words, and conditions on columns, as in `density<1% norm>0.9 "when"`.

    NAME<NUMBER     also <= > >= = !=; NAME is a column's, its title's, or the beginning of a word of these;
                    NUMBER may end in %, and after = stand with others: `feature=3,5,8`
    "a phrase"      in a text that is told of the feature, in any case
    other words     one phrase, in their order; digits find the features whose number begins so, too

`static/list.js` reads it the same way, for the static site.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
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
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def matches(table: Any, query: str) -> np.ndarray:
    """Which features of a `FeatureTable` a query finds, `[n_features]` of bool.

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
    for phrase in filter(None, [*phrases, words]):
        hits &= _says(table, phrase.lower(), is_number=phrase == words and phrase.isdecimal())
    return hits


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
    if not all(_NUMBER.fullmatch(part) for part in value.split(",")):
        raise ValueError(f"{value!r} after {column.title} is no number; write {column.title}{sign}0.5, for example")
    numbers = [float(part.rstrip("%")) / (100 if part.endswith("%") else 1) for part in value.split(",")]
    if sign in ("=", "!="):
        return np.isin(known, numbers) == (sign == "=")
    return _COMPARE[sign](known, numbers[0])  # what is unknown is NaN, and neither


def _says(table: Any, phrase: str, is_number: bool) -> np.ndarray:
    hits = np.zeros(len(table.ids), dtype=bool)
    hits[table.saying(phrase)] = True
    if is_number and str(int(phrase)) == phrase and len(phrase) < 19:
        longer = range(19 - len(phrase)) if phrase != "0" else range(1)
        hits |= np.logical_or.reduce([table.ids // 10**n == int(phrase) for n in longer])
    return hits

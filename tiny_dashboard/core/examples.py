"""The record that everything speaks: `Example`, what is known of a feature, and the source they come from.

A source of examples is a read-only `Mapping[int, Sequence[Example]]`. A plain dict is one already;
`ExampleSource` is the base of the lazy ones, which can also say what they know besides the examples.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest
from operator import index
from typing import Any, NamedTuple
from zipfile import BadZipFile

from tiny_dashboard.core.statistics import FeatureStats, FeatureTable


class Example(NamedTuple):
    """One text window in which a feature fires.

    The first three fields are the classic row, so `Example(*row)` takes a 3-tuple or a JSON list.

    Attributes:
        max_activation: the peak of `activations`; examples are ranked by it, in the dictionary's own units.
        tokens: token pieces or readable token texts, `[seq_len]`; empty where only `token_ids` are stored and nobody
            knows their tokenizer.
        activations: the feature's activation at each token, `[seq_len]`; NaN where it is unknown.
        token_ids: vocabulary ids, `[seq_len]`, where the source stores them.
        rank: place among the feature's examples, 0 for the strongest.
        quantile: band of activation strength, higher is stronger; None where the source has no bands.
        doc: where the window comes from: a document's number or name.
        start: position of the first token in that document.
    """

    max_activation: float
    tokens: Sequence[str]
    activations: Sequence[float]
    token_ids: Sequence[int] | None = None
    rank: int | None = None
    quantile: int | None = None
    doc: int | str | None = None
    start: int | None = None


@dataclass(frozen=True)
class SourceInfo:
    """What a source knows of itself; None where it does not.

    Attributes:
        format: the name of the format, for people: "parquet dataset", "sqlite JSON", …
        tokenizer: a Hub id or a local folder that the tokens were made with.
        models: Hub ids of the model, or of base and chat.
        dictionary: Hub id or name of the SAE or crosscoder.
        layer, hook_point: where in the model it reads ("resid_post", …).
        extra: everything else in the source's metadata, as plain JSON values.
    """

    format: str
    tokenizer: str | None = None
    models: Sequence[str] = ()
    dictionary: str | None = None
    layer: int | None = None
    hook_point: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


# What Python raises where a file holds something else than its format says.
BROKEN = (TypeError, AttributeError, IndexError, KeyError, OverflowError, RecursionError, BadZipFile, struct.error)


class ReadableTokens(Sequence[str]):
    """The readable tokens of ids, made when they are first looked at; joined they are the text.

    Args:
        ids: vocabulary ids, `[seq_len]`.
        read: makes them readable.
    """

    def __init__(self, ids: Sequence[int], read: Callable[[Sequence[int]], list[str]]) -> None:
        self._ids, self._read = ids, read

    @cached_property
    def _texts(self) -> list[str]:
        return self._read(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: Any) -> Any:
        return self._texts[place]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return repr(self._texts)


def stored_tokens(example: Example) -> Sequence[str]:
    """The tokens that the source stores; empty where it has only ids, readable or not."""
    return () if isinstance(example.tokens, ReadableTokens) else example.tokens


class ExampleSource(Mapping[int, Sequence[Example]]):
    """Base of the lazy sources: a read-only mapping from feature to its examples, strongest first.

    A new format implements `features()` and `load(feature)`; the rest follows. Both are called from several
    threads at once. A feature that is not there raises `KeyError`; a row that cannot be read raises
    `ValueError` for that feature only.
    """

    info: SourceInfo = SourceInfo("unknown")
    path: Any = None  # the file or folder, where it is one
    read_ids: Callable[[Sequence[int]], list[str]] | None = None  # makes ids readable, where their tokenizer is known

    def features(self) -> Sequence[int]:
        """All feature ids, ascending."""
        raise NotImplementedError

    def load(self, feature: int) -> Sequence[Example]:
        """The examples of one feature that `features()` holds, strongest first."""
        raise NotImplementedError

    def stats(self, feature: int) -> FeatureStats | None:
        """What is known of the feature besides its examples; None where that is nothing."""
        return None

    def table(self) -> FeatureTable:
        """What is known of all features, for search and sort; what a source cannot give cheaply is unknown."""
        return FeatureTable(self.features())

    def __getitem__(self, feature: int) -> Sequence[Example]:
        if feature not in self:
            raise KeyError(feature)
        try:
            examples, read = self.load(feature), self.read_ids
        except BROKEN as error:
            where = f" of {self.path}" if self.path else ""
            raise ValueError(
                f"feature {feature}{where} cannot be read: {type(error).__name__}: {error}; is the file whole?"
            ) from error
        if not read:
            return examples
        return [
            e if len(e.tokens) or e.token_ids is None else e._replace(tokens=ReadableTokens(e.token_ids, read))
            for e in examples
        ]

    def __contains__(self, feature: object) -> bool:
        return feature in self._ids

    def __iter__(self) -> Iterator[int]:
        return iter(self.features())

    def __len__(self) -> int:
        return len(self.features())

    @property
    def _ids(self) -> frozenset[int]:
        ids = self.__dict__.get("_ids_cache")
        if ids is None:
            ids = self.__dict__["_ids_cache"] = frozenset(self.features())
        return ids


def check_example(row: Sequence[Any], feature: int, number: int) -> Example:
    """Make an `Example` of a row and check that it holds together.

    Args:
        row: an `Example`, or anything `Example(*row)` takes.
        feature, number: named in the error: the `number`-th example of `feature`.

    Raises:
        ValueError: the row is not an example, its tokens and activations differ in number, or its peak is no number.
    """
    where = f"example {number} of feature {feature}"
    try:
        example = row if isinstance(row, Example) else Example(*row)
        n_activations = len(example.activations)
        n_tokens = len(example.tokens) or len(() if example.token_ids is None else example.token_ids)
    except TypeError as error:
        raise ValueError(
            f"{where} is not (max_activation, tokens, activations) but {str(row)[:80]!r}: {error}"
        ) from error
    if n_tokens != n_activations:
        raise ValueError(
            f"{where} has {n_tokens} tokens and {n_activations} activations; it needs one activation for each token"
        )
    if not hasattr(example.max_activation, "__float__"):
        raise ValueError(f"{where} has max_activation {repr(example.max_activation)[:80]}, which is not a number")
    return example


class UnknownFeatureError(KeyError):
    """A feature that a source does not hold; its message says which there are."""

    def __str__(self) -> str:
        return str(self.args[0])


def check_feature(feature: Any, source: Mapping[int, Any]) -> int:
    """A feature id as an int that `source` holds.

    Raises:
        ValueError: it is not a whole number, or negative.
        UnknownFeatureError: the source has no such feature.
    """
    try:
        if isinstance(feature, bool):
            raise TypeError
        number = index(feature)
    except TypeError:
        raise ValueError(f"feature {repr(feature)[:80]} is not a whole number; give its index, 0 or above") from None
    shown = number if abs(number) < 10**12 else f"{number:.3g}" if abs(number) < 10**300 else "of that size"
    if number < 0:
        raise ValueError(f"feature {shown} is negative; features are counted from 0")
    if number not in source:
        if not source:
            raise UnknownFeatureError(f"feature {shown} has no examples: the source is empty")
        nearest = ", ".join(map(str, sorted(nsmallest(3, source, key=lambda other: abs(other - number)))))
        raise UnknownFeatureError(
            f"feature {shown} has no examples here; of the {len(source)} features that have, the nearest are {nearest}"
        )
    return number

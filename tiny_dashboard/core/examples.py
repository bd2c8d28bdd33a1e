"""The record that everything speaks: `Example`, what is known of a feature, and the source they come from.

A source of examples is a read-only `Mapping[int, Sequence[Example]]`. A plain dict is one already;
`ExampleSource` is the base of the lazy ones, which can also say what they know besides the examples.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, wraps
from heapq import nsmallest
from operator import index
from typing import Any, NamedTuple
from zipfile import BadZipFile

from tiny_dashboard.core.statistics import FIELDS, FeatureStats, FeatureTable


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
        where: they come from, for errors.
    """

    def __init__(self, ids: Sequence[int], read: Callable[[Sequence[int]], list[str]], where: str) -> None:
        self._ids, self._read, self._where = ids, read, where

    @cached_property
    def _texts(self) -> list[str]:
        try:
            return self._read(self._ids)
        except ValueError as error:
            raise ValueError(f"{self._where}: {error}") from error

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
    `ValueError` for that feature only. Whatever a format raises on a broken file arrives as a `ValueError` that names
    `path` and feature.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in {"features", "load", "stats", "table", "__contains__"} & vars(cls).keys():
            setattr(cls, name, _named(vars(cls)[name]))

    info: SourceInfo = SourceInfo("unknown")
    path: Any = None  # the file or folder, where it is one
    is_remote = False  # whether all features would come over the network
    read_ids: Callable[[Sequence[int]], list[str]] | None = None  # makes ids readable, where their tokenizer is known
    renew: Callable[[], None] | None = None  # called before each look: the source may have become another one
    _version = 0

    @property
    def version(self) -> int:
        """A number that is another one once the examples are other ones."""
        if self.renew:
            self.renew()
        return self._version

    def features(self) -> Sequence[int]:
        """All feature ids, ascending."""
        raise NotImplementedError

    def load(self, feature: int) -> Sequence[Example]:
        """The examples of one feature that `features()` holds, strongest first."""
        raise NotImplementedError

    def stats(self, feature: int) -> FeatureStats | None:
        """What is known of the feature besides its examples; None where that is nothing."""
        return None

    def texts(self, most: int) -> Sequence[str] | None:
        """What the examples of each feature say, `most` characters of it at most, strongest first; None where that
        takes a look at each feature."""
        return None

    def table(self) -> FeatureTable:
        """What is known of all features, for search and sort; what a source cannot give cheaply is unknown."""
        return FeatureTable(self.features())

    def __getitem__(self, feature: int) -> Sequence[Example]:
        if feature not in self:
            raise KeyError(feature)
        examples, read = self.load(feature), self.read_ids
        if not read:
            return examples
        where = named_feature(feature, self)
        return [
            e if len(e.tokens) or e.token_ids is None else e._replace(tokens=ReadableTokens(e.token_ids, read, where))
            for e in examples
        ]

    def __contains__(self, feature: object) -> bool:
        if self.renew:
            self.renew()
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


def named_feature(feature: int, source: Any) -> str:
    """A feature and the file that its source is, for errors."""
    path = getattr(source, "path", None)
    return f"feature {feature}" + (f" in {path}" if path else "")


def _named(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a source, whose errors about what the file holds name the file and the feature."""

    @wraps(method)
    def run(self: ExampleSource, *args: Any) -> Any:
        try:
            if self.renew:
                self.renew()
            found = method(self, *args)
            if isinstance(found, FeatureStats):
                check_stats(found)
            return found
        except (ValueError, *BROKEN) as error:
            said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            if args and str(args[0]) not in said:
                said = f"feature {args[0]}: {said}"
            if self.path and self.path.name not in said:
                said = f"cannot read {self.path}: {said}"
            if type(error) is ValueError and said == str(error):
                raise
            raise ValueError(said) from error

    return run


def _first_other(values: Any, attributes: Sequence[str], kind: type = object) -> int | None:
    """The place of the first value that has none of the attributes and is not of the kind; arrays are of one kind."""
    if hasattr(values, "dtype"):
        return None
    wrong = (not isinstance(v, kind) and not any(hasattr(v, a) for a in attributes) for v in values)
    return next((at for at, is_wrong in enumerate(wrong) if is_wrong), None)


def check_example(row: Sequence[Any], feature: int, number: int) -> Example:
    """Make an `Example` of a row and check that it holds together.

    Args:
        row: an `Example`, or anything `Example(*row)` takes.
        feature, number: named in the error: the `number`-th example of `feature`.

    Raises:
        ValueError: the row is not an example, its tokens and activations differ in number, or its peak or one of its
            activations, ids or tokens is of another kind.
    """
    where = f"example {number} of feature {feature}"
    try:
        example = row if isinstance(row, Example) else Example(*row)
        n_activations, ids = len(example.activations), example.token_ids
        n_tokens = len(example.tokens) or len(() if ids is None else ids)
    except TypeError as error:
        raise ValueError(
            f"{where} is not (max_activation, tokens, activations) but {str(row)[:80]!r}: {error}"
        ) from error
    if n_tokens != n_activations:
        raise ValueError(
            f"{where} has {n_tokens} tokens and {n_activations} activations; it needs one activation for each token"
        )
    if ids is not None and len(ids) != n_tokens:
        raise ValueError(f"{where} has {len(ids)} token ids for {n_tokens} tokens; give one for each token")
    for name, value in (
        ("max_activation", example.max_activation),
        ("quantile", 0 if example.quantile is None else example.quantile),
    ):
        if not hasattr(value, "__float__"):
            raise ValueError(f"{where} has {name} {repr(value)[:80]}, which is not a number")
    if isinstance(example.tokens, str):
        raise ValueError(f"{where} has tokens {repr(example.tokens)[:80]}, which is one text; give a list of them")
    tokens = () if isinstance(example.tokens, ReadableTokens) else example.tokens
    are_ids = bool(len(tokens)) and not isinstance(tokens[0], str)  # vocabulary ids may stand in place of pieces
    for name, values, attributes, kind, what in (
        ("activations", example.activations, ("__float__",), float, "a number"),
        ("tokens", tokens, ("__index__",) if are_ids else (), int if are_ids else str, "a text like the others"),
        ("token_ids", () if ids is None else ids, ("__index__",), int, "a whole number"),
    ):
        if (at := _first_other(values, attributes, kind)) is not None:
            raise ValueError(f"{where} has {repr(values[at])[:80]} in {name} at token {at}, which is not {what}")
    return example


def check_stats(stats: FeatureStats) -> None:
    """Checks that what a source says of a feature is of the right kinds.

    Raises:
        ValueError: a field is not; it is named.
    """

    def is_number(value: Any) -> bool:
        return hasattr(value, "__float__")

    def are_pairs(pairs: Any) -> bool:
        return all(isinstance(token, str) and is_number(value) for token, value in pairs)

    for name in FIELDS:
        value = getattr(stats, name)
        try:
            if name in ("top_logits", "bottom_logits"):
                right = all(are_pairs(pairs) for pairs in value)
            elif name == "peak_tokens":
                right = are_pairs(value)
            elif name == "nearest":
                right = all(is_number(other) and is_number(cosine) for other, cosine in value)
            elif name in ("histogram", "histogram_edges", "decoder_norms"):
                right = all(map(is_number, value))
            else:
                right = value is None or (isinstance(value, str) if name == "label" else is_number(value))
        except (TypeError, ValueError):
            right = False
        if not right:
            raise ValueError(f"feature {stats.feature} has {name} {repr(value)[:80]}, which is of another kind")


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
    shown = number if abs(number) < 10**40 else "of that size"
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

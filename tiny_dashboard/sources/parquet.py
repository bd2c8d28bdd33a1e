"""Our own layout: a folder of parquet files that `datasets`, the Hub's viewer and this module read.

    metadata.json            format, version, feature ids as runs, the files with their feature ranges, and what is
                             known of the models (tokenizer, models, dictionary, layer, hook_point, …)
    examples/NNNNN.parquet   one row for each (feature, rank), sorted; row groups hold whole features
    features/NNNNN.parquet   one row for each feature, sorted
    README.md                the card; its front matter declares the two configs

A look at a feature reads one row group: the file is found by its range, the row group by the footer's statistics.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiny_dashboard.core.examples import BROKEN, Example, ExampleSource, SourceInfo, check_example
from tiny_dashboard.core.statistics import FIELDS, TOKENS, FeatureStats, FeatureTable, extra_column

LAYOUT_KEYS = ("format", "version", "n_features", "n_examples", "features", "examples_files", "features_files")
FORMAT, VERSION = "tiny-dashboard examples", 1
THIS = "<this dataset>"  # in the card, until it has a name on the Hub

_LOGITS = pa.list_(pa.list_(pa.struct([("token", pa.string()), ("logit", pa.float32())])))
EXAMPLES_SCHEMA = pa.schema(
    {
        "feature": pa.int32(),
        "rank": pa.int16(),
        "quantile": pa.int8(),
        "max_activation": pa.float32(),
        "snippet": pa.string(),
        "token_ids": pa.list_(pa.int32()),
        "activations": pa.list_(pa.float32()),
        "doc": pa.string(),
        "start": pa.int64(),
    }
)
TOKENS_FIELD = pa.field("tokens", pa.list_(pa.string()))  # only where the ids or their tokenizer are not known
FEATURES_SCHEMA = pa.schema(
    {
        "feature": pa.int32(),
        "n_examples": pa.int32(),
        "n_active": pa.int64(),
        "density": pa.float64(),
        "max_activation": pa.float32(),
        "mean_activation": pa.float32(),
        "histogram": pa.list_(pa.float64()),  # counts; some other formats have only fractions
        "histogram_edges": pa.list_(pa.float32()),
        "label": pa.string(),
        "top_logits": _LOGITS,
        "bottom_logits": _LOGITS,
        "decoder_norms": pa.list_(pa.float32()),
        "relative_norm_difference": pa.float32(),
        "decoder_cosine": pa.float32(),
        "peak_tokens": pa.list_(pa.struct([("token", pa.string()), ("count", pa.int64())])),
        "nearest": pa.list_(pa.struct([("feature", pa.int32()), ("cosine", pa.float32())])),
    }
)


NAME = "parquet dataset"
_UNMARKED = str.maketrans({"«": "", "»": "", "\n": " "})  # a snippet's peak is marked


class _Opened(NamedTuple):
    """A dataset as it was when its metadata were read.

    Attributes:
        meta: what metadata.json says.
        runs: the features, as ranges.
        files: of each kind, in order.
        ids: the features.
        stamp: what is another one once the dataset is written anew.
        footers: of the files that were looked at, with the first feature of each row group.
        group: reads a row group; the last few are kept, for neighbours are looked at next.
    """

    meta: dict[str, Any]
    runs: list[range]
    files: dict[str, list[dict[str, Any]]]
    ids: list[int]
    stamp: Any
    footers: dict[str, tuple[pq.FileMetaData, list[int]]]
    group: Callable[[str, int], pa.Table]


class ParquetExamples(ExampleSource):
    """Examples in our parquet layout, in a local folder.

    Files are opened for each read with a remembered footer, so that threads share nothing that moves. A dataset that is
    written anew is opened anew at the next look, and `version` is another one then.

    Args:
        path: the folder that `write_dataset` wrote.

    Raises:
        FileNotFoundError: the folder, or its metadata.json, is not there.
        ValueError: the metadata is broken, or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path)
        self._lock, self._version = Lock(), 0
        self._opened = self._open_dataset()
        self.info = self._info(self._opened.meta)

    @property
    def version(self) -> int:
        self._now()
        return self._version

    @property
    def metadata(self) -> dict[str, Any]:
        """What metadata.json says."""
        return self._opened.meta

    def features(self) -> Sequence[int]:
        return self._now().ids

    def __contains__(self, feature: object) -> bool:
        return isinstance(feature, (int, np.integer)) and any(feature in run for run in self._now().runs)

    def load(self, feature: int) -> Sequence[Example]:
        table = self._rows("examples", feature)
        if table is None:
            return []
        return [
            check_example(
                Example(
                    max_activation=row["max_activation"],
                    tokens=row.get("tokens") or [],
                    activations=row["activations"],
                    token_ids=row["token_ids"],
                    rank=row["rank"],
                    quantile=row["quantile"],
                    doc=row["doc"],
                    start=row["start"],
                ),
                feature,
                i,
            )
            for i, row in enumerate(table.to_pylist())
        ]

    def texts(self, most: int) -> Sequence[str] | None:
        """The snippets: the text around each example's peak."""
        opened = self._now()
        said = dict[int, str]()
        for name in (file["name"] for file in opened.files["examples"]):
            with self._named(opened, name), self._open(name, self._footer(opened, name)[0]) as content:
                if "snippet" not in content.schema_arrow.names:
                    return None
                for group in range(content.num_row_groups):
                    rows = content.read_row_group(group, ["feature", "snippet"]).to_pydict()
                    for feature, text in zip(rows["feature"], rows["snippet"], strict=True):
                        if len(before := said.get(feature, "")) < most:
                            said[feature] = f"{before}\uffff{text or ''}"
        return [said.get(feature, "").translate(_UNMARKED)[:most] for feature in opened.ids]

    def stats(self, feature: int) -> FeatureStats | None:
        table = self._rows("features", feature)
        return None if table is None else _stats(table.to_pylist()[0])

    def table(self) -> FeatureTable:
        opened = self._now()
        schema = self._features_schema(opened)
        extra = [extra_column(field.name, kind == "text") for field, kind in _extra(schema)]
        return FeatureTable(opened.ids, partial(self._column, opened), extra)

    def _column(self, opened: _Opened, name: str) -> Any:
        """One column of the `features` table for all features; None where the files lack it."""
        parts = []
        for file in opened.files["features"]:
            with (
                self._named(opened, file["name"]),
                self._open(file["name"], self._footer(opened, file["name"])[0]) as content,
            ):
                if name not in content.schema_arrow.names:
                    return None
                parts.append(content.read([name]).column(0))
        if sum(map(len, parts)) != len(opened.ids):
            raise ValueError(f"{self.path / 'features'} has {sum(map(len, parts))} rows of {len(opened.ids)} features")
        if name in TOKENS:
            return [TOKENS[name](value) for part in parts for value in part.to_pylist()]
        if parts and pa.types.is_string(parts[0].type):
            return [value for part in parts for value in part.to_pylist()]
        return np.concatenate([part.to_numpy().astype(np.float64) for part in parts]) if parts else np.zeros(0)

    def _features_schema(self, opened: _Opened) -> pa.Schema:
        for file in opened.files["features"][:1]:
            with self._named(opened, file["name"]):
                return self._footer(opened, file["name"])[0].schema.to_arrow_schema()
        return FEATURES_SCHEMA

    def _rows(self, kind: str, feature: int) -> pa.Table | None:
        """The rows of one feature, from the one row group that holds them."""
        opened = self._now()
        files = opened.files[kind]
        i = bisect_right(files, feature, key=lambda file: file["first"]) - 1
        if i < 0 or feature > files[i]["last"]:
            return None
        name = files[i]["name"]
        with self._named(opened, name, f"feature {feature}: "):
            _, firsts = self._footer(opened, name)
            table = opened.group(name, bisect_right(firsts, feature) - 1)
            found = np.flatnonzero(table.column("feature").to_numpy() == feature)
            return table.slice(found[0], len(found)) if len(found) else None

    def _open_dataset(self) -> _Opened:
        try:
            stamp, meta = self._written(), json.loads(self._read_text("metadata.json"))
            if meta["format"] != FORMAT or meta["version"] > VERSION:
                raise ValueError(f"it is of {meta['format']!r} version {meta['version']}; update tiny-dashboard")
            runs = [range(first, last + 1) for first, last in meta["features"]]
            files = {kind: meta[f"{kind}_files"] for kind in ("examples", "features")}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read {self.path}/metadata.json: {error!r}") from error
        group = lru_cache(maxsize=8)(lambda name, at: self._read_group(name, self._footer(opened, name)[0], at))
        opened = _Opened(meta, runs, files, [feature for run in runs for feature in run], stamp, {}, group)
        return opened

    def _info(self, meta: dict[str, Any]) -> SourceInfo:
        known: dict[str, Any] = {k: meta.get(k) for k in ("dictionary", "layer", "hook_point")}
        known |= {"models": meta.get("models") or (), "tokenizer": self._resolve(meta.get("tokenizer"))}
        extra = {k: v for k, v in meta.items() if k not in known and k not in LAYOUT_KEYS}
        return SourceInfo(NAME, **known, extra=extra)

    def _now(self) -> _Opened:
        """The dataset as it is now, unless it is of another tokenizer, which who opened this one goes on with."""
        opened = self._opened
        with suppress(OSError, ValueError):  # it is gone, or about to be written: what is read of it says so
            if self._written() != opened.stamp:
                with self._lock:
                    again = self._open_dataset()
                    if again.meta.get("tokenizer") == opened.meta.get("tokenizer") and self._opened is opened:
                        self.info = replace(self._info(again.meta), tokenizer=self.info.tokenizer)
                        self._opened, self._version = again, self._version + 1
        return self._opened

    @contextmanager
    def _named(self, opened: _Opened, name: str, what: str = "") -> Iterator[None]:
        """Errors of a damaged file, with its name; and of a dataset that has become another one as it was read."""
        try:
            yield
        except (ConnectionError, PermissionError):
            raise
        except (pa.ArrowException, OSError, *BROKEN) as error:
            self._check_same(opened, what)
            raise ValueError(f"{what}cannot read {self.path / name}: {error}") from error
        self._check_same(opened, what)

    def _check_same(self, opened: _Opened, what: str) -> None:
        try:
            is_same = self._written() == opened.stamp
        except OSError:
            is_same = False
        if not is_same:
            raise ValueError(f"{what}{self.path} was written anew, or removed, since it was opened; open it again")

    def _footer(self, opened: _Opened, name: str) -> tuple[pq.FileMetaData, list[int]]:
        """A file's footer, and the first feature of each of its row groups."""
        if name not in opened.footers:
            footer = self._read_footer(name)
            _check_types(footer.schema.to_arrow_schema())
            groups = [footer.row_group(g).column(0).statistics for g in range(footer.num_row_groups)]
            opened.footers[name] = footer, [group.min for group in groups]
        return opened.footers[name]

    # What a source that lies elsewhere than in a local folder replaces:

    def folder(self) -> Path:
        """The folder with the whole dataset."""
        return self.path

    def _written(self) -> Any:
        """What is another one once the dataset is written anew."""
        stat = (self.path / "metadata.json").stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read_text(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def _open(self, name: str, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
        return pq.ParquetFile(self.path / name, metadata=footer, pre_buffer=False)  # a disk needs no reading ahead

    def _read_footer(self, name: str) -> pq.FileMetaData:
        with self._open(name) as file:
            return file.metadata

    def _read_group(self, name: str, footer: pq.FileMetaData, group: int) -> pa.Table:
        with self._open(name, footer) as file:
            return file.read_row_group(group, use_threads=False)  # it is small: threads cost more than they save

    def _resolve(self, tokenizer: str | None) -> str | None:
        """A tokenizer that lies in or beside the folder is named relative to it, so that both can move together."""
        local = self.path / tokenizer if tokenizer else None
        return str(local.resolve()) if local and local.is_dir() else tokenizer


def recognises(path: Path) -> bool:
    """Whether the folder has our metadata.json."""
    try:
        return bool(json.loads((path / "metadata.json").read_text(encoding="utf-8"))["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open(path: Path, **options: Any) -> ParquetExamples:
    """Open it; see `ParquetExamples`."""
    return ParquetExamples(path, **options)


def _check_types(schema: pa.Schema) -> None:
    """Checks the kinds of the columns that we know; the width of a number is free."""
    known = {one.name: one.type for one in (*EXAMPLES_SCHEMA, TOKENS_FIELD, *FEATURES_SCHEMA)}
    for one in schema:
        if one.name in known and _kind(one.type) not in (_kind(known[one.name]), "null"):
            raise TypeError(f"column {one.name} is {one.type}, not {known[one.name]}")


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"list of {_kind(type_.value_type)}"
    if pa.types.is_struct(type_):
        return f"struct of {[(one.name, _kind(one.type)) for one in type_]}"
    is_number = pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)
    is_text = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return "number" if is_number else "text" if is_text else str(type_)


def _extra(schema: pa.Schema) -> Iterator[tuple[pa.Field, str]]:
    """The columns of the `features` table that are not ours, and their kinds; lists and the like are passed over."""
    for one in schema:
        if one.name not in FEATURES_SCHEMA.names:
            if pa.types.is_string(one.type):
                yield one, "text"
            elif pa.types.is_floating(one.type) or pa.types.is_integer(one.type) or pa.types.is_boolean(one.type):
                yield one, "number"


def _stats(row: dict[str, Any]) -> FeatureStats:
    """A row of the `features` table; what it lacks is unknown, and what we never heard of is kept."""
    known = {name: row[name] for name in FIELDS if row.get(name) not in (None, [])}
    for name in {"top_logits", "bottom_logits"} & known.keys():
        known[name] = [[(pair["token"], pair["logit"]) for pair in model] for model in known[name]]
    if "peak_tokens" in known:
        known["peak_tokens"] = [(pair["token"], pair["count"]) for pair in known["peak_tokens"]]
    if "nearest" in known:
        known["nearest"] = [(pair["feature"], pair["cosine"]) for pair in known["nearest"]]
    if "histogram" in known:
        known["histogram"] = [int(x) if float(x).is_integer() else x for x in known["histogram"]]
    others = {name: value for name, value in row.items() if name not in FEATURES_SCHEMA.names}
    extra = {name: value for name, value in others.items() if isinstance(value, str | int | float)}
    return FeatureStats(**known, extra=extra)

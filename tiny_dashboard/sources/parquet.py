"""Our own layout: a folder of parquet files that `datasets`, the Hub's viewer and this module read.

    metadata.json            format, version, feature ids as runs, the files with their feature ranges, and what is
                             known of the models (tokenizer, models, dictionary, layer, hook_point, …)
    examples/NNNNN.parquet   one row for each (feature, rank), sorted; row groups hold whole features
    features/NNNNN.parquet   one row for each feature, sorted
    README.md                the card; its front matter declares the two configs

A look at a feature reads one row group: the file is found by its range, the row group by the footer's statistics.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiny_dashboard.examples import Example, ExampleSource, FeatureStats, SourceInfo, check_example
from tiny_dashboard.sources.common import TEXT_COLUMNS, StatsTable, as_column
from tiny_dashboard.text import TokenReader

LAYOUT_KEYS = ("format", "version", "n_features", "n_examples", "features", "examples_files", "features_files")
FORMAT, VERSION = "tiny-dashboard examples", 1
FEATURES_PER_GROUP, TOKENS_PER_GROUP, FEATURES_PER_FILE = 16, 65_536, 8_192
STATS_PER_GROUP = 256
THIS = "<this dataset>"  # in the card, until it has a name on the Hub
SNIPPET_TOKENS = 12  # on each side of the peak

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
        "model_shares": pa.list_(pa.float32()),
    }
)


class ParquetExamples(ExampleSource):
    """Examples in our parquet layout, in a local folder.

    Files are opened for each read with a remembered footer, so that threads share nothing that moves.

    Args:
        path: the folder that `write_dataset` wrote.

    Raises:
        FileNotFoundError: the folder, or its metadata.json, is not there.
        ValueError: the metadata is broken, or of a newer version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            meta = json.loads(self._read_text("metadata.json"))
            if meta["format"] != FORMAT or meta["version"] > VERSION:
                raise ValueError(f"it is of {meta['format']!r} version {meta['version']}; update tiny-dashboard")
            self._runs = [range(first, last + 1) for first, last in meta["features"]]
            self._files: dict[str, list[dict[str, Any]]] = {
                kind: meta[f"{kind}_files"] for kind in ("examples", "features")
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"cannot read {self.path}/metadata.json: {error!r}") from error
        self.metadata = meta
        self._ids_list = [feature for run in self._runs for feature in run]
        known = {k: meta.get(k) for k in ("dictionary", "layer", "hook_point")}
        known |= {"models": meta.get("models") or (), "tokenizer": self._resolve(meta.get("tokenizer"))}
        extra = {k: v for k, v in meta.items() if k not in known and k not in LAYOUT_KEYS}
        self.info = SourceInfo("parquet dataset", **known, extra=extra)
        self._footers: dict[str, tuple[pq.FileMetaData, list[int]]] = {}
        # Neighbours are looked at next.
        self._group = lru_cache(maxsize=8)(self._read_group)

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the folder has our metadata.json."""
        try:
            return bool(json.loads((path / "metadata.json").read_text(encoding="utf-8"))["format"] == FORMAT)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def features(self) -> Sequence[int]:
        return self._ids_list

    def __contains__(self, feature: object) -> bool:
        return isinstance(feature, (int, np.integer)) and any(feature in run for run in self._runs)

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

    def stats(self, feature: int) -> FeatureStats | None:
        table = self._rows("features", feature)
        return None if table is None else _stats(table.to_pylist()[0])

    def all_stats(self) -> StatsTable:
        return _LazyStats(self)

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One plain column of the `features` table for all features, as `StatsTable.column` gives it."""
        parts = []
        for file in self._files["features"]:
            with self._named(file["name"]), self._open(file["name"], self._footer(file["name"])[0]) as opened:
                parts.append(opened.read([name]).column(0))
        if name in TEXT_COLUMNS:
            return as_column(name, [v for part in parts for v in part.to_pylist()])
        return np.concatenate([part.to_numpy().astype(np.float64) for part in parts]) if parts else np.zeros(0)

    def _rows(self, kind: str, feature: int) -> pa.Table | None:
        """The rows of one feature, from the one row group that holds them."""
        files = self._files[kind]
        i = bisect_right(files, feature, key=lambda file: file["first"]) - 1
        if i < 0 or feature > files[i]["last"]:
            return None
        name = files[i]["name"]
        with self._named(name, f"feature {feature}: "):
            _, firsts = self._footer(name)
            group = bisect_right(firsts, feature) - 1
            table = self._group(name, group)
            found = np.flatnonzero(table.column("feature").to_numpy() == feature)
            return table.slice(found[0], len(found)) if len(found) else None

    @contextmanager
    def _named(self, name: str, what: str = "") -> Iterator[None]:
        """Errors of a damaged file, with its name."""
        try:
            yield
        except (ConnectionError, PermissionError):
            raise
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{what}cannot read {self.path / name}: {error}") from error

    def _footer(self, name: str) -> tuple[pq.FileMetaData, list[int]]:
        """A file's footer, and the first feature of each of its row groups."""
        if name not in self._footers:
            footer = self._read_footer(name)
            groups = [footer.row_group(g).column(0).statistics for g in range(footer.num_row_groups)]
            self._footers[name] = footer, [group.min for group in groups]
        return self._footers[name]

    # What a source that lies elsewhere than in a local folder replaces:

    def folder(self) -> Path:
        """The folder with the whole dataset."""
        return self.path

    def _read_text(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def _open(self, name: str, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
        return pq.ParquetFile(self.path / name, metadata=footer)

    def _read_footer(self, name: str) -> pq.FileMetaData:
        with self._open(name) as file:
            return file.metadata

    def _read_group(self, name: str, group: int) -> pa.Table:
        with self._open(name, self._footer(name)[0]) as file:
            return file.read_row_group(group, use_threads=False)  # it is small: threads cost more than they save

    def _resolve(self, tokenizer: str | None) -> str | None:
        """A tokenizer that lies in or beside the folder is named relative to it, so that both can move together."""
        local = self.path / tokenizer if tokenizer else None
        return str(local.resolve()) if local and local.is_dir() else tokenizer


class _LazyStats(StatsTable):
    """The `features` table, read column by column or row by row when it is asked for."""

    def __init__(self, source: ParquetExamples) -> None:
        self._source = source

    def column(self, name: str) -> np.ndarray[Any, Any]:
        return self._source.column(name)

    def __getitem__(self, feature: int) -> FeatureStats:
        record = self._source.stats(feature)
        if record is None:
            raise KeyError(feature)
        return record

    def __iter__(self) -> Iterator[int]:
        return iter(self._source.features())

    def __len__(self) -> int:
        return len(self._source.features())


def write_dataset(
    folder: str | Path,
    examples: Iterable[tuple[int, Sequence[Example]]],
    stats: Iterable[FeatureStats] = (),
    metadata: Mapping[str, Any] | None = None,
    *,
    tokenizer: Any = None,
) -> Path:
    """Write a dataset in our layout: the whole folder, or nothing. Both iterables are read once, as streams.

    Args:
        folder: where to write; it must not exist, or be empty.
        examples: `(feature, its examples, strongest first)`, features ascending.
        stats: one record for a feature, features ascending; read after all `examples`.
        metadata: what is known of the models, as JSON values: `tokenizer` (a Hub id, or a folder relative to
            `folder`), `models`, `dictionary`, `layer`, `hook_point`, and anything else.
        tokenizer: makes the readable snippets where examples have only ids; without it these stay empty.

    Returns:
        `folder`.

    Raises:
        FileExistsError: `folder` holds something already.
        ValueError: features do not ascend, an example does not hold together, or lacks both tokens and ids.
    """
    folder = Path(folder).absolute()
    with whole_folder(folder) as partial:
        for kind in ("examples", "features"):
            (partial / kind).mkdir()
        counts: dict[int, int] = {}
        has_tokenizer = bool((metadata or {}).get("tokenizer"))
        batches = _example_tables(examples, counts, tokenizer, has_tokenizer)
        examples_files = _write_files(partial, "examples", batches, FEATURES_PER_FILE)
        runs: list[list[int]] = []
        features_files = _write_files(partial, "features", _feature_tables(stats, counts, runs), sys.maxsize)
        layout = {
            "format": FORMAT,
            "version": VERSION,
            "n_features": sum(last - first + 1 for first, last in runs),
            "n_examples": sum(counts.values()),
            "features": runs,
            "examples_files": examples_files,
            "features_files": features_files,
        }
        known = {key: value for key, value in (metadata or {}).items() if key not in layout}
        (partial / "metadata.json").write_text(json.dumps(known | layout, indent=1), encoding="utf-8")
        (partial / "README.md").write_text(_card(folder.name, known, layout), encoding="utf-8")
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `folder` when all went well and is removed when something did not.

    Raises:
        FileExistsError: `folder` holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already; name another folder, or remove it first")
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_files(root: Path, kind: str, tables: Iterable[pa.Table], features_per_file: int) -> list[dict[str, Any]]:
    """Write each table as one row group, and begin a new file after `features_per_file` features."""
    files: list[dict[str, Any]] = []
    writer: pq.ParquetWriter | None = None
    count, last = 0, -sys.maxsize
    try:
        for table in tables:
            ids = np.unique(table.column("feature").to_numpy())
            if ids[0] <= last:
                raise ValueError(f"features must ascend: {ids[0]} came after {last}")
            if writer is None or count >= features_per_file:
                if writer:
                    writer.close()
                name, count = f"{kind}/{len(files):05d}.parquet", 0
                writer = pq.ParquetWriter(
                    root / name,
                    table.schema,
                    compression="zstd",
                    compression_level=9,
                    write_page_index=True,
                    write_statistics=["feature", "max_activation"],
                )
                files.append({"name": name, "first": int(ids[0])})
            writer.write_table(table, row_group_size=len(table))
            count, last = count + len(ids), int(ids[-1])
            files[-1]["last"] = last
    finally:
        if writer:
            writer.close()
    for file in files:
        path = root / file["name"]
        # With these a remote reader gets a footer by one request.
        file |= {"bytes": path.stat().st_size, "footer": pq.read_metadata(path).serialized_size + 8}
    return files


def _example_tables(
    examples: Iterable[tuple[int, Sequence[Example]]], counts: dict[int, int], tokenizer: Any, has_tokenizer: bool
) -> Iterator[pa.Table]:
    """Tables of whole features, one for each row group; `counts` receives the number of examples by feature."""
    schema: pa.Schema | None = None
    rows: list[tuple[int, int, Example]] = []
    reader = TokenReader(tokenizer)

    def flush() -> pa.Table:
        nonlocal schema
        if schema is None:
            # Token strings cost as much as ids, so they are kept only where ids alone could not be read.
            strings = any(len(e.tokens) and not (e.token_ids is not None and has_tokenizer) for _, _, e in rows)
            schema = EXAMPLES_SCHEMA.append(TOKENS_FIELD) if strings else EXAMPLES_SCHEMA
        table = _examples_table(rows, schema, reader, tokenizer is not None)
        rows.clear()
        return table

    n_features = n_tokens = 0
    last = -sys.maxsize
    for feature, its_examples in examples:
        if feature <= last:
            raise ValueError(f"features must ascend: {feature} came after {last}")
        last, counts[feature] = feature, len(its_examples)
        checked = [(feature, rank, check_example(e, feature, rank)) for rank, e in enumerate(its_examples)]
        rows += checked
        n_features += bool(checked)
        n_tokens += sum(len(e.activations) for _, _, e in checked)
        if n_features >= FEATURES_PER_GROUP or n_tokens >= TOKENS_PER_GROUP:
            yield flush()
            n_features = n_tokens = 0
    if rows:
        yield flush()


def _examples_table(
    rows: list[tuple[int, int, Example]], schema: pa.Schema, reader: TokenReader, ids: bool
) -> pa.Table:
    activations = [np.asarray(e.activations, dtype=np.float32) for _, _, e in rows]
    columns: dict[str, Any] = {
        "feature": [feature for feature, _, _ in rows],
        "rank": [rank for _, rank, _ in rows],
        "quantile": [e.quantile for _, _, e in rows],
        "max_activation": [float(e.max_activation) for _, _, e in rows],
        "snippet": [_snippet(e, a, reader, ids) for (_, _, e), a in zip(rows, activations, strict=True)],
        "token_ids": _lists([e.token_ids for _, _, e in rows], np.int32),
        "activations": _lists([round_to_half(a) for a in activations], np.float32),
        "doc": [None if e.doc is None else str(e.doc) for _, _, e in rows],
        "start": [e.start for _, _, e in rows],
    }
    if "tokens" in schema.names:
        columns["tokens"] = [list(e.tokens) or None for _, _, e in rows]
    elif bare := next((row for row in rows if row[2].token_ids is None), None):
        raise ValueError(f"example {bare[1]} of feature {bare[0]} has no token ids, and those before it have")
    return pa.table([_array(columns[f.name], f.type) for f in schema], schema=schema)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a lone surrogate, which has no UTF-8
        return pa.array(json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")), kind)


def _lists(values: list[Any], dtype: Any) -> pa.Array:
    """A list column from arrays, by way of one flat array: many times faster than from nested lists."""
    flat = [np.asarray([] if v is None else v, dtype=dtype) for v in values]
    offsets = np.cumsum([0, *map(len, flat)], dtype=np.int32)
    missing = pa.array([v is None for v in values])
    return pa.ListArray.from_arrays(offsets, np.concatenate(flat), mask=missing)


def round_to_half(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round float32 to the 11 significant bits of float16, with float32's range: it then packs as well as float16."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + (0xFFF + ((bits >> 13) & 1))) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def _snippet(example: Example, activations: np.ndarray[Any, Any], reader: TokenReader, ids: bool) -> str | None:
    """The text around the peak token, which stands between « »; None where that needs ids and they cannot be read."""
    tokens: Sequence[Any] | None = example.tokens if len(example.tokens) or not ids else example.token_ids
    if tokens is None or not len(tokens):
        return None
    peak = int(np.argmax(np.nan_to_num(activations, nan=-np.inf)))
    first = max(peak - SNIPPET_TOKENS, 0)
    texts = reader.read(list(tokens[first : peak + SNIPPET_TOKENS + 1])).texts
    peak -= first
    return "".join([*texts[:peak], "«", texts[peak], "»", *texts[peak + 1 :]])


def _feature_tables(
    stats: Iterable[FeatureStats], counts: Mapping[int, int], runs: list[list[int]]
) -> Iterator[pa.Table]:
    """The `features` table in row groups; `runs` receives `[first, last]` of each run of feature ids."""
    both = heapq.merge(((s.feature, s) for s in stats), ((f, None) for f in counts), key=itemgetter(0))
    rows = []
    for feature, records in groupby(both, key=itemgetter(0)):
        known = next((s for _, s in records if s is not None), FeatureStats(feature))
        rows.append(_stats_row(known) | {"n_examples": counts.get(feature, 0)})
        if runs and feature == runs[-1][1] + 1:
            runs[-1][1] = feature
        else:
            runs.append([feature, feature])
        if len(rows) == STATS_PER_GROUP:
            yield _features_table(rows)
            rows.clear()
    if rows:
        yield _features_table(rows)


def _features_table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = [_array([row[f.name] for row in rows], f.type) for f in FEATURES_SCHEMA]
    return pa.table(columns, schema=FEATURES_SCHEMA)


def _stats_row(stats: FeatureStats) -> dict[str, Any]:
    row = {f.name: getattr(stats, f.name) for f in fields(stats)}
    for name in ("top_logits", "bottom_logits"):
        row[name] = [[{"token": t, "logit": x} for t, x in model] for model in row[name]]
    row["peak_tokens"] = [{"token": t, "count": n} for t, n in row["peak_tokens"]]
    # An empty list says nothing; a null says so in the viewer too.
    return {k: None if isinstance(v, (list, tuple)) and not v else v for k, v in row.items()}


def _stats(row: dict[str, Any]) -> FeatureStats:
    for name in ("top_logits", "bottom_logits"):
        row[name] = [[(pair["token"], pair["logit"]) for pair in model] for model in row[name] or ()]
    row["peak_tokens"] = [(pair["token"], pair["count"]) for pair in row.get("peak_tokens") or ()]
    row["histogram"] = [int(x) if float(x).is_integer() else x for x in row["histogram"] or ()]
    return FeatureStats(**{f.name: row[f.name] for f in fields(FeatureStats) if row.get(f.name) not in (None, [])})


def _card(name: str, known: Mapping[str, Any], layout: Mapping[str, Any]) -> str:
    return f"""---
configs:
- config_name: examples
  data_files: examples/*.parquet
  default: true
- config_name: features
  data_files: features/*.parquet
tags:
- tiny-dashboard
- interpretability
---
# {name}

Max-activating examples of {layout["n_features"]:,} features ({layout["n_examples"]:,} examples).
Look at them with tiny-dashboard, or read them as tables:

```bash
tiny-dashboard launch --examples {THIS}
```

```python
from datasets import load_dataset

examples = load_dataset("{THIS}", "examples", split="train")
features = load_dataset("{THIS}", "features", split="train")
```

- `examples`: one row for each feature and rank; `activations` are rounded to float16, and NaN at tokens that do not
  count; the snippet's peak is in « ».
- `features`: one row for each feature: how often and how strongly it fires, and what its decoder says.

```json
{json.dumps(known, indent=1, ensure_ascii=False)}
```
"""

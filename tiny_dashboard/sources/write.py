"""Writing our own layout (parquet.py reads it): whole or not at all."""

from __future__ import annotations

import heapq
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tiny_dashboard.core.examples import Example, check_example, stored_tokens
from tiny_dashboard.core.files import whole_folder
from tiny_dashboard.core.statistics import COLUMNS, FIELDS, LABEL_COLUMNS, Column, FeatureStats, with_label
from tiny_dashboard.core.text import TokenReader
from tiny_dashboard.sources.parquet import EXAMPLES_SCHEMA, FEATURES_SCHEMA, FORMAT, THIS, TOKENS_FIELD, VERSION

FEATURES_PER_GROUP, TOKENS_PER_GROUP, FEATURES_PER_FILE = 16, 65_536, 8_192
STATS_PER_GROUP = 256
SNIPPET_TOKENS = 12  # on each side of the peak


def write_dataset(
    folder: str | Path,
    examples: Iterable[tuple[int, Sequence[Example]]],
    stats: Iterable[FeatureStats] = (),
    metadata: Mapping[str, Any] | None = None,
    *,
    tokenizer: Any = None,
    extra: Iterable[Column] = (),
) -> Path:
    """Write a dataset in our layout: the whole folder, or nothing. Both iterables are read once, as streams.

    Args:
        folder: where to write; it must not exist, or be empty.
        examples: `(feature, its examples, strongest first)`, features ascending.
        stats: one record for a feature, features ascending; read after all `examples`.
        metadata: what is known of the models, as JSON values: `tokenizer` (a Hub id, or a folder relative to
            `folder`), `models`, `dictionary`, `layer`, `hook_point`, and anything else.
        extra: columns that are none of ours and that the first records may lack.
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
        features_files = _write_files(partial, "features", _feature_tables(stats, counts, runs, extra), sys.maxsize)
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


def write_labels(folder: Path, files: Sequence[Path], known: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write a dataset's `features` table anew, with labels.

    Args:
        folder: the dataset; the files of the table in it are replaced.
        files: the table as it is, elsewhere.
        known: `{feature: what FeatureStats.with_label takes}`.

    Returns:
        The files, as metadata.json has them.
    """

    def tables() -> Iterator[pa.Table]:
        for file in files:
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    yield _labelled(opened.read_row_group(group), known)

    shutil.rmtree(folder / "features")
    (folder / "features").mkdir()
    return _write_files(folder, "features", tables(), sys.maxsize)


def _labelled(table: pa.Table, known: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    told = [known.get(feature, {}) for feature in table.column("feature").to_pylist()]
    for column in (COLUMNS[0], *LABEL_COLUMNS):
        at = table.schema.get_field_index(column.name)
        before = table.column(at).to_pylist() if at >= 0 else [None] * len(told)
        values = [with_label(column.name, was, one) for was, one in zip(before, told, strict=True)]
        kind = pa.string() if column.kind == "text" else pa.float64()
        new = pa.field(column.name, kind), _array(values, kind)
        table = table.set_column(at, *new) if at >= 0 else table.append_column(*new)
    return table


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
            strings = any(len(stored_tokens(e)) and not (e.token_ids is not None and has_tokenizer) for _, _, e in rows)
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
        columns["tokens"] = [list(stored_tokens(e)) or None for _, _, e in rows]
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
    tokens: Sequence[Any] | None = (
        stored_tokens(example) if len(stored_tokens(example)) or not ids else example.token_ids
    )
    if tokens is None or not len(tokens):
        return None
    peak = int(np.argmax(np.nan_to_num(activations, nan=-np.inf)))
    first = max(peak - SNIPPET_TOKENS, 0)
    texts = reader.read(list(tokens[first : peak + SNIPPET_TOKENS + 1])).texts
    peak -= first
    return "".join([*texts[:peak], "«", texts[peak], "»", *texts[peak + 1 :]])


def _feature_tables(
    stats: Iterable[FeatureStats], counts: Mapping[int, int], runs: list[list[int]], extra: Iterable[Column]
) -> Iterator[pa.Table]:
    """The `features` table in row groups; `runs` receives `[first, last]` of each run of feature ids."""
    schema: pa.Schema | None = None
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
            schema = schema or _schema_of(rows, extra)
            yield _features_table(rows, schema)
            rows.clear()
    if rows:
        yield _features_table(rows, schema or _schema_of(rows, extra))


def _features_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    unknown = sorted({name for row in rows for name in row} - {*schema.names})
    if unknown:
        first = rows[0]["feature"]
        raise ValueError(f"feature {first} or one behind it has {', '.join(unknown)}, which the first features lack")
    return pa.table([_array([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema)


def _schema_of(rows: list[dict[str, Any]], extra: Iterable[Column]) -> pa.Schema:
    """The columns of the `features` table: ours, those that are announced, and those of the first rows."""
    kinds = {column.name: column.kind == "text" for column in extra}
    for row in rows:
        for name, value in row.items():
            if name not in FEATURES_SCHEMA.names:
                kinds[name] = kinds.get(name, False) or isinstance(value, str)
    schema = FEATURES_SCHEMA
    for name, is_text in kinds.items():
        schema = schema.append(pa.field(name, pa.string() if is_text else pa.float64()))
    return schema


def _stats_row(stats: FeatureStats) -> dict[str, Any]:
    row = {name: getattr(stats, name) for name in FIELDS}
    for name in ("top_logits", "bottom_logits"):
        row[name] = [[{"token": t, "logit": x} for t, x in model] for model in row[name]]
    row["peak_tokens"] = [{"token": t, "count": n} for t, n in row["peak_tokens"]]
    row["nearest"] = [{"feature": f, "cosine": c} for f, c in row["nearest"]]
    # An empty list says nothing; a null says so in the viewer too.
    return dict(stats.extra) | {k: None if isinstance(v, (list, tuple)) and not v else v for k, v in row.items()}


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

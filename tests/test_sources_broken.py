"""Files of every format with one thing wrong inside: right data, or an error that names the file."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.test_sources_formats import WORDS, WRITERS, content
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.write import write_dataset

ROWS = {f: [(3.0, ["a", "b"], [0.0, 3.0]), (1.5, ["c"], [1.5])] for f in (0, 4)}
WRONG = [None, "x", "", 3, -1, 2**70, 0.5, math.nan, math.inf, [], {}, [None], ["x"], [[]], {"a": 1}, True]
CELLS = [None, "x", "", 3, -1, 2**40, 0.5, b"\0\1\2", b"", b"\0\0\x80\x7f" * 7]


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*WORDS, "[UNK]"])}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def json_dict(folder):
    (folder / "rows.json").write_text(json.dumps(ROWS))
    return folder / "rows.json", ROWS, {}


def sqlite_json(folder):
    with closing(sqlite3.connect(folder / "x.db")) as db:
        db.execute("CREATE TABLE data_table (feature INTEGER, examples TEXT)")
        db.executemany("INSERT INTO data_table VALUES (?, ?)", [(f, json.dumps(rows)) for f, rows in ROWS.items()])
        db.commit()
    return folder / "x.db", ROWS, {}


def parquet_rows(folder):
    rows = [(f, *row) for f in ROWS for row in ROWS[f]]
    names = ("feature", "max_activation", "tokens", "activations")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows)), strict=True))), folder / "rows.parquet")
    return folder / "rows.parquet", ROWS, {}


def parquet(folder):
    examples = [(f, [Example(*row, token_ids=None) for row in rows]) for f, rows in ROWS.items()]
    stats = [FeatureStats(f, density=0.5, label="one", histogram=[1], histogram_edges=[0.0, 1.0]) for f in ROWS]
    write_dataset(folder / "out", examples, stats, {})
    (folder / "out/explanations.json").write_text(json.dumps({0: "about 0"}))
    return folder / "out", ROWS, {}


ALL = {**WRITERS, **{make.__name__: make for make in (json_dict, sqlite_json, parquet_rows, parquet)}}


def places(value, path=()):
    """All places inside nested containers."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoil(value, chooser):
    """A copy of nested containers with one thing replaced."""
    path = chooser.choice(list(places(value)) or [()])
    wrong = copy.deepcopy(chooser.choice(WRONG))
    return replaced(value, path, wrong)


def replaced(value, path, wrong):
    if not path:
        return wrong
    if isinstance(value, dict):
        return value | {path[0]: replaced(value[path[0]], path[1:], wrong)}
    made = [replaced(one, path[1:], wrong) if n == path[0] else one for n, one in enumerate(value)]
    return tuple(made) if isinstance(value, tuple) else made


def break_json(file, chooser):
    file.write_text(json.dumps(spoil(json.loads(file.read_text()), chooser)))


def break_lines(file, chooser):
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    n = chooser.randrange(len(lines))
    lines[n] = json.dumps(spoil(json.loads(lines[n]), chooser))
    file.write_bytes(gzip.compress("\n".join(lines).encode()))


def break_database(file, chooser):
    with closing(sqlite3.connect(file)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = chooser.choice([name for name in tables if not name.startswith("sqlite_")])
        column = chooser.choice([row[1] for row in db.execute(f"PRAGMA table_info({table})")])
        rows = [row for (row,) in db.execute(f"SELECT rowid FROM {table}")]
        change = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE rowid = ?"
        try:
            db.execute(change, (chooser.choice(CELLS), chooser.choice(rows)))
        except sqlite3.IntegrityError:  # what the database itself refuses
            return
        db.commit()


def break_parquet(file, chooser):
    table = pq.read_table(file)
    name = chooser.choice(table.column_names)
    n = len(table)
    columns = [
        pa.nulls(n, pa.int32()),
        pa.array(["x"] * n),
        pa.array([[None]] * n, pa.list_(pa.float32())),
        pa.array([["x"]] * n),
        pa.array([2**40] * n),
        pa.array([math.nan] * n),
        None,
    ]
    chosen = chooser.choice(columns)
    at = table.column_names.index(name)
    table = table.remove_column(at)
    pq.write_table(table if chosen is None else table.add_column(at, name, chosen), file)


def break_tensors(file, chooser):
    tensors = load_file(file)
    name = chooser.choice(list(tensors))
    changes = [
        lambda t: t[:-1],
        lambda t: t.reshape(-1),
        lambda t: t.astype(np.float64) * math.nan,
        lambda t: t.astype(np.int64) - 5,
        lambda t: t[:, None],
        lambda t: t[:0],
    ]
    change = chooser.choice(changes)
    save_file({key: np.ascontiguousarray(change(t) if key == name else t) for key, t in tensors.items()}, file)


def break_pickle(file, chooser):
    torch.save(spoil(torch.load(file, weights_only=True), chooser), file)


def break_bytes(file, chooser):
    content = bytearray(file.read_bytes())
    for _ in range(chooser.choice((1, 30))):
        content[chooser.randrange(len(content))] = chooser.randrange(256)
    file.write_bytes(content[: chooser.choice((len(content), len(content), chooser.randrange(len(content))))])


BREAKERS = {
    ".json": break_json,
    ".gz": break_lines,
    ".db": break_database,
    ".parquet": break_parquet,
    ".safetensors": break_tensors,
    ".pt": break_pickle,
}


def look(path, tokenizer):
    """All that people look at."""
    source = open_examples(path, tokenizer=tokenizer)
    dashboard = OfflineFeatureCentricDashboard(source, tokenizer=tokenizer)
    features = [feature for feature in source if feature >= 0]
    for feature in features[:1] + features[-1:]:
        for example in source[feature]:
            assert len(example.activations) == (len(example.tokens) or len(example.token_ids))
        if hasattr(source, "stats"):
            source.stats(feature)
        dashboard.generate_html(feature)
    if hasattr(source, "table"):
        table = source.table()
        table.find("word feature<9", sort="label")  # reads all columns
    return content(source)


@pytest.mark.parametrize("name", ALL)
def test_one_thing_wrong_inside(tmp_path, name, tokenizer):
    (tmp_path / "source").mkdir()
    path, *_ = ALL[name](tmp_path / "source")
    files = sorted(f for f in (tmp_path / "source").rglob("*") if f.is_file() and f.suffix in BREAKERS)
    whole = {file: file.read_bytes() for file in files}
    look(path, tokenizer)
    chooser = random.Random(name)
    faults = []
    for turn in range(60):
        file = chooser.choice(files)
        (break_bytes if turn % 4 == 3 else BREAKERS[file.suffix])(file, chooser)
        try:
            look(path, tokenizer)
        except (ValueError, OSError) as error:
            if not any(one.name in str(error) for one in (path, *files)):
                faults.append(f"no file: {error!r}")
        except Exception as error:
            faults.append(f"{file.name}: {error!r}")
        file.write_bytes(whole[file])
    assert not faults, "\n".join(faults)

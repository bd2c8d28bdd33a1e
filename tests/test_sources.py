"""open_examples and its two first formats: a dict as it is, SQLite JSON, and our parquet layout."""

import collections
import json
import pickle
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tokenizers import byte_level
from tiny_dashboard.core.examples import Example, stored_tokens
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.formats.sqlite_json import SqliteJsonExamples
from tiny_dashboard.sources.parquet import ParquetExamples
from tiny_dashboard.sources.write import FEATURES_PER_GROUP, round_to_half, write_dataset

ROWS = {
    3: [(2.5, ["a", "b"], [0.0, 2.5]), (1.5, ["c"], [1.5])],
    -7: [(1.0, ["x"], [1.0])],
    2**40: [],
}


def make_db(path, rows=ROWS, table="data_table", column="examples", key="key", raw=()):
    table, column, key = (name.replace('"', '""') for name in (table, column, key))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f'CREATE TABLE "{table}" ("{key}" INTEGER PRIMARY KEY, "{column}" TEXT)')
        db.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', [(k, json.dumps(v)) for k, v in rows.items()])
        db.executemany(f'INSERT INTO "{table}" VALUES (?, ?)', raw)
        db.commit()
    return path


def plain(examples):
    return [(e.max_activation, list(e.tokens), list(e.activations)) for e in examples]


# --- dict and the front door


def test_a_dict_is_returned_as_it_is():
    rows = {1: [(1.0, ["a"], [1.0])]}
    assert open_examples(rows) is rows


def test_what_is_no_source_is_said(tmp_path):
    with pytest.raises(TypeError, match="not from list"):
        open_examples([1])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.db"):
        open_examples(tmp_path / "nowhere.db")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt is in none of the known formats"):
        open_examples(tmp_path / "notes.txt")
    (tmp_path / "empty.db").touch()
    with pytest.raises(ValueError, match="is empty"):
        open_examples(tmp_path / "empty.db")


# --- SQLite JSON


@pytest.mark.parametrize("names", [{}, {"table": 'my "odd" table', "column": "sélection", "key": "feature?"}])
def test_sqlite_of_any_names_gives_its_rows(tmp_path, names):
    source = open_examples(make_db(tmp_path / "my examples?#%.db", **names))
    assert list(source) == [-7, 3, 2**40]
    assert len(source) == 3
    assert {k: plain(v) for k, v in source.items()} == {k: [(m, t, a) for m, t, a in v] for k, v in ROWS.items()}
    assert 4 not in source
    assert 2**70 not in source
    assert "3" not in source
    with pytest.raises(KeyError):
        source[4]


def test_sqlite_examples_come_strongest_first(tmp_path):
    rows = {0: [(1.0, ["a"], [1.0]), (3.0, ["b"], [3.0]), (3.0, ["c"], [3.0])]}
    assert [e.tokens for e in open_examples(make_db(tmp_path / "x.db", rows))[0]] == [["b"], ["c"], ["a"]]


def test_sqlite_names_that_are_wrong_are_answered_with_those_that_are_there(tmp_path):
    path = make_db(tmp_path / "x.db")
    with pytest.raises(ValueError, match=r"no table 'nope'; its tables: data_table"):
        SqliteJsonExamples(path, table_name="nope")
    with pytest.raises(ValueError, match=r"no column 'nope'; its columns: key INTEGER, examples TEXT"):
        SqliteJsonExamples(path, column_name="nope", table_name="data_table")
    with pytest.raises(ValueError, match="no table"):
        SqliteJsonExamples(path, table_name='data_table" --')


def test_sqlite_with_several_candidates_asks_which(tmp_path):
    path = make_db(tmp_path / "x.db", table="one", column="rows")
    make_db(path, table="two", column="rows")
    with pytest.raises(ValueError, match=r"pass table_name and column_name.*one \(key, rows\), two"):
        open_examples(path)
    assert list(open_examples(path, table_name="two")) == [-7, 3, 2**40]


def test_sqlite_files_that_cannot_be_read_say_why(tmp_path):
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("not a database at all")
    whole = make_db(tmp_path / "whole.db", {i: [(1.0, ["a"] * 500, [1.0] * 500)] for i in range(200)})
    (tmp_path / "cut.db").write_bytes(whole.read_bytes()[:5000])
    for name, kind, message in [
        ("missing.db", FileNotFoundError, "no database"),
        ("empty.db", ValueError, "empty"),
        ("text.db", ValueError, "not a SQLite database"),
        ("", ValueError, "not a file"),
        ("cut.db", ValueError, "is cut short"),
    ]:
        with pytest.raises(kind, match=message):
            list(SqliteJsonExamples(tmp_path / name).values())


def test_sqlite_locked_by_a_writer(tmp_path, monkeypatch):
    path = make_db(tmp_path / "x.db")
    monkeypatch.setattr("tiny_dashboard.sources.database.TIMEOUT", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TimeoutError, match="locked"):
            open_examples(path)


def test_sqlite_is_never_written(tmp_path):
    path = make_db(tmp_path / "x.db")
    before = path.read_bytes()
    source = open_examples(path)
    with pytest.raises(ValueError, match="readonly"):
        source._db.query("DELETE FROM data_table")
    assert path.read_bytes() == before


def test_one_broken_sqlite_row_leaves_the_others_readable(tmp_path):
    raw = [(10, '[[1.0, ["a"'), (11, None), (12, "{}"), (13, '[[1.0, ["a"], []]]'), (14, '[[null, ["a"], [1.0]]]')]
    source = open_examples(make_db(tmp_path / "x.db", raw=raw))
    for feature, message in [
        (10, "broken JSON"),
        (11, "broken JSON"),
        (12, "not a list"),
        (13, "1 tokens and 0 activations"),
        (14, "max_activation None"),
    ]:
        with pytest.raises(ValueError, match=f"feature {feature}.*{message}"):
            source[feature]
    assert plain(source[3]) == ROWS[3]


def test_sqlite_serves_many_threads(tmp_path):
    rows = {i: [(float(i), [str(i)], [float(i)])] for i in range(50)}
    source = open_examples(make_db(tmp_path / "x.db", rows))
    with ThreadPoolExecutor(8) as pool:
        for i, examples in zip(list(range(50)) * 8, pool.map(source.__getitem__, list(range(50)) * 8), strict=True):
            assert plain(examples) == rows[i]
    source.close()


# --- our parquet layout


def make_examples(feature, n=3, seq=6):
    rng = np.random.default_rng(feature)
    made = []
    for _ in range(n):
        activations = round_to_half(np.where(rng.random(seq) < 0.4, rng.gamma(2, 2, seq), 0).astype(np.float32))
        peak = float(activations.max())
        ids = rng.integers(0, 1000, seq).tolist()
        made.append(Example(peak, [], activations.tolist(), ids, None, int(rng.integers(5)), str(feature), 7))
    made = sorted(made, key=lambda e: -e.max_activation)
    return [e._replace(rank=i) for i, e in enumerate(made)]


STATS = FeatureStats(
    feature=5,
    n_active=12,
    density=1e-6,
    max_activation=3.5,
    mean_activation=0.25,
    histogram=[1, 2, 3],
    histogram_edges=[0.0, 1.0, 2.0, 4.0],
    label="a « label », 中",
    top_logits=[[("yes", 1.5), ("ja", 1.25)], [("no", 0.5)]],
    bottom_logits=[[], [("x", -1.5)]],
    decoder_norms=[1.0, 0.5],
    relative_norm_difference=0.25,
    decoder_cosine=0.5,
    nearest=[(9, 0.75), (10, -0.25)],
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parquet") / "examples"
    features = [0, 1, 2, 5, *range(10, 60)]
    stats = [STATS, FeatureStats(9), *(FeatureStats(f, density=f / 100) for f in range(10, 60))]
    metadata = {"tokenizer": "gpt2", "models": ["base", "chat"], "layer": 13, "hook_point": "resid_post", "corpus": "c"}
    write_dataset(folder, ((f, make_examples(f)) for f in features), iter(stats), metadata)
    return folder


def as_stored(examples):
    """Without the tokens that a tokenizer would make of the ids: this one is a name only."""
    return [e._replace(tokens=list(stored_tokens(e))) for e in examples]


def test_parquet_gives_back_what_was_written(dataset):
    source = open_examples(dataset)
    assert list(source) == [0, 1, 2, 5, 9, *range(10, 60)]
    for feature in source:
        assert as_stored(source[feature]) == ([] if feature == 9 else make_examples(feature))
    assert source.stats(5) == STATS
    assert source.stats(9) == FeatureStats(9)
    for absent in (3, -1, 60, 2**40):
        with pytest.raises(KeyError):
            source[absent]
    assert source.stats(3) is None


def test_parquet_knows_its_metadata(dataset):
    info = open_examples(dataset).info
    assert (info.tokenizer, info.models, info.layer, info.hook_point) == ("gpt2", ["base", "chat"], 13, "resid_post")
    assert info.extra == {"corpus": "c"}
    assert open_examples(dataset, tokenizer="mine").info.tokenizer == "mine"


def test_parquet_statistics_come_as_columns(dataset):
    source = open_examples(dataset)
    table = source.table()
    assert table.ids.tolist() == list(source)
    density = table.column("density")
    np.testing.assert_array_equal(density[:5], [np.nan, np.nan, np.nan, 1e-6, np.nan])
    np.testing.assert_array_equal(density[5:], np.arange(10, 60) / 100)
    assert table.raw("label").tolist()[3:5] == ["a « label », 中", ""]
    assert source.stats(5) == STATS


def test_parquet_layout_is_what_the_design_says(dataset):
    file = pq.ParquetFile(dataset / "examples/00000.parquet")
    first = [0, 1, 2, 5, *range(10, 60)]
    for group in range(file.num_row_groups):
        here = first[group * FEATURES_PER_GROUP : (group + 1) * FEATURES_PER_GROUP]
        assert sorted(set(file.read_row_group(group)["feature"].to_pylist())) == here
        assert file.metadata.row_group(group).column(0).compression == "ZSTD"
        assert file.metadata.row_group(group).column(0).has_offset_index
    types = {field.name: str(field.type) for field in file.schema_arrow}
    assert types == {
        "feature": "int32",
        "rank": "int16",
        "quantile": "int8",
        "max_activation": "float",
        "snippet": "string",
        "token_ids": "list<element: int32>",
        "activations": "list<element: float>",
        "doc": "string",
        "start": "int64",
    }


def test_load_dataset_reads_both_configs_typed_and_streams_with_a_filter(dataset, tmp_path):
    import datasets

    examples = datasets.load_dataset(str(dataset), "examples", split="train", cache_dir=str(tmp_path))
    assert examples.features["activations"] == datasets.List(datasets.Value("float32"))
    assert examples[0]["token_ids"] == make_examples(0)[0].token_ids
    features = datasets.load_dataset(str(dataset), "features", split="train", cache_dir=str(tmp_path))
    assert features[3]["label"] == STATS.label
    assert features[3]["top_logits"][0][1] == {"token": "ja", "logit": 1.25}
    stream = datasets.load_dataset(
        str(dataset), "examples", split="train", streaming=True, filters=[("feature", "==", 42)]
    )
    assert [row["max_activation"] for row in stream] == [e.max_activation for e in make_examples(42)]


def test_parquet_splits_files_by_feature_range(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_dashboard.sources.write.FEATURES_PER_FILE", 32)
    write_dataset(tmp_path / "d", ((f, make_examples(f, 1)) for f in range(0, 200, 2)))
    assert len(list((tmp_path / "d/examples").iterdir())) == 4
    source = open_examples(tmp_path / "d")
    assert [list(source[f]) for f in source] == [make_examples(f, 1) for f in range(0, 200, 2)]


def test_parquet_keeps_token_strings_where_ids_could_not_be_read(tmp_path):
    rows = [Example(*row) for row in ROWS[3]]
    write_dataset(tmp_path / "d", [(3, rows)])
    source = open_examples(tmp_path / "d")
    assert plain(source[3]) == ROWS[3]
    snippets = pq.read_table(tmp_path / "d/examples/00000.parquet")["snippet"].to_pylist()
    assert snippets == ["a«b»", "«c»"]


def test_text_that_is_no_utf8_is_written_with_a_question_mark(tmp_path):
    stats = FeatureStats(0, label="a\ud800", top_logits=[[("\udfff", 1.0)]])
    write_dataset(tmp_path / "d", [(0, [Example(1.0, ["\ud800", "\0"], [1.0, 0.0])])], [stats])
    source = open_examples(tmp_path / "d")
    assert source[0][0].tokens == ["?", "\0"]
    assert (source.stats(0).label, source.stats(0).top_logits) == ("a?", [[("?", 1.0)]])


def test_a_tokenizer_beside_the_dataset_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "demo/tokenizer").mkdir(parents=True)
    write_dataset(tmp_path / "demo/examples", [], metadata={"tokenizer": "../tokenizer"})
    monkeypatch.chdir(tmp_path)
    assert open_examples("demo/examples").info.tokenizer == str(tmp_path / "demo/tokenizer")


def test_a_dataset_is_written_whole_or_not_at_all(tmp_path):
    def breaks():
        yield 0, make_examples(0)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="broke"):
        write_dataset(tmp_path / "d", breaks())
    with pytest.raises(ValueError, match="1 came after 2"):
        write_dataset(tmp_path / "d", [(2, []), (1, [])])
    with pytest.raises(ValueError, match="example 0 of feature 0 has 1 tokens and 2 activations"):
        write_dataset(tmp_path / "d", [(0, [(1.0, ["a"], [1.0, 0.0])])])
    assert not list(tmp_path.iterdir())
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(FileExistsError, match="full exists"):
        write_dataset(tmp_path / "full", [])


def test_damaged_parquet_fails_for_its_features_only(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny_dashboard.sources.write.FEATURES_PER_FILE", 16)
    stats = (FeatureStats(f, nearest=[(20, 0.5)]) for f in range(32))
    write_dataset(tmp_path / "d", ((f, make_examples(f)) for f in range(32)), stats)
    file = tmp_path / "d/features/00000.parquet"
    pq.write_table(pq.read_table(file), file, row_group_size=16)
    whole, known = file.read_bytes(), pq.read_metadata(file)
    start, end = known.row_group(1).column(0).data_page_offset, len(whole) - known.serialized_size - 8
    file.write_bytes(whole[:start] + b"\xff" * (end - start) + whole[end:])
    dashboard = OfflineDashboard.open(tmp_path / "d")
    assert dashboard.near(dashboard.stats(3).nearest) == [(20, 0.5, "", ())], "their names alone are not known"
    whole = (tmp_path / "d/examples/00000.parquet").read_bytes()
    for damage in (whole[: len(whole) // 2], whole[:100] + b"\xff" * 400 + whole[500:], b""):
        (tmp_path / "d/examples/00000.parquet").write_bytes(damage)
        source = open_examples(tmp_path / "d")
        with pytest.raises(ValueError, match=r"feature 3: cannot read .*00000\.parquet"):
            source[3]
        assert list(source[20]) == make_examples(20)


def test_a_dataset_that_is_written_anew_while_it_is_open(tmp_path, monkeypatch):
    def write(features, peak, **metadata):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        rows = [(n, [Example(peak, ["a"], [peak])]) for n in features]
        stats = [FeatureStats(n, density=peak / 8) for n in features]
        write_dataset(tmp_path / "out", rows, stats, {"layer": int(peak), **metadata})

    def told():
        return [source[0][0].max_activation, source.info.layer, list(source), *table.column("density")]

    write([0, 5], 1.0)
    dashboard = OfflineDashboard.open(tmp_path / "out")
    source, table = dashboard.max_activation_examples, dashboard.table
    assert told() == [1.0, 1, [0, 5], 0.125, 0.125]
    shutil.rmtree(tmp_path / "out")
    for look in (lambda: source[0], lambda: source[5], lambda: source.table().raw("density")):
        with pytest.raises(ValueError, match="out was written anew, or removed, since it was opened"):
            look()
    write([0, 7, 9], 2.0)
    assert dashboard.features == [0, 7, 9] and 5 not in source and (table := dashboard.table)
    assert told() == [2.0, 2, [0, 7, 9], 0.25, 0.25, 0.25]
    with monkeypatch.context() as slow:  # it is written while somebody reads it
        read = source._read_footer
        slow.setattr(source, "_read_footer", lambda name: (read(name), write([0], 3.0))[0])
        write([0, 1], 4.0)
        with pytest.raises(ValueError, match="open it again"):
            source[0]
    assert source[0][0].max_activation == 3.0
    write([0], 5.0, tokenizer="of/another")
    with pytest.raises(ValueError, match="out was written anew"):
        source[0]


@pytest.mark.parametrize("how", ["in its place", "over it"])
@pytest.mark.parametrize("suffix", ["json", "db", "wal"])
def test_a_file_that_is_written_anew_while_it_is_open(tmp_path, suffix, how):
    path = tmp_path / f"x.{suffix}"

    def write(path, features, peak):
        rows = {n: [(peak, ["a"], [peak])] for n in features}
        if suffix == "json":
            path.write_text(json.dumps(rows))
            return
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA journal_mode={'wal' if suffix == 'wal' else 'delete'}")
            db.execute("DROP TABLE IF EXISTS data_table")
            db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
            db.executemany("INSERT INTO data_table VALUES (?, ?)", [(n, json.dumps(v)) for n, v in rows.items()])
            db.commit()

    write(path, [0, 5], 1.0)
    dashboard = OfflineDashboard.open(path, byte_level())
    source = dashboard.max_activation_examples
    assert (source[5][0].max_activation, list(dashboard.table.ids), source.version) == (1.0, [0, 5], 0)
    if how == "over it":
        write(path, [5, 70, 90], 2.0)
    else:
        write(tmp_path / "new", [5, 70, 90], 2.0)
        (tmp_path / "new").replace(path)
    assert 0 not in source and source[5][0].max_activation == 2.0 and source.version == 1
    assert dashboard.features == list(dashboard.table.ids) == [5, 70, 90] and dashboard.examples(90)
    path.write_bytes(b"[")
    with pytest.raises(ValueError, match=f"x.{suffix}"):
        source[5]
    path.unlink()
    write(path, [1], 3.0)
    assert dashboard.features == [1] and source[1][0].max_activation == 3.0 and source.read_ids


def test_activations_that_are_all_nan_are_no_example(tmp_path):
    rows = {3: [(1.0, ["a", "b"], [float("nan")] * 2)], 4: [(1.0, ["a", "b"], [1.0, float("nan")])]}
    make_db(tmp_path / "x.db", rows)
    (tmp_path / "x.json").write_text(json.dumps(rows))
    for name in ("x.db", "x.json"):
        source = open_examples(tmp_path / name)
        assert source[4][0].activations[0] == 1.0
        with pytest.raises(ValueError, match=f"{name}: example 0 of feature 3 has activations that are all NaN"):
            source[3]


def test_damaged_statistics_are_named(tmp_path):
    write_dataset(tmp_path / "d", [(1, [])], [FeatureStats(1, density=0.5)])
    (tmp_path / "d/features/00000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot read .*features/00000\.parquet"):
        open_examples(tmp_path / "d").table().column("density")
    with pytest.raises(ValueError, match=r"feature 1: cannot read .*features/00000\.parquet"):
        open_examples(tmp_path / "d").stats(1)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "tiny-dashboard examples", "version": 99}'])
def test_broken_or_newer_metadata_is_said(tmp_path, text):
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(ValueError, match=r"metadata\.json"):
        ParquetExamples(tmp_path)


def test_parquet_serves_many_threads(dataset):
    source = open_examples(dataset)
    barrier = threading.Barrier(8)

    def look(feature):
        if feature < 18:
            barrier.wait(10)
        return as_stored(source[feature])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(10, 60))) == [make_examples(f) for f in range(10, 60)]


@given(st.lists(st.floats(width=32), min_size=1))
def test_rounding_agrees_with_float16_where_that_has_the_range(values):
    x = np.array(values, dtype=np.float32)
    with np.errstate(over="ignore"):
        half = x.astype(np.float16).astype(np.float32)
    rounded = round_to_half(x)
    normal = (np.abs(x) >= 2.0**-14) & (np.abs(half) < np.inf)
    np.testing.assert_array_equal(rounded[normal], half[normal])
    np.testing.assert_array_equal(rounded[~np.isfinite(x)], x[~np.isfinite(x)])
    beyond = np.isfinite(x) & ~normal & (np.abs(x) < 1e38)
    np.testing.assert_allclose(rounded[beyond], x[beyond], rtol=2**-11, atol=1e-40)


token = st.text(max_size=5)
example = st.lists(st.tuples(token, st.floats(-1000, 1000, width=16)), min_size=1, max_size=8).map(
    lambda pairs: Example(max(a for _, a in pairs), [t for t, _ in pairs], [a for _, a in pairs])
)


@settings(max_examples=30, deadline=None)
@given(rows=st.dictionaries(st.integers(0, 2**31 - 1), st.lists(example, max_size=4), max_size=20))
def test_any_examples_survive_the_round_trip(tmp_path_factory, rows):
    folder = Path(tmp_path_factory.mktemp("any")) / "d"
    rows = {f: sorted(rows[f], key=lambda e: -e.max_activation) for f in sorted(rows)}
    write_dataset(folder, rows.items())
    assert {f: plain(v) for f, v in open_examples(folder).items()} == {f: plain(v) for f, v in rows.items()}


def test_a_database_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "whole.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
        rows = json.dumps([[1.0, ["a"] * 50, [1.0] * 50]])
        db.executemany("INSERT INTO data_table VALUES (?, ?)", [(i, rows) for i in range(100)])
        db.commit()
    whole = path.read_bytes()
    for missing in (1, 4096, len(whole) // 2):
        cut = tmp_path / f"{missing}.db"
        cut.write_bytes(whole[:-missing])
        with pytest.raises(ValueError, match=rf"{missing}\.db is cut short: {missing:,} bytes of it are missing"):
            open_examples(cut)
    assert len(open_examples(path)) == 100


def test_a_database_in_wal_mode_is_read_without_a_file_beside_it(tmp_path):
    path = tmp_path / "wal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
        db.execute("INSERT INTO data_table VALUES (1, ?)", [json.dumps([[1.0, ["a"], [1.0]]])])
        db.commit()
    before = sorted(path.parent.iterdir())
    path.chmod(0o444)
    source = open_examples(path)
    assert source[1][0].max_activation == 1.0
    assert sorted(path.parent.iterdir()) == before == [path]


def test_a_database_that_was_copied_without_its_wal(tmp_path):
    with closing(sqlite3.connect(tmp_path / "wal.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
        (tmp_path / "copy.db").write_bytes((tmp_path / "wal.db").read_bytes())
    with pytest.raises(ValueError, match="copy.db holds no table: it was copied without the file copy.db-wal"):
        open_examples(tmp_path / "copy.db")


TABLES = {  # as pandas and sqlite-utils write them
    "pandas": ("'index' BIGINT, feature BIGINT, examples TEXT", [(0, 7), (1, 3)], None),
    "set_index": ("feature INTEGER, examples TEXT", [(7,), (3,)], None),
    "twice": ("feature INTEGER, examples TEXT", [(7,), (7,)], "feature holds a number twice"),
    "text": ("feature INTEGER, examples TEXT", [(7,), ("x",)], "feature holds 'x'"),
    "several": ("a INTEGER, b INTEGER, examples TEXT", [(0, 7), (1, 3)], "a and b both could"),
    "none": ("feature TEXT, examples TEXT", [("7",), ("3",)], r"\(it has none\); its columns: feature TEXT"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_without_a_primary_key(tmp_path, name):
    columns, keys, message = TABLES[name]
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        db.execute(f"CREATE TABLE data_table ({columns})")
        for key in keys:
            row = (*key, json.dumps([[float(len(str(key))), ["a"], [1.0]]]))
            db.execute(f"INSERT INTO data_table VALUES ({', '.join('?' * len(row))})", row)
        db.commit()
    if message:
        with pytest.raises(ValueError, match=f"no INTEGER PRIMARY KEY.*{message}"):
            open_examples(tmp_path / "x.db")
        return
    source = open_examples(tmp_path / "x.db")
    assert list(source) == [3, 7] and 0 not in source and 7 in source
    assert source[7][0].max_activation == len(str(keys[0]))


def test_the_readmes_dict_saved_in_other_ways(tmp_path):
    rows = {7: [(3.2, ["The", " cat"], [0.0, 3.2]), (1.0, ["a"], [1.0])], 1: [(2.0, ["b"], [2.0])]}
    default = collections.defaultdict(list, rows)
    for name, content in {"dict": rows, "default": default}.items():
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content))
        torch.save(content, tmp_path / f"{name}.pt")
    torch.save(rows, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    flat = [(f, *row) for f in rows for row in rows[f]]
    names = ("feature", "max_activation", "tokens", "activations")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*flat)), strict=True))), tmp_path / "rows.parquet")
    for bom in ("utf-8-sig", "utf-16"):
        (tmp_path / f"{bom}.json").write_text(json.dumps(rows), encoding=bom)
    for path in sorted(tmp_path.iterdir()):
        source = open_examples(path)
        found = {f: [(e.max_activation, list(e.tokens), list(e.activations)) for e in source[f]] for f in source}
        assert found == dict(sorted(rows.items())), path.name


class Danger:
    def __reduce__(self):
        return (open, ("/this/must/not/run", "w"))


def test_a_pickle_runs_nothing(tmp_path):
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({1: Danger()}))
    with pytest.raises(ValueError, match=r"bad.pkl: .*it holds _?io.open, which is no plain value.*torch\.save"):
        list(open_examples(tmp_path / "bad.pkl"))


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_the_readmes_dict_in_a_json_file(tmp_path, suffix):
    import gzip

    rows = {7: [(3.2, ["The", " cat"], [0.0, 3.2])], 1: []}
    content = json.dumps(rows).encode()
    (tmp_path / f"x.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    for path in (tmp_path / f"x.{suffix}", tmp_path):
        source = open_examples(path)
        assert list(source) == [1, 7] and list(source[1]) == []
        assert list(source[7][0].tokens) == ["The", " cat"] and source.info.format == "JSON dict"

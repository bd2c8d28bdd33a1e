"""Each format of examples, from a fixture written here after its description: opened, shown, converted."""

import gzip
import json
import math
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tests.helpers.quantile_database import WORDS, blob, made, quantile_db
from tests.helpers.tokenizers import byte_level
from tiny_dashboard.core.examples import stored_tokens
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.core.text import token_texts
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.sources import known_formats, open_examples
from tiny_dashboard.sources.convert import convert
from tiny_dashboard.sources.side_files import CONVENTION

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*WORDS, "[UNK]"])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")))


def words(ids):
    return [WORDS[i] for i in ids]


# --- one writer for each format. Each returns the source, what it must hold, and what it must know


def diffing_store(folder, storage="sparse", uid="sequence_uid"):
    truth = {}
    with closing(sqlite3.connect(folder / "store.db")) as db:
        positions = "positions BLOB, " if storage == "sparse" else ""
        db.executescript(f"""
            CREATE TABLE config (key TEXT PRIMARY KEY, value TEXT);
            CREATE TABLE sequences ({uid} INTEGER PRIMARY KEY, token_ids BLOB NOT NULL, text TEXT,
                sequence_length INTEGER NOT NULL, dataset_id INTEGER DEFAULT NULL, dataset_name TEXT DEFAULT NULL);
            CREATE TABLE examples (example_id INTEGER PRIMARY KEY AUTOINCREMENT, {uid} INTEGER NOT NULL,
                score REAL NOT NULL, latent_idx INTEGER, quantile_idx INTEGER, metadata TEXT);
            CREATE TABLE activation_details (example_id INTEGER PRIMARY KEY, {positions}activation_values BLOB);
        """)
        db.execute("INSERT INTO config VALUES ('storage_format', ?)", (storage,))
        for feature in (0, 5):
            truth[feature] = []
            for number in range(3):
                ids, activations = made(feature, number)
                sequence = feature * 10 + number
                row = (sequence, blob(ids, "<i4"), "text", len(ids), "corpus")
                db.execute(
                    f"INSERT INTO sequences ({uid}, token_ids, text, sequence_length, dataset_name) "
                    "VALUES (?, ?, ?, ?, ?)",
                    row,
                )
                example = db.execute(
                    f"INSERT INTO examples ({uid}, score, latent_idx, quantile_idx) VALUES (?, ?, ?, ?)",
                    (sequence, max(activations), feature, 2 - number),
                ).lastrowid
                if storage == "sparse":
                    places = [i for i, a in enumerate(activations) if a]
                    details = (example, blob(places, "<i4"), blob([activations[i] for i in places], "<f4"))
                else:
                    details = (example, blob(activations, "<f4"))
                db.execute(f"INSERT INTO activation_details VALUES ({', '.join('?' * len(details))})", details)
                truth[feature].append((ids, activations, 2 - number))
        db.commit()
    return folder / "store.db", truth, {}


def pickled(folder):
    truth = {f: [(words(made(f, n)[0]), made(f, n)[1], None) for n in range(3)] for f in (0, 12)}
    torch.save({f: [(max(a), t, a) for t, a, _ in rows] for f, rows in truth.items()}, folder / "chat_examples.pt")
    return folder / "chat_examples.pt", truth, {}


def saedashboard(folder):
    truth, stats = {}, {}
    for batch in (0, 1, 10):
        features = []
        for feature in (batch * 2, batch * 2 + 1):
            groups = [(-1, -1), (20.0, 40.0), (0.0, 20.0)]
            rows, truth[feature] = [], []
            for number, (low, high) in enumerate(groups):
                ids, activations = made(feature, number)
                truth[feature].append((words(ids), activations, 2 - number))
                rows.append({"tokens": words(ids), "values": activations, "bin_min": low, "bin_max": high})
            features.append(
                {
                    "feature_index": feature,
                    "pos_str": ["yes", "ja"],
                    "pos_values": [1.5, 1.0],
                    "neg_str": ["no"],
                    "neg_values": [-2.0],
                    "frac_nonzero": 0.25,
                    "freq_hist_data_bar_heights": [3.0, 1.0],
                    "freq_hist_data_bar_values": [1.0, 3.0],
                    "activations": rows[::-1],
                }
            )
            stats[feature] = FeatureStats(
                feature,
                density=0.25,
                histogram=[3, 1],
                histogram_edges=[0.0, 2.0, 4.0],
                top_logits=[[("yes", 1.5), ("ja", 1.0)]],
                bottom_logits=[[("no", -2.0)]],
            )
        content = {"model_id": "gpt2-small", "layer": 6, "sae_set": "res-jb", "sae_id_suffix": None}
        (folder / f"batch-{batch}.json").write_text(json.dumps({**content, "features": features}))
    return folder, truth, {"stats": stats, "models": ["gpt2-small"], "layer": 6, "dictionary": "res-jb"}


def neuronpedia(folder):
    truth, stats = {}, {}
    for name in ("activations", "features", "explanations"):
        (folder / name).mkdir()
    for batch in (0, 1):
        lines = {"activations": [], "features": [], "explanations": []}
        for feature in (batch * 2, batch * 2 + 1):
            truth[feature] = []
            for number, bounds in enumerate([(-1, -1), (0.0, 20.0)]):
                ids, activations = made(feature, number)
                truth[feature].append((words(ids), activations, 1 - number))
                row = {"tokens": words(ids), "values": activations, "index": str(feature), "maxValue": max(activations)}
                row |= {"modelId": "gemma-2-2b", "layer": "12-gemmascope-res-16k", "binMin": bounds[0]}
                lines["activations"].append(row | {"binMax": bounds[1], "dataSource": ""})
            lines["features"].append(
                {"index": str(feature), "frac_nonzero": 0.5, "pos_str": ["p"], "pos_values": [1.0]}
            )
            lines["explanations"].append({"index": str(feature), "description": f"about {feature}"})
            stats[feature] = FeatureStats(feature, density=0.5, top_logits=[[("p", 1.0)]], label=f"about {feature}")
        for name, rows in lines.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / name / f"batch-{batch}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder, truth, {"stats": stats, "models": ["gemma-2-2b"], "layer": 12, "dictionary": "gemmascope-res-16k"}


def delphi_cache(folder):
    truth, hook = {}, folder / "layers.5.mlp"
    hook.mkdir()
    tokens = np.array([made(0, row)[0] for row in range(6)])
    rng = np.random.default_rng(0)
    for start, end in ((0, 9), (10, 19)):
        places = {}
        for feature in (start, start + 4):
            rows = []
            for row in rng.permutation(6)[:3].tolist():
                activations = np.zeros(7)
                for position in rng.permutation(7)[:3].tolist():
                    activations[position] = rng.integers(1, 2000) / 64
                    places[row, position, feature - start] = activations[position]
                rows.append((tokens[row].tolist(), activations.tolist(), None))
            truth[feature] = sorted(rows, key=lambda r: -max(r[1]))
        order = rng.permutation(len(places))
        locations = np.array(list(places), dtype=np.uint16)[order]
        values = np.array(list(places.values()), dtype=np.float16)[order]
        content = {"locations": locations, "activations": values, "tokens": tokens.astype(np.uint32)}
        save_file(content, hook / f"{start}_{end}.safetensors")
    (hook / "config.json").write_text(json.dumps({"model_name": "some/model", "ctx_len": 7}))
    return folder, truth, {"tokenizer": "some/model", "models": ["some/model"], "layer": 5}


def openai_viewer(folder):
    truth, stats = {}, {}
    (folder / "atoms").mkdir()
    for feature in (0, 2, 11):
        truth[feature], groups = [], {"top": [], "random": []}
        for number in range(4):
            ids, activations = made(feature, number)
            name = "top" if number < 2 else "random"
            truth[feature].append((words(ids), activations, int(name == "top")))
            row = {"doc_id": 17, "idx": 1, "act": activations[1], "acts": activations, "tokens": words(ids)}
            groups[name].append(row | {"token_ints": ids})
        atom = {"density": 0.125, "mean_act": 0.5, "mean_act_squared": 1.0, "hist": {"0": 5, "2.0": 3, "1.0": 4}}
        (folder / f"atoms/{feature}.json").write_text(json.dumps({**atom, **groups}))
        stats[feature] = FeatureStats(
            feature, density=0.125, mean_activation=4.0, histogram=[5, 4, 3], histogram_edges=[0.0, 1.0, 2.0, 3.0]
        )
    return folder, truth, {"stats": stats}


def circuit_tracer(folder):
    truth, stats = {}, {}
    for feature in (0, 2, 11):
        quantiles = []
        truth[feature] = []
        for number, name in enumerate(["Top activations", "Subsample interval 0", "Bottom activations"]):
            ids, activations = made(feature, number)
            truth[feature].append((words(ids), activations, 2 - number))
            row = {"tokens": words(ids), "tokens_acts_list": activations, "train_token_ind": 3}
            quantiles.append({"quantile_name": name, "examples": [row | {"is_repeated_datapoint": False}]})
        record = {"transcoder_id": "transcoder-1", "index": feature, "examples_quantiles": quantiles}
        record |= {"top_logits": [["yes", 0.5]], "bottom_logits": [], "act_min": 0.0, "act_max": 40.0}
        record |= {"quantile_values": [], "histogram": [0.75, 0.25], "activation_frequency": 0.125}
        (folder / f"{feature}.json").write_text(json.dumps(record))
        stats[feature] = FeatureStats(
            feature,
            density=0.125,
            max_activation=40.0,
            histogram=[0.75, 0.25],
            histogram_edges=[0.0, 20.0, 40.0],
            top_logits=[[("yes", 0.5)]],
        )
    return folder, truth, {"stats": stats, "dictionary": "transcoder-1"}


WRITERS = {
    "quantile_db": quantile_db,
    "diffing_store": diffing_store,
    "diffing_store, dense": lambda folder: diffing_store(folder, "dense"),
    "diffing_store, older": lambda folder: diffing_store(folder, uid="sequence_idx"),
    "pickled": pickled,
    "saedashboard": saedashboard,
    "neuronpedia": neuronpedia,
    "delphi_cache": delphi_cache,
    "openai_viewer": openai_viewer,
    "circuit_tracer": circuit_tracer,
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return (request.param.split(",")[0], *WRITERS[request.param](folder))


def content(source):
    return {
        f: [(list(stored_tokens(e)) or list(e.token_ids), list(e.activations), e.quantile) for e in examples]
        for f, examples in source.items()
    }


def assert_knows(source, known):
    for name in ("models", "layer", "dictionary", "tokenizer"):
        assert (getattr(source.info, name) or None) == known.get(name)
    for feature, stats in known.get("stats", {}).items():
        assert source.stats(feature) == stats


def test_the_writers_cover_every_format():
    here = {name.split(",")[0] for name in WRITERS} | {"parquet", "sqlite_json", "json_dict", "parquet_rows"}
    assert here == {module.__name__.rpartition(".")[2] for module in known_formats().values()}


def test_a_format_is_told_by_its_content_and_read_value_by_value(written):
    name, path, truth, known = written
    source = open_examples(path)
    assert list(source) == sorted(truth)
    assert content(source) == truth
    assert [e.max_activation for e in source[list(truth)[0]]] == [max(a) for _, a, _ in next(iter(truth.values()))]
    assert_knows(source, known)
    with pytest.raises(KeyError):
        source[999_999]


def test_a_format_is_shown(written, tokenizer):
    _, path, truth, _ = written
    feature, rows = next(iter(truth.items()))
    html = OfflineFeatureCentricDashboard.open(path, tokenizer).generate_html(feature)
    assert f"{max(rows[0][1]):.3g}"[:4] in html
    assert "<b>" not in html.replace("<b></b>", "") or "&lt;b>" in html or "&lt;b&gt;" in html


def test_a_format_converts_to_ours_and_loses_nothing(written, tokenizer, tmp_path):
    _, path, truth, known = written
    convert(path, tmp_path / "ours", tokenizer=tokenizer, progress=False)
    source = open_examples(tmp_path / "ours", tokenizer=known.get("tokenizer"))
    assert source.info.format == "parquet dataset"
    assert content(source) == truth
    assert_knows(source, known)
    assert source.info.extra["converted_from"] == open_examples(path).info.format


def test_a_format_serves_many_threads(written):
    from concurrent.futures import ThreadPoolExecutor

    _, path, truth, _ = written
    source = open_examples(path)
    with ThreadPoolExecutor(8) as pool:
        for feature, examples in zip(list(truth) * 10, pool.map(source.__getitem__, list(truth) * 10), strict=True):
            assert [list(e.activations) for e in examples] == [a for _, a, _ in truth[feature]]


def test_all_statistics_agree_with_those_of_each_feature(written):
    _, path, truth, known = written
    table = open_examples(path).table()
    assert table.ids.tolist() == sorted(truth)
    if np.isfinite(table.column("density")).any():  # it is cheap to know
        assert table.column("density").tolist() == [known["stats"][f].density for f in table.ids.tolist()]
        assert table.column("label").tolist() == [known["stats"][f].name for f in table.ids.tolist()]


# --- convert


def test_convert_of_ours_is_the_identity(tmp_path, tokenizer):
    path, truth, _ = pickled(tmp_path)
    convert(path, tmp_path / "a", progress=False)
    convert(tmp_path / "a", tmp_path / "b", progress=False)
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert len(files) == 4
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_convert_keeps_a_relative_tokenizer_right(tmp_path):
    from tiny_dashboard.sources.write import write_dataset

    (tmp_path / "tokenizer").mkdir()
    write_dataset(tmp_path / "a", [], metadata={"tokenizer": "../tokenizer"})
    convert(tmp_path / "a", tmp_path / "deep/er/b", progress=False)
    assert open_examples(tmp_path / "deep/er/b").info.tokenizer == str(tmp_path / "tokenizer")


def test_convert_asks_for_the_tokenizer_of_bare_ids_by_name(tmp_path):
    path, _, _ = quantile_db(tmp_path)
    with pytest.raises(ValueError, match=r"pass tokenizer=.*--tokenizer"):
        convert(path, tmp_path / "ours", progress=False)
    assert not (tmp_path / "ours").exists()


def test_convert_writes_nothing_when_a_feature_breaks(tmp_path):
    path, truth, _ = circuit_tracer(tmp_path)
    (tmp_path / "11.json").write_text("{")
    with pytest.raises(ValueError, match=r"11\.json"):
        convert(path, tmp_path / "ours", progress=False)
    assert not (tmp_path / "ours").exists()
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


def test_convert_of_a_dict(tmp_path):
    convert({2: [(1.0, ["a", "b"], [1.0, 0.0])]}, tmp_path / "ours", progress=False)
    assert content(open_examples(tmp_path / "ours")) == {2: [(["a", "b"], [1.0, 0.0], None)]}


KILLED = """
import sys, time
from tiny_dashboard.sources.convert import convert
class Slow(dict):
    def __getitem__(self, feature):
        if feature == 90:
            print("halfway", flush=True)
            time.sleep(60)
        return [(1.0, ["a"], [1.0])]
convert(Slow.fromkeys(range(100)), sys.argv[1], progress=False)
"""


def test_convert_survives_a_kill(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "ours")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"halfway\n"
    process.kill()
    process.communicate()
    assert not (tmp_path / "ours").exists()
    convert({1: [(1.0, ["a"], [1.0])]}, tmp_path / "ours", progress=False)
    assert list(open_examples(tmp_path / "ours")) == [1]


def test_convert_streams_and_shows_progress(tmp_path, capsys):
    class Many(dict):
        def __getitem__(self, feature):
            return [(1.0, [f"{feature}"] * 128, [1.0] * 128) for _ in range(4)]

    peaks = []
    for n in (64, 1024):
        tracemalloc.start()
        convert(Many.fromkeys(range(n)), tmp_path / str(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 1_000_000
    assert "examples: 100%" in capsys.readouterr().err


# --- files beside the examples


def test_feature_df_and_explanations_beside_the_examples_are_read(tmp_path):
    path, truth, _ = quantile_db(tmp_path)
    (tmp_path / "feature_df.csv").write_text(
        ",tag,dec_norm_diff,lmsys_max_act,lmsys_freq,other\n"
        "3,Chat only,0.1,12.5,0.001,x\n7,,0.75,,nan,y\n8,none,1,1,1,z\n"
    )
    (tmp_path / "explanations.json").write_text('{"7": "cats"}')
    for source in (open_examples(path), open_examples(tmp_path)):
        assert source.stats(3) == FeatureStats(
            3, label="Chat only", relative_norm_difference=0.9, max_activation=12.5, density=0.001, extra={"other": "x"}
        )
        assert source.stats(7) == FeatureStats(7, label="cats", relative_norm_difference=0.25, extra={"other": "y"})
        assert source.stats(1000) is None
        assert source.info.extra["relative_norm_difference"] == CONVENTION
        table = source.table()
        assert table.column("label").tolist() == ["Chat only", "cats", ""]
        np.testing.assert_array_equal(table.column("density"), [0.001, np.nan, np.nan])
        assert table.ids.tolist() == [3, 7, 1000]
        assert content(source) == truth


def test_explanations_beside_our_layout_go_before_its_labels(tmp_path):
    from tiny_dashboard.sources.write import write_dataset

    stats = [FeatureStats(f, label=f"old {f}", density=f / 10) for f in range(3)]
    write_dataset(tmp_path / "d", [(f, [(1.0, ["a"], [1.0])]) for f in range(3)], stats)
    (tmp_path / "d/explanations.json").write_text('{"1": "new"}')
    source = open_examples(tmp_path / "d")
    assert source.table().column("label").tolist() == ["old 0", "new", "old 2"]
    np.testing.assert_allclose(source.table().column("density"), [0, 0.1, 0.2])
    assert source.stats(1) == FeatureStats(1, label="new", density=0.1)


def test_explanations_of_delphi_are_read_for_their_hookpoint(tmp_path):
    path, _, _ = delphi_cache(tmp_path)
    (tmp_path / "explanations").mkdir()
    (tmp_path / "explanations/layers.5.mlp_latent4.txt").write_text('"mats"')
    (tmp_path / "explanations/layers.6.mlp_latent0.txt").write_text('"not ours"')
    assert open_examples(path).stats(4).label == "mats"
    assert open_examples(path).stats(0).label is None


def test_a_broken_side_file_is_named(tmp_path):
    path, _, _ = pickled(tmp_path)
    for name, text in [("explanations.json", "{"), ("feature_df.csv", ",tag\nx,y\n")]:
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            open_examples(path)
        (tmp_path / name).unlink()


# --- what cannot be read


class Danger:
    def __reduce__(self):
        return (open, ("/this/must/not/run", "w"))


def test_a_pickle_that_needs_more_than_weights_is_refused_with_the_way_out(tmp_path):
    torch.save({1: Danger()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"weights_only=True.*torch\.save"):
        list(open_examples(tmp_path / "bad.pt"))
    torch.save({"encoder.weight": torch.ones(2)}, tmp_path / "sae.pt")
    with pytest.raises(ValueError, match=r"keys like 'encoder\.weight'"):
        list(open_examples(tmp_path / "sae.pt"))


def test_truncated_and_corrupted_files_are_named_and_never_garbage(written):
    _, path, truth, _ = written
    files = sorted(
        f for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file() and f.name != "config.json"
    )
    for file in files:
        whole = file.read_bytes()
        noise = np.random.default_rng(0).integers(0, 256, 64, dtype=np.uint8).tobytes()
        for damaged in (
            b"",
            whole[: len(whole) // 2],
            whole[: len(whole) // 3] + noise + whole[len(whole) // 3 + 64 :],
        ):
            file.write_bytes(damaged)
            try:
                source = open_examples(path)
                features = list(source)
            except ValueError as error:
                assert str(path.name) in str(error) or file.name in str(error)  # it says which
                continue
            for feature in features:
                try:
                    examples = source[feature]
                except ValueError as error:
                    assert str(feature) in str(error) or file.name in str(error)
                else:
                    assert all(len(e.activations) == len(e.tokens or e.token_ids) for e in examples)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", ["big.db", "big.json", "big.pt", "batch-0.json", "batch-0.jsonl"])
def test_telling_a_format_does_not_read_a_large_file_whole(tmp_path, name):
    path = tmp_path / name
    if name == "big.db":
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE data_table (key INTEGER PRIMARY KEY, examples TEXT)")
    else:
        path.write_text('{"top')
    with path.open("ab") as file:
        file.truncate(1_000_000_000)  # sparse
    tracemalloc.start()
    try:
        open_examples(path)
    except ValueError as error:
        assert "none of the known formats" in str(error)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_one_broken_file_of_many_leaves_the_other_features_readable(tmp_path):
    path, truth, _ = circuit_tracer(tmp_path)
    (tmp_path / "2.json").write_text('{"examples_quantiles": [{"examples": 3}]}')
    source = open_examples(path)
    with pytest.raises(ValueError, match=r"2\.json"):
        source[2]
    assert [a for _, a, _ in truth[11]] == [e.activations for e in source[11]]


def test_details_that_do_not_fit_their_sequence_fail_for_that_feature(tmp_path):
    path, truth, _ = quantile_db(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE activation_details SET positions = ? WHERE feature_idx = 3", (blob([70], "<i4"),))
        db.execute("UPDATE sequences SET token_ids = NULL WHERE sequence_idx = 70")
        db.execute("DELETE FROM activation_details WHERE feature_idx = 1000 AND sequence_idx = 10000")
        db.commit()
    source = open_examples(path)
    with pytest.raises(ValueError, match=r"of feature 3 in .* has \d+ activations at 1 positions of 7 tokens"):
        source[3]
    with pytest.raises(ValueError, match="sequence 70 of feature 7"):
        source[7]
    unknown = next(e for e in source[1000] if e.doc == 10000)
    assert all(map(math.isnan, unknown.activations))


def test_mixed_folders_say_which_readings_are_possible(tmp_path):
    saedashboard(tmp_path)
    neuronpedia(tmp_path)
    with pytest.raises(ValueError, match="several ways .Neuronpedia export, SAEDashboard"):
        open_examples(tmp_path)
    assert open_examples(tmp_path / "batch-0.json").info.format == "SAEDashboard batches"
    assert open_examples(tmp_path / "activations").info.format == "Neuronpedia export"


def test_a_folder_of_several_files_of_examples_asks_which(tmp_path):
    for name in ("base_examples.pt", "chat_examples.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(ValueError, match=r"open one: base_examples\.pt, chat_examples\.pt"):
        open_examples(tmp_path)


def test_several_hookpoints_ask_which(tmp_path):
    delphi_cache(tmp_path)
    (tmp_path / "layers.9").mkdir()
    save_file({"locations": np.zeros((1, 3), "u2")}, tmp_path / "layers.9/0_1.safetensors")
    with pytest.raises(ValueError, match=r"layers\.5\.mlp, layers\.9"):
        open_examples(tmp_path)


def test_a_cache_without_tokens_says_so(tmp_path):
    save_file({"locations": np.zeros((1, 3), "u2"), "activations": np.ones(1, "f2")}, tmp_path / "0_1.safetensors")
    with pytest.raises(ValueError, match="without tokens"):
        open_examples(tmp_path)[0]


def test_examples_of_no_latent_are_shown_as_feature_0(tmp_path):
    path, truth, _ = diffing_store(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE examples SET latent_idx = NULL")
        db.commit()
    source = open_examples(path)
    assert list(source) == [0]
    assert len(source[0]) == sum(map(len, truth.values()))


@pytest.mark.parametrize("name", ["quantile_db", "diffing_store", "delphi_cache"])
def test_ids_are_readable_where_their_tokenizer_is_known(tmp_path, name):
    path, truth, _ = WRITERS[name](tmp_path)
    tokenizer = byte_level()
    feature = next(iter(truth))
    for peak, tokens, activations, *_ in open_examples(path, tokenizer=tokenizer)[feature]:
        assert len(tokens) == len(activations) and peak >= 0
        assert all(isinstance(token, str) for token in tokens)
    (first, *_) = open_examples(path, tokenizer=tokenizer)[feature]
    assert "".join(first.tokens) == "".join(token_texts(first.token_ids, tokenizer).texts)
    assert not len(stored_tokens(first))


@pytest.mark.parametrize("name", ["openai_viewer", "circuit_tracer"])
def test_a_file_of_a_folder_that_is_written_anew_in_its_place(tmp_path, name):
    WRITERS[name](tmp_path)
    source = open_examples(tmp_path)
    before = content({2: source[2]})
    file = next(tmp_path.rglob("2.json"))
    other = file.with_name("11.json").read_text()
    file.write_text(other.replace('"index": 11', '"index": 2'))
    assert content({2: source[2]}) == {2: content(source)[11]} != before

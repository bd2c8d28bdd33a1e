"""Corpora of every kind, what is wrong with them, and what collection says."""

from __future__ import annotations

import copy
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import processors

from tests.helpers.collect_fixtures import (
    CONTEXT,
    TEMPLATE,
    collect,
    files,
    make_all,
    make_corpus,
    make_dictionary,
    make_tokenizer,
)
from tests.helpers.hub_client import Client, Refused
from tests.helpers.hub_server import Dataset, Hub
from tiny_dashboard.collect.corpus import Batches
from tiny_dashboard.collect.documents import open_corpus, to_document
from tiny_dashboard.core.prompts import encode_chat
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.sources import open_examples

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return make_all(tmp_path_factory.mktemp("models"))


@pytest.fixture
def texts():
    return [document for document in make_corpus(20) if isinstance(document, str) and "\n" not in document]


def data(folder):
    return {name: content for name, content in files(folder).items() if name.endswith(".parquet")}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt", "rows", "Dataset", "saved"])
def test_the_same_documents_in_every_form(setup, texts, tmp_path, kind):
    from datasets import Dataset

    path = tmp_path / f"corpus.{kind}"
    rows = [{"text": text, "id": i} for i, text in enumerate(texts)]
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif kind == "txt":
        path.write_text("\n".join(texts))
    elif kind == "saved":
        Dataset.from_list(rows).save_to_disk(path)
    else:
        path = rows if kind == "rows" else Dataset.from_list(rows)
    found = collect(setup, path, tmp_path / "a" / "out")
    assert data(found) == data(collect(setup, texts, tmp_path / "b" / "out"))


def test_files_as_windows_and_gzip_write_them(tmp_path):
    for name, content in {
        "a.jsonl.gz": gzip.compress(b'{"text": "the cat"}\n{"text": "a dog"}'),
        "b.txt": "the cat\r\na dog\r\n".encode("utf-8-sig"),
        "c.txt": "the cat\r\na dog\r\n".encode("utf-16"),
        "d.csv": "text\r\nthe cat\r\na dog\r\n".encode("utf-16"),
        "e.jsonl": '{"text": "the cat"}\r\n{"text": "a dog"}'.encode("utf-8-sig"),
    }.items():
        (tmp_path / name).write_bytes(content)
        rows = open_corpus(tmp_path / name)
        assert [to_document(row, 0) for row in rows] == ["the cat", "a dog"], name
    (tmp_path / "g.jsonl").write_text('{"text": "the cat"}', encoding="utf-16")
    with pytest.raises(ValueError, match="g.jsonl is in UTF-16; convert it"):
        open_corpus(tmp_path / "g.jsonl")


def test_chats_mask_what_the_template_wrote(setup):
    tokenizer = setup[2]
    messages = [{"role": "user", "content": " the cat\n"}, {"role": "assistant", "content": "<user> user"}]
    _, ids, special, _ = encode_chat(messages, tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    kept = [piece for piece, masked in zip(pieces, special) if not masked]
    assert "".join(kept) == "ĠtheĠcatĊĠuser"
    masked = [piece for piece, masked in zip(pieces, special) if masked]
    assert masked == ["<bos>", "<user>", "<end>", "<assistant>", "<user>", "<end>"]


@pytest.mark.parametrize("packed", [False, True])
def test_windows_hold_every_token_once(setup, packed):
    corpus = make_corpus()
    batches = Batches(corpus, setup[2], context=CONTEXT, batch_size=3, packed=packed, block_size=6)
    seen = []
    for batch in batches.iterate():
        assert batch.ids.numel() <= 3 * CONTEXT
        assert (batch.ids[:, 0] == setup[2].bos_token_id).all()
        for row, window in zip(batch.windows.tokens, batch.windows.ids.tolist()):
            seen.append((window, row[row >= 0].tolist()))
    content = []
    for document in corpus:
        if isinstance(document, str):
            content.append(setup[2](document)["input_ids"][1:])
        else:
            content.append(encode_chat(document, setup[2]).ids[1:])
    flat = [token for _, tokens in sorted(seen) for token in tokens]
    if packed:  # BOS between documents
        assert flat == [token for ids in content for token in [*ids, setup[2].bos_token_id]]
    else:
        assert flat == [token for ids in content for token in ids]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bos", [False, True])
def test_bos_as_asked_for(setup, packed, bos):
    plain = without_bos(make_tokenizer())
    corpus, seen = make_corpus(), []
    for tokenizer in (setup[2], plain):
        batches = list(Batches(corpus, tokenizer, context=CONTEXT, batch_size=3, packed=packed, bos=bos).iterate())
        assert all(batch.n_prefix == bos for batch in batches)
        assert not bos or all((batch.ids[:, 0] == tokenizer.bos_token_id).all() for batch in batches)
        tokens = [row[row >= 0].tolist() for batch in batches for row in batch.windows.tokens]
        assert max(map(len, tokens)) == CONTEXT - bos
        seen.append(tokens)
    assert seen[0] == seen[1]
    with pytest.raises(ValueError, match="the tokenizer has none; give bos=False"):
        plain.bos_token = None
        Batches(corpus, plain, context=CONTEXT, batch_size=3, bos=True)


def test_bos_as_the_dictionary_was_trained(setup, tmp_path):
    pair, dictionary, tokenizer = setup
    corpus = make_corpus(12)
    for name, options in {"a": {"bos": False}, "b": {}}.items():
        without = replace(dictionary, prepend_bos=None if options else False)
        collect((pair, without, tokenizer), corpus, tmp_path / name / "out", **options)
    assert data(tmp_path / "a" / "out") == data(tmp_path / "b" / "out")
    assert open_examples(tmp_path / "b" / "out").info.extra["bos"] is False
    assert data(tmp_path / "a" / "out") != data(collect(setup, corpus, tmp_path / "c" / "out"))


def without_bos(tokenizer):
    """The same tokenizer adding no BOS, as GPT-2's does not."""
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    return tokenizer


BOS = {
    "both write it": lambda: make_tokenizer(),
    "only the tokenizer": lambda: make_tokenizer(TEMPLATE.replace("{{ bos_token }}", "")),
    "only the template": lambda: without_bos(make_tokenizer()),
    "neither": lambda: without_bos(make_tokenizer(TEMPLATE.replace("{{ bos_token }}", ""))),
}


@pytest.mark.parametrize("name", BOS)
def test_what_is_stored_is_what_the_model_gives_again(setup, tmp_path, name):
    """An example of a dataset, read back as the online tab does it: texts and chats, whoever writes the BOS."""
    pair, dictionary, _ = setup
    tokenizer = BOS[name]()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    metadata = {"tokenizer": str(tmp_path / "tokenizer")}
    corpus = make_corpus(20)
    if name == "only the tokenizer":  # one answer for all windows, and a template is never edited
        with pytest.raises(ValueError, match=r"document \d: the chat template writes no BOS"):
            collect((pair, dictionary, tokenizer), corpus, tmp_path / "mixed", metadata=metadata)
        corpus = [document for document in corpus if not isinstance(document, str)]
    collect((pair, dictionary, tokenizer), corpus, tmp_path / "out", metadata=metadata)
    offline = OfflineFeatureCentricDashboard.open(tmp_path / "out")
    featurizer = Featurizer(pair, dictionary, tokenizer)
    n_masked = 0
    for feature in (0, 5, 9):
        for example in offline.examples(feature):
            ids, special = offline.ids_of(example)
            live = featurizer.read(ids).values([feature])[len(ids) - len(example.activations) :, 0]
            stored = np.array(example.activations)
            masked = np.isnan(stored)
            np.testing.assert_allclose(stored[~masked], live[~masked], rtol=2e-3, atol=1e-4)
            assert all(
                np.array(special)[len(ids) - len(stored) :][masked]
            )  # what the template wrote are special tokens
            n_masked += masked.sum()
    assert n_masked > 0


def test_a_million_tokens_in_one_document(setup):
    batches = Batches(["the cat " * 250_000], setup[2], context=64, batch_size=32)
    windows = list(batches.iterate())
    assert sum(batch.n_tokens for batch in windows) > 500_000
    assert not windows[0].windows.resumed and windows[0].windows.continues
    assert windows[-1].windows.resumed and not windows[-1].windows.continues


def test_long_documents_give_one_example(setup, tmp_path):
    out = collect(setup, ["the cat and the dog " * 400, "the bird in house " * 3], tmp_path / "out", samples=0)
    source = open_examples(out)
    assert max(len(source[f]) for f in source) == 2
    many = collect(setup, ["the cat and the dog " * 400], tmp_path / "many", one_per_document=False)
    source = open_examples(many)
    assert max(len(source[f]) for f in source) > 2


def asked(hub):
    """Names of the files whose contents were asked for since the last call."""
    return {request.path.rsplit("/", 1)[1][:11] for request in hub.taken("parquet") if request.status == 206}


def test_a_hub_dataset_is_streamed_and_a_resumed_run_reads_only_the_rest(setup, tmp_path):
    """With the true client. A file in the middle fails; what was read before it is not asked for again."""
    from datasets import Dataset as Rows

    corpus = make_corpus(60)
    texts = [document if isinstance(document, str) else "the cat" for document in corpus]
    for n in range(6):
        rows = [{"id": i, "text": text} for i, text in enumerate(texts[10 * n : 10 * n + 10])]
        Rows.from_list(rows).to_parquet(tmp_path / "data" / f"train-{n:05d}-of-00006.parquet")
    with Hub() as hub:
        hub.datasets["me/corpus"] = Dataset(tmp_path / "data")
        home = tmp_path / "home"
        home.mkdir()
        client = Client(hub, home, PYTHONPATH=str(Path(__file__).parent.parent))
        client("import torch; from pathlib import Path; from tests.helpers.collect_fixtures import collect, make_all")
        client(f"torch.set_num_threads(1); setup = make_all(Path({str(tmp_path)!r}))")
        run = f"str(collect(setup, 'me/corpus', {str(tmp_path / 'out')!r}, block_size=4, resume=True))"
        hub.fail["train-00004"] = 404
        with pytest.raises(Refused):
            client(run)
        assert asked(hub) == {f"train-{n:05d}" for n in range(4)} and not (tmp_path / "out").exists()
        hub.fail.clear()
        client(run)
        again = asked(hub)  # of the first file the columns, and where the run goes on the file before
        assert {"train-00004", "train-00005"} <= again and "train-00001" not in again
        client.close()
    assert data(tmp_path / "out") == data(collect(setup, texts, tmp_path / "local" / "out", block_size=4))


BAD = {
    "empty": ([], ValueError, r"no document of two tokens or more \(0 documents"),
    "short": (["a", "", None], ValueError, r"\(3 documents were read"),
    "column": ([{"body": "x", "title": "y"}], KeyError, "choose one of body, title"),
    "bytes": ([b"the \xff"], ValueError, "document 0 is not valid UTF-8 at byte 4"),
    "surrogate": (["the cat", "a \ud800"], ValueError, "document 1: .*surrogate"),
    "number": ([3], TypeError, "document 0 is neither a text nor"),
    "roles": ([[{"role": "user", "content": 5}]], ValueError, "document 0: turn 1 of 1 has content that is neither"),
    "mapping": ({"text": "x"}, TypeError, "not dict"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_corpora(setup, tmp_path, name):
    corpus, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        collect(setup, corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_documents_are_counted_and_skipped(setup, tmp_path):
    pair, dictionary, tokenizer = setup
    refuses = tokenizer.chat_template.replace(
        "<{{ m.role }}>", "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}<{{ m.role }}>"
    )
    stricter = make_tokenizer(refuses.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}"))
    good = [{"text": [{"role": "user", "content": f"the cat {n}"}]} for n in range(9)]
    bad = [{"text": [{"role": "system", "content": "the dog"}]}, {"text": [{"role": "user", "content": 3}]}]
    cut = [{"text": [{"from": "human", "value": "the cat"}, {"from": "gpt", "value": "<think>a</think>the dog"}]}]
    empty = [{"text": ""}] * 4  # blocks of which no batch comes
    rows = [*good[:3], *bad, *cut, *good[3:], *empty, *bad, *empty]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="document 3: .*no system turns"):
        collect((pair, dictionary, stricter), path, tmp_path / "out", on_error="stop")

    def run(name, **options):
        with pytest.warns(UserWarning) as said:
            out = collect((pair, dictionary, stricter), path, tmp_path / name / "out", block_size=4, **options)
        return out, next(str(w.message) for w in said if "skipped" in str(w.message))

    out, said = run("a")
    assert "4 documents could not be read, and were skipped; of 1 conversations the chat template leaves" in said
    assert "The first: document 3: the chat template does not take this conversation: no system turns; doc" in said
    meta = json.loads((out / "metadata.json").read_text())
    assert (meta["n_documents_skipped"], meta["n_documents_cut"]) == (4, 1)
    from tiny_dashboard.collect import merge

    shards = [run(f"shard{n}", shard=n, num_shards=2)[0] for n in range(2)]
    with pytest.warns(UserWarning, match="4 documents could not be read"):
        merged = merge(shards, tmp_path / "merged", tokenizer=tokenizer)
    assert data(merged) == data(out)
    with pytest.raises(ValueError, match="none of the first 4 documents can be read: document 0"):
        collect((pair, dictionary, stricter), [bad[0]] * 4, tmp_path / "none", on_error="skip")


def test_bad_documents_are_counted_once_when_a_run_goes_on(setup, tmp_path, monkeypatch):
    from tiny_dashboard.collect.run import Run

    corpus = [text for n in range(20) for text in ("the cat " * n + "and", 3)]
    real, calls = Run.update, []

    def update(self, batch):
        calls.append(batch)
        if len(calls) in (2, 5):
            raise OSError("the power is gone")
        return real(self, batch)

    monkeypatch.setattr(Run, "update", update)
    options = {"on_error": "skip", "block_size": 10, "resume": True, "batch_size": 1}
    for _ in range(2):
        with pytest.raises(OSError, match="power"):
            collect(setup, corpus, tmp_path / "out", **options)
    with pytest.warns(UserWarning, match="20 documents could not be read"):
        collect(setup, corpus, tmp_path / "out", **options)


def test_tokens_of_which_a_model_makes_nothing(setup, tmp_path):
    pair, dictionary, tokenizer = setup
    corpus = ["the cat and", "the dog and the bird", "in the house"]
    broken = copy.deepcopy(pair)
    with torch.no_grad():
        broken[0].get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("Ġdog")] = torch.nan
    whole = json.loads((collect(setup, corpus, tmp_path / "a" / "out") / "metadata.json").read_text())
    with pytest.warns(UserWarning, match="at 5 tokens the models gave NaN or infinity"):
        out = collect((broken, dictionary, tokenizer), corpus, tmp_path / "b" / "out")
    meta = json.loads((out / "metadata.json").read_text())
    assert meta["n_tokens_nan"] == 5 and meta["n_tokens"] == whole["n_tokens"] - 5
    source = open_examples(out)
    assert all(source.stats(f).density == source.stats(f).n_active / meta["n_tokens"] for f in source)
    with torch.no_grad():
        broken[0].get_input_embeddings().weight[:] = torch.inf
    with pytest.raises(ValueError, match=r"Llama.* gives NaN .* at (.*) of \1 tokens .*layer 1, in torch.float32"):
        collect((broken, dictionary, tokenizer), corpus, tmp_path / "c" / "out")


def test_bad_files(setup, tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "the cat"}')
    with pytest.raises(KeyError, match="no column 'body'; choose one of text"):
        collect(setup, path, tmp_path / "out", column="body")
    latin = tmp_path / "latin.txt"
    latin.write_bytes("über die Brücke\n".encode("latin-1") * 3)
    with pytest.raises(ValueError, match="not valid UTF-8"):
        collect(setup, latin, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no file .*nosuch.jsonl"):
        open_corpus(tmp_path / "nosuch.jsonl")
    with pytest.raises(ValueError, match="expected .parquet"):
        open_corpus(__file__)


def test_bad_arguments(setup, tmp_path):
    pair, dictionary, tokenizer = setup
    corpus = ["the cat and the dog"]
    for options, message in {
        "top_k": ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        "context": ({"context": 1}, "context is 1; it must be at least 2"),
        "long": ({"context": 65}, "context is 65, and llama takes 64 tokens"),
        "shard": ({"shard": 3, "num_shards": 3}, "shard 3 of 3 does not exist"),
        "memory": ({"memory": 1000}, "memory of 1,000 bytes is too small: the state of 24 features takes"),
        "layer": ({"layer": 2}, "trained on layer 1, and layer 2 was asked for"),
    }.values():
        with pytest.raises(ValueError, match=message):
            collect(setup, corpus, tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"reads 2 model\(s\), and 1 were given"):
        collect((pair[:1], dictionary, tokenizer), corpus, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="name another folder"):
        collect(setup, corpus, tmp_path / "full")


def test_memory_bounds_the_features_encoded_at_once(setup, tmp_path, monkeypatch):
    pair, dictionary, tokenizer = setup
    corpus = make_corpus()
    asked = []
    real = type(dictionary).encode

    def encode(self, x, features=None):
        asked.append(None if features is None else len(features))
        return real(self, x, features)

    monkeypatch.setattr("tiny_dashboard.collect.run.LEAST_FEATURES", 1)
    monkeypatch.setattr(type(dictionary), "encode", encode)
    whole = open_examples(collect(setup, corpus, tmp_path / "whole"))
    assert set(asked) == {None}
    asked.clear()
    from tiny_dashboard.collect.state import State

    size = State.empty(24, 4, 3, CONTEXT).n_bytes
    small = open_examples(collect(setup, corpus, tmp_path / "small", memory=size + 16 * 3 * CONTEXT * 7))
    assert max(n for n in asked if n) == 7
    for feature in whole:
        assert [e.start for e in whole[feature]] == [e.start for e in small[feature]]


def test_an_sae_and_any_object_that_encodes(setup, tmp_path):
    pair, _, tokenizer = setup
    sae = make_dictionary(tmp_path / "sae", n_models=1)

    class Plain:
        def encode(self, x):
            return sae.encode(x.float())

    class Sparse:
        def encode(self, x):
            return sae.encode(x.float()).to_sparse()

    corpus = make_corpus(12)
    ours = collect((pair[0], sae, tokenizer), corpus, tmp_path / "a" / "out")
    for name, other in {"b": Plain(), "c": Sparse()}.items():
        theirs = collect((pair[0], other, tokenizer), corpus, tmp_path / name / "out", layer=1)
        assert data(ours)["examples/00000.parquet"] == data(theirs)["examples/00000.parquet"]


def test_an_object_of_sparsify(setup, tmp_path):
    sparsify = pytest.importorskip("sparsify")
    pair, _, tokenizer = setup
    torch.manual_seed(2)
    coder = sparsify.SparseCoder(16, sparsify.SparseCoderConfig(num_latents=40, k=3), "cpu")
    coder.save_to_disk(tmp_path / "layers.1")
    corpus = make_corpus(12)
    ours = load_dictionary(tmp_path / "layers.1", device="cpu", layer=1)
    found = [
        collect((pair[0], dictionary, tokenizer), corpus, tmp_path / name / "out", layer=1)
        for name, dictionary in {"a": ours, "b": coder}.items()
    ]
    assert data(found[0])["examples/00000.parquet"] == data(found[1])["examples/00000.parquet"]
    featurizers = [Featurizer(pair[0], dictionary, tokenizer, 1) for dictionary in (ours, coder)]
    expected, other = (featurizer.read([5, 6, 7]).values(range(40)) for featurizer in featurizers)
    torch.testing.assert_close(other, expected)
    assert featurizers[1].read([5, 6, 7]).top(5).features == featurizers[0].read([5, 6, 7]).top(5).features


def test_documents_by_hand():
    assert to_document({"id": 3, "messages": [{"role": "user", "content": "x"}]}, 0)[0]["content"] == "x"
    assert to_document({"only": "x"}, 0) == "x"
    # A file of both: each row has nulls in the other's column.
    assert to_document({"text": None, "messages": [{"role": "user", "content": "x"}]}, 0)[0]["content"] == "x"
    assert to_document({"text": None, "messages": None}, 0) is None
    assert to_document({"a": "x", "b": "y"}, 0, "b") == "y"

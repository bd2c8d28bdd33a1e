"""The embedded demo: the committed bundle loads offline and is what its card says; the parts of its build."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from scripts.demo import build, conversations, report
from tiny_dashboard.demo import FOLDER as BUNDLE
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.sources import open_examples


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return build.load_tokenizer(BUNDLE)


@pytest.fixture(scope="module")
def models():
    from transformers import AutoModelForCausalLM

    return [AutoModelForCausalLM.from_pretrained(BUNDLE / name) for name in ("base", "chat")]


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads((BUNDLE / "report.json").read_text())


def test_tokenizer_adds_bos_once_and_reads_back_exactly(tokenizer):
    text = "def f(x):\n\treturn 'Ünïcode' # 12345 🙂"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1:]) == text
    assert len(tokenizer) == build.VOCAB


def test_chat_template(tokenizer):
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "<|bos|><|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n"
    )
    assert tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True) == (
        "<|bos|><|user|>\nHi<|end|>\n<|assistant|>\n"
    )
    with pytest.raises(Exception, match="roles user and assistant only"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Hi"}], tokenize=False)


def test_loss_is_on_what_the_assistant_says(tokenizer):
    rows, labels = build.chat_ids(5, 40, tokenizer)
    rng = random.Random(5)
    for ids, label in zip(rows, labels, strict=True):
        chat = conversations.conversation(rng)
        assert len(ids) == len(label) <= build.CONTEXT
        said = "".join(m["content"] + "<|end|>" for m in chat if m["role"] == "assistant")
        assert tokenizer.decode([token for token in label if token != -100]) == said


def test_models_are_standard_float32_and_small(models):
    for model in models:
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 4e6
        assert model.config.num_hidden_layers >= 4
    base, chat = models
    assert not torch.equal(base.model.layers[0].mlp.up_proj.weight, chat.model.layers[0].mlp.up_proj.weight)


def test_the_chat_model_answers_and_the_base_model_does_not(models, tokenizer):
    question = "What is the capital of Norway?"
    base, chat = (report.answer(model, tokenizer, question) for model in models)
    assert chat == "The capital of Norway is Oslo."
    assert "Oslo" not in base


def test_loaded_crosscoder_encodes_as_the_formula_says():
    from safetensors.numpy import load_file

    t = {name: a.astype(np.float64) for name, a in load_file(BUNDLE / "crosscoder" / "model.safetensors").items()}
    x = np.random.default_rng(0).normal(size=(7, *t["activation_mean"].shape)) * t["activation_std"] * 2
    scaled = (x - t["activation_mean"]) * t["activation_global_scale"][:, None]
    norms = np.linalg.norm(t["decoder.weight"], axis=-1).sum(0)
    values = np.maximum(np.einsum("bld,ldf->bf", scaled, t["encoder.weight"]) + t["encoder.bias"], 0) * norms
    expected = values * (values > t["threshold"])
    found = load_dictionary(BUNDLE / "crosscoder", device="cpu").encode(torch.tensor(x, dtype=torch.float32))
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("folder", [BUNDLE / "examples", BUNDLE / "smollm" / "examples"], ids=["pair", "smollm"])
def test_the_examples_know_how_large_their_files_are(folder):
    """By which they are read from the Hub, in ranges."""
    said = json.loads((folder / "metadata.json").read_text())
    files = {f["name"]: (f["bytes"], f["footer"]) for f in said["examples_files"] + said["features_files"]}
    written = {name: (folder / name).read_bytes() for name in files}
    assert files == {name: (len(b), int.from_bytes(b[-8:-4], "little") + 8) for name, b in written.items()}


@pytest.mark.parametrize("feature", [0, 777, 2047])
def test_examples_are_what_the_models_say_now(models, tokenizer, feature):
    dictionary = load_dictionary(BUNDLE / "crosscoder", device="cpu")
    featurizer = Featurizer(models, dictionary, tokenizer, layer=report.LAYER)
    examples = open_examples(BUNDLE / "examples")[feature]
    assert len(examples) >= 1
    for example in list(examples)[:3]:
        ids = list(example.token_ids)
        bos = [] if ids[0] == tokenizer.bos_token_id else [tokenizer.bos_token_id]
        live = featurizer.read([*bos, *ids]).values([feature])[len(bos) :, 0].numpy()
        stored = np.nan_to_num(np.array(example.activations, dtype=np.float32))
        live[0] = stored[0]  # BOS is not counted
        np.testing.assert_allclose(stored, live, rtol=2e-3, atol=2e-3)


def test_the_bundle_meets_its_targets(measured):
    bits = measured["language"]["bits_per_byte"]["all"]
    assert max(bits["base"], bits["chat"]) < min(bits["gzip"], bits["trigram"])
    crosscoder = measured["crosscoder"]
    assert min(crosscoder["explained"].values()) >= 0.8
    assert crosscoder["active_per_position"] <= 32
    assert crosscoder["dead"] <= 0.2
    assert crosscoder["largest_difference_between_training_and_loaded_code"] < 1e-3
    shipped = [path for path in BUNDLE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    ours = [path for path in shipped if "smollm" not in path.relative_to(BUNDLE).parts]  # which has limits of its own
    assert sum(path.stat().st_size for path in ours) <= 20e6


def test_one_sided_features_of_the_report_follow_from_the_decoder(measured):
    weight = load_dictionary(BUNDLE / "crosscoder", device="cpu").decoder(range(2048))
    base, chat = weight.norm(dim=-1).unbind(1)
    relative = 0.5 * ((chat - base) / torch.maximum(base, chat) + 1)
    for name, onesided in (("chat", relative > 0.8), ("base", relative < 0.2)):
        listed = measured["crosscoder"][f"{name}_specific"]
        assert listed and onesided[listed].all()
        assert len(listed) >= 0.5 * onesided.sum()  # the rest is silent on held-out text


def test_the_card_quotes_the_report_and_names_the_sources(measured):
    card = (BUNDLE / "README.md").read_text()
    crosscoder, bits = measured["crosscoder"], measured["language"]["bits_per_byte"]["all"]
    quoted = [f"{value:.2f}" for value in [*bits.values(), *crosscoder["explained"].values()]]
    quoted += [f"{crosscoder['active_per_position']:.1f}", f"{len(crosscoder['chat_specific'])} chat-specific"]
    quoted += [f"{len(crosscoder['base_specific'])} base-specific", f"{crosscoder['dead']:.1%}".replace("%", " %")]
    assert [number for number in quoted if number not in card] == []
    for package in build.DOCS:
        assert package.removesuffix("-{l}") in card


def test_trigram_bits_equal_counting_by_hand():
    rng = np.random.default_rng(3)
    train, test = rng.integers(0, 6, (20, 12)), rng.integers(0, 8, (4, 12))
    counts = defaultdict(Counter)
    context = lambda row, i, n: tuple(row[max(0, j)] for j in range(i - n, i))  # noqa: E731
    for row in train:
        for i in range(1, 12):
            for n in range(3):
                counts[context(row, i, n)][row[i]] += 1
    expected = np.zeros((4, 11))
    for r, row in enumerate(test):
        for i in range(1, 12):
            p = 1 / build.VOCAB
            for n in range(3):
                seen = counts.get(context(row, i, n))
                if seen:
                    p = (seen[row[i]] + len(seen) * p) / (seen.total() + len(seen))
            expected[r, i - 1] = -np.log2(p)
    np.testing.assert_allclose(report.trigram_bits(train, test), expected)


def test_page_text_keeps_blocks_apart_and_leaves_navigation_out():
    page = build.page_text(
        "<!doctype html><html><head><title>t</title></head><body><nav>menu</nav><p>One\n  <b>two</b></p>"
        "<!-- no --><pre>a  c\n  b</pre><script>x()</script><ul><li>&eacute;&amp;</ul></body></html>"
    )
    assert page.split("\n") == ["One two", "a  c", "b", "é&"]


def test_missing_packages_are_named(tmp_path, monkeypatch):
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "apt-get").write_text("#!/bin/sh\necho no network >&2\nexit 100\n")
    (empty / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{empty}:/usr/bin:/bin")
    with pytest.raises(RuntimeError, match=r"(?s)debian-handbook.*no network.*apt-get update"):
        build.fetch_docs(tmp_path)

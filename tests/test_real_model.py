"""A real instruction-tuned model (SmolLM2-135M-Instruct): what toys hide. `scripts/real_model` fetches it, once."""

from __future__ import annotations

import copy
import importlib.util
import re
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_dashboard import OfflineFeatureCentricDashboard, SAEOnlineFeatureDashboard, open_examples
from tiny_dashboard.collect import collect_examples, recheck
from tiny_dashboard.core.prompts import encode_chat
from tiny_dashboard.dictionaries.dictionary import Dictionary, Rows
from tiny_dashboard.dictionaries.functions import ReLU, decoder_norm, layer_norm
from tiny_dashboard.models.activations import get_activations
from tiny_dashboard.models.featurizer import Featurizer

LOADER = SourceFileLoader("real_model", str(Path(__file__).parent.parent / "scripts" / "real_model"))
FOLDER = importlib.util.module_from_spec(importlib.util.spec_from_loader("real_model", LOADER))
LOADER.exec_module(FOLDER)
FOLDER = FOLDER.folder()

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.exists(), reason="the real model is not here: run scripts/real_model"),
]
LAYER, CAPITAL = 15, 0
LOW = 3  # a layer for what is run many times
ABOUT = ["Paris is the capital of France.", "The capital city of Italy is Rome.", "Madrid, capital of Spain, is large."]
OTHER = ["I like to eat bread with cheese.", "The function returns a list of numbers.", "It rained, so we read a book."]
TEXT = "The cat sat on the mat in Berlin, which is the capital of Germany."
CHAT = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def parts():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(FOLDER).eval(), AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def states(parts):
    """Activations of texts about capitals, and of others, without the first token of each."""
    model, tokenizer = parts

    def read(texts):
        rows = []
        for text in texts:
            with torch.no_grad():
                out = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
            rows.append(out.hidden_states[LAYER + 1][0, 1:].float())
        return torch.cat(rows)

    return read(ABOUT), read(OTHER)


def sae(states, prepend_bos):
    """One feature by hand, the direction from other texts to those about capitals, among random ones."""
    about, other = states
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(about.mean(0) - other.mean(0), dim=0)
    rows = torch.cat([direction[None], torch.nn.functional.normalize(torch.randn(63, 576), dim=1)])
    bias = -(rows @ other.T).amax(1)  # silent on the other texts
    return Dictionary(
        "by hand", Rows(rows, "Dd"), ReLU(), Rows(rows, "Dd"), bias, layer=LAYER, hook_point="resid_post",
        prepend_bos=prepend_bos,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dashboard(parts, states):
    model, tokenizer = parts
    return SAEOnlineFeatureDashboard(model, sae(states, None), tokenizer=tokenizer)


@pytest.mark.parametrize("prepend_bos", [None, True, False])
def test_a_chat_is_what_the_template_gives(parts, states, prepend_bos):
    model, tokenizer = parts
    online = SAEOnlineFeatureDashboard(model, sae(states, prepend_bos), tokenizer=tokenizer)
    for prompt in (True, False):
        true = tokenizer.apply_chat_template(CHAT, add_generation_prompt=prompt, tokenize=True)["input_ids"]
        assert online.encode(CHAT[0]["content"], chat=True, generation_prompt=prompt).ids == true
    encoded = online.encode(CHAT[0]["content"], chat=True)
    kept = [i for i, special in zip(encoded.ids, encoded.special) if not special]
    assert tokenizer.decode(kept) == CHAT[0]["content"]


def test_generation_is_that_of_transformers(parts, dashboard):
    model, tokenizer = parts
    encoded = dashboard.encode(CHAT[0]["content"], chat=True, generation_prompt=True)
    *_, answered = dashboard.respond(encoded, max_new_tokens=8)
    true = model.generate(torch.tensor([encoded.ids]), max_new_tokens=8, do_sample=False)[0].tolist()
    assert answered.ids == [i for i in true if i != tokenizer.eos_token_id or i in encoded.ids][: len(answered.ids)]
    assert "Paris" in answered.text


def test_an_attention_sink_says_nothing_of_the_text(dashboard):
    encoded = dashboard.encode(TEXT)
    assert dashboard.left_out(encoded) == [0]
    top = dashboard.top_features(TEXT, 10)
    assert 0 not in top.positions and max(top.values) < 200
    result = dashboard.analyze(TEXT, top.features[0])
    assert np.isnan(result.activations[0, 0]) and np.isfinite(result.activations[1:]).all()


def test_stored_is_live(parts, states, tmp_path):
    model, tokenizer = parts
    corpus = [*ABOUT, TEXT, [*CHAT, {"role": "assistant", "content": "The capital of France is Paris."}]]
    for name, documents in (("texts", corpus[:-1]), ("chats", corpus[-1:])):
        dictionary, how = sae(states, False), {"tokenizer": tokenizer, "context": 32, "samples": 0}
        out = collect_examples(model, dictionary, documents, tmp_path / name, **how)
        offline = OfflineFeatureCentricDashboard.open(out, tokenizer)
        online = SAEOnlineFeatureDashboard(model, dictionary, tokenizer=tokenizer)
        examples = offline.examples(CAPITAL)
        assert examples
        for example in examples:
            ids, _ = offline.ids_of(example)
            live = online.featurizer.read(ids).values([CAPITAL])[len(ids) - len(example.activations) :, 0].numpy()
            stored = np.array(example.activations)
            known = ~np.isnan(stored)
            np.testing.assert_allclose(stored[known], live[known], rtol=2e-2, atol=2e-2 * example.max_activation)
        assert any(np.isnan(e.activations[0]) for e in examples if e.start == 0)  # the sink, or the template's token


def test_steering_changes_the_answer_and_nothing_does_not(dashboard):
    prompt = dashboard.encode("Tell me about your day.", chat=True, generation_prompt=True)

    def answer(**steering):
        *_, whole = dashboard.respond(prompt, max_new_tokens=10, **steering)
        return whole.text

    plain = answer()
    assert answer(steer=[(CAPITAL, 0.0)]) == plain
    assert answer(steer=[(CAPITAL, 60.0)]) != plain


@pytest.fixture(scope="module")
def stored(parts, states, tmp_path_factory):
    """Examples of a dictionary with a normalised input, with a BOS before each window; and that dictionary.

    Of the model's first layers: each change that `recheck` tries runs the model again.
    """
    tokenizer = parts[1]
    model = copy.deepcopy(parts[0])
    model.model.layers = model.model.layers[: LOW + 2]
    model.config.num_hidden_layers = LOW + 2
    model = model.float()  # quicker here
    mean = torch.cat([get_activations(model, tokenizer(text).input_ids, LOW)[0, 1:] for text in OTHER]).mean(0)
    dictionary = replace(sae(states, True), layer=LOW, prepare=lambda x: (x - mean.to(x)) / 8, encoder_bias=None)
    folder = tmp_path_factory.mktemp("stored") / "examples"
    how = {"tokenizer": tokenizer, "context": 32, "samples": 0}
    return collect_examples(model, dictionary, [*ABOUT, TEXT], folder, **how), dictionary, model


def test_recheck_agrees_with_what_was_collected(parts, stored):
    tokenizer = parts[1]
    source, dictionary, model = stored
    found = recheck(source, model, dictionary, tokenizer=tokenizer, sample=12)
    assert found.agrees and found.change is None and len(found.tried) == 1
    assert re.match(
        r"agree: 1\d of 12 stored examples agree with resid_post of layer 3 of LlamaForCausalLM", str(found)
    )


CHANGES = {  # how the dictionary was when the values were stored, and what recheck must say then
    "at resid_post of layer 4": {"layer": 4},
    "at resid_pre of layer 3": {"hook_point": "resid_pre"},
    "without the dictionary's own input normalisation": {"prepare": None},
    "with inputs layer-normed": {"prepare": layer_norm},
    "with values times the decoder norm": {"code_norm": decoder_norm},
    "with values times 0.25": {"code_norm": lambda norms: torch.full((len(norms),), 0.25)},
}


@pytest.mark.parametrize(
    "said",
    [
        *CHANGES,
        "with a BOS before each window",
        "without the BOS",
        "with the model in bfloat16",
        "inside the chat template, as a user's turn",
        "without the template's and other special tokens",
        None,
    ],
)
def test_recheck_names_what_is_otherwise(parts, stored, said):
    """The values are stored, or asked for, otherwise in one thing."""
    tokenizer = parts[1]
    source, dictionary, model = stored
    lengths = Rows(dictionary.encoder.all() * torch.linspace(0.5, 3, 64)[:, None, None], "DLd")
    dictionary = replace(dictionary, decoder_rows=lengths)
    examples, bos, gap = open_examples(source), [tokenizer.bos_token_id], float("nan")
    then = replace(dictionary, **CHANGES.get(said, {}))
    if "prepare" in CHANGES.get(said, {}) and then.prepare is not None:
        then = replace(then, prepare=lambda x: dictionary.prepare(layer_norm(x)))
    read_by = parts[0] if said == "with the model in bfloat16" else model
    featurizer, rows = Featurizer(read_by, then, tokenizer), {}

    def in_chat(ids):
        return encode_chat([{"role": "user", "content": tokenizer.decode(ids)}], tokenizer).ids

    for feature in list(examples)[:3]:
        ids = list(examples[feature][0].token_ids)
        read, kept = [*bos, *ids], [*bos, *ids]  # what the model read, and what is stored
        if said == "with a BOS before each window":
            kept = ids
        elif said == "without the BOS":
            read = ids
        elif said and "template" in said:
            chat = in_chat(ids)
            read, kept = (chat, ids) if "inside" in said else (ids, chat)
        values = featurizer.read(read).values([feature if said else (feature + 1) % 64])[:, 0].tolist()
        values = [*[gap] * len(kept), *values]  # where what was read is shorter
        if said and "template" in said:
            start = next(at for at in range(len(chat)) if chat[at : at + len(ids)] == ids)
            values = values[len(kept) :]
            behind = len(chat) - start - len(ids)
            values = values[start : start + len(ids)] if "inside" in said else [gap] * start + values + [gap] * behind
        values = values[-len(kept) :]
        rows[feature] = [(np.nanmax(values), (), values, kept)]
    found = recheck(rows, model, dictionary, tokenizer=tokenizer, sample=3)
    assert not found.agrees and found.change == said, found.tried
    assert (said or "no single change") in str(found)

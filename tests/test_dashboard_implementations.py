"""The ready-made online dashboards, against transformers' hidden states and the crosscoder's formula in plain torch."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.bundle import CONTEXT, DEAD, LAYER, N_FEATURES, PWN, make_model
from tests.helpers.html_tree import data_of, parse, passages_of, tokens_of
from tests.helpers.tokenizers import SlowByteLevel, byte_level
from tiny_dashboard import CrosscoderOnlineFeatureDashboard, DashboardConfig, SAEOnlineFeatureDashboard, load_dictionary
from tiny_dashboard.core.highlight import COLORS, passage_html
from tiny_dashboard.dashboards.featurized import FeaturizerDashboard
from tiny_dashboard.models.featurizer import Featurizer

torch.set_num_threads(1)
TEXT = "The quick brown fox sleeps.\nÇa été 日本"


class Wrapper:
    """Shaped as nnsight's LanguageModel: the model in `_model`, its tokenizer beside it."""

    def __init__(self, model, tokenizer):
        self._model, self.tokenizer = model, tokenizer


@pytest.fixture
def dashboard(bundle):
    return CrosscoderOnlineFeatureDashboard(
        *bundle.pair, bundle.dictionary, LAYER, tokenizer=bundle.tokenizer, max_acts={3: 7.0}
    )


def oracle(bundle, ids):
    """Every feature of some ids, `[seq, n_features]`, and each model's part of its pre-activation."""
    weights = load_file(bundle.root / "crosscoder" / "model.safetensors")
    with torch.no_grad():
        states = [
            model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0] for model in bundle.pair
        ]
    norm = weights["decoder.weight"].norm(dim=2).sum(0)
    parts = torch.stack([h @ w for h, w in zip(states, weights["encoder.weight"], strict=True)], -1)
    values = torch.relu(parts.sum(-1) + weights["encoder.bias"]) * norm
    fires = values > weights["threshold"]
    return (values * fires).double().numpy(), (parts * norm[:, None] * fires[..., None]).double().numpy()


def test_activations_are_those_of_the_formula(bundle, dashboard):
    features = [7, 0, 63, DEAD]
    result = dashboard.analyze(TEXT, [7, 0], [63], [DEAD])
    assert result.ids == bundle.tokenizer(TEXT)["input_ids"] and result.ids[0] == 0
    assert "".join(result.tokens) == "<s>" + TEXT and result.text == TEXT
    expected, _ = oracle(bundle, result.ids)
    assert result.features == features and (expected[:, features] > 0).any()
    np.testing.assert_allclose(result.activations, expected[:, features], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        dashboard.get_feature_activation(TEXT, (5, 9)), expected[:, [5, 9]], rtol=1e-5, atol=1e-4
    )
    data = data_of(parse(result.fragment))
    for name, (at, values) in zip(data["names"], data["passages"][0]["v"], strict=True):
        column = expected[:, int(name.removeprefix("feature "))]
        assert at == np.flatnonzero(column).tolist()
        np.testing.assert_allclose(values, column[at], rtol=1e-3)


def test_what_fires_most(bundle, dashboard):
    top = dashboard.top_features(TEXT, 10)
    ids = bundle.tokenizer(TEXT)["input_ids"]
    expected, _ = oracle(bundle, ids)
    best = expected[1:].max(0)
    order = np.argsort(-best, kind="stable")[:10]
    assert top.features == order.tolist()
    np.testing.assert_allclose(top.values, best[order], rtol=1e-4)
    assert top.positions == (expected[1:, order].argmax(0) + 1).tolist(), "BOS does not count"
    np.testing.assert_allclose(top.token_values.numpy(), -np.sort(-expected, 1)[:, :5], rtol=1e-5, atol=1e-4)
    assert dashboard.can_rank and dashboard.n_features == N_FEATURES
    chat = dashboard.top_features("hello<eot>hi there", 5, chat=True)
    encoded = dashboard.encode("hello<eot>hi there", chat=True)
    assert chat.features == dashboard.top_encoded(encoded, 5).features
    assert all(not encoded.special[p] for p in chat.positions)


def test_each_models_part(bundle, dashboard):
    encoded = dashboard.encode(TEXT)
    values, parts = oracle(bundle, encoded.ids)
    feature = int(values.max(0).argmax())
    base, chat = dashboard.split_tracks(encoded, feature)
    assert (base.name, chat.name) == (f"feature {feature}, base", f"feature {feature}, chat")
    np.testing.assert_allclose(base.array(), parts[:, feature, 0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(chat.array(), parts[:, feature, 1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(base.array() + chat.array(), values[:, feature], atol=1e-3)
    passage = dashboard.analyze_encoded(encoded, [feature]).passage
    drawn = passage_html(passage.__class__(passage.tokens, [base, chat]))
    assert "linear-gradient(" in drawn and data_of(parse(drawn))["colors"] == list(COLORS)


def test_bos_is_never_doubled_and_can_be_masked(bundle, dashboard):
    plain, typed = dashboard.analyze(TEXT, 3), dashboard.analyze("<s>" + TEXT, 3)
    assert plain.ids == typed.ids and plain.ids.count(0) == 1
    np.testing.assert_array_equal(plain.activations, typed.activations)
    masked = dashboard.analyze(TEXT, 3, mask_special=True)
    assert np.isnan(masked.activations[0]).all() and not np.isnan(masked.activations[1:]).any()


def test_chat_formatting(bundle, dashboard):
    result = dashboard.analyze("hello<eot>hi", 3, [4], chat=True)
    expected = bundle.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}],
        continue_final_message=True,
        tokenize=False,
    )
    assert "".join(result.tokens) == expected == "<|user|>hello</s><|assistant|>hi"
    special = [t for t, s in zip(result.tokens, result.passage.special, strict=True) if s]
    assert special == ["<|user|>", "</s>", "<|assistant|>"]
    np.testing.assert_allclose(result.activations, oracle(bundle, result.ids)[0][:, [3, 4]], rtol=1e-5, atol=1e-4)


def generated(bundle, ids, n):
    model = bundle.pair[1]
    with torch.no_grad():
        for _ in range(n):
            ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids


@pytest.mark.parametrize("chat", [False, True])
def test_an_answer_is_the_chat_models_and_is_analysed(bundle, dashboard, chat):
    dashboard.max_new_tokens = 6
    result = dashboard.analyze("The quick", 3, chat=chat, generate=True)
    prompt = dashboard.encode("The quick", chat=chat, generation_prompt=chat)
    assert result.ids == generated(bundle, prompt.ids, 6)
    read = bundle.tokenizer.decode(result.ids, skip_special_tokens=False)
    assert "".join(result.tokens) == read == ("" if chat else "<s>") + result.text
    assert result.text == prompt.text + result.response and result.response
    np.testing.assert_allclose(result.activations, oracle(bundle, result.ids)[0][:, [3]], rtol=1e-5, atol=1e-4)
    assert dashboard.generate_model_response("The quick") == "The quick" + bundle.tokenizer.decode(
        generated(bundle, bundle.tokenizer("The quick")["input_ids"], 6)[
            len(bundle.tokenizer("The quick")["input_ids"]) :
        ]
    )


def test_an_answer_streams(bundle, dashboard):
    prompt = dashboard.encode("The quick")
    seen = []
    for encoded in dashboard.respond(prompt, max_new_tokens=5):
        seen.append(encoded)
        assert encoded.text == prompt.text + "".join(dashboard.texts(encoded.ids)).removeprefix("<s>The quick")
        assert len(encoded.special) == len(encoded.ids)
    assert [len(e.ids) for e in seen] == [len(prompt.ids) + i for i in range(6)] and seen[0] == prompt
    stream = dashboard.respond(prompt)
    next(stream), next(stream)
    stream.close()
    assert list(stream) == []


def test_steering_changes_the_answer(bundle, dashboard):
    plain = [e.ids for e in dashboard.respond(dashboard.encode(TEXT), max_new_tokens=8)][-1]
    steered = [e.ids for e in dashboard.respond(dashboard.encode(TEXT), max_new_tokens=8, steer=[(3, 500.0)])][-1]
    assert plain != steered and plain[: len(dashboard.encode(TEXT).ids)] == steered[: len(dashboard.encode(TEXT).ids)]
    assert dashboard.generate_model_response("The") != dashboard.generate_model_response("The", steer={3: 500.0})


def test_a_text_beyond_the_context(dashboard):
    text = "fox " * CONTEXT
    with pytest.raises(ValueError, match=rf"the text has \d+ tokens and the context of LlamaForCausalLM is {CONTEXT}"):
        dashboard.analyze(text, 3)
    with pytest.raises(ValueError, match="shorten the text"):
        dashboard.top_features(text)
    with pytest.raises(ValueError, match="shorten the text"):
        dashboard.analyze(text, 3, generate=True)


def test_an_answer_ends_where_the_context_is_full(bundle):
    pair = [make_model(len(bundle.tokenizer), seed, context=40) for seed in (0, 1)]
    small = CrosscoderOnlineFeatureDashboard(*pair, bundle.dictionary, LAYER, tokenizer=bundle.tokenizer)
    assert len(small.analyze("The quick brown", 3, generate=True).ids) == 40


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (N_FEATURES, f"feature {N_FEATURES} is out of range: the dictionary has {N_FEATURES} features"),
        ([0, 10**6], "feature 1000000 is out of range"),
        (-1, "-1"),
        ("1,,2", "has a comma with no number beside it"),
        ([1, "x"], "'x' is not a feature number"),
        (1.5, "1.5 is not a feature number"),
        ([[1]], "is not a feature number"),
        (10**30, "does not exist"),
    ],
)
def test_features_that_do_not_exist(dashboard, features, says):
    with pytest.raises(ValueError) as error:
        dashboard.analyze(TEXT, features)
    assert says in str(error.value)


def test_max_act(dashboard):
    scales = lambda **how: [t.scale for t in dashboard.analyze(TEXT, [3, 4], **how).passage.tracks]  # noqa: E731
    assert scales() == [None, None] and scales(max_act="auto") == [7.0, None] and scales(max_act=2) == [2.0, 2.0]
    for wrong in (0, -1, "loud"):
        with pytest.raises(ValueError, match="the scale is"):
            scales(max_act=wrong)


def test_wrappers_bring_their_tokenizer(bundle, dashboard):
    wrapped = [Wrapper(model, bundle.tokenizer) for model in bundle.pair]
    by_wrapper = CrosscoderOnlineFeatureDashboard(*wrapped, bundle.dictionary, LAYER)
    assert by_wrapper.tokenizer is bundle.tokenizer and by_wrapper.model is bundle.pair[1]
    np.testing.assert_array_equal(by_wrapper.analyze(TEXT, 3).activations, dashboard.analyze(TEXT, 3).activations)
    with pytest.raises(ValueError, match="the model brings no tokenizer; give tokenizer="):
        CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, LAYER)


def test_models_whose_tokenizers_differ(bundle):
    other = byte_level(bos=True)
    wrapped = [Wrapper(bundle.pair[0], other), Wrapper(bundle.pair[1], bundle.tokenizer)]
    mixed = CrosscoderOnlineFeatureDashboard(*wrapped, bundle.dictionary, LAYER)
    with pytest.raises(ValueError, match=r"the models' tokenizers disagree on this text \(\d+ and \d+ tokens\): token"):
        mixed.analyze(TEXT, 3)
    with pytest.raises(ValueError, match="disagree"):
        mixed.top_features(TEXT)
    same = copy.deepcopy(bundle.tokenizer)
    agreed = [Wrapper(bundle.pair[0], same), Wrapper(bundle.pair[1], bundle.tokenizer)]
    assert CrosscoderOnlineFeatureDashboard(*agreed, bundle.dictionary, LAYER).analyze(TEXT, 3).text == TEXT


class Plain:
    """Any object with `get_activations`: not ours, no module, no idea of its size."""

    def __init__(self, weights):
        self.weights, self.asked = weights, []

    def get_activations(self, x, select_features=None):
        self.asked.append((tuple(x.shape), select_features))
        values = torch.einsum("bld,ldf->bf", x, self.weights).relu()
        return values if select_features is None else values[:, select_features]


def test_any_object_with_get_activations(bundle):
    weights = load_file(bundle.root / "crosscoder" / "model.safetensors")["encoder.weight"]
    plain = Plain(weights)
    dashboard = CrosscoderOnlineFeatureDashboard(*bundle.pair, plain, LAYER, tokenizer=bundle.tokenizer)
    result = dashboard.analyze(TEXT, [3], [9])
    n = len(result.ids)
    assert plain.asked == [((n, 2, weights.shape[1]), [3, 9])]
    with torch.no_grad():
        x = torch.stack(
            [m(torch.tensor([result.ids]), output_hidden_states=True).hidden_states[LAYER + 1][0] for m in bundle.pair],
            1,
        )
    expected = torch.einsum("bld,ldf->bf", x, weights).relu()[:, [3, 9]]
    np.testing.assert_allclose(result.activations, expected, rtol=1e-5, atol=1e-4)
    assert len(dashboard.top_features(TEXT, 5).features) == 5 and dashboard.n_features is None
    with pytest.raises(TypeError, match="a split needs a dictionary of load_dictionary"):
        dashboard.split_tracks(dashboard.encode(TEXT), 3)


def test_devices_and_hook_points(bundle):
    moved = CrosscoderOnlineFeatureDashboard(
        *bundle.pair, bundle.dictionary, LAYER, crosscoder_device="cpu", tokenizer=bundle.tokenizer
    )
    assert moved.analyze(TEXT, 3).features == [3]
    with pytest.raises(ValueError, match="unknown hook point 'middle'"):
        CrosscoderOnlineFeatureDashboard(
            *bundle.pair, Plain(torch.zeros(2, 1, 1)), LAYER, tokenizer=bundle.tokenizer, hook_point="middle"
        )
    with pytest.raises(ValueError, match=r"layer 9 is out of range: llama has 3 layers"):
        CrosscoderOnlineFeatureDashboard(*bundle.pair, Plain(torch.zeros(2, 1, 1)), 9, tokenizer=bundle.tokenizer)
    with pytest.raises(ValueError, match="trained on layer 1, and layer 2 was asked for"):
        CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, 2, tokenizer=bundle.tokenizer)


def test_an_sae_reads_one_model(bundle):
    weights = torch.randn(32, 20)
    sae = SimpleNamespace(encode=lambda x: (x @ weights).relu(), n_features=20)
    dashboard = SAEOnlineFeatureDashboard(bundle.pair[0], sae, LAYER, tokenizer=bundle.tokenizer)
    result = dashboard.analyze(TEXT, [3, 9])
    with torch.no_grad():
        x = bundle.pair[0](torch.tensor([result.ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
    np.testing.assert_allclose(result.activations, (x @ weights).relu()[:, [3, 9]], rtol=1e-5, atol=1e-4)
    assert dashboard.n_features == 20 and len(dashboard.top_features(TEXT, 4).features) == 4
    with pytest.raises(ValueError, match="reads 2 model"):
        SAEOnlineFeatureDashboard(bundle.pair[0], bundle.dictionary, LAYER, tokenizer=bundle.tokenizer)
    with pytest.raises(ValueError, match="does not say which layer"):
        SAEOnlineFeatureDashboard(bundle.pair[0], sae, tokenizer=bundle.tokenizer)


def test_an_sae_of_a_checkpoint(bundle, tmp_path):
    """From the file to the dashboard, as the config of an app names them."""
    generator = torch.Generator().manual_seed(3)
    encoder, decoder = torch.randn(40, 32, generator=generator), torch.randn(40, 32, generator=generator)
    bias = torch.randn(32, generator=generator)
    tensors = {"encoder.weight": encoder, "encoder.bias": torch.zeros(40), "W_dec": decoder, "b_dec": bias}
    save_file(tensors, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"k": 4, "d_in": 32, "num_latents": 40}))
    config = DashboardConfig(
        dictionary=str(tmp_path),
        models=(str(bundle.root / "chat"),),
        tokenizer=str(bundle.root / "tokenizer"),
        layer=LAYER,
        device="cpu",
        dtype="float32",
    )
    by_config: Any = config.open_online()
    sae = load_dictionary(tmp_path, device="cpu")
    by_hand = SAEOnlineFeatureDashboard(bundle.pair[1], sae, LAYER, tokenizer=bundle.tokenizer)
    for dashboard in (by_config, by_hand):
        result = dashboard.analyze(TEXT, [3, 9], chat=True)
        with torch.no_grad():
            x = bundle.pair[1](torch.tensor([result.ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        pre = (x - bias) @ encoder.T
        codes = pre.relu() * (pre >= pre.topk(4).values[:, -1:])
        np.testing.assert_allclose(result.activations, codes[:, [3, 9]], rtol=1e-5, atol=1e-4)
        content = codes[~torch.tensor(result.passage.special)]
        assert dashboard.top_features(TEXT, 3, chat=True).features == content.amax(0).topk(3).indices.tolist()
        with pytest.raises(ValueError, match="a crosscoder of two models"):
            dashboard.split_tracks(dashboard.encode(TEXT), 3)
        steered = list(dashboard.respond(dashboard.encode(TEXT), max_new_tokens=4, steer=[(3, 9.0)]))
        assert steered[-1].text.startswith(TEXT)
    without = SAEOnlineFeatureDashboard(
        bundle.pair[1], replace(sae, prepend_bos=False), LAYER, tokenizer=bundle.tokenizer
    )
    assert without.encode(TEXT).ids == by_hand.encode(TEXT).ids[1:]  # read as the dictionary was trained


def test_a_slow_tokenizer_without_bos_or_template(bundle):
    slow = SlowByteLevel(eos_token="</s>", chat_template=None)
    pair = [make_model(len(slow), seed) for seed in (0, 1)]
    dashboard = CrosscoderOnlineFeatureDashboard(*pair, bundle.dictionary, LAYER, tokenizer=slow)
    result = dashboard.analyze("été\n日", 3)
    assert "".join(result.tokens) == result.text == "été\n日" and not any(result.passage.special)
    assert len(result.ids) == len("été\n日".encode())
    dashboard.max_new_tokens = 4
    answered = dashboard.analyze("été", 3, generate=True)
    assert answered.text == "été" + answered.response and len(answered.ids) == 5 + 4
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        dashboard.analyze("hello", 3, chat=True)


def test_a_token_that_is_hostile_by_itself(dashboard):
    result = dashboard.analyze(f"see {PWN} end", 3, [4])
    assert PWN in result.tokens
    tree = parse(result.html.removeprefix("<!doctype html>"))
    assert not tree.all("img") and passages_of(tree)[0].text == f"<s>see {PWN} end"
    assert PWN in [t.text for t in tokens_of(tree)]


def test_a_featurizer_is_enough(bundle):
    dictionary = load_dictionary(bundle.root / "crosscoder", device="cpu", layer=LAYER)
    dashboard = FeaturizerDashboard(
        Featurizer(bundle.pair, dictionary, bundle.tokenizer), 7, {1: 2.0}, second_highlight_color="#123456"
    )
    result = dashboard.analyze(TEXT, [3, 4])
    assert result.window_size == 7 and dashboard.max_activation(1) == 2.0
    assert data_of(parse(result.fragment))["colors"] == [COLORS[0], "#123456"]


def test_code_makes_the_same_analysis(bundle, monkeypatch):
    monkeypatch.chdir(bundle.root)
    models = [bundle.root / name for name in ("base", "chat")]
    made = CrosscoderOnlineFeatureDashboard(
        *models, bundle.root / "crosscoder", LAYER, tokenizer=bundle.root / "tokenizer", max_acts={7: 5.0, 9: 1.0}
    )
    asked = {"tooltip_features": [9], "chat": True, "max_act": "auto", "mask_special": True}
    code = made.code(TEXT, 7, **asked)
    assert str(bundle.root) not in code and "max_acts={7: 5.0, 9: 1.0}" in code
    *lines, last = code.split("\ndashboard.analyze")
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    assert eval(f"dashboard.analyze{last}".strip(), names).html == made.analyze(TEXT, 7, **asked).html

"""Featurizer: models and a dictionary to feature activations, against the plain formula on hidden states."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers.small_models import (
    CONTEXT,
    LAYER,
    SHAPE,
    VOCAB,
    WIDTH,
    N,
    Wrapper,
    make_dictionary,
    small_model,
    word_tokenizer,
)
from tiny_dashboard.models.featurizer import Featurizer, check_fit, check_same_tokens

torch.set_num_threads(1)
IDS = [5, 9, 11, 30, 7, 8]


@pytest.fixture
def pair():
    base, chat = small_model(), small_model()
    with torch.no_grad():
        for parameter in chat.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return base, chat


@pytest.fixture
def crosscoder(tmp_path):
    return make_dictionary(tmp_path)[0]


def states(model, ids, layer=LAYER):
    with torch.no_grad():
        return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0]


def test_features_and_shares(pair, tmp_path):
    dictionary, t = make_dictionary(tmp_path)
    x = torch.stack([states(model, IDS) for model in pair], 1)
    featurizer = Featurizer(list(pair), dictionary, layer=LAYER)
    torch.testing.assert_close(featurizer.activations(IDS), x, rtol=0, atol=0)
    assert featurizer.activations([IDS, IDS[:2]]).shape == (2, 6, 2, WIDTH)
    norm = t["decoder.weight"].norm(dim=2).sum(0)
    parts = torch.einsum("sld,ldf->sfl", x, t["encoder.weight"]) * norm[:, None]
    full = (parts.sum(-1) + t["encoder.bias"] * norm).relu()
    full = full * (full > 30)
    assert 0 < (full > 0).float().mean() < 1
    for chosen in ([3], [40, 2, 2], list(range(N))):
        found = featurizer.read(IDS).values(chosen)
        assert found.dtype == torch.float32 and found.shape == (len(IDS), len(chosen))
        torch.testing.assert_close(found, full[:, chosen], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(
            featurizer.read(IDS).split(chosen), (parts * (full > 0)[..., None])[:, chosen], atol=1e-4, rtol=1e-5
        )
    with pytest.raises(ValueError, match="feature 50 is out of range: the dictionary has 50"):
        featurizer.read(IDS).values([50])


@pytest.mark.parametrize("ids", [IDS, IDS[:1]])
@pytest.mark.parametrize("hook_point", ["resid_post", "z"])
def test_an_sae(pair, tmp_path, ids, hook_point):
    dictionary, t = make_dictionary(tmp_path, 1, threshold=1.0, layer=LAYER, hook_point=hook_point)
    featurizer = Featurizer(pair[0], dictionary)
    x = featurizer.activations(ids)
    assert x.shape == (len(ids), 1, WIDTH)
    norm = t["decoder.weight"].norm(dim=2)[0]
    parts = x[:, 0] @ t["encoder.weight"][0] * norm
    full = (parts + t["encoder.bias"] * norm).relu()
    full = full * (full > 1)
    torch.testing.assert_close(featurizer.read(ids).values([7, 0, 3]), full[:, [7, 0, 3]], atol=1e-4, rtol=1e-5)
    shares = (parts * (full > 0))[:, [4, 1], None]
    torch.testing.assert_close(featurizer.read(ids).split([4, 1]), shares, atol=1e-4, rtol=1e-5)
    best = featurizer.read(ids).top(3)
    assert best.features == full.amax(0).topk(len(best.features)).indices.tolist() and best.features
    assert best.token_features.shape[0] == len(ids)
    torch.testing.assert_close(dictionary.get_activations(x, [5, 2]), full[:, [5, 2]], atol=1e-4, rtol=1e-5)


def test_top(pair, crosscoder, monkeypatch):
    featurizer = Featurizer(list(pair), crosscoder, layer=LAYER)
    codes = featurizer.read(IDS).values(range(N))
    values, positions = codes.max(0)
    order = [f for f in values.argsort(descending=True).tolist() if values[f] > 0]
    for tokens_at_once in (1, 4, 1000):
        monkeypatch.setattr("tiny_dashboard.models.reading.ENCODE_BYTES", tokens_at_once * 4 * N)
        top = featurizer.read(IDS).top(10, per_token=3)
        assert top.features == order[:10]
        assert top.positions == [int(positions[f]) for f in order[:10]]
        torch.testing.assert_close(torch.tensor(top.values), values[order[:10]])
        torch.testing.assert_close(top.token_values, codes.topk(3, 1).values)
        torch.testing.assert_close(codes.gather(1, top.token_features), top.token_values)
        maxima = torch.rand(codes.shape[1]) + 0.1
        maxima[::7] = torch.nan
        shares = (codes / maxima).nan_to_num(0)
        top = featurizer.read(IDS).top(10, per_token=3, maxima=maxima.tolist())
        torch.testing.assert_close(shares.gather(1, top.token_features), shares.topk(3, 1).values)
        torch.testing.assert_close(codes.gather(1, top.token_features), top.token_values)
    ignored = featurizer.read(IDS).top(N, ignore=[True] + [False] * 5)
    torch.testing.assert_close(torch.tensor(ignored.values), codes[1:].max(0).values[ignored.features])
    assert 0 not in ignored.positions
    assert featurizer.read(IDS).top(10 * N, per_token=10 * N).token_values.shape == (6, N)


def test_bf16_models_and_wrappers(pair, crosscoder):
    exact = Featurizer(list(pair), crosscoder, layer=LAYER).read(IDS).values(range(N))
    rough = (
        Featurizer([Wrapper(model.bfloat16()) for model in pair], crosscoder, layer=LAYER).read(IDS).values(range(N))
    )
    assert rough.dtype == torch.float32
    both = (exact > 0) & (rough > 0)
    assert both.float().sum() > 0.9 * (exact > 0).float().sum()
    torch.testing.assert_close(rough[both], exact[both], rtol=0.1, atol=2.0)


class Foreign(torch.nn.Module):
    """Someone else's crosscoder class, in bfloat16."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(weight.bfloat16())

    def get_activations(self, x, select_features=None):
        weight = self.weight if select_features is None else self.weight[:, :, select_features]
        return torch.einsum("bld,ldf->bf", x, weight).relu()


def test_foreign_dictionaries(pair):
    weight = torch.randn(2, WIDTH, N)
    featurizer = Featurizer(list(pair), Foreign(weight), layer=LAYER)
    found = featurizer.read(IDS).values([4, 1])
    assert found.dtype == torch.float32 and not found.requires_grad
    x = torch.stack([states(model, IDS) for model in pair], 1)
    torch.testing.assert_close(found, torch.einsum("sld,ldf->sf", x, weight).relu()[:, [4, 1]], rtol=0.1, atol=1.0)
    assert len(featurizer.read(IDS).top(5).features) == 5
    with pytest.raises(TypeError, match="a split needs a dictionary of load_dictionary"):
        featurizer.read(IDS).split([1])
    sae = SimpleNamespace(encode=lambda x: x @ weight[0])
    torch.testing.assert_close(Featurizer(pair[0], sae, layer=LAYER).read(IDS).values([3]), x[:, 0] @ weight[0][:, [3]])


def test_dictionaries_of_ones_own_that_do_not_fit(pair):
    weight = torch.randn(WIDTH, N)
    say = {
        "wide": (lambda x: x @ torch.randn(WIDTH + 1, N), r"take the activations, \[4, 32\] in torch.float32: mat1"),
        "half": (lambda x: x @ weight.half(), "An attribute d_model says its width, and dtype its type"),
        "tuple": (lambda x: (x @ weight, x), r"gave a tuple; it must give one tensor \[4, n_features\]"),
        "row": (lambda x: (x @ weight)[0], rf"gave a tensor \[{N}\]; it must give one tensor"),
        "nan": (lambda x: x @ weight * math.nan, "gives NaN or infinite values at 4 of 4 tokens"),
    }
    for encode, message in say.values():
        with pytest.raises(ValueError, match=message):
            Featurizer(pair[0], SimpleNamespace(encode=encode), layer=LAYER).read([3, 4, 5, 6]).top(3)
    every = SimpleNamespace(get_activations=lambda x, select_features=None: x[:, 0] @ weight)
    with pytest.raises(ValueError, match=r"must give one tensor \[4, 1\]"):
        Featurizer(pair[0], every, layer=LAYER).read([3, 4, 5, 6]).values([3])
    with pytest.raises(TypeError, match="the dictionary is a Linear; pass one of load_dictionary"):
        Featurizer(pair[0], torch.nn.Linear(2, 2), layer=LAYER)
    dense = Featurizer(pair[0], SimpleNamespace(encode=lambda x: (x @ weight).relu()), layer=LAYER)
    rows = Featurizer(pair[0], SimpleNamespace(encode=lambda x: (x @ weight).relu().to_sparse_csr()), layer=LAYER)
    torch.testing.assert_close(rows.read(IDS).values([1, 2]), dense.read(IDS).values([1, 2]))
    both = SimpleNamespace(encode=lambda x: torch.einsum("sld,df->sf", x, weight))  # a crosscoder with encode only
    assert Featurizer(list(pair), both, layer=LAYER).read(IDS).values([1]).shape == (len(IDS), 1)


def test_what_does_not_fit(pair, tmp_path):
    crosscoder, _ = make_dictionary(tmp_path)
    wide, _ = make_dictionary(tmp_path / "wide", width=WIDTH + 1)
    placed, _ = make_dictionary(tmp_path, layer=2)
    configs = [model.config for model in pair]
    for dictionary, given, layer, message in (
        (crosscoder, pair[:1], 1, r"reads 2 model\(s\), and 1 were given"),
        (wide, pair, 1, "width 33, and llama has 32"),
        (crosscoder, pair, 3, "layer 3 is out of range: llama has 3 layers"),
        (placed, pair, 1, "trained on layer 2, and layer 1 was asked for"),
    ):
        with pytest.raises(ValueError, match=message):
            Featurizer(list(given), dictionary, layer=layer)
        with pytest.raises(ValueError, match=message):  # from the configs alone, before any weights
            check_fit(configs[: len(given)], dictionary, layer, "resid_post")
    with pytest.raises(ValueError, match="does not say which layer"):
        Featurizer(list(pair), crosscoder)
    assert Featurizer(list(pair), placed).layer == 2
    before, _ = make_dictionary(tmp_path, hook_point="resid_pre")
    assert Featurizer(list(pair), before, layer=1).hook_point == "resid_pre"
    with pytest.raises(ValueError, match="the dictionary reads resid_pre, and resid_post was asked for"):
        Featurizer(list(pair), before, layer=1, hook_point="resid_post")
    with pytest.raises(ValueError, match="unknown hook point"):
        Featurizer(list(pair), crosscoder, layer=1, hook_point="middle")
    with pytest.raises(ValueError, match=f"41 tokens and the context of LlamaForCausalLM is {CONTEXT}"):
        Featurizer(list(pair), crosscoder, layer=1).read([3] * 41)


def test_tokenizers_must_agree(pair, crosscoder):
    base, chat = word_tokenizer("one", "two", "three"), word_tokenizer("one", "two")
    check_same_tokens("one two", [base, chat])
    with pytest.raises(ValueError, match=r"\(3 and 3 tokens\): token 2 is 'three' in one and '\?' in the other"):
        check_same_tokens("one two three", [base, chat])
    wrapped = [Wrapper(model) for model in pair]
    wrapped[0].tokenizer, wrapped[1].tokenizer = base, chat
    featurizer = Featurizer(wrapped, crosscoder, layer=1)
    assert featurizer.tokenizer is chat
    featurizer.check_text("two one")
    with pytest.raises(ValueError, match="disagree"):
        featurizer.check_text("three")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "bloom"])
def test_generate(name, tmp_path):
    model = small_model(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCAB, WIDTH))  # tied, it would say one token for ever
    featurizer = Featurizer(model, make_dictionary(tmp_path, n_models=1)[0], layer=LAYER)
    model.generation_config.eos_token_id = None
    expected = model.generate(torch.tensor([IDS]), max_new_tokens=12, do_sample=False)[0, len(IDS) :].tolist()
    assert list(featurizer.generate(IDS, 12)) == expected
    # A stop token ends it, and is not given out.
    stop = next(token for token in expected if token != expected[0])
    model.generation_config.eos_token_id = [63, stop]
    assert list(featurizer.generate(IDS, 12)) == expected[: expected.index(stop)]
    # Sampling is reproducible and depends on the seed.
    model.generation_config.eos_token_id = None
    runs = [list(featurizer.generate(IDS, 12, temperature=2.0, seed=seed)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_generation_is_lazy_bounded_and_stoppable(pair, crosscoder):
    base, chat = pair
    chat.generation_config.eos_token_id = None
    featurizer = Featurizer([base, chat], crosscoder, layer=LAYER)
    calls = []
    handle = chat.register_forward_pre_hook(lambda *_: calls.append(1))
    stream = featurizer.generate(IDS, 1000)
    assert calls == []
    first = list(itertools.islice(stream, 2))
    assert len(calls) == 2
    stream.close()
    assert list(stream) == [] and len(calls) == 2
    handle.remove()
    assert len(list(featurizer.generate(IDS, 1000))) == CONTEXT - len(IDS)
    assert first == list(featurizer.generate(IDS, 2))
    chat.lm_head.weight.data = -base.lm_head.weight.data
    assert list(featurizer.generate(IDS, 2, model=0)) != list(featurizer.generate(IDS, 2))
    with pytest.raises(ValueError, match="temperature is -1"):
        featurizer.generate(IDS, temperature=-1)
    with pytest.raises(ValueError, match="41 tokens"):
        featurizer.generate([3] * 41)
    with pytest.raises(ValueError, match="token id 64"):
        featurizer.generate([VOCAB])
    with pytest.raises(RuntimeError, match="NaN logits in torch.float32"):
        chat.lm_head.weight.data.fill_(float("nan"))
        next(featurizer.generate(IDS))


def test_steering(pair, crosscoder):
    base, chat = pair
    chat.generation_config.eos_token_id = None
    featurizer = Featurizer([base, chat], crosscoder, layer=LAYER)
    plain = list(featurizer.generate(IDS, 10))
    assert list(featurizer.generate(IDS, 10, steer=[(3, 0.0)])) == plain
    steered = list(featurizer.generate(IDS, 10, steer=[(3, 400.0), (5, -2.0)]))
    assert steered != plain
    # By hand: the whole sequence again for each token, with the direction added after the layer.
    direction = 400 * crosscoder.writes([3])[0, 1] - 2 * crosscoder.writes([5])[0, 1]
    handle = chat.model.layers[LAYER].register_forward_hook(lambda _m, _a, out: out + direction)
    ids = list(IDS)
    with torch.no_grad():
        for _ in range(10):
            ids.append(int(chat(torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    assert steered == ids[len(IDS) :]
    assert list(featurizer.generate(IDS, 10)) == plain
    with pytest.raises(ValueError, match="feature 50 is out of range"):
        featurizer.generate(IDS, steer=[(50, 1.0)])


def test_clamping(pair, crosscoder, tmp_path):
    model = pair[0]
    model.generation_config.eos_token_id = None
    sae, _ = make_dictionary(tmp_path / "sae", n_models=1)
    featurizer = Featurizer(model, sae, layer=LAYER)
    clamped = list(featurizer.generate(IDS, 8, steer=[(3, 90.0), (8, 0.0)], clamp=True))

    def by_hand(_module, _args, hidden):
        current = sae.encode(hidden, [3, 8])
        return hidden + (torch.tensor([90.0, 0.0]) - current) @ sae.writes([3, 8])[:, 0]

    handle = model.model.layers[LAYER].register_forward_hook(by_hand)
    ids = list(IDS)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    handle.remove()
    assert clamped == ids[len(IDS) :]
    with pytest.raises(ValueError, match="clamped only where one model is read"):
        Featurizer(list(pair), crosscoder, layer=LAYER).generate(IDS, steer=[(3, 1.0)], clamp=True)


@pytest.mark.parametrize(
    ("name", "more", "widths"),
    [
        ("deepseek_v3", {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
                         "v_head_dim": 12, "num_key_value_heads": 4, "first_k_dense_replace": 2}, [48, 48]),
        ("gemma4_text", {"num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16, "num_kv_shared_layers": 0,
                         "hidden_size_per_layer_input": 0, "layer_types": ["sliding_attention", "full_attention"]},
         [32, 64]),
    ],
)  # fmt: skip
def test_the_width_of_z_is_the_modules(tmp_path, name, more, widths):
    """Attention with values of a size of their own, and with heads of another size in each layer."""
    config = AutoConfig.for_model(name, **SHAPE | {"num_hidden_layers": 2, "pad_token_id": 0}, **more)
    model = AutoModelForCausalLM.from_config(config).eval()
    for layer, width in enumerate(widths):
        fitting, _ = make_dictionary(tmp_path / str(width), 1, width)
        featurizer = Featurizer(model, fitting, layer=layer, hook_point="z")
        assert featurizer.read(IDS).values([3]).shape == (len(IDS), 1)
        with pytest.raises(ValueError, match=f"width 7, and {name} has {width} at z"):
            Featurizer(model, make_dictionary(tmp_path / "other", 1, 7)[0], layer=layer, hook_point="z")


def test_a_transcoder_is_steered_where_it_writes(pair, tmp_path):
    """It reads the stream between attention and MLP, or the MLP's input normalised, and adds to the MLP's output."""
    model = pair[0]
    model.generation_config.eos_token_id = None
    sae, _ = make_dictionary(tmp_path, n_models=1)
    for point in ("resid_mid", "mlp_in_normalized", "mlp_in"):
        transcoder = replace(sae, hook_point=point, writes_at="mlp_out")
        featurizer = Featurizer(model, transcoder, layer=LAYER)
        steered = list(featurizer.generate(IDS, 6, steer=[(3, 400.0)]))
        direction = 400 * sae.writes([3])[0, 0]
        handle = model.model.layers[LAYER].mlp.register_forward_hook(lambda _m, _a, out, d=direction: out + d)
        assert steered == list(featurizer.generate(IDS, 6)) != []
        handle.remove()
        with pytest.raises(ValueError, match="clamped only where one model is read and written at one place"):
            featurizer.generate(IDS, steer=[(3, 1.0)], clamp=True)
    with pytest.raises(ValueError, match="depends on a normalisation of each token at mlp_in_normalized"):
        Featurizer(model, replace(sae, hook_point="mlp_in_normalized"), layer=LAYER).generate(IDS, steer=[(3, 1.0)])
    # An SAE of the stream between the two is written where attention adds to it: the residual stream has it, too.
    between = Featurizer(model, replace(sae, hook_point="resid_mid"), layer=LAYER)
    steered = list(between.generate(IDS, 6, steer=[(3, 400.0)]))
    handle = model.model.layers[LAYER].self_attn.register_forward_hook(
        lambda _m, _a, out: (out[0] + direction, *out[1:])
    )
    assert steered == list(between.generate(IDS, 6))
    handle.remove()

"""What users hold as model, dictionary or tokenizer: names, wrappers, functions, and other libraries' own objects.

Those libraries bring many packages: their tests run in `scripts/oracles`, and are skipped elsewhere.
"""

from __future__ import annotations

import functools

import pytest
import torch

from tests.helpers.bundle import CONTEXT, LAYER, make_model
from tiny_dashboard import CrosscoderOnlineFeatureDashboard, SAEOnlineFeatureDashboard
from tiny_dashboard.hub import load_tokenizer

torch.set_num_threads(1)
FEATURES = list(range(12))


@pytest.fixture(scope="module")
def held(bundle):
    """A model of the bundle's, its tokenizer and the width."""
    model = bundle.pair[0]
    return model, bundle.tokenizer, model.config.hidden_size


@pytest.fixture
def encode(held):
    weight = torch.randn(held[2], 12, generator=torch.Generator().manual_seed(0))
    return lambda x: torch.relu(x @ weight)


def values(model, sae, layer=LAYER, tokenizer=None, **options):
    """What a dashboard of these gives on one text, `[seq, 12]`, and the dashboard."""
    dashboard = SAEOnlineFeatureDashboard(model, sae, layer, tokenizer=tokenizer, **options)
    return torch.tensor(dashboard.analyze("The quick fox", 0, FEATURES[1:]).activations), dashboard


def test_names_functions_and_places(bundle, held, encode):
    model, tokenizer, width = held
    expected, _ = values(model, encode, tokenizer=tokenizer)
    assert (expected > 0).any()
    for given in (str(bundle.root / "base"), bundle.root / "base"):
        torch.testing.assert_close(values(given, encode, tokenizer=str(bundle.root / "tokenizer"))[0], expected)
    for place in (f"blocks.{LAYER}.hook_resid_post", f"model.layers.{LAYER}"):
        torch.testing.assert_close(values(model, encode, place, tokenizer)[0], expected)
        torch.testing.assert_close(values(model, encode, None, tokenizer, hook_point=place)[0], expected)
    pair = [str(bundle.root / name) for name in ("base", "chat")]
    crosscoder = str(bundle.root / "crosscoder")
    with pytest.raises(ValueError, match="chat holds no tokenizer; give tokenizer="):
        CrosscoderOnlineFeatureDashboard(*pair, crosscoder, LAYER)
    dashboard = CrosscoderOnlineFeatureDashboard(*pair, crosscoder, LAYER, tokenizer=bundle.root / "tokenizer")
    assert dashboard.n_features == bundle.dictionary.n_features and dashboard.decoder is not None
    for wrong, said in (
        ({"layer": "blocks.1.hook_q"}, "unknown hook point 'blocks.1.hook_q'"),
        ({"layer": 0, "hook_point": f"blocks.{LAYER}.hook_resid_post"}, f"is resid_post of layer {LAYER}; layer=0"),
        ({"sae": torch.nn.Linear(width, 12)}, "the dictionary is a Linear; pass one of load_dictionary"),
        ({"sae": "no/such/folder"}, "no/such/folder"),
    ):
        with pytest.raises((ValueError, TypeError, OSError), match=said):
            values(model, **({"sae": encode, "tokenizer": tokenizer} | wrong))


def test_wrappers_of_torch_and_transformers(held, encode):
    from transformers import pipeline

    model, tokenizer, _ = held
    expected, _ = values(model, encode, tokenizer=tokenizer)
    torch.testing.assert_close(values(torch.nn.DataParallel(model), encode, tokenizer=tokenizer)[0], expected)
    line = pipeline("text-generation", model=model, tokenizer=tokenizer)
    torch.testing.assert_close(values(line, encode)[0], expected)


def test_an_encode_of_two_models_sees_both(bundle):
    class Sum:
        def encode(self, x):
            assert x.shape[1:] == (2, bundle.dictionary.d_model)
            return x.sum(1)

    dashboard = CrosscoderOnlineFeatureDashboard(*bundle.pair, Sum(), LAYER, tokenizer=bundle.tokenizer)
    assert dashboard.analyze("The quick fox", 0).activations.any()


# --- other libraries' models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["model", "dispatched", "lazy"])
def test_nnsight(bundle, held, encode, way):
    nnsight = pytest.importorskip("nnsight")
    model, tokenizer, _ = held
    expected, _ = values(model, encode, tokenizer=tokenizer)
    given = model if way == "model" else str(bundle.root / "base")
    options = {} if way == "model" else {"dispatch": way == "dispatched", "dtype": torch.float32}
    torch.testing.assert_close(
        values(nnsight.LanguageModel(given, tokenizer=tokenizer, **options), encode)[0], expected
    )


def test_transformer_lens(bundle, held, encode):
    lens = pytest.importorskip("transformer_lens")
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = load_tokenizer(bundle.root / "tokenizer")  # it asks for the name
    model = make_model(len(tokenizer), 7)
    expected, _ = values(model, encode, tokenizer=tokenizer)
    bridge = TransformerBridge.boot_transformers("HuggingFaceTB/SmolLM2-135M", hf_model=model, tokenizer=tokenizer)
    torch.testing.assert_close(values(bridge, encode, tokenizer=tokenizer)[0], expected, rtol=1e-4, atol=1e-4)
    bridge.enable_compatibility_mode()
    with pytest.raises(ValueError, match="TransformerBridge has folded its weights .* pass the model of transformers"):
        values(bridge, encode, tokenizer=tokenizer)
    if hasattr(lens, "HookedTransformer"):
        own = {"n_layers": 2, "d_model": 32, "n_ctx": CONTEXT, "d_head": 8, "d_vocab": 64, "act_fn": "relu"}
        with pytest.raises(TypeError, match="HookedTransformer is no model of transformers"):
            values(lens.HookedTransformer(lens.HookedTransformerConfig(**own)), encode, tokenizer=tokenizer)


def test_peft(held, encode):
    peft = pytest.importorskip("peft")
    _, tokenizer, _ = held
    expected, _ = values(make_model(len(tokenizer), 7), encode, tokenizer=tokenizer)
    lora = peft.get_peft_model(make_model(len(tokenizer), 7), peft.LoraConfig(target_modules=["q_proj"]))
    torch.testing.assert_close(values(lora, encode, tokenizer=tokenizer)[0], expected)
    torch.nn.init.normal_(next(p for name, p in lora.named_parameters() if "lora_B" in name))
    assert not torch.allclose(values(lora, encode, tokenizer=tokenizer)[0], expected), "the adapter counts"
    prompts = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(ValueError, match="not one vector for each token"):
        values(peft.get_peft_model(make_model(len(tokenizer), 7), prompts), encode, tokenizer=tokenizer)


# --- other libraries' dictionaries ------------------------------------------------------------------------------------


def randomised(module):
    for number, (name, parameter) in enumerate(module.named_parameters()):
        drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        parameter.data = (drawn.abs() if "threshold" in name else drawn) * 0.3
    return module


def sae_lens_sae(kind, width):
    registry = pytest.importorskip("sae_lens.registry")
    sae_class, config_class = registry.get_sae_class(kind)
    config = config_class(d_in=width, d_sae=12, **({"k": 3} if kind == "topk" else {}))
    config.metadata.hook_name = f"blocks.{LAYER}.hook_resid_post"
    return sae_class(config)


def dict_learning(kind, width):
    module = pytest.importorskip("dictionary_learning.dictionary")
    if kind == "AutoEncoderTopK":
        from dictionary_learning.trainers.top_k import AutoEncoderTopK

        return AutoEncoderTopK(width, 12, 3)
    if kind == "BatchTopKSAE":
        from dictionary_learning.trainers.batch_top_k import BatchTopKSAE

        made = BatchTopKSAE(width, 12, 3)
        made.threshold.fill_(0.5)
        return made
    return getattr(module, kind)(width, 12)


def sparsify_coder(kind, width):
    sparsify = pytest.importorskip("sparsify")
    return sparsify.SparseCoder(width, sparsify.SparseCoderConfig(num_latents=12, k=3, activation=kind))


KINDS = [
    *((sae_lens_sae, kind) for kind in ("standard", "topk", "jumprelu", "gated")),
    *((dict_learning, f"{kind}AutoEncoder") for kind in ("", "Gated", "JumpRelu")),
    *((dict_learning, kind) for kind in ("AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE")),
    *((sparsify_coder, kind) for kind in ("topk", "groupmax")),
]


@pytest.mark.parametrize(("make", "kind"), KINDS, ids=[f"{make.__name__} {kind}" for make, kind in KINDS])
def test_live_dictionaries(held, make, kind):
    """They give what their own encode gives, and have all that a loaded one has: decoder, number, layer, steering."""
    model, tokenizer, width = held
    live = randomised(make(kind, width))
    layer = None if make is sae_lens_sae else LAYER
    shown, dashboard = values(model, live, layer, tokenizer)
    x = dashboard.featurizer.activations(tokenizer("The quick fox")["input_ids"])[:, 0]
    with torch.no_grad():
        expected = live.encode(x)
    if make is sparsify_coder:
        expected = torch.zeros(len(x), 12).scatter(1, expected.top_indices, expected.top_acts)
    torch.testing.assert_close(shown.float(), expected, rtol=1e-4, atol=1e-4)
    assert dashboard.n_features == 12 and dashboard.decoder is not None
    assert dashboard.generate_model_response("The", steer={3: 50.0})
    if make is sae_lens_sae:
        with pytest.raises(ValueError, match=f"trained on layer {LAYER}, and layer 0 was asked for"):
            values(model, live, 0, tokenizer)
    with pytest.raises(ValueError, match=f"width {width + 1}, and llama has {width}"):
        values(model, make(kind, width + 1), LAYER, tokenizer)


def test_a_subclass_keeps_its_own_encode(held):
    live = randomised(dict_learning("AutoEncoderNew", held[2]))
    live.encode = functools.partial(lambda encode, x: 2 * encode(x), live.encode)
    _, dashboard = values(held[0], live, LAYER, held[1])
    assert dashboard.featurizer.dictionary is live

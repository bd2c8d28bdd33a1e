"""Activations of small random models of the real classes, against ways of getting them without our hooks."""

import threading

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    XLMWithLMHeadModel,
)

from tests.helpers.small_models import CONFIGS, GROUPED, SHAPE, VOCAB, WIDTH, Wrapper, small_model
from tiny_dashboard.hub import resolve_device
from tiny_dashboard.models.activations import get_activations
from tiny_dashboard.models.architecture import HOOK_POINTS, find_hook, hooked, unwrap_model
from tiny_dashboard.models.generation import generate

torch.set_num_threads(1)


@pytest.fixture(params=[*CONFIGS, "gemma3 multimodal"])
def model(request):
    return small_model(request.param)


def other_model(kind, **more):
    """A small model of an architecture that is named only, with what its config needs besides."""
    torch.manual_seed(0)
    config = {**SHAPE, **GROUPED, "pad_token_id": 0} | more
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config)).eval()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("glm4", {"head_dim": 8}),
        ("granite", {"residual_multiplier": 0.22}),
        (
            "afmoe",
            {
                "moe_intermediate_size": 16,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "num_dense_layers": 2,
                "head_dim": 8,
            },
        ),
        ("falcon", {}),
        ("cohere", {}),
        ("exaone4", {}),
        ("olmo3", {}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_are_what_the_block_adds(kind, more, dtype):
    model = other_model(kind, **more).to(dtype)
    ids = torch.randint(3, VOCAB, (1, 9))
    found = {p: get_activations(model, ids, 1, p).float() for p in ("resid_pre", "resid_post", "attn_out", "mlp_out")}
    added = found["resid_post"] - found["resid_pre"]
    off = (found["attn_out"] + found["mlp_out"] - added).norm() / added.norm()
    assert off < (1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize(
    ("kind", "more"), [("falcon_h1", {"mamba_d_ssm": 32, "mamba_n_heads": 4}), ("minimax", {"head_dim": 8})]
)
def test_parts_that_do_not_add_up_are_refused(kind, more):
    model = other_model(kind, **more)
    with pytest.raises(ValueError, match=r"(attn|mlp)_out (cannot be told in layer 1|was not found)"):
        get_activations(model, [3, 4, 5], 1, "mlp_out")
    assert get_activations(model, [3, 4, 5], 1, "resid_post").shape == (1, 3, WIDTH)


def test_models_without_one_stream_of_layers_are_refused():
    streams = other_model(
        "gemma3n_text", head_dim=8, vocab_size_per_layer_input=VOCAB, hidden_size_per_layer_input=8, altup_num_inputs=4,
        laurel_rank=4, num_kv_shared_layers=0, layer_types=["sliding_attention"] * 2 + ["full_attention"],
        activation_sparsity_pattern=[0.0] * 3,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"hidden states of shape \[4, 1, 3, 32\] for \[1, 3\] tokens"):
        get_activations(streams, [3, 4, 5], 1)
    xlm = AutoConfig.for_model("xlm", vocab_size=VOCAB, emb_dim=32, n_layers=3, n_heads=4)
    with pytest.raises(ValueError, match="keeps its attentions in a list of their own"):
        get_activations(XLMWithLMHeadModel(xlm).eval(), [3, 4, 5], 1)
    t5 = AutoConfig.for_model("t5", vocab_size=VOCAB, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration is an encoder and a decoder"):
        get_activations(AutoModelForSeq2SeqLM.from_config(t5), [3, 4, 5], 1)


def hooks_of(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]


def test_hook_points(model):
    ids = torch.randint(3, VOCAB, (2, 7))
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    before = hooks_of(model)
    found = {p: get_activations(model, ids, 1, p) for p in HOOK_POINTS if p not in ("resid_mid", "mlp_in_normalized")}
    assert hooks_of(model) == before
    torch.testing.assert_close(found["resid_pre"], states[1], rtol=0, atol=0)
    torch.testing.assert_close(found["resid_post"], states[2], rtol=0, atol=0)
    # What attention and MLP add makes the difference between the two.
    torch.testing.assert_close(states[1] + found["attn_out"] + found["mlp_out"], states[2])
    # The inner points: the module that follows them turns them into the outer ones.
    for inner, outer, norm in (
        ("mlp_in", "mlp_out", "post_feedforward_layernorm"),
        ("z", "attn_out", "post_attention_layernorm"),
    ):
        block = find_hook(model, 1, "resid_post")[0]
        with torch.no_grad():
            module = find_hook(model, 1, inner)[0]
            if "Bloom" in type(model).__name__ and inner == "mlp_in":
                value = module(found[inner], torch.zeros(WIDTH))
            elif hasattr(block, "fc1") and inner == "mlp_in":
                value = block.fc2(block.activation_fn(block.fc1(found[inner])))
            else:
                value = module(found[inner])
            if hasattr(block, "post_feedforward_layernorm"):
                value = getattr(block, norm)(value)
        torch.testing.assert_close(value, found[outer])


def test_before_the_mlp(model):
    """The stream between attention and MLP, and what the norm makes of it without its gain and bias."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name:
            parameter.data += torch.rand(parameter.shape, generator=generator)
    ids, name = [5, 6, 7, 8, 9], type(model).__name__
    if name == "Olmo2ForCausalLM":
        with pytest.raises(ValueError, match="its MLP reads no norm's output; try mlp_in"):
            get_activations(model, ids, 1, "mlp_in_normalized")
        return
    x = before = get_activations(model, ids, 1, "resid_pre")
    if name in ("GPTJForCausalLM", "GPTNeoXForCausalLM"):
        with pytest.raises(ValueError, match="has no resid_mid: attention and MLP read the same stream"):
            get_activations(model, ids, 1, "resid_mid")
    else:
        x = get_activations(model, ids, 1, "resid_mid")
        torch.testing.assert_close(x, before + get_activations(model, ids, 1, "attn_out"))
    norm = find_hook(model, 1, "mlp_in_normalized").module
    torch.testing.assert_close(norm(x), get_activations(model, ids, 1, "mlp_in"))
    x = x - x.mean(-1, keepdim=True) if isinstance(norm, torch.nn.LayerNorm) else x
    by_hand = (
        x / (x.square().mean(-1, keepdim=True) + getattr(norm, "eps", getattr(norm, "variance_epsilon", 1e-6))).sqrt()
    )
    torch.testing.assert_close(get_activations(model, ids, 1, "mlp_in_normalized"), by_hand, rtol=1e-3, atol=1e-4)


def test_right_padding_changes_nothing(model):
    rows = [[5, 6, 7, 8, 9], [9, 8], [3]]
    batch = get_activations(model, rows, 2)
    assert batch.shape == (3, 5, WIDTH)
    for row, found in zip(rows, batch, strict=True):
        torch.testing.assert_close(found[: len(row)], get_activations(model, row, 2)[0], atol=1e-5, rtol=1e-4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    ids = torch.tensor([row + [0] * (5 - len(row)) for row in rows])
    torch.testing.assert_close(get_activations(model, ids, 2, attention_mask=mask), batch)
    with pytest.raises(ValueError, match="padded on the left"):
        get_activations(model, ids, 2, attention_mask=mask.flip(1))


def test_the_pass_stops_at_the_layer():
    model = small_model()
    ran = []
    model.model.layers[1].register_forward_hook(lambda *_: ran.append(1))
    model.model.layers[2].register_forward_hook(lambda *_: ran.append(2))
    get_activations(model, [3, 4], 1)
    assert ran == [1]


def test_hooks_go_even_when_the_model_fails():
    model = small_model()
    before = hooks_of(model)
    model.model.layers[0].mlp.down_proj.weight.data = torch.zeros(1, 1)
    with pytest.raises(RuntimeError):
        get_activations(model, [3, 4], 2)
    assert hooks_of(model) == before


def test_threads_do_not_see_each_other():
    model = small_model()
    expected = {layer: get_activations(model, [3, 4, 5], layer) for layer in range(3)}
    wrong = []

    def work(layer):
        for _ in range(30):
            if not torch.equal(get_activations(model, [3, 4, 5], layer), expected[layer]):
                wrong.append(layer)

    threads = [threading.Thread(target=work, args=(layer,)) for layer in range(3)]
    with hooked(model.model.layers[0], lambda h: h * 0):  # this thread's hook is not theirs
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_hooked_can_replace():
    model = small_model()
    with hooked(model.model.layers[0], lambda h: h + 1), torch.no_grad():
        changed = model.model(torch.tensor([[3, 4]]), output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(changed, get_activations(model, [3, 4], 0) + 1)
    with hooked(model.model.layers[1], lambda h: h + 1, on_input=True), torch.no_grad():
        shifted = get_activations(model, [3, 4], 1, "resid_pre")
    torch.testing.assert_close(shifted, get_activations(model, [3, 4], 1, "resid_pre") + 1)


@pytest.mark.parametrize("name", ["_model", "_module", "module", "pretrained_model"])
def test_models_inside_others(name):
    model = small_model("gpt2")

    class Holder:
        pass

    holder = Holder()
    setattr(holder, name, model)
    assert unwrap_model(holder) is model
    assert unwrap_model(torch.nn.DataParallel(model)) is model
    with pytest.raises(TypeError, match=r"Linear is no model of transformers; load it with AutoModelForCausalLM"):
        unwrap_model(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("how", ["cpu_offload", "disk_offload"])
def test_weights_that_accelerate_brings_when_they_are_needed(how, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    expected = get_activations(small_model("gpt2"), [3, 4], 1, "mlp_out")
    model = small_model("gpt2")
    where = {"offload_dir": tmp_path} if how == "disk_offload" else {}
    getattr(accelerate, how)(model, execution_device="cpu", **where)
    assert next(model.parameters()).is_meta
    torch.testing.assert_close(get_activations(model, [3, 4], 1, "mlp_out"), expected)
    assert len(list(generate(model, [3, 4], 2))) == 2


def test_wrappers_and_dtypes():
    model = small_model("gpt2")
    torch.testing.assert_close(get_activations(Wrapper(model), [3], 1), get_activations(model, [3], 1))
    assert get_activations(model.bfloat16(), [3], 1).dtype == torch.bfloat16
    bare = small_model("gpt2").transformer
    assert get_activations(bare, [3], 1).shape == (1, 1, WIDTH)
    with pytest.raises(TypeError, match="expected a Hugging Face model.* got str"):
        unwrap_model("gpt2")
    with pytest.raises(ValueError, match="not loaded .*dispatch=True"):
        get_activations(small_model().to("meta"), [3], 1)
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else resolve_device("auto").type)


@pytest.mark.parametrize(
    ("ids", "layer", "point", "message"),
    [
        ([3], 3, "resid_post", "layer 3 is out of range: LlamaForCausalLM has 3 layers"),
        ([3], -1, "resid_post", "layer -1 is out of range"),
        ([3], 0, "resid", "unknown hook point 'resid'; choose one of resid_pre"),
        ([], 0, "resid_post", "there are no tokens"),
        ([[3], []], 0, "resid_post", "there are no tokens"),
        ([3] * 41, 0, "resid_post", "the text has 41 tokens and the context of LlamaForCausalLM is 40"),
        ([64], 0, "resid_post", r"token id 64 is outside the vocabulary of LlamaForCausalLM \(64 ids\)"),
        ([-1], 0, "resid_post", "token id -1 is outside"),
    ],
)
def test_bad_calls(ids, layer, point, message):
    with pytest.raises(ValueError, match=message):
        get_activations(small_model(), ids, layer, point)

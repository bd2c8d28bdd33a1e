"""Readers against the families' own classes and files, where those are installed: `scripts/oracles` sees to it."""

import pytest
import torch

from tests.helpers.checkpoints import W
from tiny_dashboard.demo import FOLDER
from tiny_dashboard.dictionaries import load_dictionary

torch.set_num_threads(1)
N = 12
X = torch.randn(50, W, generator=torch.Generator().manual_seed(0))


def randomise(module):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if name == "r_mag" else 1.0)
        if name.rpartition(".")[2] == "threshold":
            parameter.data = parameter.data.abs()


def check(folder, expected, x=X, **which):
    dictionary = load_dictionary(folder, device="cpu", **which)
    torch.testing.assert_close(dictionary.encode(x), expected, rtol=1e-5, atol=1e-5)
    fresh = load_dictionary(folder, device="cpu", **which).encode(x, [7, 2, 2])
    torch.testing.assert_close(fresh, expected[:, [7, 2, 2]], rtol=1e-5, atol=1e-5)
    assert 0 < (expected > 0).float().mean() < 1
    return dictionary


@pytest.mark.parametrize("normalise", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(
    "architecture", ["standard", "jumprelu", "topk", "abstopk", "gated", "transcoder", "skip_transcoder"]
)
def test_saelens(tmp_path, architecture, centred, normalise):
    registry = pytest.importorskip("sae_lens.registry")
    if "transcoder" in architecture and centred:
        pytest.skip("a transcoder takes no bias off its input")
    sae_class, config_class = registry.get_sae_class(architecture)
    options = {"k": 3, "rescale_acts_by_decoder_norm": True} if "topk" in architecture else {}
    if "transcoder" in architecture:
        options["d_out"] = W + 1
    config = config_class(d_in=W, d_sae=N, apply_b_dec_to_input=centred, normalize_activations=normalise, **options)
    config.metadata.hook_name = "blocks.4.hook_resid_post"
    sae = sae_class(config)
    randomise(sae)
    with torch.no_grad():
        expected = sae.encode(X)
        value = sae.decode(torch.eye(N)) - sae.decode(torch.zeros(1, N)) if normalise == "none" else None
    sae.save_model(tmp_path)
    dictionary = check(tmp_path, expected)
    assert (dictionary.layer, dictionary.hook_point) == (4, "resid_post")
    if value is not None:
        torch.testing.assert_close(dictionary.writes(range(N))[:, 0], value, rtol=1e-4, atol=1e-5)


def test_saelens_reads_the_demos_sae():
    sae_lens = pytest.importorskip("sae_lens")
    folder = FOLDER / "smollm" / "sae"
    sae = sae_lens.SAE.load_from_disk(folder, device="cpu")
    x = sae.b_dec.detach() + 5 * torch.randn(50, 576, generator=torch.Generator().manual_seed(0))
    dictionary = check(folder, sae.encode(x).detach(), x)
    assert sae.cfg.metadata.hook_name == f"blocks.{dictionary.layer}.hook_resid_post"


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_sparsify(tmp_path, activation, transcode):
    sparsify = pytest.importorskip("sparsify")
    config = sparsify.SparseCoderConfig(num_latents=N, k=3, activation=activation, transcode=transcode)
    coder = sparsify.SparseCoder(W, config)
    randomise(coder)
    with torch.no_grad():
        found = coder.encode(X)
        expected = torch.zeros(len(X), N).scatter(1, found.top_indices, found.top_acts)
    coder.save_to_disk(tmp_path / "layers.3")
    check(tmp_path / "layers.3", expected)


@pytest.mark.parametrize(("least", "most"), [(0.3, None), (0.0, 4)])
@pytest.mark.parametrize("normalise", ["none", "layer_norm"])
def test_saelens_matching_pursuit(tmp_path, normalise, least, most):
    registry = pytest.importorskip("sae_lens.registry")
    sae_class, config_class = registry.get_sae_class("matching_pursuit")
    options = {"normalize_activations": normalise, "residual_threshold": least, "max_iterations": most}
    sae = sae_class(config_class(d_in=W, d_sae=N, **options))
    randomise(sae)
    sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
    sae.save_model(tmp_path)
    with torch.no_grad():
        check(tmp_path, sae.encode(X))


def test_saelens_temporal_is_refused(tmp_path):
    registry = pytest.importorskip("sae_lens.registry")
    sae_class, config_class = registry.get_sae_class("temporal")
    for tied in (True, False):
        config = config_class(d_in=W, d_sae=N, n_heads=1, bottleneck_factor=4, kval_topk=3, tied_weights=tied)
        sae_class(config).save_model(tmp_path)
        with pytest.raises(ValueError, match="its code of a token depends on the tokens before it"):
            load_dictionary(tmp_path, device="cpu")


@pytest.mark.parametrize("norm", ["dataset-wise", "token-wise", "inference"])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("n_heads", [0, 3])  # 0: an SAE
def test_openmoss(tmp_path, n_heads, act_fn, by_norm, norm):
    pytest.importorskip("llamascopium")
    from llamascopium.models import crosscoder, sae

    if n_heads and not by_norm:
        pytest.skip("a crosscoder includes the decoder norm")
    hooks = [f"blocks.{4 + head}.hook_resid_post" for head in range(max(1, n_heads))]
    options = {"d_model": W, "expansion_factor": N / W, "act_fn": act_fn, "norm_activation": norm, "top_k": 3}
    options |= {"sparsity_include_decoder_norm": by_norm, "dtype": torch.float32, "device": "cpu"}
    if n_heads:
        model = crosscoder.Crosscoder(crosscoder.CrosscoderConfig(hook_points=hooks, **options))
    else:
        model = sae.SparseAutoEncoder(sae.SAEConfig(hook_point_in=hooks[0], hook_point_out=hooks[0], **options))
    randomise(model)
    model.set_dataset_average_activation_norm({hook: 2.0 + place for place, hook in enumerate(hooks)})
    model.save_pretrained(tmp_path)
    model.cfg.save_hyperparameters(tmp_path)
    x = torch.randn(50, max(1, n_heads), W, generator=torch.Generator().manual_seed(2))
    batch = model.normalize_activations({hook: x[:, place] for place, hook in enumerate(hooks)})
    with torch.no_grad():
        codes = model.encode(torch.stack(list(batch.values()), -2) if n_heads else batch[hooks[0]])
    check(tmp_path, codes.amax(-2) if n_heads else codes, x if n_heads else x[:, 0])


def circuit_tracer(threshold):
    from circuit_tracer.transcoder.activation_functions import JumpReLU

    return JumpReLU(threshold, 0.1) if threshold is not None else torch.nn.functional.relu


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_circuit_tracer(tmp_path, jump, skip):
    module = pytest.importorskip("circuit_tracer.transcoder.single_layer_transcoder")
    transcoder = module.SingleLayerTranscoder(W, N, circuit_tracer(torch.ones(N) if jump else None), 3, skip)
    randomise(transcoder)
    transcoder.to_safetensors(str(tmp_path / "layer_3.safetensors"))
    with torch.no_grad():
        dictionary = check(tmp_path, transcoder.encode(X))
        value = transcoder.decode(torch.eye(N), X[:1]) - transcoder.decode(torch.zeros(1, N), X[:1])
    torch.testing.assert_close(dictionary.writes(range(N))[:, 0], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", ["jump_relu", "relu"])
def test_circuit_tracer_of_several_layers(tmp_path, function):
    module = pytest.importorskip("circuit_tracer.transcoder.cross_layer_transcoder")
    options = {"lazy_decoder": False, "device": torch.device("cpu"), "dtype": torch.float32}
    clt = module.CrossLayerTranscoder(3, N, W, function, **options)
    randomise(clt)
    for parameter in clt.parameters():
        parameter.data = parameter.data.contiguous()
    if function == "jump_relu":
        clt.activation_function.threshold.data = torch.rand(3, 1, N)
    clt.to_safetensors(str(tmp_path))
    (tmp_path / "config.yaml").write_text("feature_input_hook: hook_resid_mid")
    with torch.no_grad():
        expected = clt.encode(X.expand(3, *X.shape))
    for layer in range(3):
        assert check(tmp_path, expected[layer], layer=layer).layer == layer

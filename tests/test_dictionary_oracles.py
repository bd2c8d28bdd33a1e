"""Readers against the families' own classes, where those are installed: sae-lens and eai-sparsify."""

import pytest
import torch

from tests.helpers.checkpoints import W
from tiny_dashboard.dictionaries import load_dictionary

torch.set_num_threads(1)
N = 12
X = torch.randn(50, W, generator=torch.Generator().manual_seed(0))


def randomise(module):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (0.3 if name == "r_mag" else 1.0)
        if name == "threshold":
            parameter.data = parameter.data.abs()


def check(folder, expected):
    dictionary = load_dictionary(folder, device="cpu")
    torch.testing.assert_close(dictionary.encode(X), expected, rtol=1e-5, atol=1e-5)
    fresh = load_dictionary(folder, device="cpu").encode(X, [7, 2, 2])
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

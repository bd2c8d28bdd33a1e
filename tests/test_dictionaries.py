"""Every checkpoint family against its formula, computed here by independent numpy code."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from tests.helpers.checkpoints import NORM_IDS, L, N, W, check, crosscoder_tensors, draw, relu, save
from tiny_dashboard.dictionaries import load_dictionary

torch.set_num_threads(1)


# --- CrossCoder and BatchTopKCrossCoder ---------------------------------------------------------------------------


def crosscoder_expected(t, x, kind):
    """Feature by feature, from the definition."""
    off = np.isnan(t["activation_mean"]).any()
    for _ in range(0 if off else 2 if kind == "DECOUPLED" and "threshold" in t else 1):
        x = (x - t["activation_mean"]) * t["activation_global_scale"][:, None]
    out = np.zeros((len(x), N))
    for f in range(N):
        pre = sum(x[:, m] @ t["encoder.weight"][m, :, f] for m in range(L)) + t["encoder.bias"][f]
        rows = t["decoder.weight"][:, f]
        each = np.array([np.sqrt((rows[m] ** 2).sum()) for m in range(L)])
        joint = np.sqrt((rows**2).sum())
        norm = {"SAE": joint, "MIXED": joint + 0.1 * each.sum(), "NONE": 1.0}.get(kind, each.sum())
        if kind == "DECOUPLED" and "threshold" in t:
            for m in range(L):
                value = relu(pre) * each[m]
                out[:, f] += np.where(value > t["threshold"][m], value, 0)
        else:
            value = relu(pre) * norm
            out[:, f] = np.where(value > t["threshold"], value, 0) if "threshold" in t else value
    return out


@pytest.mark.parametrize("kind", NORM_IDS)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("batch_topk", [False, True])
@pytest.mark.parametrize("layout", ["hub", "pt"])
def test_crosscoder(tmp_path, kind, normalised, batch_topk, layout):
    threshold = None if not batch_topk else [1.5, 4.0] if kind == "DECOUPLED" else 3.0
    t = crosscoder_tensors(kind, normalised=normalised, threshold=threshold)
    x = draw(40, L, W)
    expected = crosscoder_expected(t, x, kind)
    if layout == "hub":
        config = {"activation_dim": W, "dict_size": N, "num_layers": L, "code_normalization": kind, "k": 3}
        source = save(tmp_path, t, config)
    else:
        source = save(tmp_path, {f"_orig_mod.{key}": value for key, value in t.items()}, name="ae.pt") / "ae.pt"
    dictionary = check(source, x, expected)
    assert (dictionary.n_models, dictionary.d_model, dictionary.n_features) == (L, W, N)
    assert dictionary.family == ("BatchTopKCrossCoder" if batch_topk else "CrossCoder")
    np.testing.assert_allclose(
        dictionary.get_activations(torch.tensor(x), select_features=[4, 2]), expected[:, [4, 2]], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(dictionary.decoder([5, 1]), t["decoder.weight"].transpose(1, 0, 2)[[5, 1]])
    np.testing.assert_allclose(dictionary.decoder_norms(), np.sqrt((t["decoder.weight"] ** 2).sum(-1)).T, rtol=1e-5)


def test_crosscoder_files_without_the_later_buffers(tmp_path):
    """Old files have no norm id (which means CROSSCODER), and no normaliser, or one of another time."""
    t = crosscoder_tensors(normalised=True)
    x = draw(20, L, W)
    plain = {key: t[key] for key in ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")}
    off = plain | {"activation_mean": np.full((L, W), np.nan)}
    check(save(tmp_path / "plain", plain), x, crosscoder_expected(off, x, "CROSSCODER"))
    del t["code_normalization_id"]
    for_all = t | {"activation_global_scale": np.array(0.7)}
    expected = crosscoder_expected(t | {"activation_global_scale": np.full(L, 0.7)}, x, "CROSSCODER")
    check(save(tmp_path / "one for all", for_all), x, expected)
    del t["target_rms"], t["activation_global_scale"]
    z = (x - t["activation_mean"]) / (t["activation_std"] + 1e-8)
    check(save(tmp_path / "each neuron", t), x, crosscoder_expected(off, z, "CROSSCODER"))


def test_crosscoder_norm_by_option_and_in_conflict(tmp_path):
    t, x = crosscoder_tensors("SAE"), draw(20, L, W)
    folder = save(tmp_path, t, {"code_normalization": "NONE"})
    with pytest.raises(ValueError, match=r"NONE.*SAE.*code_normalization="):
        load_dictionary(folder)
    check(folder, x, crosscoder_expected(t, x, "SAE"), code_normalization="sae")
    with pytest.raises(ValueError, match="'SQUARE' is unknown; expected one of CROSSCODER"):
        load_dictionary(folder, code_normalization="square")


def test_crosscoder_contributions_and_writes(tmp_path):
    t, x = crosscoder_tensors("SAE", normalised=True), draw(20, L, W)
    dictionary = load_dictionary(save(tmp_path, t), device="cpu")
    parts = dictionary.contributions(torch.tensor(x), [3, 8])
    norm = np.sqrt((t["decoder.weight"] ** 2).sum((0, 2)))[[3, 8]]
    pre = parts.sum(-1).numpy() + t["encoder.bias"][[3, 8]] * norm
    np.testing.assert_allclose(relu(pre), crosscoder_expected(t, x, "SAE")[:, [3, 8]], atol=1e-4)
    # A value v is v / norm of the code, decoded and brought back to the scale of the activations.
    expected = t["decoder.weight"][:, 3] / norm[0] / t["activation_global_scale"][:, None]
    np.testing.assert_allclose(dictionary.writes([3])[0], expected, rtol=1e-4)


def test_dtype_is_asked_for(tmp_path):
    t, x = crosscoder_tensors(), draw(20, L, W)
    folder = save(tmp_path, {k: torch.as_tensor(v).to(torch.bfloat16) if v.ndim else v for k, v in t.items()})
    rounded = {k: torch.as_tensor(v).bfloat16().float().numpy() for k, v in t.items()}
    check(folder, x, crosscoder_expected(rounded, x, "CROSSCODER"))  # stored in bfloat16, computed in float32
    assert load_dictionary(folder, dtype=torch.bfloat16).encode(torch.tensor(x)).dtype == torch.bfloat16


# --- what can be wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder.bias": None},
            r"'encoder.bias' is missing in model.safetensors; it holds .*encoder.weight \[2, 6, 11\]",
        ),
        ({"encoder.bias": draw(N + 1)}, r"'encoder.bias' in model.safetensors has shape \[12\]; expected \[11\]"),
        ({"decoder.weight": draw(L, W, N)}, r"'decoder.weight' .* has shape \[2, 6, 11\]; expected \[2, 11, 6\]"),
        ({"encoder.bias": np.full(N, np.nan, np.float32)}, "'encoder.bias' .* NaN"),
        ({"encoder.weight": np.full((L, W, N), np.nan, np.float32)}, "'encoder.weight' .*NaN"),
        ({"encoder.weight": np.ones((L, W, N), np.int32)}, "'encoder.weight' .* torch.int32; expected floating point"),
        (
            {"encoder.weight": None},
            r"no known family; it holds .*decoder.weight \[2, 11, 6\][\s\S]*CrossCoder: encoder.weight",
        ),
        ({"code_normalization_id": np.array(9)}, "normalization '9' is unknown"),
    ],
)
def test_bad_tensors(tmp_path, change, message):
    tensors = {key: value for key, value in (crosscoder_tensors() | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        load_dictionary(save(tmp_path, tensors))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_bad_files(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no dictionary at"):
        load_dictionary(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="holds no weights file"):
        load_dictionary(tmp_path)
    torch.save({"encoder.weight": Evil()}, tmp_path / "ae.pt")
    with pytest.raises(ValueError, match="pickled Python objects"):
        load_dictionary(tmp_path)
    assert "code ran" not in capsys.readouterr().out
    for name in ("model.safetensors", "ae.pt"):
        whole = save(tmp_path / "whole", crosscoder_tensors(), name=name) / name
        (tmp_path / name).write_bytes(whole.read_bytes()[:300])
        with pytest.raises(ValueError, match=f"{name} (is not a whole|cannot be read)"):
            load_dictionary(tmp_path / name)
    with pytest.raises(ValueError, match=r"holds 2 dictionaries that fit \(ae.pt, model.safetensors\); say which"):
        load_dictionary(tmp_path)
    with pytest.raises(ValueError, match="is no weights file"):
        load_dictionary(save(tmp_path / "c", {}, {}) / "config.json")


@pytest.mark.parametrize("name", ["model.safetensors", "ae.pt"])
def test_rows_alone_are_read(tmp_path, name):
    """A large file: one damaged row spoils only its own feature, since the others are read without it."""
    t = crosscoder_tensors()
    t["encoder.weight"][0, 2, 7] = np.nan
    folder = save(tmp_path, t, name=name)
    with pytest.raises(ValueError, match="'encoder.weight' holds NaN"):
        load_dictionary(folder)
    with patch("tiny_dashboard.dictionaries.checkpoint.EAGER_BYTES", 0):
        dictionary = load_dictionary(folder, device="cpu")
    x = draw(5, L, W)
    clean = t | {"encoder.weight": np.nan_to_num(t["encoder.weight"])}
    expected = crosscoder_expected(clean, x, "CROSSCODER")[:, [8, 6]]
    np.testing.assert_allclose(dictionary.encode(torch.tensor(x), [8, 6]), expected, rtol=1e-5, atol=1e-5)
    for features in ([7], None):
        with pytest.raises(ValueError, match="'encoder.weight' holds NaN"):
            dictionary.encode(torch.tensor(x), features)


def test_bad_calls(tmp_path):
    folder = save(tmp_path, crosscoder_tensors())
    dictionary = load_dictionary(folder, layer=13, hook_point="resid_post")
    assert (dictionary.layer, dictionary.hook_point) == (13, "resid_post")
    with pytest.raises(ValueError, match="feature 11 is out of range: the dictionary has 11 features"):
        dictionary.encode(torch.zeros(1, L, W), [11])
    with pytest.raises(ValueError, match="feature -1 is out of range"):
        dictionary.decoder([-1])
    with pytest.raises(ValueError, match=r"2 model\(s\) of width 6.*got \[5, 3, 6\]"):
        dictionary.encode(torch.zeros(5, 3, W))
    with pytest.raises(TypeError, match="CrossCoder has no option k; it has code_normalization"):
        load_dictionary(folder, k=3)
    with pytest.raises(ValueError, match="family 'x' is unknown; expected one of CrossCoder"):
        load_dictionary(folder, family="x")

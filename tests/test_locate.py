"""Which of many dictionaries is meant: in a folder, and on a stand-in of the Hub."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from tests.helpers.checkpoints import N, W, crosscoder_tensors, draw, save
from tests.helpers.hub_client import IMPATIENT
from tests.helpers.hub_server import Dataset, Hub
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.dictionaries.locate import choose

GEMMA = [
    f"layer_{n}/width_{w}/average_l0_{k}/params.npz" for n in (1, 12) for w in ("16k", "65k", "1m") for k in (41, 82)
]
SITES = ("resid_post", "attn_out", "mlp_out", "transcoder")
GEMMA_2 = [
    f"{s}/layer_{n}_width_16k_l0_{k}/params.safetensors" for s in SITES for n in (1, 9) for k in ("small", "big")
]
LLAMA_FILES = ("checkpoints/final.safetensors", "hyperparams.json")
LLAMA = [f"Llama3_1-8B-Base-L{n}R-8x/{name}" for n in (0, 19) for name in LLAMA_FILES]
QWEN = [f"layer{n}.sae.pt" for n in range(20)]
SPARSIFY = [f"layers.{n}{part}/sae.safetensors" for n in (1, 10) for part in ("", ".mlp")]
LEARNING = [f"BatchTopK_pythia/resid_post_layer_{n}/trainer_{t}/ae.pt" for n in (3, 4) for t in (0, 1)]


@pytest.mark.parametrize(
    ("files", "which", "expected"),
    [
        (GEMMA, {"layer": 12, "width": "16k", "l0": 82}, "layer_12/width_16k/average_l0_82/params.npz"),
        (GEMMA, {"layer": 1, "width": 65536, "l0": "41"}, "layer_1/width_65k/average_l0_41/params.npz"),
        (GEMMA, {"layer": 1, "width": 2**20, "l0": 41}, "layer_1/width_1m/average_l0_41/params.npz"),
        (GEMMA, {"subfolder": "layer_12/width_16k/average_l0_41"}, "layer_12/width_16k/average_l0_41/params.npz"),
        (GEMMA_2, {"layer": 9, "l0": "big", "hook_point": "z"}, "attn_out/layer_9_width_16k_l0_big/params.safetensors"),
        (GEMMA_2, {"layer": 1, "l0": "big", "hook_point": "mlp_in"}, GEMMA_2[13]),
        (LLAMA, {"layer": 19}, "Llama3_1-8B-Base-L19R-8x/checkpoints/final.safetensors"),
        (QWEN, {"layer": 1}, "layer1.sae.pt"),
        (QWEN, {"subfolder": "layer11.sae.pt"}, "layer11.sae.pt"),
        (SPARSIFY, {"layer": 1, "subfolder": "layers.1.mlp"}, "layers.1.mlp/sae.safetensors"),
        (LEARNING, {"layer": 4, "subfolder": "BatchTopK_pythia/resid_post_layer_4/trainer_1"}, LEARNING[3]),
        (["blocks.14.x/cc_weights.pt", "README.md"], {"layer": 3}, "blocks.14.x/cc_weights.pt"),
        (["a/sae_weights.safetensors", "a/sparsity.safetensors"], {}, "a/sae_weights.safetensors"),
        (["model.safetensors", "old/model.safetensors"], {"layer": 4}, "model.safetensors"),
    ],
)  # fmt: skip
def test_choose(files, which, expected):
    assert choose(files, "repo", which) == expected


@pytest.mark.parametrize(
    ("files", "which", "message"),
    [
        (GEMMA, {"layer": 2}, "no dictionary with layer=2; it has 1, 12"),
        (GEMMA, {"layer": 1, "width": 4096}, "no dictionary with width=4096; it has 16k, 1m, 65k"),
        (GEMMA, {"layer": 1, "width": "1m"}, r"2 dictionaries that fit \(layer_1/width_1m/average_l0_41.*say which"),
        (GEMMA_2, {"hook_point": "resid_pre"}, "no dictionary with hook_point='resid_pre'; it has attn_out, mlp_out"),
        (SPARSIFY, {"subfolder": "layers.2"}, r"with subfolder='layers.2'; it has layers.1, layers.1.mlp"),
        (LEARNING, {"layer": 3}, "2 dictionaries that fit"),
    ],
)  # fmt: skip
def test_choose_says_what_there_is(files, which, message):
    with pytest.raises(ValueError, match=message):
        choose(files, "repo", which)
    with pytest.raises(FileNotFoundError, match="repo holds no weights file"):
        choose(["README.md"], "repo", which)


def test_a_folder_of_many(tmp_path):
    for layer in (3, 12):
        t = {"W_enc": draw(W, N), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W), "threshold": draw(N)}
        save(
            tmp_path / "gemma-scope-2b-pt-res" / f"layer_{layer}" / "width_16k" / "average_l0_41", t, name="params.npz"
        )
    dictionary = load_dictionary(tmp_path / "gemma-scope-2b-pt-res", layer=12)
    torch.testing.assert_close(dictionary.encoder[[1]][0, 0], torch.tensor(t["W_enc"][:, 1]))
    assert (dictionary.layer, dictionary.hook_point) == (12, "resid_post")
    path = tmp_path / "gemma-scope-2b-pt-res" / "layer_12"
    with pytest.raises(ValueError, match="reads layer 12, and layer 13 was asked for"):
        load_dictionary(path, layer=13)
    with pytest.raises(ValueError, match="reads hook_point resid_post, and hook_point z was asked for"):
        load_dictionary(path, hook_point="z")
    for name in ("no/such/folder", "./nothing", "word"):
        with pytest.raises(FileNotFoundError):
            load_dictionary(name if name.startswith(".") or "/" not in name else tmp_path / name)


# --- on a stand-in of the Hub -------------------------------------------------------------------------------------


class ModelHub(Hub):
    """The stand-in serves datasets; a model's addresses are theirs with another prefix."""

    def __init__(self):
        super().__init__()

        class Handler(self._server.RequestHandlerClass):
            def answer(self):
                self.path = re.sub(r"^/api/models/", "/api/datasets/", self.path)
                if not self.path.startswith(("/api/", "/datasets/", "/large/")):
                    self.path = f"/datasets{self.path}"
                super().answer()

        self._server.RequestHandlerClass = Handler


CLIENT = """
import json, sys
from tiny_dashboard.dictionaries import load_dictionary
for which in json.loads(sys.argv[1]):
    try:
        d = load_dictionary(which.pop("source"), device="cpu", **which)
        print(json.dumps([d.family, d.layer, d.hook_point, *d.models, float(d.encoder[[1]].sum())]))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def on_hub(hub, home, *calls, **environment):
    """What a fresh process loads: the endpoint is read when huggingface_hub is imported."""
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment
    keep = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    command = [sys.executable, "-c", IMPATIENT + CLIENT, json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, env=keep | settings, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hub(tmp_path):
    scope, crosscoder, qwen = (tmp_path / name for name in ("scope", "crosscoder", "qwen"))
    for layer in (3, 12):
        t = {"W_enc": draw(W, N), "W_dec": draw(N, W), "b_enc": draw(N), "b_dec": draw(W), "threshold": draw(N)}
        save(scope / f"layer_{layer}" / "width_16k" / "average_l0_41", t, name="params.npz")
    save(crosscoder, c := crosscoder_tensors("SAE"), {"code_normalization": "SAE"})
    save(qwen, {"W_enc": draw(N, W), "W_dec": draw(W, N), "b_enc": draw(N)}, name="layer4.sae.pt")
    with ModelHub() as hub:
        hub.datasets = {
            "google/gemma-scope-2b-pt-res": Dataset(scope),
            "org/crosscoder": Dataset(crosscoder),
            "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_3": Dataset(qwen),
            "org/closed": Dataset(qwen, gated=True),
        }
        home = tmp_path / "home"
        calls = (
            {"source": "google/gemma-scope-2b-pt-res", "layer": 12, "width": "16k"},
            {"source": "google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_41"},
            {"source": "org/crosscoder", "layer": 13},
            {"source": "hf://Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"},
        )
        scope_answer = ["Gemma Scope", 12, "resid_post", "google/gemma-2-2b", pytest.approx(t["W_enc"][:, 1].sum())]
        crosscoder_answer = ["CrossCoder", 13, None, pytest.approx(c["encoder.weight"][:, :, 1].sum(), rel=1e-4)]
        wrong = (
            {"source": "google/gemma-scope-2b-pt-res"},
            {"source": "google/gemma-scope-2b-pt-res", "layer": 4},
            {"source": "org/absent"},
            {"source": "org/closed"},
            {"source": "org/crosscoder", "revision": "absent"},
        )
        found = on_hub(hub, home, *calls, *wrong)
        assert found[:3] == [scope_answer, scope_answer, crosscoder_answer]
        assert found[3][:4] == ["Qwen Scope", 4, "resid_post", "Qwen/Qwen3-1.7B-Base"]
        fetched = [request.path for request in hub.taken("/resolve/") if request.method == "GET"]
        assert not any("layer_3" in path for path in fetched)  # one dictionary of the repository, not all
        wrong = found[4:]
        assert "holds 2 dictionaries that fit" in wrong[0]
        assert "no dictionary with layer=4; it has 12, 3" in wrong[1]
        assert wrong[2].startswith("FileNotFoundError: there is no file, folder or Hub repository org/absent")
        assert wrong[3].startswith("PermissionError: org/closed is gated: ask for access")
        assert wrong[4] == "FileNotFoundError: org/crosscoder has no such revision"
    # The server is gone: what was fetched is still there, the rest is said to be out of reach.
    offline = on_hub(hub, home, calls[2], {"source": "org/new"})
    assert offline[0] == crosscoder_answer
    assert offline[1].startswith("ConnectionError: there is no file or folder org/new; as a Hub repository it was not")
    assert on_hub(hub, home, calls[2], HF_HUB_OFFLINE="1")[0] == crosscoder_answer

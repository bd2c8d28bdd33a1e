"""DashboardConfig: dashboard.toml in, dashboards out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.collect_fixtures import LAYER, N, make_all
from tiny_dashboard import DashboardConfig
from tiny_dashboard.config import Start

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """base, chat and dictionary, as somebody would keep them."""
    folder = tmp_path_factory.mktemp("kept here")
    (base, chat), _, tokenizer = make_all(folder)
    for name, model in (("base", base), ("chat", chat)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def write(folder, text):
    file = folder / "dashboard.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_paths_are_found_beside_the_file_and_hub_ids_stay(tmp_path, monkeypatch):
    (tmp_path / "here" / "base").mkdir(parents=True)
    (tmp_path / "base").mkdir()
    file = write(tmp_path / "here", 'models = ["base", "owner/chat"]\ndictionary = "owner/name"\ntokenizer = "./base"')
    monkeypatch.chdir(tmp_path)  # the current folder has a base too, and does not matter
    config = DashboardConfig.read(file.relative_to(tmp_path))
    assert config.models == (str(tmp_path / "here" / "base"), "owner/chat")
    assert (config.dictionary, config.tokenizer) == ("owner/name", str(tmp_path / "here" / "base"))
    assert config.examples is None and config.title == DashboardConfig().title


def test_a_model_may_be_a_folder_that_must_be_there(tmp_path):
    (tmp_path / "copy").mkdir()
    for text in ("model = { folder = 'copy' }", "models = [{ folder = 'copy' }]", "model = 'copy'"):
        assert DashboardConfig.read(write(tmp_path, text)).models == (str(tmp_path / "copy"),)
    views = 'models = ["me/m"]\n[[view]]\nname = "a"\n[[view]]\nname = "b"\nmodel = { folder = "copy" }'
    read = DashboardConfig.read(write(tmp_path, views))
    assert [view.models for view in read.views] == [("me/m",), (str(tmp_path / "copy"),)]
    assert DashboardConfig.demo(model=str(tmp_path / "copy")).views[0].models == (str(tmp_path / "copy"),)


def test_every_setting_can_be_written(tmp_path):
    given = {
        "title": "T",
        "description": "D",
        "examples": "o/e",
        "labels": "/labels.jsonl",
        "label_authors": ("ada",),
        "llm": "o/l",
        "llm_url": "http://l",
        "dictionary": "o/d",
        "which": {"width": "16k", "l0": 71},
        "models": ("o/a", "o/b"),
        "tokenizer": "o/t",
        "layer": 0,
        "hook_point": "mlp_out",
        "device": "cpu",
        "dtype": "bfloat16",
        "window_size": 0,
        "max_examples": 3,
        "feature": 0,
        "max_text": 5,
        "panels": ("m:f",),
        "max_new_tokens": 6,
        "name": "n",
        "max_loaded": 2,
    }
    start = {"start": (Start(title="code", text="def", chat=True, feature=3, steer="3"),), "view": ()}
    lines = [f"{k} = {json.dumps(v)}" for k, v in given.items() if k != "which"]
    file = write(tmp_path, "\n".join([*lines, "[which]", 'width = "16k"', "l0 = 71"]))
    file.write_text(
        file.read_text() + '\n[[start]]\ntitle = "code"\ntext = "def"\nchat = true\nfeature = 3\nsteer = "3"'
    )
    assert vars(DashboardConfig.read(file)) == given | start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel = 'x'", r"there is no setting 'titel'; there are title, "),
        ("title = 3", r"title is 3; it must be a text"),
        ("layer = '3'", r"layer is '3'; it must be a whole number"),
        ("layer = 1.5", r"layer is 1.5; it must be a whole number"),
        ("layer = true", r"layer is True; it must be a whole number"),
        ("layer = -1", r"layer is -1; it must be at least 0"),
        ("max_examples = 0", r"max_examples is 0; it must be at least 1"),
        ("models = 'gpt2'", r"models is 'gpt2'; it must be a list of paths or Hub ids"),
        ("models = ['gpt2', 3]", r"models is \['gpt2', 3\]; it must be a list of paths or Hub ids"),
        ("model = { folder = 'no' }", r"a model's folder is 'no', and there is none at .*/no"),
        ("model = { id = 'a/b' }", r"a model is \{'id': 'a/b'\}; write a path or a Hub id, or \{ folder = "),
        ("model = 'a'\nmodels = ['b']", r"model and models are both set; name all in models"),
        ("examples = ['x']", r"examples is \['x'\]; it must be a text"),
        ("which = 'width=16k'", r"which is 'width=16k'; it must be a table"),
        ("[[start]]\ntext = 'x'", r"start is \[\{'text': 'x'\}\]; it must be tables, each with a title"),
        ("title = \n", r"is not a TOML file: Invalid value \(at line 1"),
    ],
)
def test_bad_settings_are_named_with_the_file(tmp_path, text, said):
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=rf"dashboard\.toml.*{said}"):
        DashboardConfig.read(file)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.toml"):
        DashboardConfig.read(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"binary\.toml is not a TOML file"):
        DashboardConfig.read(tmp_path / "binary.toml")


def test_offline(tmp_path):
    rows = {3: [(2.0, ["a", "b"], [2.0, 0.0])] * 5}
    dashboard = DashboardConfig(examples=rows, window_size=7, max_examples=2).open_offline()  # a dict will do
    assert dashboard.window_size == 7 and len(dashboard.examples(3)) == 2
    assert DashboardConfig().open_offline() is None
    with pytest.raises(FileNotFoundError, match=r"no\.db"):
        DashboardConfig(examples=str(tmp_path / "no.db")).open_offline()


def test_online_is_the_models_and_the_dictionary(folder):
    file = write(folder, f'models = ["base", "chat"]\ndictionary = "dictionary"\nlayer = {LAYER}\nmax_new_tokens = 3')
    dashboard = DashboardConfig.read(file).open_online({5: 2.5})
    pair, dictionary, tokenizer = make_all(folder)
    ids = tokenizer("the cat and the dog")["input_ids"]
    with torch.no_grad():
        states = [m(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0] for m in pair]
    expected = dictionary.encode(torch.stack(states, 1))
    found = dashboard.compute(dashboard.encode("the cat and the dog"), range(N))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert found.any()
    assert dashboard.max_new_tokens == 3 and dashboard.max_activation(5) == 2.5


def test_what_online_lacks_is_said(folder):
    base, chat, dictionary = (str(folder / name) for name in ("base", "chat", "dictionary"))
    with pytest.raises(ValueError, match="needs a dictionary and its models; configured are dictionary None"):
        DashboardConfig(models=(base,)).open_online()
    with pytest.raises(ValueError, match="does not say which layer it reads; set layer"):
        DashboardConfig(models=(base, chat), dictionary=dictionary).open_online()
    with pytest.raises(ValueError, match="layer 99 is out of range: llama has 3 layers"):
        DashboardConfig(models=(base, chat), dictionary=dictionary, layer=99).open_online()
    with pytest.raises(ValueError, match=r"reads 2 model\(s\), and 1 were given"):
        DashboardConfig(models=(base,), dictionary=dictionary, layer=LAYER).open_online()


def test_which_reaches_the_dictionary(folder, tmp_path):
    for name, sign in (("a", 1.0), ("b", -1.0)):
        (tmp_path / "many" / name).mkdir(parents=True)
        tensors = load_file(folder / "dictionary" / "model.safetensors")
        tensors["encoder.bias"] = tensors["encoder.bias"] * sign
        save_file(tensors, tmp_path / "many" / name / "model.safetensors")
    models = (str(folder / "base"), str(folder / "chat"))
    biases = []
    for name in ("a", "b"):
        which = {"subfolder": name, "layer": LAYER}  # a layer in `which` is as good as one beside it
        config = DashboardConfig(models=models, dictionary=str(tmp_path / "many"), which=which)
        biases.append(config.open_online().featurizer.dictionary.encoder_bias)
    torch.testing.assert_close(biases[0], -biases[1])

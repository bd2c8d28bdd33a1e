"""The demo's view on a real model: its files open without a network, and are what its card and its report say."""

from __future__ import annotations

import html
import json

import numpy as np
import pytest
import torch

from scripts.demo import prose, smollm, smollm_report, train_sae
from tests.test_real_model import FOLDER as MODEL
from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.labels import Label

VIEW = smollm.OUT


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def config() -> DashboardConfig:
    return next(view for view in DashboardConfig.demo().views if view.models == (smollm.MODEL,))


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads((VIEW / "report.json").read_text())


def test_examples_and_labels_are_read_without_a_network(config):
    dashboard = config.open_offline()
    assert len(dashboard.features) >= 0.95 * train_sae.FEATURES
    labels = [Label.of(json.loads(line)) for line in (VIEW / "labels.jsonl").read_text().splitlines()]
    assert len({label.feature for label in labels}) == len(labels) >= 200
    for label in labels[:2]:
        assert html.escape(label.label) in dashboard.generate_html(label.feature)


def test_starting_points_are_features_that_are_there(config):
    features = set(open_examples(config.examples).features())
    assert {start.feature for start in config.start if start.feature is not None} <= features
    assert [start for start in config.start if start.text and start.steer and start.strength]
    assert config.feature in features


def test_the_sae_is_the_models_layer(config):
    sae = load_dictionary(config.dictionary, device="cpu")
    assert (sae.n_features, sae.d_model, sae.layer, sae.hook_point) == (4096, 576, smollm.LAYER, "resid_post")
    assert sae.prepend_bos is False and list(config.models) == [smollm.MODEL]
    torch.testing.assert_close(sae.decoder_norms(), torch.ones(4096, 1), rtol=2e-3, atol=0)


def test_the_report_holds_the_limits_and_the_card_quotes_it(measured):
    held_out, loss = measured["held_out"], measured["loss"]
    assert held_out["explained"] >= 0.8 and held_out["active_per_position"] <= 40
    assert measured["dead"] <= 0.05 and loss["recovered"] >= 0.9
    assert measured["examples"]["tokens"] >= 500_000
    card = (VIEW / "README.md").read_text()
    quoted = [f"{held_out['explained']:.3f}", f"{held_out['active_per_position']:.1f}", f"{loss['recovered']:.3f}"]
    quoted += [f"{measured['dead']:.1%}".replace("%", " %"), f"{measured['examples']['tokens']:,}"]
    assert [number for number in quoted if number not in card] == []
    assert [package for package in prose.PACKAGES if f"`{package}`" not in card] == []


def test_it_stays_small(measured):
    shipped = [path for part in ("sae", "examples") for path in (VIEW / part).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in shipped) / 1e6
    assert size <= 24 and measured["sae_and_examples_mb"] == round(size, 1)
    assert str(smollm.CACHED.parent.parent) not in (VIEW / "examples" / "metadata.json").read_text()


def test_training_finds_the_directions_that_activations_are_made_of(monkeypatch, tmp_path):
    monkeypatch.setattr(train_sae, "FEATURES", 32)
    monkeypatch.setattr(train_sae, "K", 3)
    rng = np.random.default_rng(0)
    truth = np.linalg.qr(rng.normal(size=(24, 24)))[0][:12]
    codes = (rng.random((20_000, 12)) < 2 / 12) * (1 + rng.random((20_000, 12)))
    acts = (codes @ truth + 3).astype(np.float16)
    sae = train_sae.train_sae(acts, 600, 0)
    train_sae.save_sae(sae, train_sae.threshold(sae, acts, 4), tmp_path, {"hook_name": "blocks.3.hook_resid_post"})
    saved = smollm_report.Reconstructing(tmp_path)
    fit = smollm_report.fit(saved, acts)
    assert fit["explained"] > 0.9 and fit["active_per_position"] < 4
    cosines = torch.nn.functional.normalize(saved.rows, dim=1) @ torch.from_numpy(truth).float().T
    assert (cosines.amax(0) > 0.9).float().mean() > 0.8
    assert load_dictionary(tmp_path, device="cpu").layer == 3


@pytest.mark.real
@pytest.mark.skipif(not MODEL.exists(), reason="the real model is not here: run scripts/real_model")
def test_the_model_says_now_what_is_stored(config):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    sae = load_dictionary(config.dictionary, device="cpu")
    featurizer = Featurizer(model, sae, AutoTokenizer.from_pretrained(config.tokenizer))
    examples = open_examples(config.examples)
    for start in config.start:
        if start.feature is None:
            continue
        for example in list(examples[start.feature])[:2]:
            live = featurizer.read(list(example.token_ids)).values([start.feature])[:, 0].numpy()
            stored = np.array(example.activations, dtype=np.float32)
            counted = np.isfinite(stored)
            np.testing.assert_allclose(live[counted], stored[counted], rtol=5e-3, atol=0.05 * stored[counted].max())

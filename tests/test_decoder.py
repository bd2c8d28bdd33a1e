"""The decoder side against direct computation on small models of the real classes."""

import pytest
import torch

from tests.helpers.small_models import LAYER, VOCAB, WIDTH, N, make_dictionary, small_model, word_tokenizer
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.models.decoder import DecoderView
from tiny_dashboard.models.featurizer import Featurizer

torch.set_num_threads(1)
FINAL_NORM = {
    "gpt2": lambda m: (m.transformer.ln_f, True, 0),
    "neox": lambda m: (m.gpt_neox.final_layer_norm, True, 0),
    "opt": lambda m: (m.model.decoder.final_layer_norm, True, 0),
    "bloom": lambda m: (m.transformer.ln_f, True, 0),
    "llama": lambda m: (m.model.norm, False, 0),
    "gemma2": lambda m: (m.model.norm, False, 1),
    "gemma3": lambda m: (m.model.norm, False, 1),
    "olmo2": lambda m: (m.model.norm, False, 0),
}


def view(model, folder, tokenizer=None, **options):
    models = model if isinstance(model, list) else [model]
    dictionary, t = make_dictionary(folder, n_models=len(models))
    return DecoderView(Featurizer(models, dictionary, tokenizer, layer=LAYER, **options)), t["decoder.weight"]


@pytest.mark.parametrize("name", FINAL_NORM)
def test_tokens(name, tmp_path):
    model = small_model(name)
    norm, centred, offset = FINAL_NORM[name](model)
    norm.weight.data += torch.randn(WIDTH)
    if getattr(norm, "bias", None) is not None:
        norm.bias.data += torch.randn(WIDTH)
    decoder_view, decoder = view(model, tmp_path)
    rows = decoder[0] - decoder[0].mean(-1, keepdim=True) if centred else decoder[0]
    logits = rows * (norm.weight + offset) @ model.get_output_embeddings().weight.T
    promoted, suppressed = decoder_view.tokens([7, 3], k=4)
    for i, feature in enumerate((7, 3)):
        top, bottom = logits[feature].topk(4), logits[feature].topk(4, largest=False)
        assert [token for token, _ in promoted[i]] == [f"#{token}" for token in top.indices.tolist()]
        assert [token for token, _ in suppressed[i]] == [f"#{token}" for token in bottom.indices.tolist()]
        assert [value for _, value in promoted[i]] == pytest.approx(top.values.tolist(), rel=1e-3)


def test_attention_heads_go_through_their_projection(tmp_path):
    model = small_model("gpt2")
    decoder_view, decoder = view(model, tmp_path, hook_point="z")
    projection = model.transformer.h[LAYER].attn.c_proj
    projection.bias.data += 1
    rows = decoder[0] @ projection.weight
    rows = (rows - rows.mean(-1, keepdim=True)) * model.transformer.ln_f.weight
    logits = rows @ model.lm_head.weight.T
    assert decoder_view.tokens([7], k=3)[0][0][0][1] == pytest.approx(float(logits[7].max().detach()), rel=1e-3)


def test_stats_of_a_crosscoder(tmp_path, monkeypatch):
    base, chat = small_model(), small_model()
    chat.lm_head.weight.data = torch.randn(VOCAB, WIDTH)
    words = word_tokenizer(*(f"w{i}" for i in range(VOCAB - 1)))
    decoder_view, decoder = view([base, chat], tmp_path, words)
    known = [FeatureStats(feature, n_active=feature) for feature in range(N)]
    expected = list(decoder_view.all_stats(known, k=3))
    monkeypatch.setattr("tiny_dashboard.models.decoder.MEMORY", 8 * VOCAB * 7)  # blocks of 7 features
    blocks = list(decoder_view.all_stats(known, k=3))
    assert [s.feature for s in blocks] == [s.feature for s in expected] == list(range(N))
    for stats in blocks[3:50:9]:
        a, b = decoder[:, stats.feature]
        assert stats.n_active == stats.feature
        assert stats.decoder_norms == pytest.approx([float(a.norm()), float(b.norm())])
        difference = (b.norm() - a.norm()) / max(a.norm(), b.norm())
        assert stats.relative_norm_difference == pytest.approx(float((difference + 1) / 2))
        assert stats.decoder_cosine == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-5)
        for model, row, top in zip((base, chat), (a, b), stats.top_logits, strict=True):
            best = (row * model.model.norm.weight @ model.lm_head.weight.T).topk(3)
            assert [token for token, _ in top] == words.convert_ids_to_tokens(best.indices.tolist())
    once = decoder_view.stats(FeatureStats(5, label="five"), k=3)
    again = decoder_view.stats(FeatureStats(5), k=3)
    assert (once.label, again.label) == ("five", None)
    assert [token for token, _ in once.top_logits[1]] == [token for token, _ in expected[5].top_logits[1]]
    assert once.top_logits is again.top_logits  # computed once


def test_nearest(tmp_path, monkeypatch):
    decoder_view, decoder = view([small_model(), small_model()], tmp_path)
    for model in (0, 1):
        rows = decoder[model] / decoder[model].norm(dim=-1, keepdim=True)
        cosines = rows @ rows[4]
        cosines[4] = -2
        best = cosines.topk(5)
        monkeypatch.setattr("tiny_dashboard.models.decoder.MEMORY", 8 * WIDTH * 2 * 9)  # blocks of 9 features
        found = decoder_view.nearest(4, 5, model)
        assert [near.feature for near in found] == best.indices.tolist()
        assert [near.cosine for near in found] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert decoder_view.nearest(4, 2, model) == found[:2]
    stored = [stats.nearest for stats in decoder_view.all_stats(map(FeatureStats, range(N)), nearest=True)]
    assert stored[4] == tuple((near.feature, round(near.cosine, 3)) for near in decoder_view.nearest(4, 6))
    monkeypatch.setattr("tiny_dashboard.models.decoder.WORTH", N * N)
    assert next(decoder_view.all_stats(map(FeatureStats, range(N)), nearest=True)).nearest == ()
    with pytest.raises(ValueError, match="feature 50 is out of range"):
        decoder_view.nearest(50)


def test_what_cannot_be_said(tmp_path):
    bare = small_model("gpt2").transformer
    decoder_view, _ = view(bare, tmp_path)
    with pytest.raises(ValueError, match="GPT2Model has no language model head"):
        decoder_view.tokens([0])
    foreign = type("Foreign", (), {"encode": lambda self, x: x})()
    with pytest.raises(TypeError, match="needs a dictionary of load_dictionary"):
        DecoderView(Featurizer(bare, foreign, layer=0))

"""What the decoder says of a feature: tokens it promotes and suppresses, its norms, its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.core.text import TokenReader
from tiny_dashboard.dictionaries import Dictionary
from tiny_dashboard.models.architecture import find_hook
from tiny_dashboard.models.featurizer import Featurizer

SAID = ("top_logits", "bottom_logits", "decoder_norms", "relative_norm_difference", "decoder_cosine")
NEAREST = 6  # of each feature
WORTH = 2**40  # products of numbers that all cosines of a dictionary may cost: some minutes on a processor
STORED = (*SAID, "nearest")  # in a dataset
MEMORY = 256 * 2**20  # bytes that one block of logits or cosines may take


class Neighbour(NamedTuple):
    """A feature whose decoder direction points the same way."""

    feature: int
    cosine: float


class DecoderView:
    """The decoder side of a dictionary and its models; what was computed is kept.

    A logit here is that of the stored decoder direction, through the scale of the model's final norm and the
    unembedding: the part that one unit of the raw code adds, up to the norm's division. Layers in between, a norm
    after the block, and the biases are left out.

    Args:
        featurizer: its models, dictionary, tokenizer and hook point.

    Raises:
        TypeError: the dictionary is not one of `load_dictionary`.
    """

    def __init__(self, featurizer: Featurizer) -> None:
        if not isinstance(featurizer.dictionary, Dictionary):
            raise TypeError("the decoder side needs a dictionary of load_dictionary")
        self.featurizer, self.dictionary = featurizer, featurizer.dictionary
        self._reader = TokenReader(featurizer.tokenizer)
        self._scales: dict[int, tuple[Tensor, bool]] = {}
        self._kept: dict[tuple[str, int, int], Any] = {}
        self._lock = threading.Lock()

    def stats(self, stats: FeatureStats, k: int = 10) -> FeatureStats:
        """The statistics of a feature, with what its decoder says filled in; computed once."""
        key = ("stats", stats.feature, k)
        said = self._kept.get(key) or self._keep(key, next(self.all_stats([FeatureStats(stats.feature)], k)))
        return replace(stats, **{name: getattr(said, name) for name in SAID})

    def all_stats(self, known: Iterable[FeatureStats], k: int = 10, *, nearest: bool = False) -> Iterator[FeatureStats]:
        """`stats` for many features, in blocks that keep to `MEMORY`; with the nearest, where not too dear."""
        known = list(known)
        nearest = nearest and len(known) * self.dictionary.n_features * self.dictionary.d_model <= WORTH
        n_vocabulary = max(len(self._unembedding(model)) for model in range(self.dictionary.n_models))
        size = max(1, MEMORY // (8 * n_vocabulary))
        for start in range(0, len(known), size):
            block = known[start : start + size]
            features = [stats.feature for stats in block]
            directions = self.dictionary.decoder(features).float()
            norms = directions.norm(dim=-1)
            tokens = [self.tokens(features, model, k, directions[:, model]) for model in range(directions.shape[1])]
            near = self.all_nearest(features, NEAREST) if nearest else [()] * len(block)
            for i, stats in enumerate(block):
                stats = replace(
                    stats,
                    top_logits=tuple(promoted[i] for promoted, _ in tokens),
                    bottom_logits=tuple(suppressed[i] for _, suppressed in tokens),
                    decoder_norms=tuple(norms[i].tolist()),
                    nearest=tuple((other, round(cosine, 3)) for other, cosine in near[i]),
                )
                if directions.shape[1] == 2:
                    base, chat = norms[i].tolist()
                    cosine = torch.cosine_similarity(directions[i, 0], directions[i, 1], dim=0)
                    difference = (chat - base) / (max(base, chat) or 1)
                    stats = replace(stats, relative_norm_difference=(difference + 1) / 2, decoder_cosine=float(cosine))
                yield stats

    @torch.no_grad()
    def tokens(
        self, features: Sequence[int], model: int = -1, k: int = 10, directions: Tensor | None = None
    ) -> tuple[list[list[tuple[str, float]]], list[list[tuple[str, float]]]]:
        """The k tokens that each feature promotes most, and suppresses most, as (readable token, logit).

        Args:
            features: any number; `all_stats` cuts many into blocks.
            model: of a crosscoder; the last one by default.
            k: how many.
            directions: `[len(features), d]` where they are read already.

        Raises:
            ValueError: the model has no language model head, or the decoder writes another width than it reads.
        """
        if directions is None:
            directions = self.dictionary.decoder(features)[:, model].float()
        unembedding = self._unembedding(model)
        scale, centred = self._final_scale(model)
        directions = self._to_residual(directions, model)
        if directions.shape[1] != unembedding.shape[1]:
            raise ValueError(
                f"the decoder writes activations of width {directions.shape[1]}, and the model reads out of width "
                f"{unembedding.shape[1]}"
            )
        if centred:
            directions = directions - directions.mean(-1, keepdim=True)
        read = (directions.to(scale) * scale).to(unembedding)
        logits = (read @ unembedding.T).float()
        k = min(k, logits.shape[1])
        found = [self._readable(logits.topk(k, largest=largest)) for largest in (True, False)]
        return found[0], found[1]

    @torch.no_grad()
    def nearest(self, feature: int, k: int = 10, model: int = -1) -> list[Neighbour]:
        """The k other features with the largest decoder cosine, in one model."""
        self.dictionary.check_features([feature])
        key = ("nearest", feature, model)
        near = self._kept.get(key, [])
        if len(near) < min(k, self.dictionary.n_features - 1):
            near = self._keep(key, self.all_nearest([feature], k, model)[0])
        return near[:k]

    @torch.no_grad()
    def all_nearest(self, features: Sequence[int], k: int = 10, model: int = -1) -> list[list[Neighbour]]:
        """`nearest` of several features."""
        n_features, _, width = self.dictionary.encoder.shape

        def directions(chosen: Sequence[int]) -> Tensor:
            return normalize(self.dictionary.decoder(chosen)[:, model].float(), dim=-1)

        mine = directions(features).T
        size = max(1, MEMORY // (8 * max(width * self.dictionary.n_models, len(features))))
        cosines = torch.cat([directions(b.tolist()) @ mine for b in torch.arange(n_features).split(size)])
        cosines[list(features), range(len(features))] = -2
        best = cosines.topk(min(k, n_features - 1), dim=0)
        rows = zip(best.indices.T.tolist(), best.values.T.tolist(), strict=True)
        return [[Neighbour(*pair) for pair in zip(others, values, strict=True)] for others, values in rows]

    def _keep(self, key: tuple[str, int, int], value: Any) -> Any:
        with self._lock:
            while len(self._kept) >= 1000:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = value
        return value

    def _readable(self, found: Any) -> list[list[tuple[str, float]]]:
        rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [[(self._token(i), value) for i, value in zip(ids, values, strict=True)] for ids, values in rows]

    def _token(self, token_id: int) -> str:
        if self.featurizer.tokenizer is None or token_id >= len(self.featurizer.tokenizer):
            return f"#{token_id}"  # embeddings are often padded beyond the vocabulary
        read = self._reader.read([token_id])
        if not read.chips:
            return read.texts[0]
        chips = "⟩⟨".join(read.chips[0].split())  # a part of a character is no text, but its bytes
        return read.texts[0].replace("\ufffd", "") + f"⟨{chips}⟩"

    def _unembedding(self, model: int) -> Tensor:
        head = self.featurizer.models[model].get_output_embeddings()
        if head is None:
            name = type(self.featurizer.models[model]).__name__
            raise ValueError(f"{name} has no language model head; load it with AutoModelForCausalLM")
        return head.weight

    def _to_residual(self, directions: Tensor, model: int) -> Tensor:
        """Directions of attention heads' outputs go through the output projection; all others are there already."""
        if self.featurizer.hook_point != "z":
            return directions
        module: Any = find_hook(self.featurizer.models[model], self.featurizer.layer, "z")[0]
        inputs = directions.to(module.weight)
        return (module(inputs) - module(torch.zeros_like(inputs))).to(directions)

    def _final_scale(self, model: int) -> tuple[Tensor, bool]:
        """The scale of the final norm, `[d]`, and whether it takes the mean off.

        Both are seen from what the norm does to an input of mean 0 and variance 1, so that no table of classes is
        needed: a scale may be stored as w (LayerNorm, RMSNorm) or as 1 + w (Gemma).
        """
        model %= len(self.featurizer.models)
        if model not in self._scales:
            decoder = self.featurizer.models[model].get_decoder()
            norms = [child for child in decoder.children() if "norm" in type(child).__name__.lower()]
            width = self._unembedding(model).shape[1]
            if not norms:
                self._scales[model] = torch.ones(width), False
            else:
                self._scales[model] = _scale_of(norms[-1], width)
        return self._scales[model]


@torch.no_grad()
def _scale_of(norm: nn.Module, width: int) -> tuple[Tensor, bool]:
    parameter = next(norm.parameters(), torch.zeros(()))
    x = torch.ones(1, 1, width, dtype=torch.float64)
    x[..., ::2] = -1
    x = (x - x.mean()) / x.std(correction=0)
    x = x.to(parameter)
    scale = ((norm(x) - norm(-x)) / (2 * x)).float()[0, 0]
    centred = torch.allclose(norm(x + 1), norm(x), atol=1e-2)
    return scale, centred

"""`Reading`: a text that the models have read once, and all that can be asked of it without reading it again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tiny_dashboard.dictionaries import Dictionary

ENCODE_BYTES = 256 * 2**20  # codes of all features are made for so many tokens at a time that they fit in this
OUTLIER_NORM = 10.0  # medians of its text: a token of a larger norm is an attention sink, and no feature's business


class TopFeatures(NamedTuple):
    """The features that fire most on a text.

    Attributes:
        features, values, positions: strongest over the text first: feature, its peak, and the token of its peak.
        token_features, token_values: the first at each token, `[seq, per_token]`; value 0 where fewer fire.
    """

    features: list[int]
    values: list[float]
    positions: list[int]
    token_features: Tensor
    token_values: Tensor


def outliers(x: Tensor, keep: Tensor, times: float = OUTLIER_NORM) -> Tensor:
    """Tokens whose activation norm exceeds that of the others so much that what fires there says nothing of the text.

    On many models the first token has a norm hundreds of times the others' (an attention sink).

    Args:
        x: `[..., seq, n_models, d]`.
        keep: `[..., seq]`, the tokens among which the median is taken.
        times: so many medians, in any of the models.

    Returns:
        `[..., seq]`, True at outliers.
    """
    norm = x.float().norm(dim=-1)
    usual = norm.masked_fill(~keep[..., None].to(norm.device), torch.nan).nanmedian(-2, keepdim=True).values
    return (norm > times * usual).any(-1)


class Reading:
    """One text through the models. Everything asked of it works on the activations that are kept.

    Args:
        featurizer: the `Featurizer` of whose dictionary is asked.
        ids: the text's tokens.
        x: their activations at the dictionary's place, `[seq, n_models, d_model]`.
    """

    def __init__(self, featurizer: Any, ids: list[int], x: Tensor) -> None:
        self.featurizer, self.ids, self.x = featurizer, ids, x

    @cached_property
    def sinks(self) -> Tensor:
        """Tokens that are left out as outliers, `[seq]`; see `outliers`."""
        special = set(getattr(self.featurizer.tokenizer, "all_special_ids", ()))
        keep = torch.tensor([token not in special for token in self.ids])
        return outliers(self.x, keep if keep.any() else ~keep).cpu()

    def values(self, features: Sequence[int]) -> Tensor:
        """Activations of the chosen features, `[seq, len(features)]`, float32 on the CPU."""
        self._check(features)
        return self._encode(self.x, list(features)).float().cpu()

    def split(self, features: Sequence[int]) -> Tensor:
        """How much each model contributes to a feature, `[seq, len(features), n_models]`, float32 on the CPU.

        The parts of the pre-activation (without the bias), in units of the shown activation; 0 where the feature
        does not fire. A negative part speaks against the feature.
        """
        dictionary = self.featurizer.dictionary
        if not isinstance(dictionary, Dictionary):
            raise TypeError("a split needs a dictionary of load_dictionary; this one only gives its activations")
        fires = dictionary.get_activations(self.x, features) != 0
        x = self.x[:, 0] if dictionary.n_models == 1 else self.x
        return (dictionary.contributions(x, features) * fires[..., None]).float().cpu()

    @torch.no_grad()
    def top(
        self,
        k: int = 20,
        *,
        per_token: int = 5,
        ignore: Sequence[bool] | None = None,
        maxima: Sequence[float] | None = None,
    ) -> TopFeatures:
        """The features that fire most: over the text, and at each token. Encodes every feature.

        Args:
            k, per_token: how many features over the text, and at each token.
            ignore: True at tokens that do not count over the text (BOS, chat template), `[seq]`; outliers never do.
            maxima: of each feature, `[n_features]`: at a token the largest shares of them come first, those of an
                unknown one (NaN) last; without it the largest activations.
        """
        scale = None if maxima is None else torch.as_tensor(maxima, dtype=torch.float32, device=self.x.device)
        best = where = torch.empty(0)
        per_values, per_features = [], []
        skip = self.sinks if ignore is None else self.sinks | torch.as_tensor(ignore)
        skip = skip[:, None].to(self.x.device)
        size = max(1, ENCODE_BYTES // (4 * (getattr(self.featurizer.dictionary, "n_features", None) or 2**16)))
        for start in range(0, len(self.x), size):
            codes = self._encode(self.x[start : start + size]).float()
            ranked = codes if scale is None else (codes / scale).nan_to_num(0)
            found = ranked.topk(min(per_token, codes.shape[1]), dim=1).indices
            per_values.append(codes.gather(1, found).cpu())
            per_features.append(found.cpu())
            peak, position = codes.masked_fill(skip[start : start + size], 0).max(0)
            if start == 0:
                best, where = peak, position
            else:
                where = torch.where(peak > best, position + start, where)
                best = torch.maximum(best, peak)
        values, order = best.topk(min(k, len(best)))
        order = order[values > 0]
        return TopFeatures(
            order.tolist(), best[order].tolist(), where[order].tolist(), torch.cat(per_features), torch.cat(per_values)
        )

    def at(self, token: int) -> tuple[list[int], list[float]]:
        """The features that fire at one token, and how much, the strongest first; only this token is encoded."""
        codes = self._encode(self.x[token : token + 1])[0].float()
        values, features = codes.sort(descending=True, stable=True)
        fires = int((values > 0).sum())
        return features[:fires].tolist(), values[:fires].tolist()

    def _check(self, features: Sequence[int]) -> None:
        if isinstance(self.featurizer.dictionary, Dictionary):
            self.featurizer.dictionary.check_features(features)

    def _encode(self, x: Tensor, features: list[int] | None = None) -> Tensor:
        codes = self.featurizer.codes(x, features)
        codes = codes.to_dense() if codes.is_sparse else codes
        if broken := int((~torch.isfinite(codes)).any(1).sum()):
            name = type(self.featurizer.dictionary).__name__
            raise ValueError(
                f"{name} gives NaN or infinite values at {broken} of {len(x)} tokens, of finite activations in "
                f"{codes.dtype}; is the checkpoint whole? float16 overflows on some"
            )
        return codes

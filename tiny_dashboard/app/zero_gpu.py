"""Models on Hugging Face's ZeroGPU: a GPU is lent for each call, which runs in a forked worker.

What crosses over is pickled, so it is plain data both ways. What was computed is kept on this side: asking for it again
spends nobody's quota.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch

from tiny_dashboard.models.featurizer import Featurizer, TopFeatures

STARTING, LONGEST = 15, 120  # seconds: to move the models, and the most that one call may ask for
TOKENS_READ, TOKENS_WRITTEN = 500, 10  # in a second, at least
KEPT = 256  # answers


class ZeroGpuFeaturizer:
    """Stands in for a `Featurizer`, whose calls of the models run on ZeroGPU.

    It is made before the models are loaded, since ZeroGPU wants to know its functions when the app starts.

    Args:
        gpu: `spaces.GPU`.
    """

    def __init__(self, gpu: Callable[..., Any]) -> None:
        self._work: Callable[..., tuple[str, Any]] = gpu(duration=_reading)(self._compute)
        self._answers: Callable[..., Iterator[tuple[str, Any]]] = gpu(duration=_writing)(self._generate)
        self._ask = lru_cache(maxsize=KEPT)(self._ask_once)

    def hold(self, featurizer: Featurizer) -> ZeroGpuFeaturizer:
        """Take the models; ZeroGPU has put them on a GPU that is not there until a call."""
        self._inner = featurizer
        self.models, self.tokenizer, self.check_text = featurizer.models, featurizer.tokenizer, featurizer.check_text
        # The decoder side would compute here, where there is no GPU: only what is plain is passed on.
        known = featurizer.dictionary
        plain = {"n_features": None, "notes": (), "prepend_bos": None}
        self.dictionary = SimpleNamespace(**{name: getattr(known, name, lacking) for name, lacking in plain.items()})
        return self

    def features(self, ids: Sequence[int], features: Sequence[int]) -> torch.Tensor:
        return torch.from_numpy(self._ask("features", tuple(ids), tuple(features)))

    def shares(self, ids: Sequence[int], features: Sequence[int]) -> torch.Tensor:
        return torch.from_numpy(self._ask("shares", tuple(ids), tuple(features)))

    def top(self, ids: Sequence[int], k: int = 20, *, ignore: Sequence[bool] | None = None) -> TopFeatures:
        found = self._ask("top", tuple(ids), k, None if ignore is None else tuple(ignore))
        return TopFeatures(*found[:3], *map(torch.from_numpy, found[3:]))

    def generate(self, ids: Sequence[int], max_new_tokens: int = 128, **options: Any) -> Iterator[int]:
        for answer in self._answers(list(ids), max_new_tokens, options):
            yield _value(answer)

    def _ask_once(self, name: str, *arguments: Any) -> Any:
        return _value(self._work(name, *arguments))

    # In the worker:

    def _compute(self, name: str, ids: Sequence[int], what: Any, ignore: Sequence[bool] | None = None) -> Any:
        try:
            if name == "top":
                found = self._inner.top(list(ids), what, ignore=None if ignore is None else list(ignore))
                return "value", (*found[:3], found.token_features.numpy(), found.token_values.numpy())
            return "value", getattr(self._inner, name)(list(ids), list(what)).numpy()
        except ValueError as error:  # from there only the name of an error would come back
            return "error", str(error)

    def _generate(self, ids: Sequence[int], max_new_tokens: int, options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        try:
            for token in self._inner.generate(ids, max_new_tokens, **options):
                yield "value", token
        except ValueError as error:
            yield "error", str(error)


def _value(answer: tuple[str, Any]) -> Any:
    kind, value = answer
    if kind == "error":
        raise ValueError(value)
    return value


def _reading(name: str, ids: Sequence[int], *_: Any) -> int:
    """Seconds for reading a text, which the quota is charged for at first."""
    return min(STARTING + len(ids) // TOKENS_READ, LONGEST)


def _writing(ids: Sequence[int], max_new_tokens: int, options: dict[str, Any]) -> int:
    return min(STARTING + len(ids) // TOKENS_READ + max_new_tokens // TOKENS_WRITTEN, LONGEST)

"""Models on Hugging Face's ZeroGPU: a GPU is lent for each call, which runs in a forked worker.

What crosses over is pickled, so it is plain data both ways. A text is read by one call, which brings its activations at
the dictionary's place; the dictionary is on this side, on the CPU, so that whatever is asked of the text then spends
nobody's quota.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.models.reading import Reading

STARTING, LONGEST = 15, 120  # seconds: to move the models, and the most that one call may ask for
TOKENS_READ, TOKENS_WRITTEN = 500, 10  # in a second, at least


class ZeroGpuFeaturizer:
    """Stands in for a `Featurizer`, whose calls of the models run on ZeroGPU.

    It is made before the models are loaded, since ZeroGPU wants to know its functions when the app starts.

    Args:
        gpu: `spaces.GPU`.
    """

    has_decoder = False  # it would compute here, where there is no GPU

    def __init__(self, gpu: Callable[..., Any]) -> None:
        self._read: Callable[..., tuple[str, Any]] = gpu(duration=_reading)(self._activations)
        self._answers: Callable[..., Iterator[tuple[str, Any]]] = gpu(duration=_writing)(self._generate)

    def hold(self, featurizer: Featurizer) -> ZeroGpuFeaturizer:
        """Take the models; ZeroGPU has put them on a GPU that is not there until a call."""
        self._inner = featurizer
        self.models, self.tokenizer, self.check_text = featurizer.models, featurizer.tokenizer, featurizer.check_text
        self.dictionary, self.layer, self.hook_point = featurizer.dictionary, featurizer.layer, featurizer.hook_point
        return self

    def read(self, ids: Sequence[int]) -> Reading:
        """As `Featurizer.read`, by one call."""
        return Reading(self._inner, list(ids), torch.from_numpy(_value(self._read(list(ids)))))

    def generate(self, ids: Sequence[int], max_new_tokens: int = 128, **options: Any) -> Iterator[int]:
        """As `Featurizer.generate`, by one call."""
        for answer in self._answers(list(ids), max_new_tokens, options):
            yield _value(answer)

    # In the worker:

    def _activations(self, ids: Sequence[int]) -> tuple[str, Any]:
        try:
            return "value", self._inner.activations(ids).float().cpu().numpy()
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


def _reading(ids: Sequence[int]) -> int:
    """Seconds for reading a text, which the quota is charged for at first."""
    return min(STARTING + len(ids) // TOKENS_READ, LONGEST)


def _writing(ids: Sequence[int], max_new_tokens: int, options: dict[str, Any]) -> int:
    return min(STARTING + len(ids) // TOKENS_READ + max_new_tokens // TOKENS_WRITTEN, LONGEST)

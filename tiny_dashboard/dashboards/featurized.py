"""The online dashboard over models and a dictionary that run here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from tiny_dashboard.core.code import call, public_name
from tiny_dashboard.core.highlight import Color, Track
from tiny_dashboard.core.prompts import EncodedText, encode_text
from tiny_dashboard.dashboards.online import OnlineDashboard
from tiny_dashboard.models.decoder import DecoderView
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.models.reading import Reading, TopFeatures

KEPT_READINGS = 8  # of one text each: at most some tens of megabytes


class FeaturizerDashboard(OnlineDashboard):
    """An online dashboard over a `Featurizer`: text is tokenised once, and these ids go to the models.

    Args:
        featurizer: models, dictionary, layer and hook point.
        window_size, max_acts, second_highlight_color: as for `OnlineDashboard`.
    """

    can_rank = True

    def __init__(
        self,
        featurizer: Featurizer,
        window_size: int = 50,
        max_acts: Mapping[int, float] | None = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        if featurizer.tokenizer is None:
            raise ValueError("the model brings no tokenizer; give tokenizer=")
        super().__init__(featurizer.tokenizer, featurizer.models[-1], window_size, max_acts, second_highlight_color)
        self.featurizer, self.n_models = featurizer, len(featurizer.models)
        self._readings: OrderedDict[tuple[int, ...], Reading] = OrderedDict()
        self._lock = Lock()

    @property
    def n_features(self) -> int | None:
        """The number of features, where the dictionary says it."""
        return getattr(self.featurizer.dictionary, "n_features", None)

    def encode(self, text: str, *, chat: bool = False, generation_prompt: bool = False) -> EncodedText:
        bos = getattr(self.featurizer.dictionary, "prepend_bos", None)
        encoded = encode_text(text, self.tokenizer, chat=chat, generation_prompt=generation_prompt, bos=bos)
        self.featurizer.check_text(encoded.text)
        return encoded

    def get_feature_activation(self, text: str, feature_indices: tuple[int, ...]) -> Any:
        return self.read(self.encode(text)).values(feature_indices)

    def read(self, encoded: EncodedText) -> Reading:
        """The text as the models have read it: the last few are kept, by their ids, and not read again."""
        key = tuple(encoded.ids)
        with self._lock:
            known = self._readings.get(key)
            if known is not None:
                self._readings.move_to_end(key)
                return known
        reading = self.featurizer.read(encoded.ids)
        with self._lock:
            self._readings[key] = reading
            while len(self._readings) > KEPT_READINGS:
                self._readings.popitem(last=False)
        return reading

    def compute(self, encoded: EncodedText, features: Sequence[int]) -> np.ndarray:
        return self.read(encoded).values(features).double().numpy()

    def left_out(self, encoded: EncodedText) -> list[int]:
        return self.read(encoded).sinks.nonzero().flatten().tolist()

    def generate_model_response(
        self, text: str, *, steer: Mapping[int, float] | None = None, clamp: bool = False
    ) -> str:
        """Continue a prompt with the last model, greedily, steered where asked.

        Args:
            text: the prompt, chat formatting included.
            steer: `{feature: strength}`: what the feature writes at that activation is added at its layer.
            clamp: set the features to these activations instead of adding them; for a dictionary of one model.
        """
        *_, encoded = self.respond(self.encode(text), steer=list((steer or {}).items()), clamp=clamp)
        return encoded.text

    def respond(
        self, prompt: EncodedText, *, max_new_tokens: int | None = None, **options: Any
    ) -> Iterator[EncodedText]:
        """Let the last model answer; each item is the prompt with all of the answer so far.

        Args:
            prompt: tokenised, with the generation prompt where it is a chat.
            max_new_tokens: at most so many; None takes the dashboard's own number.
            options: temperature, seed and steering of `Featurizer.generate`.
        """
        ids: list[int] = []
        yield prompt
        for token in self.featurizer.generate(prompt.ids, max_new_tokens or self.max_new_tokens, **options):
            ids.append(token)
            yield self.extend(prompt, ids)

    def top_features(self, text: str, k: int = 20, *, chat: bool = False) -> TopFeatures:
        """The features that fire most on a text, special tokens left out.

        Args:
            text: the text; with `chat`, turns separated by `<eot>`.
            k: how many.
            chat: format the text with the tokenizer's chat template.
        """
        return self.top_encoded(self.encode(text, chat=chat), k)

    def top_encoded(self, encoded: EncodedText, k: int = 20, **options: Any) -> TopFeatures:
        """`top_features` for a text that is tokenised already; options are those of `Reading.top`."""
        return self.read(encoded).top(k, ignore=encoded.special, **options)

    @cached_property
    def decoder(self) -> DecoderView | None:
        """The decoder side: promoted tokens, norms, neighbours; None where the dictionary is not one of ours."""
        return DecoderView(self.featurizer) if self.featurizer.has_decoder else None

    @property
    def notes(self) -> Sequence[str]:
        """The conventions in force where a checkpoint leaves them open."""
        return getattr(self.featurizer.dictionary, "notes", ())

    def _made_by(self, max_acts: Mapping[int, float] | None) -> str:
        f = self.featurizer
        models = [public_name(model.config.name_or_path) or "the model" for model in f.models]
        tokenizer = public_name(f.tokenizer)
        kind = "SAEOnlineFeatureDashboard" if len(models) == 1 else "CrosscoderOnlineFeatureDashboard"
        how = {"hook_point": f.hook_point, "tokenizer": None if tokenizer == models[-1] else tokenizer}
        how["max_acts"] = max_acts
        dictionary = public_name(getattr(f.dictionary, "source", "") or "the dictionary", parts=2)
        return f"from tiny_dashboard import {kind}\n\ndashboard = {call(kind, *models, dictionary, f.layer, **how)}"

    def split_tracks(self, encoded: EncodedText, feature: int, names: Sequence[str] = ("base", "chat")) -> list[Track]:
        """Each model's part of a crosscoder feature's activation, as two tracks: the two bands of a token.

        Raises:
            ValueError: the dictionary reads one model only.
        """
        if len(self.featurizer.models) < len(names):
            raise ValueError("a split needs a crosscoder of two models; this dictionary reads one")
        shares = self.read(encoded).split([feature])[:, 0].double().numpy()
        return [Track(f"feature {feature}, {name}", shares[:, m]) for m, name in enumerate(names)]

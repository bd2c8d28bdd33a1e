"""The ready-made online dashboards: models and a dictionary that run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tiny_dashboard.dictionaries import Dictionary
from tiny_dashboard.feature_centric_dashboards import AbstractOnlineFeatureCentricDashboard
from tiny_dashboard.featurizer import Featurizer, TopFeatures
from tiny_dashboard.highlight import Color, Track
from tiny_dashboard.logits import DecoderView
from tiny_dashboard.text import EncodedText, encode_text


class FeaturizerDashboard(AbstractOnlineFeatureCentricDashboard):
    """An online dashboard over a `Featurizer`: text is tokenised once, and these ids go to the models.

    Args:
        featurizer: models, dictionary, layer and hook point.
        window_size, max_acts, second_highlight_color: as for `AbstractOnlineFeatureCentricDashboard`.
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
        self.featurizer = featurizer

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
        return self.featurizer.features(self.encode(text).ids, feature_indices)

    def compute(self, encoded: EncodedText, features: Sequence[int]) -> np.ndarray:
        return self.featurizer.features(encoded.ids, features).double().numpy()

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
        before = "".join(self.texts(prompt.ids))
        yield prompt
        for token in self.featurizer.generate(prompt.ids, max_new_tokens or self.max_new_tokens, **options):
            ids.append(token)
            whole = "".join(self.texts([*prompt.ids, *ids]))
            yield self.extend(prompt, whole.removeprefix(before), ids)

    def top_features(self, text: str, k: int = 20, *, chat: bool = False) -> TopFeatures:
        """The features that fire most on a text, special tokens left out.

        Args:
            text: the text; with `chat`, turns separated by `<eot>`.
            k: how many.
            chat: format the text with the tokenizer's chat template.
        """
        return self.top_encoded(self.encode(text, chat=chat), k)

    def top_encoded(self, encoded: EncodedText, k: int = 20) -> TopFeatures:
        """`top_features` for a text that is tokenised already."""
        return self.featurizer.top(encoded.ids, k, ignore=encoded.special)

    @cached_property
    def decoder(self) -> DecoderView | None:
        """The decoder side: promoted tokens, norms, neighbours; None where the dictionary is not one of ours."""
        return DecoderView(self.featurizer) if isinstance(self.featurizer.dictionary, Dictionary) else None

    @property
    def notes(self) -> Sequence[str]:
        """The conventions in force where a checkpoint leaves them open."""
        return getattr(self.featurizer.dictionary, "notes", ())

    def split_tracks(self, encoded: EncodedText, feature: int, names: Sequence[str] = ("base", "chat")) -> list[Track]:
        """Each model's part of a crosscoder feature's activation, as two tracks: the two bands of a token.

        Raises:
            ValueError: the dictionary reads one model only.
        """
        if len(self.featurizer.models) < len(names):
            raise ValueError("a split needs a crosscoder of two models; this dictionary reads one")
        shares = self.featurizer.shares(encoded.ids, [feature])[:, 0].double().numpy()
        return [Track(f"feature {feature}, {name}", shares[:, m]) for m, name in enumerate(names)]


class CrosscoderOnlineFeatureDashboard(FeaturizerDashboard):
    """Features of a crosscoder that reads a base and a chat model at one layer.

    Args:
        base_model, instruct_model: Hugging Face causal language models; an object that wraps one (nnsight's
            LanguageModel) is unwrapped. They may be on different devices.
        crosscoder: a `Dictionary`, or any object with `get_activations(x[batch, 2, d], select_features=…)`.
        collect_layer: the layer whose output it reads, counted from 0.
        crosscoder_device: where the crosscoder computes; None leaves it where it is.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        tokenizer: None takes the wrapper's own.
    """

    def __init__(
        self,
        base_model: Any,
        instruct_model: Any,
        crosscoder: Any,
        collect_layer: int,
        window_size: int = 50,
        crosscoder_device: str | None = None,
        max_acts: Mapping[int, float] | None = None,
        *,
        tokenizer: Any = None,
        hook_point: str | None = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        if crosscoder_device is not None:
            crosscoder = crosscoder.to(crosscoder_device)
        featurizer = Featurizer([base_model, instruct_model], crosscoder, tokenizer, collect_layer, hook_point)
        super().__init__(featurizer, window_size, max_acts, second_highlight_color)


class SAEOnlineFeatureDashboard(FeaturizerDashboard):
    """Features of an SAE or a transcoder that reads one model.

    Args:
        model: a Hugging Face causal language model, or an object that wraps one.
        sae: a `Dictionary`, or any object with `encode(x[seq, d])`.
        collect_layer: the layer that it reads, counted from 0; None where the SAE says it.
        sae_device: where the SAE computes; None leaves it where it is.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        hook_point: "resid_post", "resid_pre", "mlp_out", …; None where the SAE says it.
        tokenizer: None takes the wrapper's own.
    """

    def __init__(
        self,
        model: Any,
        sae: Any,
        collect_layer: int | None = None,
        window_size: int = 50,
        sae_device: str | None = None,
        max_acts: Mapping[int, float] | None = None,
        *,
        hook_point: str | None = None,
        tokenizer: Any = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        if sae_device is not None:
            sae = sae.to(sae_device)
        featurizer = Featurizer(model, sae, tokenizer, collect_layer, hook_point)
        super().__init__(featurizer, window_size, max_acts, second_highlight_color)

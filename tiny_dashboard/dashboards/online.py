"""The online dashboard: features of a text, computed now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.code import call
from tiny_dashboard.core.figure import figure
from tiny_dashboard.core.files import write_text
from tiny_dashboard.core.highlight import COLORS, Color, Html, Passage, Track, passage_html
from tiny_dashboard.core.prompts import EncodedText, encode_text, special_ids
from tiny_dashboard.core.static import assets, page
from tiny_dashboard.core.text import TokenReader, parse_features, scale_limit

LEFT_OUT = "left out: its norm is out of all proportion (an attention sink)"

Features = int | str | Iterable[int | str]


@dataclass(frozen=True)
class Analysis:
    """Features of one text; shows itself in a notebook.

    Attributes:
        text: what was analysed, chat formatting and generated answer included.
        tokens: readable token texts, `[seq_len]`; joined they are the text.
        ids: vocabulary ids, `[seq_len]`.
        features: what the columns of `activations` are.
        activations: `[seq_len, n_features]` float; NaN where a token is masked.
        response: the generated answer, "" without one.
        passage: tokens and tracks, as the highlighter takes them.
        window_size: tokens around what fires that are not folded.
        left_out: positions without a value, since their activations are out of all proportion (attention sinks).
        lost: what the chat template left out or rewrote, a phrase for each such turn.
        unseen: those of `left_out` at which a highlighted feature fires; not the first token where it fires elsewhere.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    features: list[int]
    activations: np.ndarray
    response: str
    passage: Passage
    window_size: int | None
    left_out: list[int]
    lost: Sequence[str] = ()
    unseen: Sequence[int] = ()

    @property
    def fragment(self) -> Html:
        """The highlighted text as an HTML fragment."""
        return passage_html(self.passage, window=self.window_size)

    @property
    def html(self) -> Html:
        """The highlighted text as a whole self-contained page."""
        shown = ", ".join(track.name for track in self.passage.tracks if track.highlighted)
        return page(passage_html(self.passage, window=self.window_size, title=shown), title=shown, **assets())

    def figure(self, kind: str = "svg", *, view: str = "text", **look: Any) -> str:
        """The highlighted text as a figure for a paper, "svg" or "latex"; `look` goes to `core.figure.figure`."""
        return figure([self.passage], kind, view=view, **look)

    def _repr_html_(self) -> str:
        return self.html._repr_html_()


class OnlineDashboard(ABC):
    """Features of a text, computed now. A subclass says how: `get_feature_activation`.

    Args:
        tokenizer: the model's Hugging Face tokenizer.
        model: a Hugging Face causal language model that `generate_model_response` uses; None without one.
        window_size: tokens around what fires that are not folded.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        second_highlight_color: of the second highlighted feature, `#rrggbb` or three numbers in 0..255.
    """

    max_new_tokens = 256
    n_models = 0  # that the dictionary reads; 0 where it is not known
    can_rank = False  # whether it holds models and dictionary itself: top features, splits, and options of `respond`

    def __init__(
        self,
        tokenizer: Any,
        model: Any = None,
        window_size: int = 50,
        max_acts: Mapping[int, float] | None = None,
        second_highlight_color: Color | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model
        self.window_size = window_size
        self.max_acts = max_acts
        self.second_highlight_color = second_highlight_color
        self._last: Analysis | None = None

    @abstractmethod
    def get_feature_activation(self, text: str, feature_indices: tuple[int, ...]) -> Any:
        """Activations of some features over a text.

        Args:
            text: the very text whose tokens are shown: those of `tokenizer(text)`.
            feature_indices: the features, `n_features` of them.

        Returns:
            `[seq_len, n_features]`: a tensor, an array or nested lists.
        """

    def generate_model_response(self, text: str) -> str:
        """Continue a prompt with the model, greedily, to `max_new_tokens` or the end of the model's context.

        Args:
            text: the prompt, chat formatting included.

        Returns:
            The prompt with the answer behind it.

        Raises:
            ValueError: the dashboard has no model, or the prompt leaves no room in the model's context.
        """
        if self.model is None:
            raise ValueError("there is no model to generate with; give `model`, or override generate_model_response")
        from tiny_dashboard.models.generation import (
            generate,  # needs torch, which a dashboard of functions may do without
        )

        ids = self.tokenizer(text)["input_ids"]
        return text + self.tokenizer.decode(list(generate(self.model, ids, self.max_new_tokens)))

    def respond(self, prompt: EncodedText, **options: Any) -> Iterator[EncodedText]:
        """Let the model answer: each item is the prompt with all of the answer so far.

        Raises:
            ValueError: `options` were given; only a dashboard that holds its models has some.
        """
        if options:
            raise ValueError(f"{type(self).__name__} generates in its own way, without {', '.join(options)}")
        response = self.generate_model_response(prompt.text).removeprefix(prompt.text)
        # One text, tokenised as get_feature_activation will: at the seam the tokens may be other ones.
        whole = self.encode(prompt.text + response) if response else prompt
        pairs = zip(prompt.ids, whole.ids, strict=False)
        seam = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(prompt.ids), len(whole.ids)))
        yield whole._replace(special=[*prompt.special[:seam], *whole.special[seam:]])

    def extend(self, prompt: EncodedText, ids: Sequence[int]) -> EncodedText:
        """A prompt with an answer of these ids behind it, as one text; the prompt keeps its ids."""
        whole, before = ("".join(self.texts(part)) for part in ([*prompt.ids, *ids], prompt.ids))
        special = [*prompt.special, *(i in self._special for i in ids)]
        return EncodedText(prompt.text + whole.removeprefix(before), [*prompt.ids, *ids], special, prompt.lost)

    @property
    def can_generate(self) -> bool:
        """Whether there is something that answers."""
        return (
            self.model is not None or type(self).generate_model_response is not OnlineDashboard.generate_model_response
        )

    @cached_property
    def _special(self) -> set[int]:
        return special_ids(self.tokenizer)

    def compute(self, encoded: EncodedText, features: Sequence[int]) -> np.ndarray:
        """Activations of `features` at each token, `[seq_len, n_features]` float64.

        Raises:
            ValueError: `get_feature_activation` returned another shape.
        """
        rows = self.get_feature_activation(encoded.text, tuple(features))
        try:
            values = np.array(rows.tolist() if hasattr(rows, "tolist") else rows, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"get_feature_activation returned {str(rows)[:80]}, no array of numbers: {error}"
            ) from error
        n_tokens, n_features = len(encoded.ids), len(features)
        if values.ndim == 1 and n_features == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != n_features:
            raise ValueError(
                f"get_feature_activation returned shape {values.shape} for {n_tokens} tokens and {n_features} "
                f"features; return [{n_tokens}, {n_features}], with no batch dimension"
            )
        if len(values) != n_tokens:
            raise ValueError(
                f"get_feature_activation returned {len(values)} rows for {n_tokens} tokens; tokenise with "
                "add_special_tokens=True, or drop the BOS on both sides"
            )
        return values

    def top_features(self, text: str, k: int = 20, *, chat: bool = False) -> Any:
        """The features that fire most on a text, where the dashboard can compute all of them."""
        raise NotImplementedError(f"{type(self).__name__} computes chosen features only; name them")

    @property
    def n_features(self) -> int | None:
        """The number of features, where the dictionary says it."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """The conventions in force where a checkpoint leaves them open."""
        return ()

    @property
    def decoder(self) -> Any:
        """The decoder side: promoted tokens, norms, neighbours; None where the dictionary is not one of ours."""
        return None

    def top_encoded(self, encoded: EncodedText, k: int = 20) -> Any:
        """`top_features` for a text that is tokenised already."""
        raise NotImplementedError(f"{type(self).__name__} computes chosen features only; name them")

    def split_tracks(self, encoded: EncodedText, feature: int) -> list[Track]:
        """Each model's part of a crosscoder feature's activation, as two tracks: the two bands of a token."""
        raise ValueError("a split needs one highlighted feature, and a crosscoder of two models")

    def left_out(self, encoded: EncodedText) -> list[int]:
        """Positions that have no value, since their activations are out of all proportion (attention sinks)."""
        return []

    def encode(self, text: str, *, chat: bool = False, generation_prompt: bool = False) -> EncodedText:
        """Tokenise a text once; with `chat`, `<eot>` separates its turns, the user's first."""
        return encode_text(text, self.tokenizer, chat=chat, generation_prompt=generation_prompt)

    def analyze(
        self,
        text: str,
        highlight_features: Features,
        tooltip_features: Features = (),
        features: Features = (),
        *,
        chat: bool = False,
        generate: bool = False,
        max_act: float | str | None = None,
        **how: Any,
    ) -> Analysis:
        """Compute features of a text and show where they fire.

        Args:
            text: the text; with `chat`, turns separated by `<eot>`, the user's first.
            highlight_features: one or two features that colour the tokens: `12`, `[12, 30]` or `"12, 30"`.
            tooltip_features: features that the tooltip names besides.
            features: features that are computed but only stand in `.activations`.
            chat: format the text with the tokenizer's chat template.
            generate: let the model answer, and analyse the answer with the text.
            max_act: the activation that gets the full colour: a number, "auto" for the corpus maximum in
                `max_acts`, None (or empty) for the text's own maximum.
            how: passed to `analyze_encoded`.

        Raises:
            ValueError: the text is empty or too long, or a feature or `max_act` is not usable.
        """
        prompt = self.encode(text, chat=chat, generation_prompt=generate and chat)
        encoded = prompt
        if generate:
            *_, encoded = self.respond(prompt)
        response = encoded.text[len(prompt.text) :]
        chosen = [parse_features(f) for f in (highlight_features, tooltip_features, features)]
        self._last = self.analyze_encoded(encoded, *chosen, max_act=max_act, response=response, **how)
        return self._last

    def analyze_encoded(
        self,
        encoded: EncodedText,
        highlight: Sequence[int],
        tooltip: Sequence[int] = (),
        compute: Sequence[int] = (),
        *,
        max_act: float | str | None = None,
        mask_special: bool = False,
        response: str = "",
        colors: Sequence[Color] = (),
        split: bool = False,
    ) -> Analysis:
        """`analyze` for a text that is tokenised already; keeps nothing on the dashboard.

        Args:
            encoded, highlight, tooltip, compute, max_act: as for `analyze`.
            mask_special: leave special tokens out.
            response: the part of the text that was generated.
            colors: of the highlighted features.
            split: show each model's part of the one highlighted feature, as two bands.
        """
        features = list(dict.fromkeys([*highlight, *tooltip, *compute]))
        check_named(highlight, features)
        limit = scale_limit("" if max_act is None else max_act, ("", "auto"))
        values = self.compute(encoded, features)
        left_out = self.left_out(encoded)
        fires = np.any(values[:, : len(highlight)] > 0, axis=1)
        masked = np.array(encoded.special) & mask_special
        masked[left_out] = True
        # The first token of most texts is a sink, which its tooltip says.
        unseen = [at for at in left_out if fires[at] and (at or not fires[~masked].any())]
        values[masked] = np.nan
        if not colors and self.second_highlight_color is not None:
            colors = [COLORS[0], self.second_highlight_color]
        color_of = dict(zip(highlight, colors, strict=False))
        tracks = []
        for column, feature in enumerate(features):
            if feature in highlight or feature in tooltip:
                scale = self.max_activation(feature) if max_act == "auto" else limit
                color, shown = color_of.get(feature), feature in highlight
                tracks.append(Track(f"feature {feature}", values[:, column], color, scale=scale, highlighted=shown))
        if split:
            if len(highlight) != 1:
                raise ValueError("a split needs one highlighted feature, and a crosscoder of two models")
            bands = [
                replace(band, values=np.where(masked, np.nan, band.values), color=color)
                for band, color in zip_longest(self.split_tracks(encoded, *highlight), colors[:2])
            ]
            tracks = [*bands, *(replace(track, highlighted=False) for track in tracks)]
        passage = replace(self.passage(encoded, tracks), remarks=dict.fromkeys(left_out, LEFT_OUT))
        texts = list(passage.tokens)
        known = (encoded.text, texts, encoded.ids, features, values, response, passage)
        return Analysis(*known, self.window_size, left_out, encoded.lost, unseen)

    def passage(self, encoded: EncodedText, tracks: Sequence[Track] = ()) -> Passage:
        """A text as the highlighter takes it."""
        texts, chips = self._reader.read(encoded.ids)
        return Passage(texts, tracks, chips, encoded.ids, encoded.special)

    def max_activation(self, feature: int) -> float | None:
        """The feature's maximum over a corpus, where `max_acts` knows it."""
        known = float(self.max_acts[feature]) if self.max_acts is not None and feature in self.max_acts else 0.0
        return known if known > 0 else None

    def save_html(self, save_path: str | Path | None = None, filename: str | None = None) -> Path:
        """Write the last analysis as a self-contained page.

        Args:
            save_path: the folder, made where it is missing; None is the current one.
            filename: None names it after the features.

        Returns:
            The path of the file.

        Raises:
            ValueError: nothing was analysed yet.
        """
        if self._last is None:
            raise ValueError("there is nothing to save yet; call analyze() first")
        name = filename or f"features-{'-'.join(map(str, self._last.features[:5]))}.html"
        return write_text(Path(save_path or ".") / name, self._last.html)

    def code(
        self,
        text: str,
        highlight_features: Features,
        tooltip_features: Features = (),
        *,
        chat: bool = False,
        max_act: float | str | None = None,
        **how: Any,
    ) -> str:
        """The Python that makes what `analyze` shows with these arguments, wherever it is run."""
        chosen, more = parse_features(highlight_features), parse_features(tooltip_features)
        maxima = {f: most for f in (*chosen, *more) if max_act == "auto" and (most := self.max_activation(f))}
        how = {"tooltip_features": more or None, "chat": chat or None, "max_act": max_act, **how}
        return f"{self._made_by(maxima or None)}\n{call('dashboard.analyze', text, chosen, **how)}\n"

    def _made_by(self, max_acts: Mapping[int, float] | None) -> str:
        """The Python that makes the dashboard."""
        maxima = f", max_acts={max_acts}" if max_acts else ""
        return (
            "from tiny_dashboard import OnlineFeatureCentricDashboard\n\n"
            f"dashboard = OnlineFeatureCentricDashboard(get_feature_activation, tokenizer{maxima})  # yours"
        )

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Readable texts of vocabulary ids."""
        return self._reader.read(ids).texts

    @cached_property
    def _reader(self) -> TokenReader:
        return TokenReader(self.tokenizer)


def check_named(highlight: Sequence[int], features: Sequence[int]) -> None:
    """Raises a `ValueError` where none of `features` is named, or too many to highlight."""
    if len(highlight) > 2:
        raise ValueError(
            f"{len(highlight)} features to highlight; choose one or two, and the others as tooltip features"
        )
    if not features:
        raise ValueError("no feature is named; give at least one to highlight")

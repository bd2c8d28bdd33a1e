"""What the app's tabs and its API clients ask: every argument is checked and bounded, answers are plain JSON data.

The docstrings are read by people, by `gradio_client` and by MCP clients.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

import numpy as np

from tiny_dashboard.app.loading import Loading
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.core.text import parse_features
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import Analysis, OnlineDashboard

MAX_EXAMPLES = 200
MAX_FEATURES = 64  # computed in one request
MAX_TOP = 200
_WAIT = 600  # seconds that a request waits for models that are still loading


class Endpoints:
    """The questions that can be asked of one offline and one online dashboard.

    Args:
        offline: where it may not be there yet, a `Loading`; None where no examples are configured.
        online: a `Loading` or a future, since models take time to load; None where no dictionary is configured.
        max_text: characters of text in one request.
    """

    def __init__(
        self,
        offline: OfflineDashboard | Loading[OfflineDashboard] | None,
        online: Future[OnlineDashboard] | Loading[OnlineDashboard] | None,
        max_text: int = 20_000,
    ) -> None:
        self._offline = offline
        self._online = online
        self._max_text = max_text

    @property
    def offline(self) -> OfflineDashboard:
        """The offline dashboard.

        Raises:
            ValueError: none is configured.
            OSError, ValueError: it cannot be opened now; it is tried again when asked for later.
        """
        if self._offline is None:
            raise ValueError("no examples are configured; start with --examples SRC, or set examples in dashboard.toml")
        return self._offline.result(_WAIT) if isinstance(self._offline, Loading) else self._offline

    @property
    def online(self) -> OnlineDashboard:
        """The online dashboard, once it is loaded.

        Raises:
            ValueError: none is configured, it is still loading, or it failed to load; that is tried again later.
        """
        if self._online is None:
            raise ValueError(
                "no model is configured; start with --model M --dictionary SRC, or set them in dashboard.toml"
            )
        try:
            return self._online.result(_WAIT)
        except TimeoutError as error:
            raise ValueError("the models are still loading; ask again in a moment") from error
        except Exception as error:
            raise ValueError(f"the models did not load: {error}") from error

    def examples(self, feature: int, max_examples: int = 20, scale: str = "feature") -> dict[str, Any]:
        """Max-activating examples of a feature, strongest first.

        Args:
            feature: the feature's index.
            max_examples: at most so many, up to 200.
            scale: the activation that gets the full colour: that of each "example", of the "feature", or a number.

        Returns:
            {feature, stats, examples: [{max_activation, tokens, token_ids, activations, scale, quantile, doc, start}]}
        """
        number = whole_number(feature, "feature")
        limit = bounded(max_examples, "max_examples", 1, MAX_EXAMPLES)
        rows = []
        for example, passage in self.offline.read(number, max_examples=limit, scale=scale):
            track = passage.tracks[0]
            values = track.array()
            rows.append(
                {
                    "max_activation": _plain(example.max_activation),
                    "tokens": _json(list(passage.tokens)),
                    "token_ids": None if example.token_ids is None else np.asarray(example.token_ids).tolist(),
                    "activations": [_plain(v) for v in values.tolist()],
                    "scale": _plain(track.scale or float(np.nan_to_num(values).max(initial=0.0))),
                    "quantile": example.quantile,
                    "doc": example.doc,
                    "start": example.start,
                }
            )
        stats = self.stats(number)
        return {"feature": number, "stats": _json(asdict(stats)) if stats else None, "examples": rows}

    def features(
        self, query: str = "", sort: str = "feature", page: int = 1, descending: bool = False
    ) -> dict[str, Any]:
        """Search and sort the features.

        Args:
            query: words in a feature's label, in the tokens that it fires on most, or in another text that is told of
                it, in any case. Digits find the features whose number begins so, too. Empty finds all.
            sort: "feature", "label", "density", "max_activation", "relative_norm_difference", "decoder_cosine", or
                another column that the examples bring.
            page: page of 25 rows, from 1.
            descending: largest first.

        Returns:
            {total, page, pages, features: [{feature, label, density, max_activation, relative_norm_difference,
            decoder_cosine, and what else the examples bring}]}; null where the source does not know.
        """
        query = ("" if query is None else str(query))[:200]
        place = bounded(page, "page", 1, 10**9)
        return _json(self.offline.table.find(query, sort, place, true_or_false(descending, "descending")))

    def analyze(
        self,
        text: str,
        highlight_features: str = "",
        tooltip_features: str = "",
        chat: bool = False,
        generate: bool = False,
        max_act: str = "",
    ) -> dict[str, Any]:
        """Where features fire on a text.

        Args:
            text: the text; with chat, `<eot>` separates the turns, the user's first.
            highlight_features: one or two features: "12" or "12, 30".
            tooltip_features: more features to compute: "3, 5-9".
            chat: format the text with the tokenizer's chat template.
            generate: let the model answer, and analyse the answer too.
            max_act: the activation that gets the full colour: a number, "auto", or empty for the text's own maximum.

        Returns:
            {text, tokens, token_ids, features, activations: a row for each token, response, left_out: positions without
            a value, since their norm is out of all proportion (attention sinks)}
        """
        generate = true_or_false(generate, "generate")
        prompt = self.encode(text, chat=chat, generation_prompt=generate and chat)
        encoded = prompt
        if generate:
            for encoded in self.online.respond(prompt):  # noqa: B007
                pass
        result = self.analysis(encoded, highlight_features, tooltip_features, max_act=max_act)
        return {
            "text": result.text,
            "tokens": result.tokens,
            "token_ids": result.ids,
            "features": result.features,
            "activations": [[_plain(v) for v in row] for row in result.activations.tolist()],
            "response": encoded.text[len(prompt.text) :],
            "left_out": result.left_out,
        }

    def top_features(self, text: str, k: int = 20, chat: bool = False) -> dict[str, Any]:
        """The features that fire most on a text, special tokens left out.

        Args:
            text: the text; with chat, `<eot>` separates the turns, the user's first.
            k: how many, up to 200.
            chat: format the text with the tokenizer's chat template.

        Returns:
            {features: [{feature, label, activation, position, token}]}, strongest first.
        """
        encoded = self.encode(text, chat=chat)
        return {"features": self.top(encoded, bounded(k, "k", 1, MAX_TOP))["over_text"]}

    def encode(self, text: str, *, chat: bool = False, generation_prompt: bool = False) -> EncodedText:
        """Tokenise a text of bounded length."""
        if not isinstance(text, str):
            raise ValueError(f"the text is {type(text).__name__}, not a string")
        if len(text) > self._max_text:
            raise ValueError(f"the text has {len(text)} characters; at most {self._max_text} are analysed at once")
        return self.online.encode(text, chat=true_or_false(chat, "chat"), generation_prompt=generation_prompt)

    def analysis(
        self,
        encoded: EncodedText,
        highlight: str = "",
        tooltip: str = "",
        *,
        max_act: Any = "",
        **how: Any,
    ) -> Analysis:
        """`analyze_encoded` with what people type: feature lists, and a scale that may be empty."""
        n_features = self.online.n_features
        chosen = [parse_features(features, n_features) for features in (highlight, tooltip)]
        if sum(map(len, chosen)) > MAX_FEATURES:
            raise ValueError(f"{sum(map(len, chosen))} features are asked for; at most {MAX_FEATURES} at once")
        scale = max_act.strip() if isinstance(max_act, str) else max_act
        return self.online.analyze_encoded(encoded, *chosen, max_act=scale, **how)

    def top(self, encoded: EncodedText, k: int = 20) -> dict[str, Any]:
        """What fires over a text and at each of its tokens, with the labels that the examples know."""
        online = self.online
        if not online.can_rank:
            raise ValueError("this dashboard computes chosen features only; name them")
        found = online.top_encoded(encoded, k)
        texts = online.texts(encoded.ids)
        over_text = [
            {"feature": f, "label": self.label(f), "activation": _plain(v), "position": p, "token": texts[p]}
            for f, v, p in zip(found.features, found.values, found.positions, strict=True)
        ]
        return {
            "over_text": over_text,
            "token_features": found.token_features.tolist(),
            "token_values": found.token_values.tolist(),
        }

    def stats(self, feature: int) -> FeatureStats | None:
        """What is known of a feature: from the examples, and from the decoder once the models are loaded."""
        stats = self.offline.stats(feature) if self._offline is not None else None
        decoder = self.decoder
        if decoder is None or (stats is not None and stats.top_logits) or feature >= decoder.dictionary.n_features:
            return stats
        return decoder.stats(stats or FeatureStats(feature))

    @property
    def decoder(self) -> Any:
        """The decoder side, where models and dictionary are loaded by now; else None."""
        loaded = self._online is not None and self._online.done() and self._online.exception() is None
        return self.online.decoder if loaded else None

    def label(self, feature: int) -> str:
        """A feature's label, else the tokens that it fires on most, "" where the examples know neither."""
        try:
            stats = self.offline.stats(feature) if self._offline is not None else None
        except OSError:  # a text is worth showing without labels too
            return ""
        return _json(stats.name) if stats else ""


def whole_number(value: Any, name: str) -> int:
    """A whole number from a client: an int, a float without a fraction, or digits.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        if isinstance(value, (bool, float)):
            raise ValueError
        return int(str(value).strip()[:400])
    except ValueError:
        raise ValueError(f"{name} is {str(value)[:80]!r}; give a whole number") from None


def bounded(value: Any, name: str, low: int, high: int) -> int:
    """A whole number from a client in `low..high`.

    Raises:
        ValueError: it is not.
    """
    number = whole_number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}; it must be from {low} to {high}")
    return number


def true_or_false(value: Any, name: str) -> bool:
    """A JSON boolean from a client, or the 0 or 1 that stands for it; a text is none, since "false" would be true.

    Raises:
        ValueError: it is none.
    """
    if value not in (0, 1):
        raise ValueError(f"{name} is {repr(value)[:80]}; give true or false")
    return bool(value)


def _plain(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def _json(value: Any) -> Any:
    """Plain data for JSON, which has no NaN, and whose text is UTF-8: no halves of surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, np.generic):
        return _json(value.item())
    return _plain(value) if isinstance(value, float) else value

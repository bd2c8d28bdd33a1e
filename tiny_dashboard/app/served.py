"""What the app serves: an offline and an online dashboard, each once it is there, and what is known from both.

Also the checks of what comes from a client, and the plain data that goes to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from tiny_dashboard.app.loading import Loading, Memory
from tiny_dashboard.core.card import chips
from tiny_dashboard.core.highlight import plain_text
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import OnlineDashboard

MAX_EXAMPLES = 200
MAX_TOP = 200
_WAIT = 600  # seconds that a request waits for models that are still loading


class Served:
    """One offline and one online dashboard, as the tabs and the API ask them.

    Args:
        offline: where it may not be there yet, a `Loading`; None where no examples are configured.
        online: a `Loading`, since models take time to load; None where no dictionary is configured.
        max_text: characters of text in one request.
        memory: of models and dictionaries.
    """

    def __init__(
        self,
        offline: OfflineDashboard | Loading[OfflineDashboard] | None,
        online: Loading[OnlineDashboard] | None,
        max_text: int = 20_000,
        memory: Memory | None = None,
    ) -> None:
        self._offline = offline
        self._online = online
        self._max_text = max_text
        self._memory = memory or Memory()

    @property
    def has_offline(self) -> bool:
        """Whether examples are configured."""
        return self._offline is not None

    @property
    def has_online(self) -> bool:
        """Whether a model is configured."""
        return self._online is not None

    @property
    def live(self) -> OnlineDashboard | None:
        """The online dashboard, where it is loaded by now."""
        return None if self._online is None else self._online.value

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

    def load(self) -> Future[OnlineDashboard] | None:
        """Begin to load the models, where there are some."""
        return None if self._online is None else self._online.start()

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
            found = self._online.result(_WAIT)
        except TimeoutError as error:
            raise ValueError("the models are still loading; ask again in a moment") from error
        except Exception as error:
            raise ValueError(f"the models did not load: {error}") from error
        self._memory.use(self._online)  # after it is loaded: who leaves now may have had the same models
        return found

    def encode(self, text: str, *, chat: bool = False, generation_prompt: bool = False) -> EncodedText:
        """Tokenise a text of bounded length."""
        if not isinstance(text, str):
            raise ValueError(f"the text is {type(text).__name__}, not a string")
        if len(text) > self._max_text:
            raise ValueError(f"the text has {len(text)} characters; at most {self._max_text} are analysed at once")
        return self.online.encode(text, chat=true_or_false(chat, "chat"), generation_prompt=generation_prompt)

    def top(self, encoded: EncodedText, k: int = 20) -> dict[str, Any]:
        """What fires over a text and at each of its tokens, with what the examples know of it.

        Returns:
            {raw, share: as `at` has them, each row with {position, token} of its peak; token_features, token_values:
            three of each token, by share where maxima are known}
        """
        online = self.online
        if not online.can_rank:
            raise ValueError("this dashboard computes chosen features only; name them")
        n = online.n_features
        maxima = None if n is None else self.maxima(np.arange(n))
        known = maxima is not None and np.isfinite(maxima).any()
        of_tokens = {"per_token": 3, "maxima": maxima if known else None}
        found = online.top_encoded(encoded, n or 1_000_000, **of_tokens)
        texts = online.texts(encoded.ids)
        peaks = [{"position": position, "token": texts[position]} for position in found.positions]
        return self._ranked(found.features, found.values, k, peaks) | {
            "token_features": found.token_features.tolist(),
            "token_values": found.token_values.tolist(),
        }

    def at(self, encoded: EncodedText, token: int, k: int = 20) -> dict[str, Any]:
        """What fires at one token.

        Returns:
            {n: so many features, raw, share: the first by activation, and by share of the feature's own maximum where
            maxima are known: [{feature, label, activation, most}]}
        """
        features, values = self.online.read(encoded).at(token)  # type: ignore[attr-defined]
        return self._ranked(features, values, k) | {"n": len(features)}

    def _ranked(
        self, features: Sequence[int], values: Sequence[float], k: int, more: Sequence[dict[str, Any]] = ()
    ) -> dict[str, Any]:
        most = self.maxima(features)
        shares = np.nan_to_num(np.array(values) / most)
        by_share = np.argsort(-shares, kind="stable")[: k if np.isfinite(most).any() else 0]

        def row(place: int) -> dict[str, Any]:
            about = {"feature": features[place], "label": self.label(features[place])}
            about |= {"activation": plain(values[place]), "most": plain(float(most[place]))}
            return about | (more[place] if more else {})

        return {"raw": [row(i) for i in range(min(k, len(features)))], "share": [row(int(i)) for i in by_share]}

    def maxima(self, features: Sequence[int] | np.ndarray) -> np.ndarray:
        """The largest known activation of each of these features, `[len(features)]`; NaN where it is not known."""
        if self._offline is None:
            known = self.online.max_acts or {}
            most = np.array([known.get(feature, np.nan) for feature in features], float)
        else:
            most = np.array(self._of_table("max_activation", features, np.nan), float)
        return np.where((most > 0) & np.isfinite(most), most, np.nan)

    def names(self, features: Sequence[int]) -> dict[int, str]:
        """Labels, or the tokens that a feature fires on most, of those features of which one is known."""
        found = zip(features, self._of_table("label", features, ""), strict=True)
        return {feature: json_data(name) for feature, name in found if name}

    def _of_table(self, column: str, features: Sequence[int] | np.ndarray, unknown: Any) -> Sequence[Any]:
        try:
            table = self.offline.table
            values = table.column(column)
        except (OSError, ValueError):  # a text is worth showing without
            return [unknown] * len(features)
        if not len(table.ids):
            return [unknown] * len(features)
        at = np.searchsorted(table.ids, features).clip(max=len(table.ids) - 1)
        return np.where(table.ids[at] == features, values[at], unknown)

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
        return None if self.live is None else self.live.decoder

    def label(self, feature: int) -> str:
        """A feature's label, else the tokens that it fires on most, "" where the examples know neither."""
        stats = self._named(feature)
        return json_data(stats.name) if stats else ""

    def called(self, feature: int) -> str:
        """The same as HTML, each token a chip."""
        stats = self._named(feature)
        if stats is None:
            return ""
        return plain_text(stats.label) if stats.label else chips(token for token, _ in stats.peak_tokens[:5])

    def _named(self, feature: int) -> FeatureStats | None:
        try:
            return self.offline.stats(feature) if self._offline is not None else None
        except OSError:  # a text is worth showing without labels too
            return None


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


def plain(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def json_data(value: Any) -> Any:
    """Plain data for JSON, which has no NaN, and whose text is UTF-8: no halves of surrogate pairs."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: json_data(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return json_data(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_data(item) for item in value]
    if isinstance(value, np.generic):
        return json_data(value.item())
    return plain(value) if isinstance(value, float) else value

"""The two dashboards: examples that somebody computed (offline), and features of a text computed now (online).

Their verbs return data or HTML; nothing here draws a widget. `display()` opens the live app on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import numpy as np

from tiny_dashboard.card import card_html
from tiny_dashboard.examples import Example, ExampleSource, FeatureStats, SourceInfo, check_example, check_feature
from tiny_dashboard.highlight import COLORS, Color, Html, Passage, Track, examples_html, page, passage_html, share_scale
from tiny_dashboard.pretrained import load_tokenizer
from tiny_dashboard.static import assets
from tiny_dashboard.text import EncodedText, TokenReader, encode_text, parse_features, special_ids

Features = int | str | Iterable[int | str]


class OfflineFeatureCentricDashboard:
    """Max-activating examples of each feature.

    Args:
        max_activation_examples: `{feature: [(max_activation, tokens, activations), …]}`, strongest first: a dict, or
            any mapping, such as an `ExampleSource`.
        tokenizer: the Hugging Face tokenizer that made the tokens, or its Hub id or folder; None reads the tokens by
            their own marks (`Ġ`, `▁`, `<0x0A>`).
        window_size: tokens shown on each side of the peak; the rest is folded.
        max_examples: examples shown of a feature.
    """

    def __init__(
        self,
        max_activation_examples: Mapping[int, Sequence[Sequence[Any]]],
        tokenizer: Any,
        window_size: int = 50,
        max_examples: int = 30,
    ) -> None:
        for feature in max_activation_examples if isinstance(max_activation_examples, dict) else ():
            if not hasattr(feature, "__index__"):
                kind = type(feature).__name__
                raise TypeError(f"features are numbers, and {feature!r} is a {kind}; make an int of each key")
        self.max_activation_examples = max_activation_examples
        self._tokenizer = tokenizer
        self.window_size = window_size
        self.max_examples = max_examples

    @classmethod
    def from_db(
        cls,
        db_path: str | Path,
        tokenizer: Any,
        column_name: str = "examples",
        table_name: str = "data_table",
        window_size: int = 50,
        max_examples: int = 30,
    ) -> Self:
        """Open a SQLite file whose table has an integer key and a JSON column; it is read lazily and never written."""
        from tiny_dashboard.sources.sqlite_json import SqliteJsonExamples

        return cls(SqliteJsonExamples(db_path, column_name, table_name), tokenizer, window_size, max_examples)

    @classmethod
    def open(
        cls, source: Any, tokenizer: Any = None, *, window_size: int = 50, max_examples: int = 30, **options: Any
    ) -> Self:
        """Open whatever `open_examples` reads; `options` go to it.

        Without a `tokenizer` the one that the source names is used.
        """
        from tiny_dashboard.sources import open_examples

        return cls(open_examples(source, tokenizer=tokenizer, **options), tokenizer, window_size, max_examples)

    @property
    def info(self) -> SourceInfo:
        """What the source knows of itself."""
        source = self.max_activation_examples
        return source.info if isinstance(source, ExampleSource) else SourceInfo("dict")

    @property
    def about(self) -> str:
        """What the source knows of where its examples come from, in a line."""
        info = self.info
        where = f"layer {info.layer}, {info.hook_point or 'resid_post'}" if info.layer is not None else ""
        models = " ↔ ".join(name.rstrip("/").rsplit("/", 1)[-1] for name in info.models)
        return " · ".join(filter(None, [models, where, f"{len(self.features):,} features with examples"]))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; loaded on first use where it was given, or is known to the source, by name."""
        known = self._tokenizer if self._tokenizer is not None else self.info.tokenizer
        return load_tokenizer(known) if isinstance(known, (str, Path)) else known

    @cached_property
    def features(self) -> Sequence[int]:
        """All feature ids, ascending."""
        return sorted(self.max_activation_examples)

    def stats(self, feature_idx: int) -> FeatureStats | None:
        """What is known of a feature besides its examples; None where that is nothing."""
        source = self.max_activation_examples
        return source.stats(feature_idx) if isinstance(source, ExampleSource) else None

    @property
    def max_acts(self) -> Mapping[int, float]:
        """`{feature: largest activation that the source knows}`, read one by one when asked."""
        return MaxActs(lambda: self)

    def ids_of(self, example: Example) -> tuple[list[int], list[bool]]:
        """An example as a model reads it: its vocabulary ids, and which of them are special tokens.

        Where the source says that a BOS stood before its windows and is not stored, it is put back: the lists are
        longer by one than the example then.

        Raises:
            ValueError: the ids are not stored, and the tokenizer does not know the pieces.
        """
        known = _ids_or_pieces(example)
        if example.token_ids is None:
            pieces = list(known)
            known = [None] * len(pieces) if self.tokenizer is None else self.tokenizer.convert_tokens_to_ids(pieces)
            unknown = (None, getattr(self.tokenizer, "unk_token_id", None))
            own_name = getattr(self.tokenizer, "unk_token", None)
            if any(i in unknown and piece != own_name for i, piece in zip(known, pieces, strict=True)):
                raise ValueError(
                    "this example's tokens are not in the tokenizer's vocabulary, so a model cannot read them"
                )
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is not None and self.info.extra.get("bos", "none") != "none":
            known = [bos, *known]
        return known, [i in self._special for i in known]

    def examples(self, feature_idx: int, max_examples: int | None = None) -> list[Example]:
        """Examples of a feature as the source has them, strongest first.

        Where the source has bands of activation strength, `max_examples` is dealt out to them in turns.

        Raises:
            ValueError: the feature is not a whole number of 0 or above, or one of its examples is broken.
            UnknownFeatureError: there is no such feature.
        """
        feature = check_feature(feature_idx, self.max_activation_examples)
        rows = self.max_activation_examples[feature]
        examples = [check_example(row, feature, i) for i, row in enumerate(rows)]
        limit = self.max_examples if max_examples is None else max_examples
        bands: dict[int, list[Example]] = {}
        for example in examples:
            bands.setdefault(-1 if example.quantile is None else example.quantile, []).append(example)
        turns = ((turn, -band, example) for band, members in bands.items() for turn, example in enumerate(members))
        shown = sorted(turns, key=itemgetter(0, 1))[:limit]
        return [example for _, _, example in sorted(shown, key=itemgetter(1, 0))]

    def read(
        self,
        feature_idx: int,
        *,
        max_examples: int | None = None,
        scale: str | float = "example",
        mask_special: bool = False,
        color: Color | None = None,
    ) -> list[tuple[Example, Passage]]:
        """Examples of a feature, each with its passage: readable, and ready to be drawn.

        Args:
            feature_idx: the feature.
            max_examples: how many; None takes the dashboard's own number.
            scale: what gets the full colour: the maximum of each "example", that of the "feature", or a number.
            mask_special: leave special tokens (BOS, chat template) out of the scale, the colours and the ranking.
            color: of the highlights; None takes the palette's.
        """
        limit = _scale_limit(scale, ("example", "feature"))
        examples = self.examples(feature_idx, max_examples)
        if mask_special:
            examples = sorted(map(self._masked, examples), key=lambda e: (-(e.quantile or 0), -e.max_activation))
        if scale == "feature" and not mask_special:
            stats = self.stats(feature_idx)
            # The strongest example of all may not be among those shown.
            known_peaks = [*(e.max_activation for e in examples), (stats.max_activation if stats else None) or 0.0]
            limit = max((float(peak) for peak in known_peaks if peak > 0), default=None)
        bands = {e.quantile for e in examples if e.quantile is not None}
        passages = []
        for example in examples:
            known = _ids_or_pieces(example)
            texts, chips = self._reader.read(example.tokens if len(example.tokens) else known)
            track = Track(f"feature {feature_idx}", example.activations, color, scale=limit)
            group, about = "", ""
            if len(bands) > 1 and example.quantile == max(bands):
                group, about = "strongest", "examples in which the feature fires most"
            elif len(bands) > 1 and example.quantile is not None:
                group = f"band {example.quantile}"
                about = "a band of strength, 0 the weakest: drawn from all examples in which the feature fires so much"
            special = () if self._special.isdisjoint(known) else [token in self._special for token in known]
            passages.append(Passage(texts, [track], chips, example.token_ids, special, group=group, group_title=about))
        if scale == "feature" and limit is None:
            passages = share_scale(passages)
        return list(zip(examples, passages, strict=True))

    def fragment(self, feature_idx: int, *, window_size: int | None = None, view: str = "lines", **how: Any) -> Html:
        """The examples as an HTML fragment; `how` goes to `read`."""
        window = self.window_size if window_size is None else window_size
        passages = [passage for _, passage in self.read(feature_idx, **how)]
        return examples_html(passages, window=window, view=view, note=f"window {window}")

    def generate_html(self, feature_idx: int, use_absolute_max: bool = False) -> Html:
        """A whole self-contained page of one feature, which also shows itself in a notebook.

        Args:
            feature_idx: the feature.
            use_absolute_max: scale the colours of all examples to the feature's maximum, not each to its own.
        """
        scale = "feature" if use_absolute_max else "example"
        return page(self._section(feature_idx, scale), title=f"Feature {feature_idx}", **assets())

    def export_to_html(self, output_path: str | Path, feature_to_export: int | Iterable[int]) -> Path:
        """Write one self-contained HTML file: a feature, or many with an index.

        Nothing is left behind when it fails.

        Args:
            output_path: the file; its folder is made.
            feature_to_export: a feature or several.

        Returns:
            The path of the file.

        Raises:
            OSError: the file cannot be written.
        """
        wanted: Any = feature_to_export
        # An array without axes says that it can be iterated over, and is a number.
        if isinstance(wanted, Iterable) and getattr(wanted, "ndim", None) != 0:
            features = [check_feature(f, self.max_activation_examples) for f in wanted]
            if not features:
                raise ValueError("no feature to export; name at least one")
            links = " ".join(f'<a href="#f{f}">{f}</a>' for f in features)
            sections = "".join(f'<section id="f{f}">{self._section(f, "feature")}</section>' for f in features)
            document = page(f"<nav>{links}</nav>{sections}", title=f"{len(features)} features", **assets())
        else:
            document = self.generate_html(wanted, use_absolute_max=True)
        return write_text(output_path, document)

    def display(self) -> Any:
        """Show the live dashboard, in a notebook or in a browser."""
        return _launch(self)

    def _section(self, feature: int, scale: str) -> str:
        examples = self.fragment(feature, scale=scale)
        return f"<h2>Feature {feature}</h2>{card_html(self.stats(feature), self.info.models)}{examples}"

    @cached_property
    def _reader(self) -> TokenReader:
        return TokenReader(self.tokenizer)

    @cached_property
    def _special(self) -> frozenset[int | str]:
        """Special tokens, as ids and as pieces."""
        if self.tokenizer is None:
            return frozenset()
        ids = list(special_ids(self.tokenizer))
        return frozenset([*ids, *self.tokenizer.convert_ids_to_tokens(ids)])

    def _masked(self, example: Example) -> Example:
        known = _ids_or_pieces(example)
        kept = [float("nan") if t in self._special else a for t, a in zip(known, example.activations, strict=True)]
        return example._replace(activations=kept, max_activation=float(np.nan_to_num(kept, nan=-np.inf).max(initial=0)))


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
    """

    text: str
    tokens: list[str]
    ids: list[int]
    features: list[int]
    activations: np.ndarray
    response: str
    passage: Passage
    window_size: int | None

    @property
    def fragment(self) -> Html:
        """The highlighted text as an HTML fragment."""
        return passage_html(self.passage, window=self.window_size)

    @property
    def html(self) -> Html:
        """The highlighted text as a whole self-contained page."""
        shown = ", ".join(track.name for track in self.passage.tracks if track.highlighted)
        return page(passage_html(self.passage, window=self.window_size, title=shown), title=shown, **assets())

    def _repr_html_(self) -> str:
        return self.html._repr_html_()


class AbstractOnlineFeatureCentricDashboard(ABC):
    """Features of a text, computed now. A subclass says how: `get_feature_activation`.

    Args:
        tokenizer: the model's Hugging Face tokenizer.
        model: a Hugging Face causal language model that `generate_model_response` uses; None without one.
        window_size: tokens around what fires that are not folded.
        max_acts: `{feature: maximum over a corpus}`, the scale of `max_act="auto"`.
        second_highlight_color: of the second highlighted feature, `#rrggbb` or three numbers in 0..255.
    """

    max_new_tokens = 256
    can_rank = False  # whether it holds models and dictionary itself: top features, and options of `respond`

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
        from tiny_dashboard.generation import generate  # needs torch, which a dashboard of functions may do without

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

    def extend(self, prompt: EncodedText, response: str, ids: Sequence[int]) -> EncodedText:
        """A prompt with an answer behind it, as one text; the prompt keeps its ids."""
        special = [i in self._special for i in ids]
        return EncodedText(prompt.text + response, [*prompt.ids, *ids], [*prompt.special, *special])

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
    ) -> Analysis:
        """`analyze` for a text that is tokenised already; keeps nothing on the dashboard."""
        if len(highlight) > 2:
            raise ValueError(
                f"{len(highlight)} features to highlight; choose one or two, and the others as tooltip features"
            )
        features = list(dict.fromkeys([*highlight, *tooltip, *compute]))
        if not features:
            raise ValueError("no feature is named; give at least one to highlight")
        limit = _scale_limit("" if max_act is None else max_act, ("", "auto"))
        values = self.compute(encoded, features)
        if mask_special:
            values[np.array(encoded.special)] = np.nan
        if not colors and self.second_highlight_color is not None:
            colors = [COLORS[0], self.second_highlight_color]
        color_of = dict(zip(highlight, colors, strict=False))
        tracks = []
        for column, feature in enumerate(features):
            if feature in highlight or feature in tooltip:
                scale = self.max_activation(feature) if max_act == "auto" else limit
                color, shown = color_of.get(feature), feature in highlight
                tracks.append(Track(f"feature {feature}", values[:, column], color, scale=scale, highlighted=shown))
        passage = self.passage(encoded, tracks)
        texts = list(passage.tokens)
        return Analysis(encoded.text, texts, encoded.ids, features, values, response, passage, self.window_size)

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

    def display(self) -> Any:
        """Show the live dashboard, in a notebook or in a browser."""
        return _launch(self)

    def texts(self, ids: Sequence[int]) -> list[str]:
        """Readable texts of vocabulary ids."""
        return self._reader.read(ids).texts

    @cached_property
    def _reader(self) -> TokenReader:
        return TokenReader(self.tokenizer)


class OnlineFeatureCentricDashboard(AbstractOnlineFeatureCentricDashboard):
    """An online dashboard made of functions.

    Args:
        get_feature_activation: `(text, feature_indices) -> [seq_len, n_features]`.
        tokenizer: the model's Hugging Face tokenizer.
        generate_model_response: `(text) -> text with the answer behind it`; None generates with `model`.
        call_with_self: call the functions with the dashboard as first argument.
        model, window_size, kwargs: as for `AbstractOnlineFeatureCentricDashboard`.
    """

    def __init__(
        self,
        get_feature_activation: Callable[..., Any],
        tokenizer: Any,
        generate_model_response: Callable[..., str] | None = None,
        call_with_self: bool = False,
        model: Any = None,
        window_size: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, model, window_size, **kwargs)
        self._activation_function = get_feature_activation
        self._response_function = generate_model_response
        self._first = (self,) if call_with_self else ()

    def get_feature_activation(self, text: str, feature_indices: tuple[int, ...]) -> Any:
        return self._activation_function(*self._first, text, feature_indices)

    def generate_model_response(self, text: str) -> str:
        if self._response_function is None:
            return super().generate_model_response(text)
        return self._response_function(*self._first, text)


class MaxActs(Mapping[int, float]):
    """The largest known activation of each feature of an offline dashboard, which is asked for when one is needed."""

    def __init__(self, dashboard: Callable[[], OfflineFeatureCentricDashboard]) -> None:
        self._dashboard = dashboard

    def __getitem__(self, feature: int) -> float:
        dashboard = self._dashboard()
        stats = dashboard.stats(feature)
        if stats is not None and stats.max_activation is not None:
            return stats.max_activation
        return max((e.max_activation for e in dashboard.examples(feature)), default=0.0)

    def __contains__(self, feature: object) -> bool:
        return feature in self._dashboard().max_activation_examples

    def __iter__(self) -> Iterator[int]:
        return iter(self._dashboard().features)

    def __len__(self) -> int:
        return len(self._dashboard().features)


def write_text(path: str | Path, text: str) -> Path:
    """Write a file whole or not at all; its folder is made."""
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{token_hex(8)}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def _ids_or_pieces(example: Example) -> Any:
    """An example's vocabulary ids where it has them, else its token pieces."""
    ids = example.token_ids
    return example.tokens if ids is None else ids if isinstance(ids, list) else np.asarray(ids).tolist()


def _scale_limit(scale: Any, words: Sequence[str]) -> float | None:
    """The number in a scale, None for one of `words`."""
    if scale in words:
        return None
    try:
        limit = float("nan") if isinstance(scale, bool) else float(scale)
    except (TypeError, ValueError):
        limit = float("nan")
    if not 0 < limit < float("inf"):
        known = ", ".join(repr(word) if word else "empty" for word in words)
        raise ValueError(f"the scale is {scale!r}; give a number above 0, or one of {known}")
    return limit


def _launch(dashboard: Any) -> Any:
    # The one reference upwards: imported here, so that the dashboards work where gradio is not installed.
    from tiny_dashboard.app import launch

    return launch(dashboard)

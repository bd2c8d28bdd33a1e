"""The offline dashboard: examples that somebody computed, feature by feature."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

from tiny_dashboard.core.card import PANELS, CardInfo, Near, Panel, card_html, no_examples
from tiny_dashboard.core.code import call, public_name
from tiny_dashboard.core.concordance import examples_html, likes_together, share_scale
from tiny_dashboard.core.examples import (
    Example,
    ExampleSource,
    SourceInfo,
    check_example,
    check_feature,
    named_feature,
)
from tiny_dashboard.core.figure import figure
from tiny_dashboard.core.files import write_text
from tiny_dashboard.core.highlight import Color, Html, Passage, plain_text
from tiny_dashboard.core.prompts import special_ids, stored_ids
from tiny_dashboard.core.static import assets, page
from tiny_dashboard.core.statistics import FeatureStats, FeatureTable
from tiny_dashboard.core.text import TokenReader, scale_limit
from tiny_dashboard.dashboards.maxima import MaxActs
from tiny_dashboard.dashboards.passages import bands_of, passage_of, without
from tiny_dashboard.dashboards.texts import ExampleTexts
from tiny_dashboard.hub import load_tokenizer
from tiny_dashboard.sources.label_store import LabelStore, labels_for
from tiny_dashboard.sources.labels import Label


class OfflineDashboard:
    """Max-activating examples of each feature.

    Args:
        max_activation_examples: `{feature: [(max_activation, tokens, activations), …]}`, strongest first: a dict, or
            any mapping, such as an `ExampleSource`.
        tokenizer: the Hugging Face tokenizer that made the tokens, or its Hub id or folder; None reads the tokens by
            their own marks (`Ġ`, `▁`, `<0x0A>`).
        window_size: tokens shown on each side of the peak; the rest is folded.
        max_examples: examples shown of a feature.
        panels: of the card, `(stats, info) -> HTML` each; see `core.card`.
        labels: a `LabelStore`, or the file that new labels go to; None takes `labels.jsonl` beside the examples.
    """

    def __init__(
        self,
        max_activation_examples: Mapping[int, Sequence[Sequence[Any]]],
        tokenizer: Any,
        window_size: int = 50,
        max_examples: int = 30,
        *,
        panels: Sequence[Panel] = PANELS,
        labels: str | Path | LabelStore | None = None,
    ) -> None:
        for feature in max_activation_examples if isinstance(max_activation_examples, dict) else ():
            if not hasattr(feature, "__index__"):
                kind = type(feature).__name__
                raise TypeError(f"features are numbers, and {feature!r} is a {kind}; make an int of each key")
        self.max_activation_examples = max_activation_examples
        self._tokenizer = tokenizer
        self.window_size = window_size
        self.max_examples = max_examples
        self.panels = panels
        self.labels = labels_for(max_activation_examples, labels)
        # For one state of the examples, and of the labels: what is made once, as long as these stay.
        self._features = lru_cache(maxsize=1)(lambda version: sorted(max_activation_examples))
        self._table = lru_cache(maxsize=1)(self._read_table)
        self._labelled = lru_cache(maxsize=1)(lambda version, labels: self.labels.table(self._table(version)))
        self._searched = lru_cache(maxsize=1)(lambda table, texts: table.with_examples(texts) if texts else table)
        self.texts = ExampleTexts(self)

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
        from tiny_dashboard.sources.base import Renewal
        from tiny_dashboard.sources.formats.sqlite_json import SqliteJsonExamples

        source = Renewal.of(lambda: SqliteJsonExamples(db_path, column_name, table_name))
        return cls(source, tokenizer, window_size, max_examples)

    @classmethod
    def open(
        cls,
        source: Any,
        tokenizer: Any = None,
        *,
        window_size: int = 50,
        max_examples: int = 30,
        panels: Sequence[Panel] = PANELS,
        labels: str | Path | LabelStore | None = None,
        **options: Any,
    ) -> Self:
        """Open whatever `open_examples` reads; `options` go to it.

        Without a `tokenizer` the one that the source names is used.
        """
        from tiny_dashboard.sources import open_examples

        examples = open_examples(source, tokenizer=tokenizer, **options)
        return cls(examples, tokenizer, window_size, max_examples, panels=panels, labels=labels)

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
        n = len(self.features)
        facts = [models, where, f"{n:,} feature{'' if n == 1 else 's'} with examples"]
        return " · ".join(filter(None, [*facts, *self.labels.complaints(self.features)]))

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; loaded on first use where it was given, or is known to the source, by name."""
        known = self._tokenizer if self._tokenizer is not None else self.info.tokenizer
        return load_tokenizer(known) if isinstance(known, (str, Path)) else known

    @property
    def features(self) -> Sequence[int]:
        """All feature ids, ascending."""
        return self._features(self.version)

    @property
    def version(self) -> int:
        """A number that is another one once the examples are other ones."""
        return getattr(self.max_activation_examples, "version", 0)

    def stats(self, feature_idx: int) -> FeatureStats | None:
        """What is known of a feature besides its examples; None where that is nothing."""
        source = self.max_activation_examples
        return self.labels.over(source.stats(feature_idx) if isinstance(source, ExampleSource) else None, feature_idx)

    def label(self, feature: int, label: str | None = None, *, note: str | None = None, **more: Any) -> Label:
        """Name a feature; every view shows it at once. What the author said of it before is kept, and goes behind.

        Args:
            feature: its index.
            label: a name in one line; "" takes the author's own back, None leaves it.
            note: anything else, in any number of lines; as for `label`.
            more: `author` (else the name that this person has on this machine), `source`, `score`, `n_judgements`.

        Returns:
            The label as it is kept; a warning says where that is in memory only.

        Raises:
            ValueError: a text is too long, or an argument is not what it should be.
            UnknownFeatureError: there is no such feature.
        """
        return self.labels.give(check_feature(feature, self.max_activation_examples), label, note, **more)

    @property
    def table(self) -> FeatureTable:
        """What is known of all features."""
        return self._searched(self._labelled(self.version, self.labels.version), self.texts.texts)

    def _read_table(self, version: int) -> FeatureTable:
        source = self.max_activation_examples
        return source.table() if isinstance(source, ExampleSource) else FeatureTable(self.features)

    def card(
        self, stats: FeatureStats | None, nearest: Sequence[Near] | None = None, examples: Iterable[Example] = ()
    ) -> Html:
        """A feature's card, from what is known of it and the examples below it; `nearest` as for `CardInfo`."""
        return card_html(stats, CardInfo(self.info.models, nearest, list(bands_of(examples).values())), self.panels)

    def near(self, found: Sequence[tuple[int, float]]) -> list[Near]:
        """Features and the cosines of their decoder directions, with their names where the table can be read."""
        with suppress(OSError, ValueError):
            return [Near(feature, cosine, *self.table.name(feature)) for feature, cosine in found]
        return [Near(feature, cosine) for feature, cosine in found]

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
        # Datasets of before 0.8 have a sentence for True, and "none".
        bos = self.info.extra.get("bos", False) not in (False, "none")
        known = stored_ids(example, self.tokenizer, bos=bos)
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
        examples: list[Any] = list(rows)
        if not isinstance(self.max_activation_examples, ExampleSource):  # which checks where it reads
            examples = [check_example(row, feature, i) for i, row in enumerate(examples)]
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
        limit = scale_limit(scale, ("example", "feature"))
        examples = self.examples(feature_idx, max_examples)
        if mask_special:
            examples = sorted(
                (without(e, self._special) for e in examples), key=lambda e: (-(e.quantile or 0), -e.max_activation)
            )
        if scale == "feature" and not mask_special:
            stats = self.stats(feature_idx)
            # The strongest example of all may not be among those shown.
            known_peaks = [*(e.max_activation for e in examples), (stats.max_activation if stats else None) or 0.0]
            limit = max((float(peak) for peak in known_peaks if 0 < peak < math.inf), default=None)
        bands = bands_of(examples)
        look: Any = {"name": f"feature {feature_idx}", "color": color, "scale": limit}
        groups = [bands[e.quantile].heading if e.quantile in bands else "" for e in examples]
        try:
            passages = [
                passage_of(example, self._reader, self._special, group=group, **look)
                for example, group in zip(examples, groups, strict=True)
            ]
        except ValueError as error:
            raise ValueError(f"{named_feature(feature_idx, self.max_activation_examples)}: {error}") from error
        if scale == "feature" and limit is None:
            passages = share_scale(passages)
        return [(examples[at], passages[at]) for at in likes_together(passages)]

    def fragment(self, feature_idx: int, *, window_size: int | None = None, view: str = "lines", **how: Any) -> Html:
        """The examples as an HTML fragment; `how` goes to `read`."""
        return self.draw([passage for _, passage in self.read(feature_idx, **how)], window_size, view=view)

    def figure(
        self,
        feature_idx: int | Iterable[int],
        kind: str = "svg",
        *,
        max_examples: int | None = None,
        scale: str | float = "feature",
        mask_special: bool = False,
        color: Color | None = None,
        **look: Any,
    ) -> str:
        """The examples as a figure for a paper, "svg" or "latex"; `look` goes to `core.figure.figure`.

        Those of several features stand below each other, each under its number and name.
        """
        how: Any = {"max_examples": max_examples, "scale": scale, "mask_special": mask_special, "color": color}
        features, one = _listed(feature_idx)
        parts = []
        for feature in features:
            passages = [passage for _, passage in self.read(feature, **how)]
            name = "" if one else (self.stats(feature) or FeatureStats(feature)).name
            parts.append(("" if one else " · ".join(filter(None, [f"feature {feature}", name])), passages))
        return figure(parts[0][1], kind, below=parts[1:], **{"title": parts[0][0]} | look)

    def draw(self, passages: Sequence[Passage], window_size: int | None = None, *, view: str = "lines") -> Html:
        """Examples that were read, as an HTML fragment."""
        window = self.window_size if window_size is None else window_size
        return examples_html(passages, window=window, view=view, note=f"window {window}")

    def generate_html(self, feature_idx: int | Iterable[int], use_absolute_max: bool = False, **how: Any) -> Html:
        """A whole self-contained page of a feature, or of several with an index; it shows itself in a notebook, too.

        Args:
            feature_idx: the feature, or several.
            use_absolute_max: scale the colours of all examples to the feature's maximum, not each to its own.
            how: as for `fragment`; a `scale` goes before `use_absolute_max`.
        """
        how = {"scale": "feature" if use_absolute_max else "example"} | how
        features, one = _listed(feature_idx)
        if one:
            return page(self._section(features[0], **how), title=f"Feature {features[0]}", **assets())
        features = [check_feature(f, self.max_activation_examples) for f in features]
        names = [plain_text((self.stats(f) or FeatureStats(f)).name) for f in features]
        links = [f'<a href="#f{f}">{f} {name}</a>' for f, name in zip(features, names, strict=True)]
        sections = [f'<section id="f{f}">{self._section(f, **how)}</section>' for f in features]
        title = f"{len(features)} features"
        head = f'<div class="td td-head"><h1>{title}</h1><p>{plain_text(self.about)}</p></div>'
        body = " ".join([head, '<nav class="td td-index">', *links, "</nav>", *sections])
        return page(body, title=title, **assets())

    def code(self, feature_idx: int | Sequence[int], *, window_size: int | None = None, **how: Any) -> str:
        """The Python that makes what `fragment` shows with these arguments, wherever it is run.

        A dataset that is no file on the Hub is called by its name alone: code is passed on, folders are private.
        """
        source, tokenizer = self.max_activation_examples, self._tokenizer
        named = {"tokenizer": None if tokenizer is None else public_name(tokenizer)}
        name = getattr(source, "dataset", None) or getattr(source, "path", None)
        opened = "OfflineFeatureCentricDashboard(max_activation_examples, tokenizer)  # yours"
        if name is not None:
            opened = call("OfflineFeatureCentricDashboard.open", public_name(name), **named)
        how = {"max_examples": self.max_examples, "scale": "example"} | how
        window = self.window_size if window_size is None else window_size
        shown = call("dashboard.generate_html", feature_idx, window_size=window, **how)
        return f"from tiny_dashboard import OfflineFeatureCentricDashboard\n\ndashboard = {opened}\n{shown}\n"

    def export_to_html(self, output_path: str | Path, feature_to_export: int | Iterable[int]) -> Path:
        """Write one self-contained HTML file, whole or not at all: a feature, or many with an index.

        Args:
            output_path: the file; its folder is made.
            feature_to_export: a feature or several.

        Returns:
            The path of the file.

        Raises:
            OSError: the file cannot be written.
        """
        return write_text(output_path, self.generate_html(feature_to_export, use_absolute_max=True))

    def _section(self, feature: int, window_size: int | None = None, view: str = "lines", **how: Any) -> str:
        rows, stats = self.read(feature, **how), self.stats(feature)
        card = self.card(stats, examples=[example for example, _ in rows])
        examples = self.draw([passage for _, passage in rows], window_size, view=view)
        if not rows:
            examples = Html(f'<p class="td td-note">{plain_text(no_examples(feature, stats))}</p>')
        return f"<h2>Feature {feature}</h2>{card}{examples}"

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


def _listed(features: Any) -> tuple[list[int], bool]:
    """Features as a list, and whether it was one; an array without axes says that it can be iterated over."""
    one = not isinstance(features, Iterable) or isinstance(features, str) or getattr(features, "ndim", None) == 0
    listed = [features] if one else list(features)
    if not listed:
        raise ValueError("no feature is named; give at least one")
    return listed, one

"""What is asked of a text, by name, and what comes of it: the app's tab draws it, the API gives it as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from tiny_dashboard.core.highlight import COLORS, Track, hex_color
from tiny_dashboard.core.prompts import EncodedText
from tiny_dashboard.core.text import parse_features, scale_limit
from tiny_dashboard.dashboards.online import Analysis, OnlineDashboard, check_named

MAX_FEATURES = 64  # computed in one request


@dataclass(frozen=True)
class Question:
    """One state of the online view, from which view, fields and link follow. Features are as people type them.

    Attributes:
        text, chat: what is read, and whether the chat template formats it.
        highlight: one or two features; empty is automatic: what was steered with, or what fires most.
        tooltip, max_act: further features; the scale: a number, "auto" or empty.
        split, leave_out: each model's part of the feature as a band; special tokens left out.
        color1, color2: of the highlighted features.
        raw: what fires is ranked by its activation, not by the share of the feature's own maximum.
        steer, strength, clamp: what an answer is steered with; see `Featurizer.generate`.
        answer, unsteered: ids of the answers that stand behind the text, "." between them.
        token: position of the token whose features are listed; empty lists those of the whole text.
        stored: "feature.place" of the example whose stored activations stand beside the live ones, with ".masked"
            where that is its place with special tokens left out.
        view: which of an app's views is asked, by name; empty is the first.
    """

    text: str = ""
    chat: bool = False
    highlight: str = ""
    tooltip: str = ""
    max_act: Any = ""
    split: bool = False
    leave_out: bool = False
    color1: str = COLORS[0]
    color2: str = COLORS[1]
    raw: bool = False
    steer: str = ""
    strength: float = 1.0
    clamp: bool = False
    answer: str = ""
    unsteered: str = ""
    token: str = ""
    stored: str = ""
    view: str = ""

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Question:
        """What a link asks for; what is not of its kind is left out."""
        given: dict[str, Any] = {}
        for field in fields(cls):
            typed = query.get(field.name, "")
            if isinstance(field.default, bool):
                given[field.name] = typed == "true"
            elif isinstance(field.default, float):
                number = _number(typed)
                given[field.name] = field.default if math.isnan(number) else max(-1000.0, min(number, 1000.0))
            else:
                given[field.name] = typed or field.default
        for name, usual in zip(("color1", "color2"), COLORS, strict=True):
            try:
                given[name] = hex_color(given[name])
            except ValueError:  # a picker would put any text into its style
                given[name] = usual
        return cls(**given)

    def link(self) -> dict[str, str]:
        """What a link says of it: all that is not as usual."""
        given = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            name: "true" if value is True else str(value) for name, (value, usual) in given.items() if value != usual
        }


@dataclass(frozen=True)
class Answer:
    """What comes of a question.

    Attributes:
        views: the text, with the answer behind it where there is one; where that was steered, the text with the other
            answer as the second.
        highlighted: the features that colour the tokens.
        auto: they were not named, but chosen here.
        difference: the largest one between stored and live activations, where both are shown.
    """

    views: list[Analysis]
    highlighted: list[int]
    auto: bool = False
    difference: float | None = None


@contextmanager
def in_field(name: str) -> Iterator[None]:
    """What is raised in here is the fault of this field of a `Question`: its `field` says so, where none was named."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "field"):
            error.field = name  # type: ignore[attr-defined]
        raise


def answer_question(
    online: OnlineDashboard,
    question: Question,
    encoded: EncodedText,
    other: EncodedText | None = None,
    *,
    strongest: Sequence[int] | None = None,
    stored: Sequence[float] = (),
) -> Answer:
    """Compute what a question asks of a text that is tokenised already.

    Args:
        online: what computes.
        question: its text is not read again; colours, scale and features are.
        encoded: the text, with the answer where there is one.
        other: the text with the unsteered answer.
        strongest: what an automatic highlight chooses from, and first, where nothing was steered; None lets an empty
            highlight be an error.
        stored: stored activations of the one highlighted feature, `[seq_len]`.

    Raises:
        ValueError: something in the question cannot be used; the error's `field` says where it stands.
    """
    chosen, more, steered = _features_of(online, question)
    auto = not chosen and strongest is not None
    if auto:
        chosen = steered[:2] or list(strongest or [])[:1]
    if chosen or more or strongest is None:
        with in_field("highlight"):
            check_named(chosen, [*chosen, *more])
    scale = question.max_act.strip() if isinstance(question.max_act, str) else question.max_act
    scale = "" if scale is None else scale
    with in_field("max_act"):
        scale_limit(scale, ("", "auto"))
    texts = [encoded] if other is None else [encoded, other]
    if not chosen and not more:
        return Answer([_plain(online, text) for text in texts], [], auto)
    how: dict[str, Any] = {"mask_special": question.leave_out, "colors": (question.color1, question.color2)}
    with in_field("split" if question.split else "text"):
        views = [
            online.analyze_encoded(text, chosen, more, max_act=scale, split=question.split, **how) for text in texts
        ]
    if len(views) > 1:
        views = _on_one_scale(views)
    difference = None
    if len(stored) and len(chosen) == 1 and not question.split:
        live = views[0].activations[:, 0]
        difference = float(np.nan_to_num(np.abs(live - np.array(stored, dtype=float))).max(initial=0.0))
        tracks = [
            replace(views[0].passage.tracks[0], name="live"),
            Track("stored", stored),
            *views[0].passage.tracks[1:],
        ]
        views = [replace(views[0], passage=replace(views[0].passage, tracks=tracks))]
    return Answer(views, chosen, auto, difference)


def _features_of(online: OnlineDashboard, question: Question) -> tuple[list[int], list[int], list[int]]:
    """Highlighted, in the tooltip, steered with."""
    found = []
    for name in ("highlight", "tooltip", "steer"):
        with in_field(name):
            found.append(parse_features(getattr(question, name), online.n_features))
    chosen, more, steered = found
    with in_field("tooltip"):
        if len(chosen) + len(more) > MAX_FEATURES:
            raise ValueError(f"{len(chosen) + len(more)} features are asked for; at most {MAX_FEATURES} at once")
    return chosen, more, steered


def _plain(online: OnlineDashboard, encoded: EncodedText) -> Analysis:
    """A text where nothing fires is worth a look too."""
    passage, none = online.passage(encoded), np.zeros((len(encoded.ids), 0))
    return Analysis(encoded.text, list(passage.tokens), encoded.ids, [], none, "", passage, online.window_size, [])


def _on_one_scale(views: Sequence[Analysis]) -> list[Analysis]:
    """Views whose colours can be compared: where a track has no scale, the largest value in any of them is it."""
    most = [
        max(float(np.abs(np.nan_to_num(track.array())).max(initial=0.0)) for track in tracks)
        for tracks in zip(*(view.passage.tracks for view in views), strict=True)
    ]

    def scaled(view: Analysis) -> Analysis:
        tracks = [replace(t, scale=t.scale or m or None) for t, m in zip(view.passage.tracks, most, strict=True)]
        return replace(view, passage=replace(view.passage, tracks=tracks))

    return list(map(scaled, views))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

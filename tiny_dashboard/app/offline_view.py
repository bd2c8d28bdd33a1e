"""What the offline tab shows: a feature's card and examples, beside those of another one, and pages of the list."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tiny_dashboard.app.components import explain, note
from tiny_dashboard.app.served import MAX_EXAMPLES, Served, bounded, json_data, whole_number
from tiny_dashboard.app.views import Views
from tiny_dashboard.core.card import Near, no_examples
from tiny_dashboard.core.examples import Example, check_feature
from tiny_dashboard.core.filters import words_of
from tiny_dashboard.core.highlight import COLORS, hex_color
from tiny_dashboard.core.text import scale_limit
from tiny_dashboard.dashboards.question import in_field

AT_ONCE = 2**26  # numbers of a dictionary, at most, whose nearest features are shown without being asked for
LIST_PAGE = 200  # rows of the list, at most, in one answer
READING = "reading what the examples say …"

Shown = dict[str, Any]  # what changes, by its place: feature, card, examples, other_card, other_examples, said


@dataclass(frozen=True)
class Look:
    """What a person asks to see, as a browser sends it: nothing is checked yet.

    Attributes:
        view: a view's name.
        feature, other: the feature, and the one that it is compared with.
        window, number: tokens around a peak; how many examples.
        scale: "feature", "example" or a number.
        mask: leave out special tokens.
        color: `#rrggbb`; None is the usual one.
    """

    view: Any = ""
    feature: Any = None
    other: Any = ""
    window: Any = 50
    number: Any = 30
    scale: Any = "feature"
    mask: Any = False
    color: Any = None


class OfflineView:
    """Shows what is asked.

    Args:
        views: of which one is looked at.
    """

    def __init__(self, views: Views) -> None:
        self._views = views

    def show(self, look: Look) -> Shown:
        """The feature's card and examples, and those of the one that it is compared with; or what is wrong.

        What is wrong with a setting is said beside it, and the last view stays.
        """
        # A browser cannot be sent half a character.
        typed = "" if look.feature is None else str(look.feature)[:40].encode("utf-8", "replace").decode()
        try:
            with in_field("window"):
                bounded(look.window, "window", 0, 10_000)
            with in_field("number"):
                bounded(look.number, "examples", 1, MAX_EXAMPLES)
            with in_field("scale"):
                scale_limit(look.scale, ("example", "feature"))
            with in_field("color"):
                hex_color(look.color or COLORS[0])
        except Exception as error:
            return {"feature": typed, "said": note(explain(error), "error", field=getattr(error, "field", ""))}
        nothing = {"feature": typed, "card": "", "other_card": "", "other_examples": "", "said": ""}
        try:
            served = self._views.of(look.view).served
            offline = served.offline
            if not offline.features:
                return nothing | {"feature": "", "examples": note("the examples are there, and hold no feature")}
            index = check_feature(
                offline.features[0] if look.feature in (None, "") else whole_number(look.feature, "feature"),
                offline.max_activation_examples,
            )
        except Exception as error:
            return nothing | {"examples": note(explain(error), "error", field="feature")}
        card, examples = self._one(served, look, index)
        second = ("", "") if look.other in (None, "") else self._one(served, look, look.other)
        return {
            "feature": str(index),
            "card": card,
            "examples": examples,
            "other_card": second[0],
            "other_examples": second[1],
            "said": "",
        }

    def saved(self, look: Look, kind: str) -> tuple[str, str]:
        """The name of a file, and the examples as "svg", "latex", or as the "code" that makes their page.

        Raises:
            ValueError: there is no such feature, or a setting cannot be.
        """
        served = self._views.of(look.view).served
        features = [whole_number(look.feature, "feature")]
        if look.other not in (None, ""):
            features.append(whole_number(look.other, "compare with"))
        feature: Any = features if len(features) > 1 else features[0]
        how: dict[str, Any] = {"scale": look.scale, "mask_special": bool(look.mask) or None}
        how["max_examples"] = bounded(look.number, "examples", 1, MAX_EXAMPLES)
        how["color"] = None if look.color == COLORS[0] else look.color or None
        if kind == "code":
            window = bounded(look.window, "window", 0, 10_000)
            text = served.offline.code(feature, window_size=window, **how)
        else:
            text = served.offline.figure(features, kind, **how)
        return "-".join(["feature", *map(str, features)]), text

    def there(self, look: Look) -> Shown:
        """The same in another view, or the feature that this one begins with where the number means nothing in it."""
        with suppress(OSError, ValueError):  # `show` says so
            view = self._views.of(look.view)
            if whole_number(look.feature, "feature") not in view.served.offline.features:
                look = replace(look, feature=view.feature)
        return self.show(look)

    def _one(self, served: Served, look: Look, feature: Any) -> tuple[str, str]:
        """A feature's card and examples."""
        try:
            offline, index = served.offline, whole_number(feature, "feature")
            how: dict[str, Any] = {"scale": look.scale, "mask_special": bool(look.mask), "color": look.color or None}
            rows = offline.read(index, max_examples=whole_number(look.number, "examples"), **how)
            view = offline.draw([passage for _, passage in rows], whole_number(look.window, "window"))
            if not rows:
                view = note(no_examples(index, offline.stats(index)))
            return self._card(served, index, [example for example, _ in rows]), view
        except Exception as error:
            return "", note(explain(error), "error")

    def _card(self, served: Served, feature: int, examples: Sequence[Example], *, ask: bool = False) -> str:
        decoder = served.online.decoder if ask else served.decoder  # who asks has the models loaded
        offline, stats = served.offline, served.stats(feature)
        nearest: list[Near] | None = None
        if stats and stats.nearest:
            nearest = offline.near(stats.nearest)
        elif decoder is not None and feature < decoder.dictionary.n_features:
            quick = prod(decoder.dictionary.encoder.shape) <= AT_ONCE
            nearest = offline.near(decoder.nearest(feature) if quick or ask else ())
        elif served.has_online and served.live is None:
            nearest = []
        return offline.card(stats, nearest, examples)

    def follow(self, look: Look, action: str, value: Any) -> Shown:
        """A click on a card or in the list: on a feature, or asking for the neighbours."""
        if action == "open":
            return self.show(replace(look, feature=value))
        try:
            served = self._views.of(look.view).served
            index, number = whole_number(value, "feature"), bounded(look.number, "examples", 1, MAX_EXAMPLES)
            return {"card": self._card(served, index, served.offline.examples(index, number), ask=True)}
        except Exception as error:
            return {"card": note(explain(error), "error")}

    def step(self, look: Look, by: int) -> Shown:
        """The next feature that has examples, or the one before; around the ends."""
        features: Sequence[int] = ()
        index = -1
        try:
            features = self._views.of(look.view).served.offline.features
            index = whole_number(look.feature, "feature")
        except (OSError, ValueError):
            pass  # `show` says so
        at = bisect_right(features, index) if by > 0 else bisect_left(features, index) - 1
        return self.show(replace(look, feature=features[at % len(features)]) if features else look)

    def random(self, look: Look) -> Shown:
        """Any feature."""
        with suppress(OSError, ValueError, IndexError):  # `show` says so
            look = replace(look, feature=random.choice(self._views.of(look.view).served.offline.features))
        return self.show(look)

    def find(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A page of the list for its script; see `list.js`."""
        try:
            offline = self._views.of(request.get("view")).served.offline
            query, sort = str(request.get("query", ""))[:400], str(request.get("sort", "feature"))
            said = ""
            if words_of(query):
                read = offline.texts.start()
                said = read.result()[1] if read.done() else READING
            table = offline.table
            descending = bool(request.get("descending"))
            size = bounded(request.get("size", 50), "size", 1, LIST_PAGE)
            found = table.find(query, sort, bounded(request.get("page", 1), "page", 1, 10**9), descending, size)
            for row in found["features"]:
                row["chips"] = not table.name(row["feature"])[0]
            place = table.place(request.get("feature"), query, sort, descending)
            columns = [vars(c) for c in table.known_columns()]
            return json_data(found | {"columns": columns, "place": place, "said": said, "again": said == READING})
        except Exception as error:
            return {"error": explain(error)}

    def cloud(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """All features as a cloud of points, for the list's script."""
        try:
            table = self._views.of(request.get("view")).served.offline.table
            return table.cloud(str(request.get("query", ""))[:400])
        except Exception as error:
            return {"error": explain(error)}

    def restore(self, query: Mapping[str, str], usual: Look) -> tuple[Look, Shown]:
        """What a link asks for, and what that shows; where a setting cannot be, what is usual and the sentence."""
        view = query.get("view", "")
        feature = query.get("feature")
        asked = Look(
            self._views.key(view) or usual.view,
            self._views.of(self._views.key(view)).feature if feature is None else feature,
            query.get("with", ""),
            query.get("window", usual.window),
            query.get("examples", usual.number),
            query.get("scale", usual.scale),
            query.get("mask") == "true",
            query.get("color") or usual.color,
        )
        shown = self.show(asked)
        if "card" not in shown:  # a setting that cannot be
            asked = replace(usual, view=asked.view, feature=asked.feature, other=asked.other)
            shown = self.show(asked) | {"said": shown["said"]}
        try:
            self._views.of(view)
        except ValueError as error:
            shown["said"] = note(str(error), "error")
        return replace(asked, window=whole_number(asked.window, ""), number=whole_number(asked.number, "")), shown

"""The views of an app: dictionaries with their examples and models, of which a person looks at one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tiny_dashboard.app.served import Served
from tiny_dashboard.config import Start
from tiny_dashboard.core.prompts import EncodedText


@dataclass(frozen=True)
class View:
    """One dictionary with its examples and models.

    Attributes:
        served: examples and models, each once it is there.
        name: in the picker, in links and for the endpoints.
        description: the line under the app's heading, as plain text.
        feature, text, start: what the tabs show at first, and where a newcomer may begin.
        models: names of the models, where they are loaded by name.
        missing: which of them are not on this machine.
        downloads: how far each of these is, as what its `str()` says.
    """

    served: Served
    name: str = ""
    description: str = ""
    feature: int | None = None
    text: str = ""
    start: Sequence[Start] = ()
    models: Sequence[str] = ()
    missing: Callable[[], Sequence[str]] = tuple
    downloads: Callable[[], Sequence[Any]] = tuple

    @property
    def first_text(self) -> str:
        """The text that is analysed before anybody types."""
        return self.text or next((place.text for place in self.start if place.text), "")


class Views:
    """The views, in the order of the picker.

    Raises:
        ValueError: there is none, or two have one name.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._views = {view.name: view for view in views}
        self.names = [view.name for view in views]
        if len(self._views) != len(views) or not views:
            raise ValueError(
                f"each view needs a name of its own; given are {', '.join(map(repr, self.names)) or 'none'}"
            )

    @classmethod
    def one(cls, *served: Any) -> Views:
        """A single view without a name, of what `Served` takes."""
        return cls([View(Served(*served))])

    def of(self, name: Any = "") -> View:
        """A view by its name; the first for "" or None.

        Raises:
            ValueError: there is none of this name.
        """
        found = self._views.get(name or self.names[0]) if isinstance(name or "", str) else None
        if found is None:
            known = ", ".join(self.names[:30])
            raise ValueError(
                f"there is no view {str(name)[:80]!r}; there are {known}" if known else "there is one view"
            )
        return found

    def key(self, name: Any) -> str:
        """A view's name in a link, where the first is "" like what is not there."""
        return "" if name not in self._views or name == self.names[0] else name

    def beside(self, name: Any, by: int) -> str:
        """The name of the next view, or the one before; around the ends."""
        at = self.names.index(self.of(name).name)
        return self.names[(at + by) % len(self.names)]

    @property
    def has_offline(self) -> bool:
        """Whether any view has examples."""
        return any(view.served.has_offline for view in self._views.values())

    @property
    def has_online(self) -> bool:
        """Whether any view has models."""
        return any(view.served.has_online for view in self._views.values())

    def across(self, name: Any, encoded: EncodedText, token: int) -> list[dict[str, Any]]:
        """What fires most at a token in each loaded view whose dictionary reads the same models, this one included.

        All of them read the text by one forward pass; see `models.sharing`.

        Returns:
            [{view, feature, label, activation, share}], by share of the feature's own maximum, the strongest first;
            none where no other view reads these models
        """
        mine = _passes(self.of(name))
        together = [view for view in self._views.values() if mine is not None and _passes(view) is mine]
        if len(together) < 2:
            return []
        rows = []
        for view in together:
            here = view.served.at(encoded, token, 1)
            for row in here["share"] or here["raw"]:
                share = row["activation"] / row["most"] if row["most"] else None
                rows.append({"view": view.name, "share": share} | row)
        return sorted(rows, key=lambda row: (row["share"] or 0, row["activation"]), reverse=True)

    def here(self) -> list[str]:
        """The names of the views whose models are on this machine."""
        return [v.name for v in self._views.values() if v.served.has_online and not v.missing()]

    def waiting(self, name: Any) -> list[View]:
        """The views that read the same models by name, and are not loaded yet."""
        models = self.of(name).models
        return [v for v in self._views.values() if models and v.models == models and v.served.live is None]


def _passes(view: View) -> Any:
    """What reads texts for a loaded view and for others."""
    return getattr(getattr(view.served.live, "featurizer", None), "passes", None)

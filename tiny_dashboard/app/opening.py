"""Opens what views are made of: examples when they are first looked at, models when they are first asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from itertools import zip_longest
from typing import Any

from tiny_dashboard.app.loading import Loading, Memory
from tiny_dashboard.app.served import Served
from tiny_dashboard.app.views import View, Views
from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.dashboards.maxima import MaxActs
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.dashboards.online import OnlineDashboard

Offline = OfflineDashboard | Loading[OfflineDashboard]
Online = OnlineDashboard | Callable[[], OnlineDashboard] | Loading[OnlineDashboard]


class Opener:
    """Opens the views of one app, which share their models.

    Args:
        max_loaded: views whose models stay loaded, at most; None keeps all, and so does ZeroGPU.
        several: models are loaded when they are first asked; of a single view, at once in the background.
        gpu: on ZeroGPU, `spaces.GPU`.
    """

    def __init__(self, *, max_loaded: int | None = None, several: bool = False, gpu: Any = None) -> None:
        # ZeroGPU takes models as the app starts, and never after.
        self._memory = Memory(max_loaded if gpu is None else None)
        self._several, self._gpu = several, gpu
        self._models: Any = None

    def serve(self, offline: Offline | None, online: Online | None, max_text: int = 20_000) -> Served:
        """What is made of dashboards."""
        later: Loading[OnlineDashboard] | None = None
        if isinstance(online, OnlineDashboard):
            later = Loading.of(self._joined(online))
        elif online is not None:
            later = online if isinstance(online, Loading) else Loading(lambda: self._joined(online()))
            if not self._several:
                later.start()
        return Served(offline, later, max_text, self._memory)

    def open(self, config: DashboardConfig, *, patient: bool) -> View:
        """The view that a config says.

        Args:
            config: one view's.
            patient: open the examples when they are asked for, and again after a failure.
        """
        later: Loading[Any] = Loading(config.open_offline)
        offline: Any = None if config.examples is None else later if patient else config.open_offline()
        served = self.serve(offline, self._online(config, later, offline), config.max_text)
        about: dict[str, Any] = {name: getattr(config, name) for name in ("name", "description", "feature", "start")}
        about |= {"missing": config.missing_models, "downloads": config.downloads}
        return View(served, models=config.models, **about)

    def _online(self, config: DashboardConfig, later: Loading[Any], offline: Any) -> Loading[OnlineDashboard] | None:
        if config.dictionary is None:
            return None
        known = MaxActs(later.result) if offline is later else offline.max_acts if offline else None
        if self._gpu is None:
            return Loading(lambda: self._joined(config.open_online(known, load=self._load)))
        from tiny_dashboard.app.zero_gpu import ZeroGpuFeaturizer

        remote = ZeroGpuFeaturizer(self._gpu)

        def load() -> OnlineDashboard:
            dashboard: Any = config.open_online(known, dictionary_device="cpu", load=self._load)
            dashboard.featurizer = remote.hold(dashboard.featurizer)
            return dashboard

        online = Loading(load)
        wait([online.start()])  # a failure is said where it is needed, and tried again
        return online

    @property
    def _shared(self) -> Any:
        if self._models is None:
            from tiny_dashboard.models.sharing import SharedModels  # needs torch, which examples do without

            self._models = SharedModels()
        return self._models

    def _load(self, *model: Any) -> Any:
        return self._shared.load(*model)

    def _joined(self, dashboard: OnlineDashboard) -> OnlineDashboard:
        """The dashboard, which reads its texts by the passes of all that have the same models."""
        if self._several and hasattr(dashboard, "featurizer"):
            self._shared.join(dashboard.featurizer)
        return dashboard


def views_of_config(config: DashboardConfig, *, patient: bool = False, gpu: Any = None) -> Views:
    """All views of a config: the first one's examples are opened now, unless it is patient."""
    opener = Opener(max_loaded=config.max_loaded, several=len(config.views) > 1, gpu=gpu)
    return Views([opener.open(view, patient=patient or at > 0) for at, view in enumerate(config.views)])


def views_of(given: Mapping[str, Any], max_text: int, max_loaded: int | None, **about: Any) -> Views:
    """Views of dashboards, by name; a single one may have the name "".

    Args:
        given: each a dashboard, or an offline and an online one.
        max_text, max_loaded: as for `Served` and `Opener`.
        about: what else is said of each `View`.
    """
    opener = Opener(max_loaded=max_loaded, several=len(given) > 1)
    return Views([View(opener.serve(*pair(one), max_text), str(name), **about) for name, one in given.items()])


def pair(given: Any) -> tuple[Any, Any]:
    """An offline and an online dashboard, of which one may be None, from one or both.

    Raises:
        TypeError: it is something else.
    """
    found: dict[str, Any] = {"offline": None, "online": None}
    parts: Sequence[Any] = given if isinstance(given, (tuple, list)) else [given]
    for place, part in zip_longest(found, parts):
        if part is None:
            continue
        if isinstance(part, OfflineDashboard | OnlineDashboard):
            found["offline" if isinstance(part, OfflineDashboard) else "online"] = part
        elif place is not None and (isinstance(part, Loading) or callable(part)):
            found[place] = part
        else:
            raise TypeError(f"a view is an offline and an online dashboard, of which one may be None, not {part!r:.80}")
    return found["offline"], found["online"]

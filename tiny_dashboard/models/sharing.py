"""Models that several dictionaries read: loaded once while one of them is there, and one pass reads a text for all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from torch import Tensor

from tiny_dashboard.hub import load_model
from tiny_dashboard.models.activations import Place, read_places

KEPT_TEXTS = 2  # of which the activations of all layers that are read stay: with 26 layers, some hundred megabytes


class SharedModels:
    """Models by name. Each goes when nobody who asked for it is there any more."""

    def __init__(self) -> None:
        self._models: WeakValueDictionary[tuple[str, str, str], Any] = WeakValueDictionary()
        self._passes: WeakValueDictionary[tuple[int, ...], SharedPasses] = WeakValueDictionary()
        self._lock = Lock()

    def load(self, name: Any, dtype: Any, device: Any) -> Any:
        """As `hub.load_model`; the same model again where it is there."""
        key = (str(name), str(dtype), str(device))
        with self._lock:
            model = self._models.get(key)
            if model is None:
                model = self._models[key] = load_model(name, dtype, device)
            return model

    def join(self, featurizer: Any) -> None:
        """Let a `Featurizer` read by the passes of all others that have joined and read the same models."""
        key = tuple(map(id, featurizer.models))
        with self._lock:
            passes = self._passes.get(key)
            if passes is None:
                passes = self._passes[key] = SharedPasses(featurizer.models)
        passes.join(featurizer)


class SharedPasses:
    """Forward passes of one model, or of base and chat, which give the places of all who have joined.

    Args:
        models: as all of them read them.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        self._models = list(models)
        self._readers: WeakSet[Any] = WeakSet()
        self._kept: OrderedDict[tuple[int, ...], list[dict[Place, Tensor]]] = OrderedDict()
        self._lock = Lock()

    def join(self, featurizer: Any) -> None:
        """Read for this one, too."""
        self._readers.add(featurizer)
        featurizer.passes = self

    def read(self, ids: Sequence[int], place: Place) -> list[Tensor]:
        """Each model's activations at a place, `[1, seq, width]`; the last texts are kept, and not read again."""
        key = tuple(ids)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or place not in kept[0]:
                hooks = {reader.place: reader.hooks for reader in self._readers}
                kept = [
                    read_places(model, list(ids), {at: found[number] for at, found in hooks.items()})
                    for number, model in enumerate(self._models)
                ]
                self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_TEXTS:
                self._kept.popitem(last=False)
            return [found[place] for found in kept]

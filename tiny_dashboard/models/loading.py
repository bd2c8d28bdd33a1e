"""Models, dictionary and tokenizer by name: loaded in one place, a mismatch said before gigabytes of weights are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.dictionaries.checkpoint import parse_hook
from tiny_dashboard.dictionaries.live import from_object
from tiny_dashboard.hub import load_config, load_model, load_tokenizer, resolve_device
from tiny_dashboard.models.architecture import HOOK_POINTS, unwrap_model
from tiny_dashboard.models.featurizer import Featurizer, check_fit


class Fitted(NamedTuple):
    """A dictionary, and where it reads in the models that it fits."""

    dictionary: Any
    layer: int
    hook_point: str


def load_fitting(
    dictionary: Any,
    models: Sequence[Any],
    *,
    layer: int | str | None = None,
    hook_point: str | None = None,
    device: Any = "auto",
    select: Mapping[str, Any] | None = None,
) -> Fitted:
    """A dictionary, held against the models: against their configs alone where they are named.

    Args:
        dictionary: what `load_dictionary` takes or returns, or any object that `Featurizer` takes; objects of
            sae_lens, sparsify and dictionary_learning become a `Dictionary`.
        models: Hugging Face models, or their Hub ids or folders.
        layer, hook_point: where it reads, where it does not say; either may name the place, as in
            "blocks.5.hook_resid_post" or "model.layers.5".
        device: of a dictionary that is named.
        select: what picks one dictionary where a name holds several, as arguments of `load_dictionary`; a layer, hook
            point or device in it goes before the ones beside it.

    Raises:
        ValueError: nothing says which layer it reads, or dictionary and models do not fit.
    """
    layer, hook_point = _place(layer, hook_point)
    wanted = {"device": resolve_device(device), "layer": layer, "hook_point": hook_point} | dict(select or {})
    if isinstance(dictionary, (str, Path)):
        name, dictionary = dictionary, load_dictionary(dictionary, **wanted)
    else:
        name, dictionary = "the dictionary", from_object(dictionary, load_dictionary)
    layer = getattr(dictionary, "layer", None) if wanted["layer"] is None else wanted["layer"]
    if layer is None:
        raise ValueError(f"{name} does not say which layer it reads; set layer = N")
    hook_point = wanted["hook_point"] or getattr(dictionary, "hook_point", None) or "resid_post"
    configs = [load_config(m) if isinstance(m, (str, Path)) else unwrap_model(m).config for m in models]
    check_fit(configs, dictionary, layer, hook_point)
    return Fitted(dictionary, layer, hook_point)


def _place(layer: int | str | None, hook_point: str | None) -> tuple[int | None, str | None]:
    """Layer and hook point, where one of them may be the name of a place as the field writes it."""
    name = layer if isinstance(layer, str) else hook_point
    if name is None or name in HOOK_POINTS:
        return layer, hook_point  # type: ignore[return-value]
    said, point = parse_hook(name)
    if said is None or point not in HOOK_POINTS:
        raise ValueError(f"unknown hook point {name!r}; give layer=N and one of {', '.join(HOOK_POINTS)}")
    if not {layer, hook_point} <= {None, name, said, point}:
        raise ValueError(f"{name!r} is {point} of layer {said}; layer={layer!r}, hook_point={hook_point!r} were given")
    return said, point


def load_featurizer(
    dictionary: Any,
    models: Sequence[Any],
    tokenizer: Any = None,
    *,
    device: Any = "auto",
    dtype: Any = "auto",
    dictionary_device: Any = None,
    load: Callable[[Any, Any, Any], Any] = load_model,
    **where: Any,
) -> Featurizer:
    """Models and dictionary, ready to read texts; each may be an object or a name.

    Args:
        dictionary, models: as for `load_fitting`, to which `where` goes; one model, or base and chat.
        tokenizer: a tokenizer, its Hub id or folder; None takes that of the last model.
        device, dtype: of what is named; dtype "auto" is that of the checkpoint.
        load: what loads a model that is named: `(name, dtype, device)`, as `hub.load_model` and `SharedModels.load`.
        dictionary_device: where the dictionary computes; None: `device` for one that is named, else where it is.
    """
    fitted = load_fitting(dictionary, models, device=dictionary_device or device, **where)
    place = resolve_device(device)
    if tokenizer is None and isinstance(models[-1], (str, Path)):
        tokenizer = models[-1]
    if isinstance(tokenizer, (str, Path)):
        tokenizer = load_tokenizer(tokenizer)
    loaded = [load(model, dtype, place) if isinstance(model, (str, Path)) else model for model in models]
    moved = fitted.dictionary if dictionary_device is None else fitted.dictionary.to(dictionary_device)
    return Featurizer(loaded, moved, tokenizer, fitted.layer, fitted.hook_point)

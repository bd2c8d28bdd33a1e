"""Dictionaries: SAEs, transcoders and crosscoders. One small reader module for each checkpoint family.

A family is a module with `NAME` and `EXPECTS` (for messages), `recognises(checkpoint) -> bool` and
`read(checkpoint, **options) -> Dictionary`; one of the user's own is passed as `family=`. It accounts for every tensor,
and for every key of the config that changes the numbers: what it does not read, and knows to change nothing that it
shows, stands in its `PASSES_OVER`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.families import (
    batch_topk,
    circuit_tracer,
    ckkissane,
    cross_layer,
    crosscoder,
    dictionary_learning,
    gemma_scope,
    gemma_scope_layers,
    goodfire,
    llama_scope,
    matching_pursuit,
    openai,
    openmoss,
    qwen_scope,
    saelens,
    sparsify,
    temporal,
)
from tiny_dashboard.dictionaries.locate import locate
from tiny_dashboard.hub import resolve_device

FAMILIES: tuple[
    Any, ...
] = (  # the first that recognises a checkpoint reads it: the more particular before the more general
    crosscoder,
    ckkissane,
    gemma_scope_layers,
    gemma_scope,
    cross_layer,
    batch_topk,
    llama_scope,
    openmoss,
    sparsify,
    openai,
    goodfire,
    qwen_scope,
    circuit_tracer,
    dictionary_learning,
    temporal,
    matching_pursuit,
    saelens,
)

__all__ = ["Dictionary", "load_dictionary"]


def load_dictionary(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    layer: int | None = None,
    hook_point: str | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    width: int | str | None = None,
    l0: int | str | None = None,
    family: Any = None,
    ignore: Sequence[str] = (),
    **options: Any,
) -> Dictionary:
    """Load a dictionary of any known family.

    Args:
        source: a weights file, a folder, or a Hub id "owner/name", which may be followed by a path in the repository.
        device: where it computes; "auto" and None mean cuda, mps, cpu, whichever is there first.
        dtype: in what it computes and what it returns; float32 by default, whatever the checkpoint is stored in.
        layer, hook_point: where it reads, for a checkpoint that does not say; they also select one of many.
        revision: of the Hub repository.
        subfolder, width, l0: select one dictionary where the source holds many; see `locate.choose`.
        family: the name of a family, where telling it from the tensors goes wrong; or a module or object of your own
            that has `NAME` and `read(checkpoint, **options)`.
        ignore: tensors and config keys that are to be passed over, though no family accounts for them.
        options: conventions of one family; its `read` names them.

    Raises:
        FileNotFoundError: there is no such dictionary.
        ValueError: no or several dictionaries fit, the family is not known or does not account for a tensor or for a
            key of the config that may change the numbers, the checkpoint is damaged, or it reads another layer or hook
            point than asked for; the message says what was found.
        TypeError: an option that this family does not have.
    """
    which = {"subfolder": subfolder, "layer": layer, "width": width, "l0": l0, "hook_point": hook_point}
    path, where = locate(source, revision=revision, **which)
    checkpoint = Checkpoint(path, where=where, device=resolve_device(device), dtype=dtype or torch.float32)
    reader = _family(family, checkpoint)
    allowed = list(inspect.signature(reader.read).parameters)[1:]
    if wrong := sorted(set(options) - set(allowed)):
        raise TypeError(f"{reader.NAME} has no option {', '.join(wrong)}; it has {', '.join(allowed) or 'none'}")
    dictionary = reader.read(checkpoint, **options)
    _check_accounted(checkpoint, reader, {*ignore, *options})
    for name, asked in (("layer", layer), ("hook_point", hook_point)):
        stored = getattr(dictionary, name)
        if asked is not None and stored not in (None, asked):
            raise ValueError(f"{where} reads {name} {stored}, and {name} {asked} was asked for")
    return dataclasses.replace(
        dictionary,
        layer=layer if dictionary.layer is None else dictionary.layer,
        hook_point=dictionary.hook_point or hook_point,
        source=where,
    )


def _family(asked: Any, checkpoint: Checkpoint) -> Any:
    """The family that was asked for, by name or itself, or else the first that recognises the checkpoint."""
    if asked is not None and not isinstance(asked, str):
        return asked
    known = {module.NAME: module for module in FAMILIES}
    if asked is not None and asked not in known:
        raise ValueError(f"family {asked!r} is unknown; expected one of {', '.join(known)}")
    reader = known[asked] if asked else next((module for module in FAMILIES if module.recognises(checkpoint)), None)
    if reader is None:
        found = ", ".join(f"{name} {list(checkpoint.shape(name))}" for name in checkpoint.names()[:12]) or "no tensors"
        wanted = "".join(f"\n  {module.NAME}: {module.EXPECTS}" for module in FAMILIES)
        raise ValueError(f"{checkpoint.path} is of no known family; it holds {found}. Known families:{wanted}")
    return reader


# Keys of a config that may change what a dictionary gives; all others (of training, of names) are passed over.
_MATTERS = re.compile(
    r"^k$|top_?k|act(ivation)?_fn|^activation$|architecture|sae_type|^dict_class$|normali[sz]e|_norm$|norm_activation|unit_norm|"
    r"threshold|glu|jump_?relu|rescale|scaling_factor|apply_|transcode|signed|skip|multi_topk"
)


def _check_accounted(checkpoint: Checkpoint, reader: Any, allowed: set[str]) -> None:
    """Raises a `ValueError` where a family has passed over a tensor, or a key of the config, that may matter."""
    allowed |= set(getattr(reader, "PASSES_OVER", ()))
    unread = [name for name in checkpoint.unread() if name not in allowed]
    left = checkpoint.config.unread()
    keys = [key for key in left if key not in allowed and _MATTERS.search(key)]
    if unread or keys:
        tensors = ", ".join(f"{name} {list(checkpoint.shape(name))}" for name in unread[:8])
        settings = ", ".join(f"{key} = {left[key]!r}" for key in keys[:8])
        first = [*unread, *keys][0]
        raise ValueError(
            f"{checkpoint.path} looks like {reader.NAME}, which does not account for "
            f"{' and '.join(filter(None, [tensors, settings]))}: it may be of a family that is not known. Name the "
            f"right one with family=, or pass ignore=[{first!r}, …] to read it without"
        )

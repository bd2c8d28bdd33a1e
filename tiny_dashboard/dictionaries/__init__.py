"""Dictionaries: SAEs, transcoders and crosscoders. One small reader module for each checkpoint family.

A family is a module with `NAME` and `EXPECTS` (for messages), `recognises(checkpoint) -> bool` and
`read(checkpoint, **options) -> Dictionary`; one of the user's own is passed as `family=`.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import torch

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.families import (
    ckkissane,
    crosscoder,
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    openai,
    qwen_scope,
    saelens,
    sparsify,
)
from tiny_dashboard.dictionaries.locate import locate
from tiny_dashboard.hub import resolve_device

FAMILIES: tuple[
    Any, ...
] = (  # the first that recognises a checkpoint reads it: the more particular before the more general
    crosscoder,
    ckkissane,
    gemma_scope,
    llama_scope,
    sparsify,
    openai,
    goodfire,
    qwen_scope,
    dictionary_learning,
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
        options: conventions of one family; its `read` names them.

    Raises:
        FileNotFoundError: there is no such dictionary.
        ValueError: no or several dictionaries fit, the family is not known, the checkpoint is damaged, or it reads
            another layer or hook point than asked for; the message says what was found.
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
    for name, asked in (("layer", layer), ("hook_point", hook_point)):
        stored = getattr(dictionary, name)
        if asked is not None and stored not in (None, asked):
            raise ValueError(f"{where} reads {name} {stored}, and {name} {asked} was asked for")
    return dataclasses.replace(
        dictionary,
        layer=layer if dictionary.layer is None else dictionary.layer,
        hook_point=dictionary.hook_point or hook_point,
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

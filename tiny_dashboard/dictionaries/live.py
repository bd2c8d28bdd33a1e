"""Live objects of sae_lens, sparsify and dictionary_learning as a `Dictionary`, with its decoder, layer and steering.

Each is saved by its own library's code and read as the file would be; nothing here knows a formula.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tiny_dashboard.dictionaries.dictionary import Dictionary

TRIED = 16  # random vectors on which both must agree


def from_object(given: Any, load: Callable[..., Dictionary]) -> Any:
    """The `Dictionary` that gives what an object of these libraries gives; any other object as it is.

    Args:
        given: the object. Subclasses from elsewhere may compute something else, and stay as they are.
        load: `load_dictionary`.
    """
    library = type(given).__module__.partition(".")[0]
    if library not in ("sae_lens", "sparsify", "dictionary_learning") or not isinstance(given, torch.nn.Module):
        return given
    weight = next(given.parameters())
    # The original of dictionary_learning and its fork differ in whether the decoder norm is in the shown value.
    readings = [{"scale_by_decoder_norm": scaled} for scaled in (False, True)] if library.startswith("dict") else [{}]
    with TemporaryDirectory() as folder:
        _save(given, library, Path(folder))
        for options in readings:
            try:
                dictionary = load(folder, device=weight.device, dtype=weight.dtype, **options)
            except ValueError:  # of a kind that no reader knows: its own encode is all that there is
                break
            dictionary.encoder.all()
            if dictionary.decoder_rows is not None:
                dictionary.decoder_rows.all()
            if _agree(given, dictionary):
                return replace(dictionary, source="")  # the folder is gone
    return given


def _save(given: Any, library: str, folder: Path) -> None:
    if library == "sae_lens":
        given.save_model(folder)
    elif library == "sparsify":
        given.save_to_disk(folder)
    else:
        torch.save(given.state_dict(), folder / "ae.pt")
        (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": type(given).__name__}}))


@torch.no_grad()
def _agree(given: Any, dictionary: Dictionary) -> bool:
    """Whether both give the same on random vectors of the size of a norm of `sqrt(d_model)`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TRIED, dictionary.d_model, generator=generator).to(dictionary.device, dictionary.dtype)
    theirs: Any = given.encode(x)
    if hasattr(theirs, "top_indices"):  # sparsify's
        theirs = torch.zeros_like(theirs.pre_acts).scatter_(1, theirs.top_indices, theirs.top_acts)
    if not isinstance(theirs, Tensor) or theirs.shape != (TRIED, dictionary.n_features):
        return False
    return torch.allclose(dictionary.encode(x), theirs.to(dictionary.dtype), rtol=1e-3, atol=1e-3)

"""Activations of Hugging Face models: one forward pass, which ends where the last of what is asked for was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tiny_dashboard.models.architecture import (
    Hook,
    Stop,
    find_hook,
    hooked,
    input_device,
    text_config,
    unwrap_model,
)

Ids = Sequence[int] | Sequence[Sequence[int]] | Tensor
Place = tuple[int, str]  # layer and hook point


def pad_ids(ids: Ids) -> tuple[Tensor, Tensor]:
    """One or many token sequences as `[batch, seq]` ids, padded on the right with 0, and their attention mask."""
    if isinstance(ids, Tensor):
        ids = ids[None] if ids.ndim == 1 else ids
        return ids, torch.ones_like(ids)
    if not len(ids) or not all(isinstance(row, int) or len(row) for row in ids):
        raise ValueError("there are no tokens; the text is empty")
    rows = [torch.as_tensor(row, dtype=torch.long) for row in ([ids] if isinstance(ids[0], int) else ids)]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


def check_ids(model: Any, ids: Tensor) -> None:
    """Checks `[batch, seq]` ids against the model's context length and vocabulary.

    Raises:
        ValueError: no token, more tokens than the model's context, or an id outside its vocabulary.
    """
    name, n_tokens = type(model).__name__, ids.shape[1]
    context = getattr(text_config(model), "max_position_embeddings", None)
    if n_tokens == 0:
        raise ValueError("there are no tokens; the text is empty")
    if context and n_tokens > context:
        raise ValueError(f"the text has {n_tokens} tokens and the context of {name} is {context}; shorten the text")
    vocabulary = model.get_input_embeddings().weight.shape[0]
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        wrong = int(ids.max()) if int(ids.max()) >= vocabulary else int(ids.min())
        raise ValueError(
            f"token id {wrong} is outside the vocabulary of {name} ({vocabulary} ids); is it the right tokenizer?"
        )


def get_activations(
    model: Any,
    ids: Ids,
    layer: int,
    hook_point: str = "resid_post",
    attention_mask: Tensor | None = None,
    hook: Hook | None = None,
) -> Tensor:
    """Activations of a model at one place, from a forward pass that ends there.

    Args:
        model: a Hugging Face model, or a wrapper that holds one in `_model`.
        ids: token ids: one sequence, a list of sequences (padded on the right), or `[batch, seq]`.
        layer: 0-based; `resid_post` of layer 13 is the output of `layers[13]`.
        hook_point: one of `HOOK_POINTS`, see `find_hook`.
        attention_mask: `[batch, seq]`, 1 for tokens; padding must be on the right. None for no padding.
        hook: what `find_hook` found for this layer and hook point, which spares looking again.

    Returns:
        `[batch, seq, width]` in the model's dtype, on the device where that layer lives. Rows of padding mean nothing.

    Raises:
        ValueError: see `find_hook` and `check_ids`; the padding is on the left, which is wrong on some models; or the
            hidden states are not one vector for each token.
    """
    model = unwrap_model(model)
    hook = hook or find_hook(model, layer, hook_point)
    return read_places(model, ids, {(layer, hook_point): hook}, attention_mask)[layer, hook_point]


@torch.no_grad()
def read_places(
    model: Any, ids: Ids, places: Mapping[Place, Hook], attention_mask: Tensor | None = None
) -> dict[Place, Tensor]:
    """As `get_activations`, of several places by the same forward pass; it ends at the last of them.

    Args:
        model: a Hugging Face model.
        ids, attention_mask: as there.
        places: what `find_hook` found, by layer and hook point.
    """
    padded, mask = pad_ids(ids)
    mask = mask if attention_mask is None else attention_mask
    if not bool(mask[:, 0].all()):
        raise ValueError("the batch is padded on the left; pad on the right (tokenizer.padding_side = 'right')")
    check_ids(model, padded)
    found: dict[Place, Tensor] = {}

    def keep(place: Place, hidden: Tensor) -> None:
        found[place] = hidden.detach() if len(places) == 1 else hidden.detach().clone()  # Falcon adds in place
        if len(found) == len(places):
            raise Stop

    device = input_device(model)
    with ExitStack() as stack:
        for place, hook in places.items():
            stack.enter_context(hooked(hook.module, partial(keep, place), on_input=hook.on_input))
        with suppress(Stop):
            model(input_ids=padded.to(device), attention_mask=mask.to(device), use_cache=False)
    return {place: _as_read(model, padded, place, hook, found) for place, hook in places.items()}


def _as_read(model: Any, padded: Tensor, place: Place, hook: Hook, found: Mapping[Place, Tensor]) -> Tensor:
    """What was seen at a place, `[batch, seq, width]`, as dictionaries read it."""
    layer, hook_point = place
    if place not in found:
        raise RuntimeError(f"{type(model).__name__} ran without passing through layer {layer} ({hook_point})")
    hidden = found[place]
    if hidden.shape[:-1] not in (padded.shape, (padded.numel(),)):  # OPT's linear layers see one axis
        raise ValueError(
            f"{type(model).__name__} has hidden states of shape {list(hidden.shape)} for {list(padded.shape)} tokens "
            f"at {hook_point}: not one vector for each token (several residual streams, or a prompt of its own?)"
        )
    hidden = hidden.reshape(*padded.shape, -1)
    hidden = hidden if hook.scale == 1 else hidden * hook.scale
    return hidden if hook.then is None else hook.then(hidden)

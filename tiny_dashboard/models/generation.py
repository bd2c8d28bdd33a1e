"""Token by token generation with a Hugging Face model: lazy, stoppable, with a cache where the model has one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tiny_dashboard.models.activations import check_ids
from tiny_dashboard.models.architecture import input_device, text_config


def generate(
    model: Any,
    ids: Sequence[int],
    max_new_tokens: int = 128,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    ends: Collection[int | None] = (),
) -> Iterator[int]:
    """Generates token ids; stop it by no longer asking, or with `.close()`.

    Args:
        model: a causal language model.
        ids: the prompt's tokens.
        max_new_tokens: at most so many; it also ends where the model's context is full.
        temperature: 0 is greedy, and deterministic.
        seed: of the sampling, where the temperature is above 0.
        ends: tokens that end it and are not given out, besides the model's own.

    Raises:
        ValueError: a temperature below 0, a prompt that the model cannot read (see `activations.check_ids`), or one
            that fills its context.
        RuntimeError: while it runs, where the model gives NaN.
    """
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; it must be 0 (greedy) or above")
    prompt = torch.as_tensor(ids, dtype=torch.long)[None]
    check_ids(model, prompt)
    n_prompt, context = len(ids), getattr(text_config(model), "max_position_embeddings", None)
    if n_prompt == context:
        raise ValueError(
            f"the text has {n_prompt} tokens, which is all the context of {type(model).__name__}, and leaves no room "
            "for an answer; shorten the text"
        )
    room = min(max_new_tokens, context - n_prompt) if context else max_new_tokens
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    all_ends = {*ends, *(own if isinstance(own, list | tuple) else [own])}
    return _tokens(model, prompt, room, temperature, seed, all_ends)


@torch.no_grad()
def _tokens(
    model: Any, ids: Tensor, n_tokens: int, temperature: float, seed: int, ends: set[int | None]
) -> Iterator[int]:
    sampler = torch.Generator().manual_seed(seed)
    device = input_device(model)
    # The last position's logits are all that is needed; not every model can be told so.
    extra = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    ids, cache, fed = ids.to(device), None, 0
    for _ in range(n_tokens):
        mask = torch.ones_like(ids)
        out = model(ids[:, fed:], attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        cache = getattr(out, "past_key_values", None)
        fed = 0 if cache is None else ids.shape[1]  # a model without a cache reads everything again
        logits = out.logits[0, -1].float().cpu()
        if torch.isnan(logits).any():
            raise RuntimeError(f"{type(model).__name__} gave NaN logits in {model.dtype}; try float32 or bfloat16")
        if temperature:
            token = int(torch.multinomial((logits / temperature).softmax(0), 1, generator=sampler))
        else:
            token = int(logits.argmax())
        if token in ends:
            return
        yield token
        ids = torch.cat([ids, torch.tensor([[token]], device=device)], 1)

"""Activations of Hugging Face models: a hook on plain PyTorch modules, and a forward pass that stops there.

Layers are found by rule, not by a table of model names. No model library besides transformers is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

HOOK_POINTS = ("resid_pre", "resid_post", "attn_out", "mlp_out", "mlp_in", "z")
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "block_sparse_moe", "feed_forward")
OUT_PROJECTION = ("o_proj", "c_proj", "dense", "out_proj")


class _Stop(Exception):
    """Ends a forward pass at the hook, when what lies behind it is not needed."""


def unwrap_model(model: Any) -> Any:
    """The PyTorch model inside a wrapper (nnsight's `LanguageModel` keeps it in `_model`), or the model itself.

    Raises:
        TypeError: it is not a PyTorch model.
        ValueError: its weights are not loaded (they are on the meta device).
    """
    inner = model if isinstance(model, nn.Module) and hasattr(model, "get_decoder") else getattr(model, "_model", model)
    if not isinstance(inner, nn.Module):
        raise TypeError(f"expected a Hugging Face model (or a wrapper with ._model), got {type(model).__name__}")
    if next(inner.parameters()).is_meta:
        raise ValueError(f"the weights of {type(inner).__name__} are not loaded (meta device); nnsight: dispatch=True")
    return inner


def text_config(model: Any) -> Any:
    """The configuration of the language model (of the text part of a multimodal one)."""
    return model.config.get_text_config()


def find_layers(model: Any) -> nn.ModuleList:
    """The decoder layers: the decoder's first `ModuleList` as long as the config says there are layers.

    Raises:
        ValueError: there is none; the message says what was looked for.
    """
    n_layers = text_config(model).num_hidden_layers
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    for root in (decoder, model):
        for module in root.modules() if isinstance(root, nn.Module) else ():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                return module
    raise ValueError(f"{type(model).__name__} has no ModuleList of {n_layers} layers, as its config announces")


def _child(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    return next((child for name in names if isinstance(child := getattr(module, name, None), nn.Module)), None)


def find_hook(model: Any, layer: int, hook_point: str) -> tuple[nn.Module, bool]:
    """The module to hook, and whether its input (True) or its output (False) is the activation.

    `resid_pre` / `resid_post` are the input / output of `layers[layer]`. `attn_out` and `mlp_out` are what the block
    adds to the residual stream: on models that normalise a block's output (Gemma 2 and 3, OLMo 2) the output of that
    norm. `mlp_in` is the input of the MLP (a transcoder's input), `z` that of the attention's output projection.

    Raises:
        ValueError: an unknown hook point, a layer out of range, or a model that has no such module.
    """
    if hook_point not in HOOK_POINTS:
        raise ValueError(f"unknown hook point {hook_point!r}; choose one of {', '.join(HOOK_POINTS)}")
    layers = find_layers(model)
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer {layer} is out of range: {type(model).__name__} has {len(layers)} layers (0-based)")
    block: Any = layers[layer]
    if hook_point in ("resid_pre", "resid_post"):
        return block, hook_point == "resid_pre"
    post_norms = hasattr(block, "post_feedforward_layernorm")  # on others post_attention_layernorm comes before the MLP
    module: Any
    if hook_point in ("mlp_out", "mlp_in"):
        module = _child(block, MLP)
        if module is None:  # OPT has its two linear layers in the block itself
            module = _child(block, ("fc2",) if hook_point == "mlp_out" else ("fc1",))
        elif hook_point == "mlp_out":
            # BLOOM's MLP adds the residual stream inside: its last linear layer is the block's own part.
            inner = _child(module, ("dense_4h_to_h",)) if "Bloom" in type(module).__name__ else None
            module = block.post_feedforward_layernorm if post_norms else inner or module
    else:
        attention = _child(block, ATTENTION)
        if attention is not None and _child(attention, OUT_PROJECTION) is None:
            attention = _child(attention, ATTENTION)  # GPT-Neo wraps it once more
        module = None if attention is None else _child(attention, OUT_PROJECTION)
        if hook_point == "attn_out" and post_norms:
            module = block.post_attention_layernorm
    if module is None:
        parts = ", ".join(name for name, _ in block.named_children())
        raise ValueError(f"{hook_point} was not found in a layer of {type(model).__name__}, which has {parts}")
    return module, hook_point in ("mlp_in", "z")


@contextmanager
def hooked(module: nn.Module, function: Callable[[Tensor], Tensor | None], *, on_input: bool = False) -> Iterator[None]:
    """Calls `function` with the module's hidden states while this thread is inside the `with`.

    What the function returns (if not None) replaces them. Forward passes of other threads pass by untouched, and the
    hook is removed whatever happens.
    """
    owner = threading.get_ident()

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if threading.get_ident() != owner:
            return None
        if args:
            new = function(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = function(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        if threading.get_ident() != owner:
            return None
        if isinstance(output, Tensor):
            return function(output)
        new = function(output[0])  # a tuple: [0] of a bare tensor would silently be a row of the batch
        return None if new is None else (new, *output[1:])

    if on_input:
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def pad_ids(ids: Sequence[int] | Sequence[Sequence[int]] | Tensor) -> tuple[Tensor, Tensor]:
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


@torch.no_grad()
def get_activations(
    model: Any,
    ids: Sequence[int] | Sequence[Sequence[int]] | Tensor,
    layer: int,
    hook_point: str = "resid_post",
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Activations of a model at one place, from a forward pass that ends there.

    Args:
        model: a Hugging Face model, or a wrapper that holds one in `_model`.
        ids: token ids: one sequence, a list of sequences (padded on the right), or `[batch, seq]`.
        layer: 0-based; `resid_post` of layer 13 is the output of `layers[13]`.
        hook_point: one of `HOOK_POINTS`, see `find_hook`.
        attention_mask: `[batch, seq]`, 1 for tokens; padding must be on the right. None for no padding.

    Returns:
        `[batch, seq, width]` in the model's dtype, on the device where that layer lives. Rows of padding mean nothing.

    Raises:
        ValueError: see `find_hook` and `check_ids`; or the padding is on the left, which is wrong on some models.
    """
    model = unwrap_model(model)
    padded, mask = pad_ids(ids)
    mask = mask if attention_mask is None else attention_mask
    if not bool(mask[:, 0].all()):
        raise ValueError("the batch is padded on the left; pad on the right (tokenizer.padding_side = 'right')")
    check_ids(model, padded)
    module, on_input = find_hook(model, layer, hook_point)
    found: list[Tensor] = []

    def keep(hidden: Tensor) -> None:
        found.append(hidden.detach())
        raise _Stop

    device = model.get_input_embeddings().weight.device
    try:
        with hooked(module, keep, on_input=on_input):
            model(input_ids=padded.to(device), attention_mask=mask.to(device), use_cache=False)
    except _Stop:
        pass
    if not found:
        raise RuntimeError(f"{type(model).__name__} ran without passing through layer {layer} ({hook_point})")
    return found[0].reshape(*padded.shape, -1)  # OPT's linear layers see batch and sequence as one axis

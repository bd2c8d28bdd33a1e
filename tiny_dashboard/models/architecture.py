"""Where things lie in a Hugging Face model: its layers, the place that a hook point names, and a hook on a module.

All is found by rule, not by a table of model names. No model library besides transformers is needed.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

HOOK_POINTS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "mlp_in", "mlp_in_normalized", "z")
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "block_sparse_moe", "feed_forward")
OUT_PROJECTION = ("o_proj", "c_proj", "dense", "out_proj")


class Stop(Exception):
    """Ends a forward pass at the hook, when what lies behind it is not needed."""


# Where wrappers keep the model: nnsight before and since 0.8, DataParallel and the like, models with a value head,
# pipelines.
_INSIDE = ("_model", "_module", "module", "pretrained_model", "model")


def unwrap_model(model: Any) -> Any:
    """The Hugging Face model inside a wrapper, or the model itself.

    Raises:
        TypeError: it is no Hugging Face model, and wraps none that can be found.
        ValueError: its weights are not loaded (they are on the meta device), or a wrapper has changed them.
    """
    if getattr(model, "_weights_processed", False):
        raise ValueError(
            f"this {type(model).__name__} has folded its weights (enable_compatibility_mode), and its activations are "
            "no longer those that dictionaries read; pass the model of transformers itself"
        )
    inner = _inside(model)
    if not isinstance(inner, nn.Module):
        raise TypeError(
            f"expected a Hugging Face model, or a wrapper that has one in {', '.join(_INSIDE)}; "
            f"got {type(model).__name__}"
        )
    if not (hasattr(inner, "config") and hasattr(inner, "get_input_embeddings")):
        raise TypeError(
            f"{type(model).__name__} is no model of transformers; load it with AutoModelForCausalLM.from_pretrained"
        )
    if next(inner.parameters()).is_meta and hasattr(model, "dispatch"):  # nnsight loads when it is first needed
        model.dispatch()
        inner = _inside(model)
    if next(inner.parameters()).is_meta and not is_offloaded(inner):
        raise ValueError(f"the weights of {type(inner).__name__} are not loaded (meta device); nnsight: dispatch=True")
    return inner


def _inside(model: Any) -> Any:
    # TransformerLens's bridge answers to the names that a model of transformers has, and is called otherwise.
    model = getattr(model, "original_model", model)
    for _ in range(4):  # wrappers may lie in each other
        if isinstance(model, nn.Module) and hasattr(model, "config") and hasattr(model, "get_input_embeddings"):
            break
        inside = (getattr(model, name, None) for name in _INSIDE)
        model = next((one for one in inside if isinstance(one, nn.Module)), model)
    return model


def is_offloaded(model: nn.Module) -> bool:
    """Whether accelerate brings each weight from memory or disk when it is needed: until then it is on meta."""
    return any(hasattr(module, "_hf_hook") for module in model.modules())


def input_device(model: Any) -> torch.device:
    """Where a model wants its ids."""
    embedding = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    device = getattr(hook, "execution_device", None) if embedding.weight.is_meta else None
    return embedding.weight.device if device is None else torch.device(device)


def text_config(model: Any) -> Any:
    """The configuration of the language model (of the text part of a multimodal one)."""
    return model.config.get_text_config()


def find_layers(model: Any) -> nn.ModuleList:
    """The decoder layers: the decoder's first `ModuleList` as long as the config says there are layers.

    Raises:
        ValueError: there is none; the message says what was looked for.
    """
    name, n_layers = type(model).__name__, text_config(model).num_hidden_layers
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} is an encoder and a decoder; only models that read one text are supported")
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    for root in (decoder, model):
        for module in root.modules() if isinstance(root, nn.Module) else ():
            if isinstance(module, nn.ModuleList) and len(module) == n_layers:
                if "attention" in type(module[0]).__name__.lower():
                    raise ValueError(f"{name} keeps its attentions in a list of their own: it has no layers")
                return module
    raise ValueError(f"{name} has no ModuleList of {n_layers} layers, as its config announces")


def _child(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    return next((child for name in names if isinstance(child := getattr(module, name, None), nn.Module)), None)


class Hook(NamedTuple):
    """Where activations are read: the input or the output of a module, times a scale, through a function."""

    module: nn.Module
    on_input: bool
    scale: float = 1.0
    then: Callable[[Tensor], Tensor] | None = None


def find_hook(model: Any, layer: int, hook_point: str) -> Hook:
    """Where a hook point lies in a model.

    `resid_pre` / `resid_post` are the input / output of `layers[layer]`. `attn_out` and `mlp_out` are what the block
    adds to the residual stream, the norm or the factor behind them included; that they add up is checked on a few
    tokens. `mlp_in` is the input of the MLP (a transcoder's input), `z` that of the attention's output projection.
    `resid_mid` is the stream between attention and MLP, before the norm that the MLP reads through, and
    `mlp_in_normalized` what this norm gives without its gain and bias (`ln2.hook_normalized`, with those folded away).

    Raises:
        ValueError: an unknown hook point, a layer out of range, a model that has no such module, or one in which
            attention and MLP are not all that the block adds.
    """
    if hook_point not in HOOK_POINTS:
        raise ValueError(f"unknown hook point {hook_point!r}; choose one of {', '.join(HOOK_POINTS)}")
    layers = find_layers(model)
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer {layer} is out of range: {type(model).__name__} has {len(layers)} layers (0-based)")
    block: Any = layers[layer]
    if hook_point in ("resid_pre", "resid_post"):
        return Hook(block, hook_point == "resid_pre")
    # OPT has its two linear layers in the block itself.
    reads_mlp = hook_point in ("mlp_in", "mlp_in_normalized", "resid_mid")
    mlp = _child(block, (*MLP, "fc1" if reads_mlp else "fc2"))
    attention = _child(block, ATTENTION)
    if attention is not None and _child(attention, OUT_PROJECTION) is None:
        attention = _child(attention, ATTENTION)  # GPT-Neo wraps it once more
    projection = None if attention is None else _child(attention, OUT_PROJECTION)
    if (mlp if reads_mlp or hook_point == "mlp_out" else projection) is None:
        parts = ", ".join(name for name, _ in block.named_children())
        raise ValueError(f"{hook_point} was not found in a layer of {type(model).__name__}, which has {parts}")
    if hook_point in ("mlp_in", "z"):
        return Hook(mlp if hook_point == "mlp_in" else projection, True)  # type: ignore[arg-type]
    if reads_mlp:
        return _before_mlp(model, block, mlp, hook_point)  # type: ignore[arg-type]
    added = _find_added(model, block, projection, mlp)
    if isinstance(added, float):
        raise ValueError(
            f"{hook_point} cannot be told in layer {layer} of {type(model).__name__}: attention and MLP together miss "
            f"what the layer adds by {added:.2g} of it; choose resid_pre, resid_post, mlp_in or z"
        )
    return added[hook_point == "mlp_out"]


@torch.no_grad()
def _find_added(
    model: Any, block: nn.Module, projection: nn.Module | None, mlp: nn.Module | None
) -> tuple[Hook, Hook] | float:
    """What attention and MLP add to the residual stream; or, where no reading adds up, how far the best one is off.

    Found by running a few tokens, so that no table of architectures is needed: a part may be a norm that reads the
    module's output (Gemma 2, GLM 4), the module, or its last linear layer (BLOOM adds the stream inside), all times
    one factor (Granite).
    """
    if projection is None or mlp is None:
        return math.inf
    norms = _norms(block)
    linear = [module for module in mlp.modules() if isinstance(module, nn.Linear)][-1:]
    inputs, values = _probe(model, block, (block, *norms), (block, projection, mlp, *norms, *linear))

    def readings(module: nn.Module, *others: nn.Module) -> list[nn.Module]:
        behind = [norm for norm in norms if norm in inputs and torch.equal(inputs[norm], values[module])]
        return behind or [module, *others]

    added = values[block] - inputs[block]
    # Rounding of the stream itself, which may be much longer than what is added to it.
    rounding = 2 * torch.finfo(model.dtype).eps * float(inputs[block].norm() + values[block].norm())
    best = math.inf
    for attn_out, mlp_out in product(readings(projection), readings(mlp, *linear)):
        total = values[attn_out] + values[mlp_out]
        for scale in (1.0, _known_number(model, float((added * total).sum() / total.square().sum()))):
            off = float((scale * total - added).norm())
            if off <= 1e-3 * float(added.norm()) + rounding:
                return Hook(attn_out, False, scale), Hook(mlp_out, False, scale)
            best = min(best, off / float(added.norm()))
    return best


@torch.no_grad()
def _before_mlp(model: Any, block: nn.Module, mlp: nn.Module, hook_point: str) -> Hook:
    """The input of the norm that the MLP reads through, or that input normalised; the norm is found by running it."""
    norms, name = _norms(block), type(model).__name__
    inputs, values = _probe(model, block, (block, mlp, *norms), norms)
    norm = next((norm for norm in norms if norm in values and torch.equal(values[norm], inputs[mlp])), None)
    if norm is None:
        raise ValueError(f"{hook_point} was not found in a layer of {name}: its MLP reads no norm's output; try mlp_in")
    if hook_point == "mlp_in_normalized":
        return Hook(norm, True, then=_without_gain(norm))
    if torch.equal(inputs[norm], inputs[block]):
        raise ValueError(f"{name} has no resid_mid: attention and MLP read the same stream; choose resid_pre")
    return Hook(norm, True)


def _without_gain(norm: nn.Module) -> nn.Module:
    """The same norm with a gain of 1 and no bias, whether it keeps its gain as w or as 1 + w (Gemma).

    Raises:
        ValueError: no such weight makes it a norm of gain 1.
    """
    plain = copy.deepcopy(norm).requires_grad_(False)
    weight = next(plain.parameters(), None)
    if weight is None:
        return plain
    x = torch.ones(1, 1, weight.shape[-1]).to(weight)
    x[..., ::2] = -1  # of mean 0 and variance 1, which a gain of 1 leaves as it is
    for value in (1.0, 0.0):
        for name, parameter in plain.named_parameters():
            parameter.fill_(0.0 if "bias" in name else value)
        if torch.allclose(plain(x), x, atol=1e-2):
            return plain
    raise ValueError(f"the gain of {type(norm).__name__} cannot be told; choose mlp_in or resid_mid")


def _norms(block: nn.Module) -> list[nn.Module]:
    return [child for child in block.children() if "norm" in type(child).__name__.lower()]


def _probe(
    model: Any, block: nn.Module, reads: Sequence[nn.Module], writes: Sequence[nn.Module]
) -> tuple[dict[nn.Module, Tensor], dict[nn.Module, Tensor]]:
    """What goes into the modules `reads` and comes out of `writes` while a few tokens run as far as the block."""
    inputs: dict[nn.Module, Tensor] = {}
    values: dict[nn.Module, Tensor] = {}
    with ExitStack() as stack:
        for module in set(writes):
            stack.enter_context(hooked(module, partial(_keep, values, module)))
        for module in set(reads):
            stack.enter_context(hooked(module, partial(_keep, inputs, module), on_input=True))
        stack.enter_context(hooked(block, _stop))
        ids = torch.arange(10, 22, device=input_device(model))[None]
        with suppress(Stop):
            model(input_ids=ids % model.get_input_embeddings().weight.shape[0], use_cache=False)
    return inputs, values


def _keep(seen: dict[nn.Module, Tensor], module: nn.Module, x: Tensor) -> None:
    """Copies (Falcon adds in place) without the first token, whose norm may be hundreds of times the others'."""
    seen[module] = x.detach().reshape(-1, x.shape[-1])[1:].float().cpu().clone()


def _stop(_: Tensor) -> None:
    raise Stop


def _known_number(model: Any, measured: float) -> float:
    """The number in the model's config that was measured, or else the measured one."""
    numbers = [value for value in text_config(model).to_dict().values() if isinstance(value, float)]
    return next((value for value in numbers if abs(value - measured) < 0.02 * abs(measured)), measured)


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

"""`Featurizer`: models and a dictionary, which read texts and answer them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tiny_dashboard.dictionaries import Dictionary
from tiny_dashboard.models.activations import Place, get_activations
from tiny_dashboard.models.architecture import Hook, find_hook, hooked, text_config, unwrap_model
from tiny_dashboard.models.generation import generate
from tiny_dashboard.models.reading import Reading
from tiny_dashboard.models.sharing import SharedPasses


def check_same_tokens(text: str, tokenizers: Sequence[Any]) -> None:
    """Checks that several tokenizers cut the text into the same ids.

    Raises:
        ValueError: they do not; the message shows the first difference.
    """
    first, *others = [tokenizer(text, add_special_tokens=False)["input_ids"] for tokenizer in tokenizers]
    for number, other in enumerate(others, 1):
        if other == first:
            continue
        at = next(
            (i for i, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other))
        )
        shown = [
            repr(tokenizer.convert_ids_to_tokens(ids[at])) if at < len(ids) else "nothing"
            for tokenizer, ids in ((tokenizers[0], first), (tokenizers[number], other))
        ]
        raise ValueError(
            f"the models' tokenizers disagree on this text ({len(first)} and {len(other)} tokens): token {at} is "
            f"{shown[0]} in one and {shown[1]} in the other; a crosscoder needs the same tokens in both models"
        )


def check_fit(configs: Sequence[Any], dictionary: Any, layer: int, hook_point: str) -> None:
    """Checks from the models' configs alone, before any weights are loaded, that the dictionary reads these models.

    Raises:
        ValueError: the number of models, the width or the layer does not fit; the message has both numbers.
    """
    n_models, width = getattr(dictionary, "n_models", None), getattr(dictionary, "d_model", None)
    if n_models not in (None, len(configs)):
        raise ValueError(f"the dictionary reads {n_models} model(s), and {len(configs)} were given")
    if isinstance(dictionary, Dictionary):
        if dictionary.layer not in (None, layer):
            raise ValueError(f"the dictionary was trained on layer {dictionary.layer}, and layer {layer} was asked for")
        if dictionary.hook_point not in (None, hook_point):
            raise ValueError(f"the dictionary reads {dictionary.hook_point}, and {hook_point} was asked for")
    for config in configs:
        config, name = config.get_text_config(), config.model_type
        if not 0 <= layer < config.num_hidden_layers:
            raise ValueError(f"layer {layer} is out of range: {name} has {config.num_hidden_layers} layers (0-based)")
        if hook_point != "z":  # whose width the module tells alone: heads of MLA, or of a size for each layer
            _check_width(width, config.hidden_size, name, hook_point)


def _check_width(width: int | None, found: int | None, name: str, hook_point: str) -> None:
    if None not in (width, found) and width != found:
        raise ValueError(f"the dictionary reads activations of width {width}, and {name} has {found} at {hook_point}")


class Featurizer:
    """Feature activations of token sequences.

    Args:
        models: a Hugging Face model (or a wrapper with `._model`), or [base, chat] for a crosscoder; each may be on
            a device of its own. They are put into eval mode.
        dictionary: a `Dictionary`; or any object with `get_activations(x[batch, n_models, d], select_features=…)`,
            or with `encode(x[batch, d])` (`x[batch, n_models, d]` for several models), or such a function. Its codes
            may be sparse tensors, or what sparsify's own classes return.
        tokenizer: the models' tokenizer; a wrapper's `.tokenizer` where it is None.
        layer, hook_point: where the dictionary reads; None means what the dictionary says (then "resid_post").

    Raises:
        ValueError: models and dictionary do not fit; see `check_fit` and `activations.find_hook`.
        TypeError: a model or the dictionary is something else.
    """

    def __init__(
        self,
        models: Any,
        dictionary: Any,
        tokenizer: Any = None,
        layer: int | None = None,
        hook_point: str | None = None,
    ):
        wrappers = list(models) if isinstance(models, (list, tuple)) else [models]
        self.models = [unwrap_model(model) for model in wrappers]
        self.dictionary = dictionary
        if not (hasattr(dictionary, "get_activations") or hasattr(dictionary, "encode") or _is_function(dictionary)):
            raise TypeError(
                f"the dictionary is a {type(dictionary).__name__}; pass one of load_dictionary, an object with "
                "get_activations or encode, or a function from activations to codes"
            )
        own = [model.tokenizer for model in wrappers if getattr(model, "tokenizer", None) is not None]
        self.tokenizers = own if len(own) == len(wrappers) else []
        self.tokenizer = tokenizer if tokenizer is not None else own[-1] if own else None
        ours = isinstance(dictionary, Dictionary)
        layer = dictionary.layer if layer is None and ours else layer
        if layer is None:
            raise ValueError("the dictionary does not say which layer it reads; give layer=")
        self.layer, self.hook_point = layer, hook_point or (ours and dictionary.hook_point) or "resid_post"
        check_fit([model.config for model in self.models], dictionary, self.layer, self.hook_point)
        self.hooks = [find_hook(model.eval(), self.layer, self.hook_point) for model in self.models]
        z = self.hook_point == "z"  # else the residual stream's
        self.widths = [_input_width(h.module) if z else None for h in self.hooks]
        for model, found in zip(self.models, self.widths, strict=True):
            _check_width(getattr(dictionary, "d_model", None), found, model.config.model_type, self.hook_point)
        self.passes: SharedPasses | None = None  # where others read the same models, see `SharedModels.join`
        weight = next(dictionary.parameters(), None) if hasattr(dictionary, "parameters") else None
        self.device = getattr(dictionary if weight is None else weight, "device", "cpu")
        self.dtype = getattr(dictionary if weight is None else weight, "dtype", torch.float32)

    @property
    def place(self) -> Place:
        """Layer and hook point that the dictionary reads."""
        return self.layer, self.hook_point

    @property
    def has_decoder(self) -> bool:
        """Whether the dictionary's decoder side can be looked at: it is one of `load_dictionary`."""
        return isinstance(self.dictionary, Dictionary) and self.dictionary.decoder_rows is not None

    @property
    def writes_at(self) -> str:
        """The hook point at which the dictionary's decoder writes."""
        return getattr(self.dictionary, "writes_at", None) or self.hook_point

    def count_features(self) -> int:
        """The number of features: as the dictionary says, or else of what it gives for one blank token."""
        known = getattr(self.dictionary, "n_features", None)
        if known is not None:
            return int(known)
        width = getattr(self.dictionary, "d_model", None) or self.widths[0] or text_config(self.models[0]).hidden_size
        return self.codes(torch.zeros(1, len(self.models), width, device=self.device, dtype=self.dtype)).shape[-1]

    def check_text(self, text: str) -> None:
        """Checks that the models' own tokenizers agree on a text, where they are known; see `check_same_tokens`."""
        if len(self.tokenizers) > 1:
            check_same_tokens(text, self.tokenizers)

    def activations(self, ids: Any) -> Tensor:
        """Activations `[seq, n_models, d_model]` (`[batch, seq, n_models, d_model]` for many sequences).

        On the dictionary's device and in its dtype (float32 unless asked otherwise).

        Raises:
            ValueError: no tokens, more than the models' context, or an id that a model does not have.
        """
        one = ids.ndim == 1 if isinstance(ids, Tensor) else not (len(ids) and isinstance(ids[0], (list, tuple, Tensor)))
        stacked = self.batch_activations(ids)
        return stacked[0] if one else stacked

    def batch_activations(self, ids: Any, attention_mask: Tensor | None = None) -> Tensor:
        """`activations` of many sequences, `[batch, seq, n_models, d_model]`; the mask is 1 at tokens."""
        found = [
            get_activations(model, ids, self.layer, self.hook_point, attention_mask, hook)
            for model, hook in zip(self.models, self.hooks, strict=True)
        ]
        return self._stacked(found)

    def _stacked(self, found: Sequence[Tensor]) -> Tensor:
        return torch.stack([part.to(self.device, self.dtype) for part in found], dim=-2)

    def read(self, ids: Sequence[int]) -> Reading:
        """Read a text once: one forward pass of each model, whatever is asked of it then, and by whom.

        Raises:
            ValueError: see `activations`.
        """
        x = self.activations(ids) if self.passes is None else self._stacked(self.passes.read(ids, self.place))[0]
        if broken := int((~torch.isfinite(x)).flatten(1).any(1).sum()):
            raise ValueError(self.gives_nan(broken, len(x)))
        return Reading(self, list(ids), x)

    def gives_nan(self, n_broken: int, n_tokens: int) -> str:
        """Says that the models give NaN or infinity at so many of the tokens, and what to do."""
        names = " and ".join(dict.fromkeys(type(model).__name__ for model in self.models))
        return (
            f"{names} gives NaN or infinite activations at {n_broken} of {n_tokens} tokens ({self.hook_point} of layer "
            f"{self.layer}, in {self.models[-1].dtype}); load it in bfloat16 or float32, float16 overflows on some"
        )

    def generate(
        self,
        ids: Sequence[int],
        max_new_tokens: int = 128,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        steer: Sequence[tuple[int, float]] = (),
        clamp: bool = False,
        model: int = -1,
    ) -> Iterator[int]:
        """Generates token by token; stop it by no longer asking, or with `.close()`.

        Args:
            ids: the prompt's tokens.
            max_new_tokens: at most so many; it also ends at an end-of-sequence token (not given out), or where the
                model's context is full.
            temperature: 0 is greedy, and deterministic.
            seed: of the sampling, where the temperature is above 0.
            steer: (feature, strength) pairs: at every token, what the feature would write with that activation (in
                units of the shown one) is added to the model's activations.
            clamp: set the features to these activations instead of adding them; for a dictionary of one model.
            model: which of the models; the last one by default, the chat model of a crosscoder.

        Raises:
            ValueError: see `activations`; or a temperature below 0, an unknown feature, or one that can't be clamped.
        """
        ends = {getattr(self.tokenizer, "eos_token_id", None)}
        stream = generate(self.models[model], ids, max_new_tokens, temperature=temperature, seed=seed, ends=ends)
        if not steer:
            return stream
        # The stream between attention and MLP is written where attention adds to it.
        hook = find_hook(self.models[model], self.layer, self.writes_at.replace("resid_mid", "attn_out"))
        return _with_hook(stream, hook, self._steering(steer, clamp, model, hook.scale))

    def _steering(
        self, steer: Sequence[tuple[int, float]], clamp: bool, model: int, scale: float
    ) -> Callable[[Tensor], Tensor]:
        """What is done to the hidden states at the dictionary's place, which are read times `scale`."""
        features, strengths = [feature for feature, _ in steer], [strength for _, strength in steer]
        dictionary = self.dictionary
        if not isinstance(dictionary, Dictionary):
            raise TypeError("steering needs a dictionary of load_dictionary; this one only gives its activations")
        elsewhere = self.writes_at != self.hook_point or self.hook_point == "resid_mid"
        if self.writes_at == "mlp_in_normalized" or (elsewhere and dictionary.token_scale is not None):
            raise ValueError(
                f"steering is not possible: what this dictionary writes at {self.writes_at} depends on a normalisation "
                f"of each token at {self.hook_point}, which is not undone there"
            )
        if clamp and (dictionary.n_models > 1 or elsewhere):
            raise ValueError(
                "a feature can be clamped only where one model is read and written at one place; add its direction "
                "instead (clamp=False)"
            )
        writes = dictionary.writes(features)[:, model].float()
        wanted = torch.tensor(strengths, dtype=torch.float32, device=writes.device)

        def push(hidden: Tensor) -> Tensor:
            change = wanted - dictionary.encode(hidden * scale, features).float() if clamp else wanted
            written = change @ writes / scale
            if dictionary.token_scale is not None:
                written = written * dictionary.token_scale(hidden.float() * scale).to(written)
            return hidden + written.to(hidden)

        return push

    @torch.no_grad()
    def codes(self, x: Tensor, features: list[int] | None = None) -> Tensor:
        """`[seq, n_models, d]` -> `[seq, len(features)]` with whatever dictionary it is; sparse where it gives that.

        Raises:
            ValueError: a dictionary of the user's own does not take these activations, or gives something else.
        """
        dictionary, name = self.dictionary, type(self.dictionary).__name__
        has_own = hasattr(dictionary, "get_activations")
        encode = getattr(dictionary, "encode", dictionary)
        given = x if has_own or x.shape[1] > 1 else x[:, 0]
        try:
            codes = dictionary.get_activations(x, select_features=features) if has_own else encode(given)
        except RuntimeError as error:  # torch's, of widths and types
            raise ValueError(
                f"{name} does not take the activations, {list(given.shape)} in {given.dtype}: {error}. An attribute "
                "d_model says its width, and dtype its type"
            ) from error
        if hasattr(codes, "top_indices"):  # sparsify's: the k features of each token, and all pre-activations
            token = torch.arange(len(x), device=self.device).repeat_interleave(codes.top_indices.shape[1])
            where = torch.stack([token, codes.top_indices.flatten()])
            codes = torch.sparse_coo_tensor(
                where, codes.top_acts.flatten(), codes.pre_acts.shape, check_invariants=False
            )
        asked = "n_features" if features is None or not has_own else str(len(features))
        shape = tuple(codes.shape) if isinstance(codes, Tensor) else None
        if shape is None or len(shape) != 2 or shape[0] != len(x) or (asked.isdecimal() and shape[1] != int(asked)):
            came = f"a {type(codes).__name__}" if shape is None else f"a tensor {list(shape)}"
            raise ValueError(f"{name} gave {came}; it must give one tensor [{len(x)}, {asked}], a row for each token")
        if codes.layout not in (torch.strided, torch.sparse_coo):
            codes = codes.to_sparse_coo()
        return codes if features is None or has_own else (codes.to_dense() if codes.is_sparse else codes)[:, features]


def _is_function(given: Any) -> bool:
    """A module can be called too, but gives its reconstruction then."""
    return callable(given) and not isinstance(given, (torch.nn.Module, type))


def _input_width(linear: Any) -> int | None:
    """The width of what a linear layer reads; GPT-2's calls it otherwise."""
    return getattr(linear, "in_features", getattr(linear, "nx", None))


def _with_hook(stream: Iterator[int], hook: Hook, push: Callable[[Tensor], Tensor]) -> Iterator[int]:
    """Hooks each step anew: a consumer may ask for each token from another thread."""
    while True:
        with hooked(hook.module, push, on_input=hook.on_input), torch.no_grad():
            token = next(stream, None)
        if token is None:
            return
        yield token

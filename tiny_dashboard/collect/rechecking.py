"""`recheck`: are stored examples what the models give now? And if not, which single change would make them agree?

It stands beside collecting, whose windows it reads again: it needs sources, dictionaries and models, and no dashboard.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tiny_dashboard.core.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.core.prompts import encode_chat, special_ids, stored_ids
from tiny_dashboard.core.text import token_texts
from tiny_dashboard.dictionaries import Dictionary, load_dictionary
from tiny_dashboard.dictionaries.dictionary import Rows
from tiny_dashboard.dictionaries.functions import layer_norm, unit_rms
from tiny_dashboard.hub import resolve_device
from tiny_dashboard.models.architecture import find_hook, find_layers
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.models.loading import load_featurizer
from tiny_dashboard.sources import open_examples

ENOUGH = 0.8  # of the examples: at a threshold, rounding switches a token on or off in some
ROUNDING = {
    torch.float32: 4e-3,
    torch.float16: 1e-2,
    torch.bfloat16: 3e-2,
}  # stored values are float16, or of few digits
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Normalisation = Callable[[Tensor], Tensor]


class Stored(NamedTuple):
    """One stored example: its feature, what the model reads, and the values at the last tokens of that."""

    feature: int
    ids: list[int]
    values: np.ndarray
    x: Tensor | None = None  # what the models give, `[seq, n_models, d_model]`


class Attempt(NamedTuple):
    """What came of one change.

    Attributes:
        change: what was done otherwise; empty for nothing.
        agreeing: examples that agree.
        difference: median over the examples of |live - stored| / |stored|, both as vectors over the tokens.
    """

    change: str
    agreeing: int
    difference: float


@dataclass(frozen=True)
class Recheck:
    """What `recheck` found; `str()` is the verdict.

    Attributes:
        n_examples: examples that were read again.
        rounding: the difference up to which an example agrees.
        where: model, layer and hook point that were read.
        tried: as it stands first; then, where that does not agree, single changes, the best first.
    """

    n_examples: int
    rounding: float
    where: str
    tried: tuple[Attempt, ...]

    @property
    def agrees(self) -> bool:
        """Whether the stored examples are what the models give now, within rounding."""
        return self._enough(self.tried[0])

    @property
    def change(self) -> str | None:
        """The single change that makes them agree; None where none does, or none is needed."""
        fitting = [attempt for attempt in self.tried[1:] if self._enough(attempt)]
        return fitting[0].change if fitting else None

    def _enough(self, attempt: Attempt) -> bool:
        return attempt.agreeing >= ENOUGH * self.n_examples

    def __str__(self) -> str:
        first = self.tried[0]
        found = f"{first.agreeing} of {self.n_examples} stored examples agree with {self.where}"
        off = f"median difference {first.difference:.2g}, rounding {self.rounding:.2g}"
        if self.agrees:
            return f"agree: {found} ({off})"
        if self.change is not None:
            return f"disagree: {found} ({off}); they would agree {self.change}"
        tried = "; ".join(f"{a.change}: {a.agreeing} ({a.difference:.2g})" for a in self.tried[1:])
        return f"disagree: {found} ({off}), and no single change would make them agree. Tried: {tried}"


def recheck(
    source: Any,
    models: Any = None,
    dictionary: Any = None,
    *,
    sample: int = 50,
    tokenizer: Any = None,
    layer: int | None = None,
    hook_point: str | None = None,
    device: str = "auto",
    dtype: Any = None,
    which: Mapping[str, Any] | None = None,
) -> Recheck:
    """Compute some stored examples anew, and say whether they agree with what is stored.

    Attention sinks and what is stored as NaN do not count. Where the examples disagree, single changes are tried one by
    one: BOS, layer, hook point, normalisation, base and chat exchanged, dtype, tokens of the chat template.

    Args:
        source: examples, as `open_examples` takes them.
        models: a Hugging Face model or its name, or [base, chat]; None: those that the examples name.
        dictionary: what `load_dictionary` takes or returns, or any object that `Featurizer` takes; None: that which the
            examples name.
        sample: so many examples, each of another feature where there are so many, of all ranks.
        tokenizer: a tokenizer or its name, where neither examples nor models name one.
        layer, hook_point: where the dictionary reads, where it does not say; None: what the examples say.
        device, dtype: of models that are named; dtype None: as the examples say, or as they are stored.
        which: selects one dictionary of many.

    Raises:
        ValueError: no model or dictionary is known, they do not fit, or no example can be read.
    """
    examples = open_examples(source, tokenizer=tokenizer)
    info = examples.info if isinstance(examples, ExampleSource) else SourceInfo("dict")
    where: dict[str, Any] = {"layer": layer, "hook_point": hook_point, "device": device}
    featurizer = _load(info, models, dictionary, tokenizer, dtype=dtype, which=which or {}, **where)
    rows = _draw(examples, info, featurizer, sample)
    for at, row in enumerate(rows):
        reading = featurizer.read(row.ids)
        # A sink is the same at every layer, and so much larger than all else that nothing else would count.
        sinks = reading.sinks.numpy()[len(row.ids) - len(row.values) :]
        rows[at] = row._replace(values=np.where(sinks, np.nan, row.values), x=reading.x)
    rows = [row for row in rows if np.nan_to_num(row.values).any()]
    if not rows:
        raise ValueError("in none of the examples does anything fire, attention sinks left out; give another sample=")
    plain = [_values(featurizer, row, row.ids, x=row.x) for row in rows]
    rounding = ROUNDING[max((model.dtype for model in featurizer.models), key=ROUNDING.__getitem__)]
    tried = [_attempt("", rows, plain, rounding)]
    place = f"{featurizer.hook_point} of layer {featurizer.layer} of {type(featurizer.models[-1]).__name__}"
    if tried[0].agreeing < ENOUGH * len(rows):
        attempts = []
        for name, live in chain(_factors(featurizer, rows, plain), _changes(featurizer, rows, info)):
            attempts.append(_attempt(name, rows, live, rounding))
            if attempts[-1].agreeing == len(rows):  # that is it: the others need not be run
                break
        tried += sorted(attempts, key=lambda one: (-one.agreeing, one.difference))
    return Recheck(len(rows), rounding, place, tuple(tried))


def _load(
    info: SourceInfo,
    models: Any,
    dictionary: Any,
    tokenizer: Any,
    *,
    layer: int | None,
    hook_point: str | None,
    device: str,
    dtype: Any,
    which: Mapping[str, Any],
) -> Featurizer:
    """What is named, or else what the examples name; of layer and hook point, the dictionary's word goes first."""
    models = list(info.models) if models is None else models
    models = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    dictionary = info.dictionary if dictionary is None else dictionary
    if not models or dictionary is None:
        raise ValueError("the examples do not name their models and their dictionary; give both")
    if isinstance(dictionary, (str, Path)):
        chosen = {"device": resolve_device(device), "layer": layer, "hook_point": hook_point} | dict(which)
        dictionary = load_dictionary(dictionary, **chosen)
    featurizer = load_featurizer(
        dictionary,
        models,
        tokenizer or info.tokenizer,
        device=device,
        dtype=dtype or info.extra.get("dtype") or "auto",
        layer=next((n for n in (layer, getattr(dictionary, "layer", None), info.layer) if n is not None), None),
        hook_point=hook_point or getattr(dictionary, "hook_point", None) or info.hook_point,
    )
    if featurizer.tokenizer is None:
        raise ValueError("no tokenizer is known; give tokenizer=")
    return featurizer


def _draw(examples: Mapping[int, Any], info: SourceInfo, featurizer: Featurizer, sample: int) -> list[Stored]:
    """Examples of all ranks, over all features: the same ones each time."""
    if sample < 1:
        raise ValueError(f"sample is {sample}; give at least 1")
    draw, features, rows = random.Random(0), sorted(examples), []
    draw.shuffle(features)
    bos = info.extra.get("bos", False) not in (False, "none")
    n_features, problem, turns = featurizer.count_features(), None, -(-sample // max(1, len(features)))
    for feature in features:
        if feature >= n_features:
            raise ValueError(f"the examples have feature {feature}, and the dictionary has {n_features} features")
        listed = list(examples[feature])
        for row in draw.sample(listed, min(turns, len(listed))):
            example = Example(*row)
            try:
                ids = stored_ids(example, featurizer.tokenizer, bos=bos)
            except ValueError as error:
                problem = error
                continue
            values = np.array(example.activations, dtype=np.float64)
            if np.nan_to_num(values).any():
                rows.append(Stored(feature, ids, np.where(np.isfinite(values), values, np.nan)))
        if len(rows) >= sample:
            break
    if not rows:
        raise ValueError(f"no example can be read: {problem or 'none has activations'}")
    return rows[:sample]


def _attempt(change: str, rows: Sequence[Stored], live: Sequence[np.ndarray], rounding: float) -> Attempt:
    off = []
    for row, values in zip(rows, live, strict=True):
        at = np.isfinite(row.values) & np.isfinite(values)
        stored, size = row.values[at], float(np.linalg.norm(row.values[at]))
        off.append(float(np.linalg.norm(values[at] - stored)) / size if size else np.inf)
    return Attempt(change, sum(one <= rounding for one in off), float(np.median(off)))


def _changes(f: Featurizer, rows: Sequence[Stored], info: SourceInfo) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Single changes by name, and what the models give then, for each example at its stored tokens."""

    def read(featurizer: Featurizer) -> list[np.ndarray]:
        return [_values(featurizer, row, row.ids) for row in rows]

    for name, dictionary in _dictionaries(f.dictionary):
        changed = copy.copy(f)
        changed.dictionary = dictionary
        changed.dtype = getattr(dictionary, "dtype", f.dtype)
        yield name, [_values(changed, row, row.ids, x=row.x) for row in rows]
    first = getattr(f.tokenizer, "bos_token_id", None)
    if first is not None:
        has = [row.ids[:1] == [first] for row in rows]
        for name, wanted in (("with a BOS before each window", True), ("without the BOS", False)):
            if any(one != wanted for one in has):
                ids = [
                    r.ids if h == wanted else [first, *r.ids] if wanted else r.ids[1:]
                    for r, h in zip(rows, has, strict=True)
                ]
                yield name, [_values(f, row, new) for row, new in zip(rows, ids, strict=True)]
    for layer, point in _places(f, info):
        moved = copy.copy(f)
        moved.layer, moved.hook_point = layer, point
        try:
            moved.hooks = [find_hook(model, layer, point) for model in f.models]
            yield f"at {point} of layer {layer}", read(moved)
        except ValueError:  # a model that has no such place, or of another width
            continue
    if len(f.models) == 2:
        swapped = copy.copy(f)
        swapped.models, swapped.hooks = f.models[::-1], f.hooks[::-1]
        yield "with base and chat exchanged", read(swapped)
    yield from _templates(f, rows)
    for name, dtype in DTYPES.items():
        slow = dtype is torch.float16 and f.models[-1].device.type == "cpu"  # and nobody runs it there
        if any(model.dtype != dtype for model in f.models) and not slow:
            with _cast(f.models, dtype):
                yield f"with the model in {name}", read(f)


def _values(
    f: Featurizer, row: Stored, ids: Sequence[int], at: Sequence[int] | None = None, x: Tensor | None = None
) -> np.ndarray:
    """A feature's values over other ids, at the stored tokens: those at the end, or at the positions `at`."""
    out = np.full(len(row.values), np.nan)
    if not len(ids):
        return out
    live: Tensor = f.codes(f.activations(list(ids)) if x is None else x.to(f.dtype), [row.feature])
    found = (live.to_dense() if live.is_sparse else live)[:, 0].double().cpu().numpy()
    if at is not None:
        return found[list(at)]
    n = min(len(found), len(out))
    out[len(out) - n :] = found[len(found) - n :]
    return out


def _places(f: Featurizer, info: SourceInfo) -> list[tuple[int, str]]:
    """Where else it may have been read: one layer off, before the layer or after it, and what the examples say."""
    n_layers, here = len(find_layers(f.models[-1])), (f.layer, f.hook_point)
    places = [(f.layer - 1, f.hook_point), (f.layer + 1, f.hook_point)]
    if f.hook_point in ("resid_pre", "resid_post"):  # what comes out of one layer goes into the next: the same place
        places.append((f.layer, "resid_pre" if f.hook_point == "resid_post" else "resid_post"))
        step = (-1, "resid_pre") if f.hook_point == "resid_post" else (1, "resid_post")
        places.remove((f.layer + step[0], f.hook_point))
    else:
        before_mlp = ("mlp_in", "mlp_in_normalized", "resid_mid")
        others = {"attn_out": ("mlp_out",), "mlp_out": ("attn_out",)} | dict.fromkeys(before_mlp, before_mlp)
        places += [(f.layer, point) for point in others.get(f.hook_point, ())]
    if info.layer is not None:
        places.append((info.layer, info.hook_point or f.hook_point))
    return [place for place in dict.fromkeys(places) if place != here and 0 <= place[0] < n_layers]


def _dictionaries(dictionary: Any) -> Iterator[tuple[str, Dictionary]]:
    """The dictionary with another normalisation of its input, or in bfloat16."""
    if not isinstance(dictionary, Dictionary):
        return
    own = dictionary.prepare
    if own is not None:
        yield "without the dictionary's own input normalisation", replace(dictionary, prepare=None)
    for name, normal in (("layer-normed", layer_norm), ("scaled to norm sqrt(d) at each token", unit_rms)):
        yield f"with inputs {name}", replace(dictionary, prepare=_both(normal, own))
    if dictionary.dtype != torch.bfloat16:
        rows = Rows(dictionary.encoder.all(), "DLd", device=dictionary.device, dtype=torch.bfloat16)
        yield "with the dictionary in bfloat16", replace(dictionary, encoder=rows)


def _both(first: Normalisation, then: Normalisation | None) -> Normalisation:
    return first if then is None else lambda x: then(first(x))


def _factors(
    f: Featurizer, rows: Sequence[Stored], live: Sequence[np.ndarray]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Another scale of the values: the decoder norm, or one factor for all."""
    dictionary = f.dictionary
    if isinstance(dictionary, Dictionary) and dictionary.decoder_rows is not None:
        norms = [float(dictionary.decoder([row.feature])[0].norm(dim=-1).sum()) for row in rows]
        yield "with values times the decoder norm", [v * n for v, n in zip(live, norms, strict=True)]
        yield "with values divided by the decoder norm", [v / max(n, 1e-8) for v, n in zip(live, norms, strict=True)]
    sizes = [float(np.nansum(values * values)) for values in live]
    products = [float(np.nansum(row.values * values)) for row, values in zip(rows, live, strict=True)]
    ratios = [product / size for product, size in zip(products, sizes, strict=True) if size]
    if ratios:
        factor = float(np.median(ratios))
        yield f"with values times {factor:.4g}", [values * factor for values in live]


def _templates(f: Featurizer, rows: Sequence[Stored]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The stored tokens without those of a template, and within the template's, as a user's turn."""
    special = special_ids(f.tokenizer)
    without, inside, some = [], [], False
    for row in rows:
        own = row.ids[len(row.ids) - len(row.values) :]
        text = [at for at, i in enumerate(own) if i not in special]
        kept = [at for at in text if np.isfinite(row.values[at])]
        values = np.full(len(own), np.nan)
        values[kept] = _values(f, row._replace(values=row.values[kept]), [own[at] for at in kept])
        without.append(values)
        some |= len(kept) < len(own)
        inside.append(_within(f, row, [own[at] for at in text], text))
    if some:
        yield "without the template's and other special tokens", without
    if any(np.isfinite(values).any() for values in inside):
        yield "inside the chat template, as a user's turn", inside


def _within(f: Featurizer, row: Stored, ids: list[int], places: list[int]) -> np.ndarray:
    """Values where the ids stand in the conversation of one turn that they make; NaN where they are cut otherwise."""
    values = np.full(len(row.values), np.nan)
    try:
        text = "".join(token_texts(ids, f.tokenizer).texts)
        whole = encode_chat([{"role": "user", "content": text}], f.tokenizer).ids
    except ValueError:
        return values
    start = next((at for at in range(len(whole)) if ids and whole[at : at + len(ids)] == ids), None)
    if start is not None:
        part = row._replace(values=row.values[places])
        values[places] = _values(f, part, whole, range(start, start + len(ids)))
    return values


@contextmanager
def _cast(models: Sequence[Any], dtype: torch.dtype) -> Iterator[None]:
    """Models in another dtype, as they would be loaded in it; what they were is put back."""
    kept = [(parameter, parameter.data) for model in models for parameter in model.parameters()]
    try:
        for parameter, data in kept:
            parameter.data = data.to(dtype)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data

"""`CollectSettings`: what can be said of a collection, in one place. Function, command line and saved state use it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable)


def setting(default: Any, says: str, *, least: int | None = None, kept: bool = False) -> Any:
    """A setting; `kept`: it decides what is collected, so that a run goes on with the same only."""
    return field(default=default, metadata={"says": says, "least": least, "kept": kept})


@dataclass(frozen=True)
class CollectSettings:
    """The settings of a collection; `help_of` lists them with what they mean.

    Raises:
        ValueError: one is below its least value, or the shard does not exist.
    """

    tokenizer: Any = setting(None, "Of the models, or its name; None takes that of the last model.")
    layer: int | None = setting(None, "Layer that the dictionary reads, where it does not say.")
    hook_point: str | None = setting(None, "Where it reads: resid_post, resid_pre, mlp_out, …")
    device: str = setting("auto", "Of models and dictionary that are named: auto, cpu, cuda, …")
    dtype: Any = setting(None, "Of models that are named; None: bfloat16 on CUDA, else as they are stored.")
    which: Mapping[str, Any] | None = setting(None, "Selects one dictionary of many: width=16k, l0=71, subfolder=…")
    top_k: int = setting(20, "Examples for each feature.", least=1, kept=True)
    samples: int = setting(10, "Further examples, drawn from all strengths and shown in bands.", least=0, kept=True)
    n_logits: int = setting(10, "Promoted and suppressed tokens of each feature.", kept=True)
    context: int = setting(128, "Tokens that a model sees at once, BOS included.", least=2, kept=True)
    max_tokens: int | None = setting(None, "Stop after so many tokens; shards divide them.", least=1, kept=True)
    batch_size: int = setting(32, "Windows of full length in a batch.", least=1, kept=True)
    packed: bool = setting(False, "Fill windows over the ends of documents, instead of padding.", kept=True)
    bos: bool | None = setting(None, "BOS before every window of a text; None: as dictionary or tokenizer say.")
    one_per_document: bool = setting(True, "A feature keeps only the best window of a document.", kept=True)
    mask_special: bool = setting(True, "Special tokens and what a chat template writes do not count.", kept=True)
    outlier_norm: float | None = setting(
        10.0, "Tokens of a norm of so many medians of their window do not count; None (0): all do.", kept=True
    )
    split: str = setting("train", "Split of the corpus.")
    subset: str | None = setting(None, "Subset of the corpus, where a Hub dataset has several.")
    column: str | None = setting(None, "Column of the corpus that holds the text or the chat.", kept=True)
    on_error: str | None = setting(
        None, "What a document that cannot be read does: skip (usual), or stop (usual for a list given in Python)."
    )
    metadata: Mapping[str, Any] | None = setting(None, "More for the dataset's metadata; goes before what is there.")
    memory: float | None = setting(None, "Bytes for the state and the codes of a batch; fewer features go at a time.")
    resume: bool = setting(False, "Go on where a run with the same settings stopped; begin where there is none.")
    checkpoint_minutes: float = setting(10.0, "How often the state is saved, beside the output.")
    shard: int = setting(0, "Which part of the corpus, from 0.")
    num_shards: int = setting(1, "In how many parts: a shard takes every so many-th block.", kept=True)
    block_size: int = setting(256, "Documents in a block.", least=1, kept=True)

    def __post_init__(self) -> None:
        for one in fields(self):
            least, value = one.metadata["least"], getattr(self, one.name)
            if None not in (least, value) and value < least:
                raise ValueError(f"{one.name} is {value}; it must be at least {least}")
        if self.on_error not in (None, "skip", "stop"):
            raise ValueError(f"on_error is {self.on_error!r}; it is skip or stop")
        if not 0 <= self.shard < self.num_shards:
            raise ValueError(f"shard {self.shard} of {self.num_shards} does not exist; shards are numbered from 0")

    def kept(self) -> dict[str, Any]:
        """Those that decide what is collected."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.metadata["kept"]}

    @classmethod
    def options(cls) -> dict[str, tuple[Any, str]]:
        """The type and the meaning of each."""
        return {one.name: (one.type, one.metadata["says"]) for one in fields(cls)}

    @classmethod
    def shown_by(cls, function: F) -> F:
        """Shows them in the signature and the docstring of a function that takes them as `**settings`."""
        shown = inspect.signature(function)
        own = [p for p in shown.parameters.values() if p.kind is not p.VAR_KEYWORD]
        keyword = inspect.Parameter.KEYWORD_ONLY
        mine = [inspect.Parameter(f.name, keyword, default=f.default, annotation=f.type) for f in fields(cls)]
        function.__signature__ = shown.replace(parameters=[*own, *mine])  # type: ignore[attr-defined]
        listed = "\n".join(f"        {f.name}: {f.metadata['says']} [{f.default}]" for f in fields(cls))
        function.__doc__ = (function.__doc__ or "").replace("        settings: see below.", listed)
        return function

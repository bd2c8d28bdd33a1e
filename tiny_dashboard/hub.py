"""Tokenizers, configs and models of transformers, by Hub id or folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

_IMPORTING = Lock()


def load_tokenizer(name: str | Path) -> Any:
    """A tokenizer by its Hub id or folder."""
    return _named("AutoTokenizer").from_pretrained(str(name))


def load_config(name: str | Path) -> Any:
    """A model's config, without its weights."""
    return _named("AutoConfig").from_pretrained(str(name))


def load_model(name: str | Path, dtype: Any = "auto", device: Any = "cpu") -> Any:
    """A causal language model; dtype "auto" is that of the checkpoint."""
    return _named("AutoModelForCausalLM").from_pretrained(str(name), dtype=dtype).to(device)


def resolve_device(device: Any = "auto") -> Any:
    """The device meant by `device`; "auto" and None mean cuda, else mps, else cpu."""
    import torch

    if device not in (None, "auto"):
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _named(name: str) -> Any:
    # transformers imports its parts when they are first asked for. An app that opens its examples while its models
    # load asks from two threads, and one of them would now and then be told that there is no such class.
    with _IMPORTING:
        return getattr(import_module("transformers"), name)

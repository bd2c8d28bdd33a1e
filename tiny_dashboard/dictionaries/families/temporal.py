"""Temporal SAEs (arXiv 2511.01836, SAELens's `temporal`), which are told and refused.

Their code of a token is that of what attention over the codes of all tokens before it did not predict: it is a function
of the text, and everything here (collecting in windows, recheck, one token's features) takes a code to be a function of
one activation. Read token by token the values would be others than the tool's.
Source: github.com/decoderesearch/SAELens, sae_lens/saes/temporal_sae.py.
"""

from __future__ import annotations

from typing import NoReturn

from tiny_dashboard.dictionaries.checkpoint import Checkpoint

NAME = "temporal SAE"
EXPECTS = "attn_layers.* beside D or W_dec; not read"


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors, or the config, are those of this family."""
    attention = any(name.startswith("attn_layers.") for name in checkpoint.names())
    return attention or checkpoint.config.get("architecture") == "temporal"


def read(checkpoint: Checkpoint) -> NoReturn:
    """Refuses.

    Raises:
        ValueError: always; the message says why.
    """
    raise ValueError(
        f"{checkpoint.path} is a temporal SAE: its code of a token depends on the tokens before it, by attention, and "
        "here a dictionary reads each token's activation by itself. Pass an object of your own with get_activations"
    )

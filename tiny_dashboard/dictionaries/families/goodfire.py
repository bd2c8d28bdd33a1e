"""Goodfire's SAEs of Llama, `.pt` or `.pth`: relu(x W' + b).

Source: the model cards of Goodfire/Llama-3.1-8B-Instruct-SAE-l19 and its siblings on the Hub.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import ReLU

NAME = "Goodfire"
EXPECTS = "encoder_linear.weight [D, d], encoder_linear.bias [D], decoder_linear.weight [d, D]"
PASSES_OVER = ("decoder_linear.bias",)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "encoder_linear.weight" in checkpoint


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`; layer and model come from a name such as Llama-3.1-8B-Instruct-SAE-l19."""
    encoder = checkpoint.rows("encoder_linear.weight", "Dd")
    n_features, _, width = encoder.shape
    name = re.search(r"(Llama-[\w.-]+)-SAE-l(\d+)", checkpoint.where)
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("encoder_linear.bias", n_features),
        decoder_rows=checkpoint.rows("decoder_linear.weight", "dD", D=n_features, d=width),
        activation=ReLU(),
        layer=int(name[2]) if name else None,
        hook_point="resid_post",
        models=(f"meta-llama/{name[1]}",) if name else (),
    )

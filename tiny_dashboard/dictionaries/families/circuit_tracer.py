"""circuit-tracer's single-layer transcoders: `layer_N.safetensors`, relu(x W' + b), with or without a skip connection.

W_dec lies as [D, d] or as [d, D]; W_skip adds to what is written, not to what is shown. A `threshold`
makes it JumpReLU.
Source: github.com/safety-research/circuit-tracer, circuit_tracer/transcoder/single_layer_transcoder.py.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, ReLU, Threshold

NAME = "circuit-tracer transcoder"
EXPECTS = "W_enc [D, d], W_dec [D, d] or [d, D], b_enc [D], b_dec [d] in layer_N.safetensors"
PASSES_OVER = ("b_dec", "W_skip")

_FILE = re.compile(r"layer_(\d+)\.safetensors")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether file and tensors are those of this family."""
    if not _FILE.fullmatch(checkpoint.path.name) or not all(n in checkpoint for n in ("W_enc", "b_enc", "W_dec")):
        return False
    shape = checkpoint.shape("W_enc")
    return len(shape) == 2 and checkpoint.shape("b_enc") == shape[:1]


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`; it reads what goes into the MLP."""
    encoder = checkpoint.rows("W_enc", "Dd")
    n_features, _, width = encoder.shape
    straight = checkpoint.shape("W_dec") == (n_features, width)
    activation: Activation = ReLU()
    if "threshold" in checkpoint:
        activation = Threshold(checkpoint.tensor("threshold", *checkpoint.shape("threshold")))
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "Dd" if straight else "dD", D=n_features, d=width),
        activation=activation,
        layer=int(_FILE.fullmatch(checkpoint.path.name)[1]),  # type: ignore[index]
        hook_point="mlp_in",
    )

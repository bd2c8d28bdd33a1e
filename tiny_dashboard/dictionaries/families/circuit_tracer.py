"""circuit-tracer's single-layer transcoders: `layer_N.safetensors`, relu(x W' + b), with or without a skip connection.

W_dec lies as [D, d] or as [d, D]; W_skip adds to what is written, not to what is shown. A threshold makes it JumpReLU.
Where it reads stands in `config.yaml`: "mlp.hook_in" as it is, "hook_resid_mid" before the norm.
Source: github.com/safety-research/circuit-tracer, circuit_tracer/transcoder/single_layer_transcoder.py.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, ReLU, Threshold

NAME = "circuit-tracer transcoder"
EXPECTS = "W_enc [D, d], W_dec [D, d] or [d, D], b_enc [D], b_dec [d] in layer_N.safetensors"
PASSES_OVER = ("b_dec", "W_skip", "transcoders")

_FILE = re.compile(r"layer_(\d+)\.safetensors")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether file and tensors are those of this family."""
    if not _FILE.fullmatch(checkpoint.path.name) or not all(n in checkpoint for n in ("W_enc", "b_enc", "W_dec")):
        return False
    shape = checkpoint.shape("W_enc")
    return len(shape) == 2 and checkpoint.shape("b_enc") == shape[:1]


def read(checkpoint: Checkpoint, *, feature_input_hook: str | None = None) -> Dictionary:
    """Fill a `Dictionary`; `feature_input_hook` where there is no config.yaml: circuit-tracer's "mlp.hook_in"."""
    told = feature_input_hook or checkpoint.config.get("feature_input_hook")
    layer = int(_FILE.fullmatch(checkpoint.path.name)[1])  # type: ignore[index]
    encoder = checkpoint.rows("W_enc", "Dd")
    n_features, _, width = encoder.shape
    straight = checkpoint.shape("W_dec") == (n_features, width)
    activation: Activation = ReLU()
    if threshold := next((name for name in checkpoint.names() if name.endswith("threshold")), None):
        activation = Threshold(checkpoint.tensor(threshold, *checkpoint.shape(threshold)))
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "Dd" if straight else "dD", D=n_features, d=width),
        activation=activation,
        layer=layer,
        hook_point=parse_hook(f"blocks.{layer}.{told or 'mlp.hook_in'}")[1],
        writes_at="mlp_out",
        models=(str(checkpoint.config["model_name"]),) if checkpoint.config.get("model_name") else (),
        notes=() if told else ("reads mlp.hook_in, as there is no config.yaml (feature_input_hook=)",),
    )

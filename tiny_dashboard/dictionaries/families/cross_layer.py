"""Cross-layer transcoders of circuit-tracer, a layer at a time: `W_enc_N.safetensors`, relu(x W' + b) or JumpReLU.

A feature reads the place of layer N that `config.yaml` names and writes to the MLPs of all layers from N on; what it
writes, `W_dec_N.safetensors` of [D, layers - N, d], is not read: there is no one direction.
Source: github.com/safety-research/circuit-tracer, circuit_tracer/transcoder/cross_layer_transcoder.py.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import ReLU, Threshold

NAME = "cross-layer transcoder"
EXPECTS = "W_enc_N [D, d], b_enc_N [D] in W_enc_N.safetensors, config.yaml with feature_input_hook"
PASSES_OVER = ("transcoders",)

_FILE = re.compile(r"W_enc_(\d+)\.safetensors")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether file and tensors are those of this family."""
    found = _FILE.fullmatch(checkpoint.path.name)
    return found is not None and f"W_enc_{found[1]}" in checkpoint


def read(checkpoint: Checkpoint, *, feature_input_hook: str | None = None) -> Dictionary:
    """Fill a `Dictionary`; `feature_input_hook` where there is no config.yaml: "hook_resid_mid", "mlp.hook_in", …."""
    layer = int(_FILE.fullmatch(checkpoint.path.name)[1])  # type: ignore[index]
    hook = feature_input_hook or checkpoint.config.get("feature_input_hook")
    if not hook:
        raise ValueError(f"there is no config.yaml beside {checkpoint.path.name}; give feature_input_hook=")
    encoder = checkpoint.rows(f"W_enc_{layer}", "Dd")
    n_features, _, width = encoder.shape
    checkpoint.tensor(f"b_dec_{layer}", width)  # of what is written
    threshold = f"threshold_{layer}"
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor(f"b_enc_{layer}", n_features),
        activation=Threshold(checkpoint.tensor(threshold, n_features)) if threshold in checkpoint else ReLU(),
        layer=layer,
        hook_point=parse_hook(f"blocks.{layer}.{hook}")[1],
        writes_at="mlp_out",
        models=(str(checkpoint.config["model_name"]),) if checkpoint.config.get("model_name") else (),
        notes=(f"its features write to layer {layer} and all behind it: no directions, no steering",),
    )

"""Gemma Scope 2's models of several layers, a layer at a time: weakly causal crosscoders and cross-layer transcoders.

`crosscoder/layer_7_13_17_22_…/params_layer_I.safetensors` are the features that read the residual stream of the I-th
layer named, `clt/…/params_layer_I.safetensors` those that read the MLP's input of layer I: relu(pre) where
pre = x w_enc + b_enc exceeds the feature's threshold. They write to several layers (w_dec [D, layers, d]): there is no
one direction, and it is not read.
Source: the repositories google/gemma-scope-2-* on the Hub, their `config.json` and tutorial.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.families.gemma_scope import model_of
from tiny_dashboard.dictionaries.functions import Threshold

NAME = "Gemma Scope 2 of several layers"
EXPECTS = "w_enc [d, D], w_dec [D, layers, d], b_enc [D], threshold [D] in params_layer_I.safetensors"
PASSES_OVER = ("b_dec", "w_dec", "affine_skip_connection", "architecture")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "w_enc" in checkpoint and "w_dec" in checkpoint and len(checkpoint.shape("w_dec")) == 3


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`; layers as in the config's hook, `model.layers.{7,13,17,22}.output`, or in the path."""
    encoder = checkpoint.rows("w_enc", "dD")
    n_features = encoder.shape[0]
    n_layers, where = checkpoint.shape("w_dec")[1], checkpoint.where
    part = re.search(r"params_layer_(\d+)", checkpoint.path.name)
    index = int(part[1]) if part else -1
    place = str(checkpoint.config.get("hf_hook_point_in") or "")
    named = re.search(r"\{([\d,]+)\}", place) or re.search(r"layer_(\d+(?:_\d+)+)_width", where)
    layers = [int(n) for n in re.split("[,_]", named[1])] if named else list(range(n_layers))
    if len(layers) != n_layers or not 0 <= index < n_layers:
        raise ValueError(f"{where} is not one of {n_layers} files params_layer_0 …, or of layers {layers}")
    if place:
        hook_point = parse_hook(re.sub(r"\{.*\}", str(layers[index]), place))[1]
    else:
        hook_point = "resid_post" if "crosscoder" in where else "mlp_in"
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        activation=Threshold(checkpoint.tensor("threshold", n_features)),
        layer=layers[index],
        hook_point=hook_point,
        models=model_of(where),
        prepend_bos=True,
        notes=(f"its features write to {n_layers} layers: no directions, no steering",),
    )

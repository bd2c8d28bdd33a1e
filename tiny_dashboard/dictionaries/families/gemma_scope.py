"""Gemma Scope (`params.npz`) and Gemma Scope 2 (`params.safetensors`): JumpReLU SAEs and transcoders.

relu(pre) where pre = x W_enc + b_enc exceeds the feature's threshold; b_dec is not taken off the input. The
transcoders of the first read the MLP's input without the gain of the norm before it, which their makers folded into the
MLP; those of the second read it as it is.
Source: the repositories google/gemma-scope-* on the Hub, and their tutorial.
"""

from __future__ import annotations

import re

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Threshold

NAME = "Gemma Scope"
EXPECTS = "W_enc or w_enc [d, D], W_dec or w_dec [D, d], b_enc [D], threshold [D] in params.npz or params.safetensors"
PASSES_OVER = ("b_dec", "affine_skip_connection", "architecture")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "threshold" in checkpoint and (
        "w_enc" in checkpoint or ("W_enc" in checkpoint and checkpoint.path.suffix == ".npz")
    )


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`; where it reads comes from the config, else from the repository's or the folder's name."""
    upper = "W_enc" in checkpoint
    encoder = checkpoint.rows("W_enc" if upper else "w_enc", "dD")
    n_features = encoder.shape[0]
    where, config = checkpoint.where, checkpoint.config
    if re.search(r"(^|/)embedding/", where):
        raise ValueError(f"{where} reads the embedding, whose scaling differs between models; only layers are read")
    layer = re.search(r"layer_(\d+)", where)
    place = str(config.get("hf_hook_point_in") or "")
    hook_point = parse_hook(place)[1] if place else _site(where)
    transcoder = hook_point == "mlp_in"
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec" if upper else "w_dec", "Dd", D=n_features),
        activation=Threshold(checkpoint.tensor("threshold", n_features)),
        layer=int(layer[1]) if layer else parse_hook(place)[0],
        hook_point="mlp_in_normalized" if transcoder and upper else hook_point,
        writes_at="mlp_out" if transcoder else None,
        models=model_of(where),
        prepend_bos=True,
    )


def model_of(where: str) -> tuple[str, ...]:
    """The model's name on the Hub, from the repository's (gemma-scope-2b-pt-res, gemma-scope-2-270m-it)."""
    model = re.search(r"gemma-scope-(2-)?(\d+m|\d+b)-(pt|it)", where)
    if model is None:
        return ()
    size = f"{model[2]}{'' if model[3] == 'pt' and not model[1] else '-' + model[3]}"
    size = "270m" if size == "270m-pt" else size  # has no suffix on the Hub
    return (f"google/gemma-{'3' if model[1] else '2'}-{size}",)


def _site(where: str) -> str | None:
    """Where it reads, from names such as gemma-scope-2b-pt-att or resid_post/layer_12_width_16k_l0_small."""
    for pattern, point in (
        (r"transcoder", "mlp_in"),
        (r"-att(n)?\b|attn_out", "z"),  # attention is read before its output projection
        (r"-mlp\b|mlp_out", "mlp_out"),
        (r"-res\b|resid_post", "resid_post"),
    ):
        if re.search(pattern, where):
            return point
    return None

"""OpenAI's sparse autoencoders of GPT-2: `.pt` files with the activation function beside the weights.

act((x - pre_bias) W' + latent_bias), on layer-normed inputs where the activation function is TopK.
Source: github.com/openai/sparse_autoencoder, sparse_autoencoder/model.py.
"""

from __future__ import annotations

from tiny_dashboard.dictionaries.checkpoint import Checkpoint
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, Identity, ReLU, TopK, deviation, layer_norm

NAME = "OpenAI"
EXPECTS = "pre_bias [d], latent_bias [D], encoder.weight [D, d], decoder.weight [d, D], activation"
PASSES_OVER = ("stats_last_nonzero",)


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "pre_bias" in checkpoint and "latent_bias" in checkpoint


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`."""
    name = str(checkpoint.extras.get("activation", "ReLU"))
    state = checkpoint.extras.get("activation_state_dict") or {}
    after = str(state.get("postact_fn", "ReLU"))
    if name not in ("ReLU", "Identity", "TopK") or after not in ("ReLU", "Identity"):
        raise ValueError(f"activation {name!r} (then {after!r}) is unknown; expected ReLU, Identity or TopK")
    if name == "TopK" and "k" not in state:
        raise ValueError(f"activation_state_dict has no k for TopK; it has {', '.join(state) or 'nothing'}")
    activations: dict[str, Activation] = {"ReLU": ReLU(), "Identity": Identity()}
    activation = TopK(int(state["k"]), relu=after == "ReLU") if name == "TopK" else activations[name]
    encoder = checkpoint.rows("encoder.weight", "Dd")
    n_features, _, width = encoder.shape
    centre = checkpoint.tensor("pre_bias", width)
    tied = "decoder.weight" not in checkpoint
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("latent_bias", n_features),
        decoder_rows=encoder if tied else checkpoint.rows("decoder.weight", "dD", D=n_features, d=width),
        activation=activation,
        prepare=lambda x: (layer_norm(x) if name == "TopK" else x) - centre.to(x),
        token_scale=deviation if name == "TopK" else None,
        notes=("inputs are layer-normed",) if name == "TopK" else (),
    )

"""CrossCoder and BatchTopKCrossCoder of dictionary_learning (jkminder's fork): hub folders and plain `.pt` files.

f = relu(sum_l x_l W_l + b) on x = (x - mean) * global_scale where the checkpoint has a mean; the shown value is f
times a norm of the decoder rows, and BatchTopK keeps the values above its threshold.
Source: github.com/jkminder/dictionary_learning, dictionary_learning/dictionary.py.
"""

from __future__ import annotations

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, input_normalisation
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import Activation, Decoupled, ReLU, Threshold

NAME = "CrossCoder"
EXPECTS = "encoder.weight [L, d, D], encoder.bias [D], decoder.weight [L, D, d]"
PASSES_OVER = (
    "decoder.bias", "k", "target_rms", "activation_global_scale", "activation_mean", "activation_std",
    "code_normalization", "code_normalization_id", "num_tokens_since_fired",
)  # fmt: skip
NORMS = {1: "CROSSCODER", 2: "SAE", 3: "MIXED", 4: "NONE", 5: "DECOUPLED"}


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "encoder.weight" in checkpoint and len(checkpoint.shape("encoder.weight")) == 3


def read(checkpoint: Checkpoint, *, code_normalization: str | None = None) -> Dictionary:
    """Fill a `Dictionary`; `code_normalization` names one of `NORMS` and overrides what the checkpoint says."""
    encoder = checkpoint.rows("encoder.weight", "LdD")
    n_features, n_models, width = encoder.shape
    kind = (code_normalization or _stored_norm(checkpoint)).upper()
    alpha_sae = checkpoint.config.get("code_normalization_alpha_sae", 1.0)
    alpha_cc = checkpoint.config.get("code_normalization_alpha_cc", 0.1)
    code_norms = {  # from the norms of each model's decoder rows, [F, n_models]
        "CROSSCODER": lambda norms: norms.sum(-1),
        "SAE": lambda norms: norms.norm(dim=-1),  # the norm of the models' rows, concatenated
        "MIXED": lambda norms: alpha_sae * norms.norm(dim=-1) + alpha_cc * norms.sum(-1),
        "NONE": None,
        "DECOUPLED": lambda norms: norms.sum(-1),
    }
    if kind not in code_norms:
        raise ValueError(f"code normalization {kind!r} is unknown; expected one of {', '.join(NORMS.values())}")
    code_norm = code_norms[kind]
    activation: Activation = ReLU()
    notes = ["activations are scaled by the norms of the decoder"]
    prepare, scale = input_normalisation(checkpoint, n_models, width)
    if "threshold" in checkpoint and kind == "DECOUPLED":
        code_norm, activation = (lambda norms: norms), Decoupled(checkpoint.tensor("threshold", n_models))
        if (once := prepare) is not None:
            # The class normalises in encode and again in encode_decoupled; its thresholds are fitted to that.
            prepare = lambda x: once(once(x))  # noqa: E731
            notes.append("inputs are normalised twice, as the DECOUPLED class does")
    elif "threshold" in checkpoint:
        activation = Threshold(checkpoint.tensor("threshold"), scaled=True)
        notes += ["the threshold was never set: every positive value is kept"] * bool(activation.threshold < 0)
    return Dictionary(
        family="BatchTopKCrossCoder" if "threshold" in checkpoint else NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("encoder.bias", n_features),
        decoder_rows=checkpoint.rows("decoder.weight", "LDd", D=n_features, L=n_models, d=width),
        activation=activation,
        prepare=prepare,
        code_norm=code_norm,
        output_scale=None if scale is None else 1 / (scale + 1e-8),
        notes=tuple(notes),
    )


def _stored_norm(checkpoint: Checkpoint) -> str:
    named = str(checkpoint.config.get("code_normalization") or "").upper()
    if "code_normalization_id" not in checkpoint:
        return named or "CROSSCODER"  # what files older than the id meant
    number = int(checkpoint.scalar("code_normalization_id"))
    stored = NORMS.get(number, str(number))
    if named not in ("", stored):
        raise ValueError(
            f"the config says code_normalization {named}, the tensor code_normalization_id says {stored}; "
            "choose one with code_normalization="
        )
    return stored

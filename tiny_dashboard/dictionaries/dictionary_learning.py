"""dictionary_learning: `ae.pt` of saprmarks's repository, and its classes in jkminder's fork (`model.safetensors`).

Sources: github.com/saprmarks/dictionary_learning and github.com/jkminder/dictionary_learning, dictionary.py, trainers/.
"""

from __future__ import annotations

import torch

from .checkpoint import Checkpoint, parse_hook
from .dictionary import Dictionary
from .functions import Activation, Gated, ReLU, Threshold, TopK, decoder_norm

FAMILY = "dictionary_learning"
EXPECTS = "encoder.weight [D, d], decoder.weight [d, D], or W_enc [d, D]; config.json with trainer.dict_class"
CLASSES = {  # its input centre, and whether its shown value is scaled by the decoder norm: (original, fork)
    "AutoEncoder": ("bias", (True, False)),  # the original's from_pretrained normalises the decoder by default
    "AutoEncoderNew": ("", (False, False)),
    "AutoEncoderTopK": ("b_dec", (False, False)),
    "BatchTopKSAE": ("b_dec", (False, False)),
    "MatryoshkaBatchTopKSAE": ("b_dec", (False, False)),
    "GatedAutoEncoder": ("decoder_bias", (False, True)),
    "JumpReluAutoEncoder": ("", (False, True)),
}


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    if "encoder.weight" in checkpoint:
        return len(checkpoint.shape("encoder.weight")) == 2
    told = {"trainer", "dict_class"} & set(checkpoint.config)
    return "W_enc" in checkpoint and (bool(told) or _guess(checkpoint) in CLASSES)


def read(
    checkpoint: Checkpoint,
    *,
    dict_class: str | None = None,
    k: int | None = None,
    scale_by_decoder_norm: bool | None = None,
) -> Dictionary:
    """Fill a `Dictionary`.

    `dict_class` and `k` are for a checkpoint without config.json. `scale_by_decoder_norm` says whether the shown value
    is times the decoder norm; by default as the class in the repository that made the file does (`.pt`: saprmarks's,
    safetensors: jkminder's).
    """
    trainer = checkpoint.config.get("trainer") or checkpoint.config
    name = str(dict_class or trainer.get("dict_class") or _guess(checkpoint)).rsplit(".", 1)[-1].strip("'>")
    if name not in CLASSES:
        raise ValueError(f"dict_class {name!r} is unknown; give dict_class=, one of {', '.join(CLASSES)}")
    centre_name, scaled_by_default = CLASSES[name]
    linear = "encoder.weight" in checkpoint
    encoder = checkpoint.rows(*(("encoder.weight", "Dd") if linear else ("W_enc", "dD")))
    n_features, _, width = encoder.shape
    activation: Activation = ReLU()
    if name == "AutoEncoderTopK":
        activation = TopK(int(k or trainer.get("k") or checkpoint.scalar("k")))
    elif name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
        activation = Threshold(checkpoint.tensor("threshold"))
    elif name == "JumpReluAutoEncoder":
        activation = Threshold(checkpoint.tensor("threshold", n_features))
    elif name == "GatedAutoEncoder":
        activation = Gated(*(checkpoint.tensor(bias, n_features) for bias in ("gate_bias", "mag_bias", "r_mag")))
    bias_name = "encoder.bias" if linear else "b_enc"
    centre = checkpoint.tensor(centre_name, width) if centre_name else torch.zeros((), device=checkpoint.device)
    mean, scale = torch.zeros_like(centre), torch.ones((), device=checkpoint.device)
    if "activation_mean" in checkpoint:  # the fork's input normalisation; NaN means off
        stored = checkpoint.tensor("activation_mean", width, finite=False)
        if not torch.isnan(stored).any():
            mean, scale = stored, checkpoint.tensor("activation_global_scale")
    fork = checkpoint.path.suffix == ".safetensors"
    scaled = scaled_by_default[fork] if scale_by_decoder_norm is None else scale_by_decoder_norm
    layer, hook_point = parse_hook(str(trainer.get("submodule_name") or ""))
    model = trainer.get("lm_name")
    return Dictionary(
        family=f"{FAMILY} {name}",
        encoder=encoder,
        encoder_bias=None if name == "GatedAutoEncoder" else checkpoint.tensor(bias_name, n_features),
        decoder_rows=checkpoint.rows(*(("decoder.weight", "dD") if linear else ("W_dec", "Dd")), D=n_features, d=width),
        activation=activation,
        prepare=lambda x: (x - mean.to(x)) * scale.to(x) - centre.to(x),
        code_norm=decoder_norm if scaled else None,
        output_scale=1 / (scale.reshape(1) + 1e-8),
        layer=trainer.get("layer", layer),
        hook_point=hook_point,
        models=(str(model),) if model else (),
        notes=(f"values are {'times' if scaled else 'not scaled by'} the decoder norm (scale_by_decoder_norm=)",),
    )


def _guess(checkpoint: Checkpoint) -> str:
    """The class that its tensors tell, or "unknown"."""
    if "W_enc" in checkpoint:
        if "group_sizes" in checkpoint:
            return "MatryoshkaBatchTopKSAE"
        return "JumpReluAutoEncoder" if "threshold" in checkpoint and not checkpoint.config else "unknown"
    if "b_dec" in checkpoint:  # newer top-k files have a threshold too: the config must tell them from BatchTopK
        return "unknown" if "threshold" in checkpoint else "AutoEncoderTopK"
    told = {"gate_bias": "GatedAutoEncoder", "bias": "AutoEncoder", "decoder.bias": "AutoEncoderNew"}
    return next((name for tensor, name in told.items() if tensor in checkpoint), "unknown")

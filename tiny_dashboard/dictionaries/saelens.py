"""SAELens, versions 3 to 6: `cfg.json` and `sae_weights.safetensors`, SAEs and transcoders.

The input is scaled, then normalised, then b_dec is taken off where the config says so (never for a transcoder).
Source: github.com/decoderesearch/SAELens, sae_lens/saes and loading/pretrained_sae_loaders.py.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .checkpoint import Checkpoint, parse_hook
from .dictionary import Dictionary
from .functions import Activation, Gated, ReLU, Threshold, TopK, decoder_norm, layer_norm

FAMILY = "SAELens"
EXPECTS = "W_enc [d, D], W_dec [D, d], b_enc [D], b_dec [d], cfg.json with architecture"
ARCHITECTURES = ("standard", "jumprelu", "batchtopk", "matryoshka_batchtopk", "topk", "abstopk", "gated", "transcoder")


def matches(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "W_enc" in checkpoint and len(checkpoint.shape("W_enc")) == 2


def read(checkpoint: Checkpoint, *, input_scale: float = 1.0, architecture: str | None = None) -> Dictionary:
    """Fill a `Dictionary`.

    `input_scale` multiplies the activations first, for a checkpoint whose average-norm scaling was not folded into
    its weights; `architecture` is for one without cfg.json.
    """
    config = checkpoint.config
    meta = config | (config.get("metadata") or {})
    kind = str(architecture or config.get("architecture") or "standard")
    if config.get("activation_fn_str", config.get("activation_fn")) == "topk":
        kind = "topk"  # before version 6 an activation function of the standard architecture
    transcoder = "transcoder" in kind
    kind = kind.replace("_skip_transcoder", "").replace("skip_", "").replace("_transcoder", "")
    if kind not in ARCHITECTURES:
        raise ValueError(f"SAELens architecture {kind!r} is unknown; expected one of {', '.join(ARCHITECTURES)}")
    encoder = checkpoint.rows("W_enc", "dD")
    n_features, _, width = encoder.shape
    activation: Activation = ReLU()
    rescaled = bool(config.get("rescale_acts_by_decoder_norm", False)) and kind in ("topk", "abstopk")
    if kind in ("topk", "abstopk"):
        k = config.get("k") or (config.get("activation_fn_kwargs") or {}).get("k")
        if not k:
            raise ValueError(f"the config of this {kind} SAE has no k; expected the number of active features")
        activation = TopK(int(k), scaled=True, absolute=kind == "abstopk")
    elif kind == "gated":
        activation = Gated(*(checkpoint.tensor(name, n_features) for name in ("b_gate", "b_mag", "r_mag")))
    elif kind in ("jumprelu", "batchtopk", "matryoshka_batchtopk"):
        activation = Threshold(checkpoint.tensor("threshold", n_features))
    normalise = str(config.get("normalize_activations") or "none").lower()
    notes = []
    if normalise in ("expected_average_only_in", "true"):
        notes.append(f"inputs are scaled by {input_scale:g} (expected_average_only_in; 1 if folded into the weights)")
    elif normalise not in ("none", "false", "layer_norm", "constant_norm_rescale"):
        raise ValueError(f"normalize_activations {normalise!r} is unknown; expected none, layer_norm, …")
    centred = bool(config.get("apply_b_dec_to_input", True)) and not transcoder
    centre = checkpoint.tensor("b_dec", width) if centred else None
    layer, hook_point = parse_hook(str(meta.get("hook_name") or meta.get("hook_point") or ""))
    if (meta.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"):
        notes.append("trained on a model with centred weights: on a plain model feed x - x.mean(-1)")
    model = meta.get("model_name")
    return Dictionary(
        family=FAMILY,
        encoder=encoder,
        encoder_bias=None if kind == "gated" else checkpoint.tensor("b_enc", n_features),
        decoder_rows=checkpoint.rows("W_dec", "Dd", D=n_features),
        activation=activation,
        prepare=_preparation(input_scale, normalise, centre, width),
        code_norm=decoder_norm if rescaled else None,
        layer=meta.get("hook_layer", layer) if layer is None else layer,
        hook_point=hook_point,
        models=(str(model),) if model else (),
        prepend_bos=meta.get("prepend_bos"),
        notes=tuple(notes),
    )


def _preparation(scale: float, normalise: str, centre: Tensor | None, width: int) -> Callable[[Tensor], Tensor]:
    def prepare(x: Tensor) -> Tensor:
        x = x if scale == 1 else x * scale
        if normalise == "layer_norm":
            x = layer_norm(x)
        elif normalise == "constant_norm_rescale":
            x = x * (width**0.5 / x.norm(dim=-1, keepdim=True))
        return x if centre is None else x - centre.to(x)

    return prepare

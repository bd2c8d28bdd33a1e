"""sparsify (EleutherAI): `cfg.json` and `sae.safetensors`, top-k and groupmax SAEs and transcoders.

Source: github.com/EleutherAI/sparsify, sparsify/sparse_coder.py and fused_encoder.py.
"""

from __future__ import annotations

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary
from tiny_dashboard.dictionaries.functions import TopK

NAME = "sparsify"
EXPECTS = "encoder.weight [D, d], encoder.bias [D], W_dec [D, d], b_dec [d], cfg.json with k"
PASSES_OVER = ("b_dec", "W_skip", "normalize_decoder", "multi_topk", "skip_connection", "signed")


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "encoder.weight" in checkpoint and ("W_dec" in checkpoint or checkpoint.path.name == "sae.safetensors")


def read(checkpoint: Checkpoint, *, k: int | None = None) -> Dictionary:
    """Fill a `Dictionary`; `k` overrides the config's."""
    config = checkpoint.config
    k = k or config.get("k")
    if not k:
        raise ValueError("cfg.json has no k; expected the number of active features (or give k=)")
    activation = str(config.get("activation") or "topk").lower()
    if activation not in ("topk", "groupmax"):
        raise ValueError(f"activation {activation!r} is unknown; expected topk or groupmax")
    encoder = checkpoint.rows("encoder.weight", "Dd")
    n_features, _, width = encoder.shape
    if activation == "groupmax" and n_features % k:
        raise ValueError(f"groupmax needs {n_features} features to be a multiple of k, which is {k}")
    transcode = bool(config.get("transcode"))
    centre = None if transcode else checkpoint.tensor("b_dec", width)
    layer, hook_point = parse_hook(checkpoint.path.parent.name)
    writes = hook_point if transcode else None
    if transcode:  # it reads what goes into the module that its folder names
        inputs = {"mlp_out": "mlp_in", "resid_post": "resid_pre"}
        hook_point = inputs.get(str(hook_point), f"input of {checkpoint.path.parent.name}")
    return Dictionary(
        family=NAME,
        encoder=encoder,
        encoder_bias=checkpoint.tensor("encoder.bias", n_features),
        decoder_rows=checkpoint.rows("W_dec", "Dd", D=n_features) if "W_dec" in checkpoint else None,
        activation=TopK(int(k), groups=activation == "groupmax"),
        prepare=None if centre is None else lambda x: x - centre.to(x),
        layer=layer,
        hook_point=hook_point if layer is not None else None,
        writes_at=writes if layer is not None else None,
    )

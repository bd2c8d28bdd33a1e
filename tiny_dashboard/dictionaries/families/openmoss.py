"""OpenMOSS' SAEs, transcoders and crosscoders of 2025 and 2026 (lm_saes, now llamascopium; Llama Scope R1 distill).

On x scaled as `norm_activation` says, pre = x W + b, summed over the models of a crosscoder. Shown is relu(pre) where
the activation function keeps pre, or with `sparsity_include_decoder_norm` pre times the decoder norm; a crosscoder's
feature is shown where it is kept for one of its models, as the tool's own analysis has it.
Sources: github.com/OpenMOSS/Language-Model-SAEs, src/llamascopium/models; SAELens, llama_scope_r1_distill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tiny_dashboard.dictionaries.checkpoint import Checkpoint, parse_hook
from tiny_dashboard.dictionaries.dictionary import Dictionary, Rows
from tiny_dashboard.dictionaries.functions import Activation, Features, ReLU, Threshold, rms, unit_rms

NAME = "OpenMOSS"
EXPECTS = (
    "W_E [d, D] or [L, d, D] (or encoder.weight [D, d]), W_D, b_E, config.json with sae_type, "
    "log_jumprelu_threshold [D] for jumprelu"
)
PASSES_OVER = (
    "b_D", "decoder.bias", "top_k", "expansion_factor", "jumprelu_threshold_window", "strict_loading",
    "sparsity_threshold_for_triton_spmm_kernel",
)  # fmt: skip
AVERAGE = "dataset_average_activation_norm."


@dataclass(frozen=True, eq=False)
class TopKByNorm:
    """relu(pre) where pre times the decoder norm is among the k largest of one model or another."""

    k: int
    norms: Tensor  # [D, n_models]
    elementwise = False

    def __call__(self, pre: Tensor, norm: Tensor | None, features: Features | None) -> Tensor:
        kept = torch.zeros_like(pre, dtype=torch.bool)
        for one in self.norms.to(pre).unbind(1):
            kept.scatter_(-1, (pre.relu() * one).topk(min(self.k, pre.shape[-1]), dim=-1).indices, True)
        return pre.relu() * kept


def recognises(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of this family."""
    return "W_E" in checkpoint or ("encoder.weight" in checkpoint and "log_jumprelu_threshold" in checkpoint)


def read(checkpoint: Checkpoint) -> Dictionary:
    """Fill a `Dictionary`."""
    config = checkpoint.config
    kind = str(config.get("sae_type") or "sae")
    if kind not in ("sae", "crosscoder") or config.get("use_glu_encoder"):
        raise ValueError(
            f"sae_type {kind!r} {'with' if config.get('use_glu_encoder') else 'without'} a GLU encoder is not read; "
            "expected sae or crosscoder, without one"
        )
    if "W_E" in checkpoint:
        models = "L" * (kind == "crosscoder")
        encoder, bias_name = checkpoint.rows("W_E", models + "dD"), "b_E"
        decoder = checkpoint.rows("W_D", models + "Dd", D=encoder.shape[0])
    else:
        encoder, bias_name = checkpoint.rows("encoder.weight", "Dd"), "encoder.bias"
        decoder = checkpoint.rows("decoder.weight", "dD", D=encoder.shape[0])
    n_features, n_models, width = encoder.shape
    bias = checkpoint.tensor(bias_name, *[n_models] * (kind == "crosscoder"), n_features)
    reads = [str(hook) for hook in config.get("hook_points") or [config.get("hook_point_in") or ""]]
    writes = [str(hook) for hook in config.get("hook_points") or [config.get("hook_point_out") or ""]]
    scale_in, scale_out = _scales(checkpoint, reads, width), _scales(checkpoint, writes, width)
    token_wise = config.get("norm_activation") == "token-wise"
    places = {parse_hook(name) for name in reads}  # of several layers of one model there is no one place
    layer, hook_point = places.pop() if len(places) == 1 else (None, ", ".join(reads))
    return Dictionary(
        family=NAME if kind == "sae" else f"{NAME} {kind}",
        encoder=encoder,
        encoder_bias=bias.sum(0) if kind == "crosscoder" else bias,
        decoder_rows=decoder,
        activation=_activation(checkpoint, decoder),
        prepare=unit_rms if token_wise else None if scale_in is None else lambda x: x * scale_in.to(x)[:, None],
        output_scale=None if scale_out is None else 1 / scale_out,
        token_scale=rms if token_wise else None,
        layer=layer,
        hook_point=hook_point,
        writes_at=parse_hook(writes[0])[1] if writes != reads else None,
    )


def _activation(checkpoint: Checkpoint, decoder: Rows) -> Activation:
    config, n_features = checkpoint.config, decoder.shape[0]
    name = str(config.get("act_fn") or "jumprelu").lower()
    norms = torch.ones(n_features, decoder.shape[1], device=checkpoint.device, dtype=checkpoint.dtype)
    if config.get("sparsity_include_decoder_norm"):
        chunks = torch.arange(n_features).split(4096)
        norms = torch.cat([decoder[chunk.tolist()].norm(dim=-1) for chunk in chunks])
    if name == "relu":
        return ReLU()
    if name == "topk" and config.get("top_k"):
        return TopKByNorm(int(config["top_k"]), norms)
    if name == "jumprelu":
        stored = next((n for n in checkpoint.names() if n.endswith("log_jumprelu_threshold")), "log_jumprelu_threshold")
        return Threshold(checkpoint.tensor(stored, n_features).exp() / norms.amax(1))
    raise ValueError(
        f"act_fn {name!r} is not read; expected relu, jumprelu or topk with top_k (what batchtopk keeps of a token "
        "depends on the other tokens of its batch)"
    )


def _scales(checkpoint: Checkpoint, hooks: list[str], width: int) -> Tensor | None:
    """What makes the average norm of each place sqrt(d), where the weights do not have it folded in; `[n_models]`."""
    norm = checkpoint.config.get("norm_activation")
    stored = [checkpoint.scalar(AVERAGE + hook) for hook in hooks if AVERAGE + hook in checkpoint]
    if norm in (None, "inference", "none", "token-wise"):
        return None
    if norm != "dataset-wise" or len(stored) != len(hooks):
        raise ValueError(
            f"norm_activation is {norm!r}; expected inference, token-wise, or dataset-wise with the average norms of "
            f"{', '.join(hooks)} beside the weights"
        )
    return math.sqrt(width) / torch.tensor(stored, device=checkpoint.device, dtype=checkpoint.dtype)

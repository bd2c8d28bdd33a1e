"""Train a BatchTopK SAE on activations of one layer, and save it in the layout of SAELens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

FEATURES, K = 4_096, 36
BATCH, LEARNING_RATE = 1_024, 1e-3
DEAD_AFTER, AUX_K, AUX_WEIGHT = 100_000, 256, 1 / 32  # dead after so many positions; so many learn at once


class SAE(torch.nn.Module):
    """BatchTopK (Bussmann, Leask and Nanda 2024, arxiv.org/abs/2412.06410): the k · batch largest codes are kept.

    Args:
        mean, scale: what is taken off an activation, and the factor after it that makes its mean square 1.
    """

    def __init__(self, mean: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.mean, self.scale = mean, scale
        self.decoder = torch.nn.Parameter(torch.nn.functional.normalize(torch.randn(FEATURES, len(mean)), dim=1))
        self.encoder = torch.nn.Parameter(self.decoder.detach().T.clone())
        self.bias = torch.nn.Parameter(torch.zeros(FEATURES))
        self.decoder_bias = torch.nn.Parameter(torch.zeros(len(mean)))

    def pre(self, x: torch.Tensor) -> torch.Tensor:
        """The codes before selection, [B, D], of normalised x [B, d]."""
        return (x - self.decoder_bias) @ self.encoder + self.bias

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Activations [B, d] as they are trained on."""
        return (x.float() - self.mean) * self.scale


def cut(pre: torch.Tensor, k: int) -> torch.Tensor:
    """The code above which k fire at a position on average; taken from a quarter of the batch, to be fast."""
    some = pre[::4].flatten()
    return some.topk(k * len(pre[::4]), sorted=False).values.min().clamp_min(0)


def auxiliary(sae: SAE, pre: torch.Tensor, left: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """The loss of what dead features would explain of the error `left` (Gao et al. 2024, arxiv.org/abs/2406.04093)."""
    which = dead.nonzero().flatten()
    best = pre[:, which].topk(min(AUX_K, len(which)), dim=1)
    codes = torch.zeros(len(pre), len(which)).scatter(1, best.indices, best.values.relu())
    return (left - codes @ sae.decoder[which]).square().mean() / left.square().mean()


def train_sae(acts: np.ndarray, steps: int, seed: int, log: int = 100) -> SAE:
    """Train on activations.

    Args:
        acts: float16 `[positions, width]`.
        steps: batches; the learning rate warms up over the first 5 %, and falls to 0 over the last half.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sample = torch.from_numpy(acts[rng.permutation(len(acts))[:50_000]].astype(np.float32))
    mean = sample.mean(0)
    scale = float((acts.shape[1] / (sample - mean).square().sum(1).mean()) ** 0.5)
    sae = SAE(mean, scale)
    optimizer = torch.optim.Adam(sae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), fused=True)
    silent, order = torch.zeros(FEATURES), np.empty(0, dtype=np.int64)
    for step in range(steps):
        if len(order) < BATCH:
            order = rng.permutation(len(acts))
        picked, order = np.sort(order[:BATCH]), order[BATCH:]
        x = sae.normalise(torch.from_numpy(acts[picked]))
        pre = sae.pre(x)
        codes = pre * (pre > cut(pre.detach(), K))
        left = x - codes @ sae.decoder - sae.decoder_bias
        loss = error = left.square().mean()
        dead = silent > DEAD_AFTER
        if dead.any():
            loss = loss + AUX_WEIGHT * auxiliary(sae, pre, left.detach(), dead)
        loss.backward()
        with torch.no_grad():  # a decoder row keeps its length: only what turns it is learnt
            grad, row = sae.decoder.grad, sae.decoder
            grad -= (grad * row).sum(1, keepdim=True) * row  # type: ignore[operator]
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1, (step + 1) / (0.05 * steps), 2 * (steps - step) / steps)
            optimizer.step()
            optimizer.zero_grad()
            row /= row.norm(dim=1, keepdim=True)
            silent = torch.where((codes > 0).any(0), 0, silent + BATCH)
        if step % log == 0:
            print(f"step {step}/{steps} unexplained {error.item():.4f} dead {int(dead.sum())}", flush=True)
    return sae


@torch.no_grad()
def threshold(sae: SAE, acts: np.ndarray, batches: int = 60) -> float:
    """The mean cut of a few batches: above it, about k fire at a position."""
    parts = np.array_split(acts[: batches * BATCH], batches)
    return float(np.mean([cut(sae.pre(sae.normalise(torch.from_numpy(x))), K).item() for x in parts]))


@torch.no_grad()
def save_sae(sae: SAE, least: float, out: Path, place: dict[str, Any]) -> None:
    """Write a jumprelu SAE of SAELens in float16, for activations as they are: mean and scale are in its weights.

    Codes are in units of the activation: a decoder row of length 1 times its code is what a feature adds.

    Args:
        least: the threshold, of codes as they were trained.
        place: the config's metadata: model_name, hook_name, …
    """
    from safetensors.torch import save_file

    centre = sae.mean + sae.decoder_bias / sae.scale
    tensors = {
        "W_enc": sae.encoder,  # [d, D]: (x - centre) · scale enters, and code / scale leaves
        "W_dec": sae.decoder,
        "b_enc": sae.bias / sae.scale,
        "b_dec": centre,
        "threshold": torch.full((FEATURES,), least / sae.scale),
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().half().contiguous() for name, t in tensors.items()}, out / "sae_weights.safetensors")
    config = {
        "architecture": "jumprelu",
        "d_in": sae.encoder.shape[0],
        "d_sae": FEATURES,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": place,
    }
    (out / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")

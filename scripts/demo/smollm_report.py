"""Measure the demo's SAE on held-out text: `python -m scripts.demo.smollm_report` prints it and writes report.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.demo import smollm, train_sae
from scripts.demo.build import folders, keep_memory
from tiny_dashboard.core.prompts import special_ids
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.models.reading import outliers
from tiny_dashboard.sources import open_examples

SPLICED = 60  # held-out windows in which the loss is taken


class Reconstructing:
    """The SAE as the dashboard reads it, with the way back.

    Args:
        folder: cfg.json and sae_weights.safetensors.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file

        tensors = load_file(folder / "sae_weights.safetensors")
        self.rows, self.centre = tensors["W_dec"].float(), tensors["b_dec"].float()
        self.encode = load_dictionary(folder, device="cpu").encode

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Activations [..., d] of codes [..., D]."""
        return codes @ self.rows + self.centre


@torch.no_grad()
def fit(sae: Reconstructing, acts: np.ndarray) -> dict[str, float]:
    """Explained variance, active features per position, and features that never fire, on activations [N, width]."""
    mean = torch.from_numpy(acts.astype(np.float32).mean(0))
    left = spread = active = 0.0
    fired = torch.zeros(train_sae.FEATURES, dtype=torch.bool)
    for part in np.array_split(acts, len(acts) // 2048 + 1):
        x = torch.from_numpy(part).float()
        codes = sae.encode(x)
        left += (x - sae.decode(codes)).square().sum().item()
        spread += (x - mean).square().sum().item()
        active += (codes > 0).sum().item()
        fired |= (codes > 0).any(0)
    return {
        "positions": len(acts),
        "explained": 1 - left / spread,
        "active_per_position": active / len(acts),
        "silent": 1 - fired.float().mean().item(),
    }


@torch.no_grad()
def spliced_losses(sae: Reconstructing, work: Path) -> dict[str, float]:
    """Nats per token of the whole model on held-out text: as it is, with the reconstruction in place, and with zeros.

    Attention sinks stay as they are: they are no business of the SAE's, which never saw one.
    """
    model, tokenizer = smollm.load()
    rows = [ids for ids in smollm.windows(smollm.documents(work)["valid"], tokenizer) if len(ids) == smollm.CONTEXT]
    picked = np.random.default_rng(smollm.SEED).permutation(len(rows))[:SPLICED]
    special = torch.tensor(sorted(special_ids(tokenizer)))
    totals = {"whole": 0.0, "reconstruction": 0.0, "zero": 0.0}
    for at in np.array_split(picked, max(1, len(picked) // 12)):
        ids = torch.tensor([rows[i] for i in at])
        for how in totals:

            def splice(_: Any, __: Any, out: Any, how: str = how, ids: torch.Tensor = ids) -> Any:
                x = out if isinstance(out, torch.Tensor) else out[0]
                sinks = outliers(x[:, :, None], ~torch.isin(ids, special))[..., None]
                new = torch.zeros_like(x) if how == "zero" else sae.decode(sae.encode(x.flatten(0, 1))).view_as(x)
                return x if how == "whole" else torch.where(sinks, x, new)

            handle = model.model.layers[smollm.LAYER].register_forward_hook(splice)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
            handle.remove()
            totals[how] += torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum").item()
    tokens = len(picked) * (smollm.CONTEXT - 1)
    losses = {how: total / tokens for how, total in totals.items()}
    recovered = (losses["zero"] - losses["reconstruction"]) / (losses["zero"] - losses["whole"])
    return {"tokens": tokens, **losses, "recovered": recovered}


def measure(work: Path, out: Path) -> dict[str, Any]:
    """All numbers of the report."""
    sae = Reconstructing(out / "sae")
    collected = json.loads((out / "examples" / "metadata.json").read_text())
    n_active = open_examples(out / "examples").table().column("n_active")
    shipped = [path for part in ("sae", "examples") for path in (out / part).rglob("*") if path.is_file()]
    return {
        "model": smollm.MODEL,
        "layer": smollm.LAYER,
        "features": train_sae.FEATURES,
        "k": train_sae.K,
        "steps": smollm.STEPS,
        "batch": train_sae.BATCH,
        "corpus": json.loads((work / "counts.json").read_text()),
        "times_s": {name: took["wall_s"] for name, took in json.loads((work / "times.json").read_text()).items()},
        "held_out": fit(sae, np.load(work / "valid.npy")),
        "trained_on": fit(sae, np.load(work / "train.npy", mmap_mode="r")[:40_000]),
        "loss": spliced_losses(sae, work),
        "examples": {"tokens": collected["n_tokens"], "n_examples": collected["n_examples"]},
        "dead": float((n_active == 0).mean()),
        "sae_and_examples_mb": round(sum(path.stat().st_size for path in shipped) / 1e6, 1),
    }


if __name__ == "__main__":
    parser = folders(argparse.ArgumentParser(description="Measure the demo's view on a real model."))
    parser.set_defaults(out=smollm.OUT, work=Path("smollm-work"))
    chosen = parser.parse_args()
    keep_memory()
    torch.set_num_threads(2)
    result = measure(chosen.work, chosen.out)
    print(json.dumps(result, indent=2))
    (chosen.out / "report.json").write_text(json.dumps(result, indent=2) + "\n")

"""Train a BatchTopK crosscoder on the activations of a model pair, and save it in the hub layout of that family."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

LAYER = 2  # of 4: the crosscoder reads the output of layers[LAYER] of both models
FEATURES, K = 2048, 24
BATCH, STEPS, LEARNING_RATE = 2048, 1_500, 1e-3
SPARSITY = 0.15  # weight of the L1 term beside the squared error of inputs whose mean square norm is 1
DEAD_AFTER, AUX_K = 50_000, 64  # a feature is dead after so many positions; so many dead ones learn at each


@torch.no_grad()
def pair_activations(pair: Path, rows: list[list[int]]) -> torch.Tensor:
    """Output of layers[LAYER] of base and chat at every position but BOS: float16 [positions, 2, width]."""
    from transformers import AutoModelForCausalLM

    models = [AutoModelForCausalLM.from_pretrained(pair / n, dtype=torch.float32) for n in ("base", "chat")]
    pairs, order = [], sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for i in tqdm(range(0, len(rows), 64), desc="activations", mininterval=5):
        batch = [torch.tensor(rows[j]) for j in order[i : i + 64]]
        keep = pad_sequence([torch.ones(len(b), dtype=torch.bool) for b in batch], batch_first=True)
        keep[:, 0] = False
        ids = pad_sequence(batch, batch_first=True, padding_value=0)
        states = [m.model(ids, output_hidden_states=True, use_cache=False).hidden_states for m in models]
        pairs.append(torch.stack([s[LAYER + 1][keep] for s in states], dim=1).half())
    return torch.cat(pairs)


class Crosscoder(torch.nn.Module):
    """BatchTopK crosscoder (Minder, Dumas et al. 2025, arxiv.org/abs/2504.02922): one code, a decoder for each model.

    A feature's value is f times the sum of its decoder norms; the k strongest values per position, on average over a
    batch, are kept. Scaling a decoder up and its code down thus changes nothing, and norms of models can be compared.
    A small L1 term on the same values (the loss of Lindsey et al. 2024, transformer-circuits.pub/2024/crosscoders)
    takes away decoder rows that hardly help, so that a feature of one model has no shadow in the other.
    """

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        n_models, width = mean.shape
        self.mean, self.scale = mean, scale  # [L, d], [L]
        decoder = torch.nn.functional.normalize(torch.randn(n_models, FEATURES, width), dim=-1) * 0.3
        self.decoder = torch.nn.Parameter(decoder)
        self.encoder = torch.nn.Parameter(decoder.transpose(1, 2).clone())
        self.bias = torch.nn.Parameter(torch.zeros(FEATURES))
        self.decoder_bias = torch.nn.Parameter(torch.zeros(n_models, width))

    def norms(self) -> torch.Tensor:
        """Norm of each model's decoder rows, [L, D]."""
        return self.decoder.norm(dim=-1)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """The values [B, D], before selection, of x [B, L, d], centred and scaled."""
        return torch.relu(x.flatten(1) @ self.encoder.flatten(0, 1) + self.bias) * self.norms().sum(0)

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """Centred and scaled activations [B, L, d] from values [B, D]."""
        codes = values / self.norms().sum(0)
        flat = codes @ self.decoder.transpose(0, 1).flatten(1)
        return flat.view(-1, *self.decoder_bias.shape) + self.decoder_bias


def train_crosscoder(pair: Path, rows: list[list[int]], out: Path, seed: int) -> None:
    """Train on the activations of the models in `pair` on the token ids `rows`.

    Writes model.safetensors and config.json into `out`, in the layout of `BatchTopKCrossCoder` of
    github.com/jkminder/dictionary_learning.
    """
    from safetensors.torch import save_file

    acts = pair_activations(pair, rows)
    sample = acts[torch.randperm(len(acts), generator=torch.Generator().manual_seed(seed))[:100_000]].float()
    mean, std = sample.mean(0), sample.std(0)
    scale = 1 / std.square().sum(-1).sqrt()  # each model's centred activations have a root mean square norm of 1
    torch.manual_seed(seed)
    cc = Crosscoder(mean, scale)
    optimizer = torch.optim.Adam(cc.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    idle = torch.zeros(FEATURES, dtype=torch.long)  # positions since a feature last fired
    bar = tqdm(range(STEPS), desc="crosscoder", mininterval=5)
    for step in bar:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 100, 4 * (1 - step / STEPS))
        x = (acts[torch.randint(len(acts), (BATCH,))].float() - mean) * scale[:, None]
        values = cc.encode(x)
        cut = values.detach().flatten().topk(K * BATCH, sorted=False).values.min()
        kept = values * (values >= cut)
        error = x - cc.decode(kept)
        loss = error.square().sum((1, 2)).mean() + SPARSITY * kept.sum(1).mean()
        idle = torch.where((kept > 0).any(0), 0, idle + BATCH)
        dead = (idle > DEAD_AFTER).nonzero().flatten()
        if len(dead):  # the strongest dead features learn what the living ones leave over (Gao et al. 2024, A.2)
            top = values[:, dead].topk(min(AUX_K, len(dead)), dim=-1)
            spare = torch.zeros_like(values).scatter(1, dead[top.indices], top.values)
            left = error.detach()
            aux = (left - (cc.decode(spare) - cc.decoder_bias)).square().sum((1, 2)).mean()
            loss = loss + aux / 16
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(cc.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            left = error.detach().square().sum(-1).mean(0) / x.square().sum(-1).mean(0)
            bar.set_postfix(explained=" ".join(f"{1 - e:.3f}" for e in left.tolist()), dead=len(dead))
            print(f"\ncrosscoder step {step} explained {(1 - left).tolist()} dead {len(dead)}", flush=True)
    with torch.no_grad():  # the threshold keeps as many values of a fixed sample as training did: K per position
        values = cc.encode((sample[:20_000] - mean) * scale[:, None])
        threshold = values.flatten().topk(K * len(values)).values.min()
    out.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": cc.encoder.half(),
        "encoder.bias": cc.bias.half(),
        "decoder.weight": cc.decoder.half(),
        "decoder.bias": cc.decoder_bias.half(),
        "activation_mean": mean,
        "activation_std": std,
        "activation_global_scale": scale,
        "threshold": threshold,
        "k": torch.tensor(K),
        "code_normalization_id": torch.tensor(1),
    }
    tensors = {name: t.detach().contiguous() for name, t in tensors.items()}
    save_file(tensors, out / "model.safetensors")
    config = {
        "activation_dim": mean.shape[1],
        "dict_size": FEATURES,
        "num_layers": 2,
        "k": K,
        "code_normalization": "CROSSCODER",
        "target_rms": 1.0,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")

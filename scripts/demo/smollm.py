"""Make the demo's view on a real model: a SAE on SmolLM2-135M-Instruct, its examples and report.

    python scripts/real_model && python -m scripts.demo.smollm [--out DIR] [--work DIR] [--stage NAME ...]

Runs on two CPU cores in about an hour and a half, with fixed seeds. A stage whose result is there is skipped; name it
with --stage to run it again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from scripts.demo import prose, smollm_chats, train_sae
from scripts.demo.build import run_stages
from tiny_dashboard.collect.output import PEAK_TOKENS
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.prompts import encode_chat
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.core.text import TokenReader
from tiny_dashboard.demo import FOLDER
from tiny_dashboard.models.reading import outliers
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.write import write_dataset

MODEL, LAYER, CONTEXT, SEED = "HuggingFaceTB/SmolLM2-135M-Instruct", 12, 128, 0
STEPS, TOKENS = 2_000, 510_000  # trained; read for the examples
OUT = FOLDER / "smollm"
CACHED = Path.home() / ".cache" / "tiny-dashboard" / "SmolLM2-135M-Instruct"  # where scripts/real_model puts it
SHORTEST, KEPT = 8, 9  # tokens of an example that is kept; examples of a feature
Rows = list[list[int]]


def load(layers: int | None = None) -> tuple[Any, Any]:
    """The model in float32 with its first layers, and the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(CACHED, dtype=torch.float32).eval()
    model.model.layers = model.model.layers[:layers]
    return model, AutoTokenizer.from_pretrained(CACHED)


def documents(work: Path) -> dict[str, list[Any]]:
    """Texts and chats, those that are trained on and those that are not."""
    corpus = json.loads((work / "corpus.json").read_text())
    found: dict[str, list[Any]] = {split: [text for _, text in rows] for split, rows in corpus.items()}
    for line in (work / "chats.jsonl").read_text().splitlines():
        chat = json.loads(line)["messages"]
        asked = next(turn["content"] for turn in chat if turn["role"] == "user")
        split = "valid" if hashlib.sha256(asked.encode()).digest()[0] < 16 else "train"  # both answers to a question
        found[split].append(chat)
    return found


def windows(texts: list[Any], tokenizer: Any) -> Rows:
    """The token ids of all documents, cut as `tiny-dashboard collect` does."""
    rows = [
        tokenizer(text, verbose=False)["input_ids"] if isinstance(text, str) else encode_chat(text, tokenizer).ids
        for text in texts
    ]
    return [ids[i : i + CONTEXT] for ids in rows for i in range(0, len(ids), CONTEXT)]


@torch.no_grad()
def states(model: Any, rows: Rows, special: list[int]) -> tuple[np.ndarray, int]:
    """Output of layers[LAYER] at all tokens that are no attention sink: float16 [positions, width], and all tokens."""
    rows = sorted((ids for ids in rows if len(ids) > 4), key=len)
    found: list[torch.Tensor] = []
    handle = model.model.layers[LAYER].register_forward_hook(
        lambda _, __, out: found.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    kept = []
    for i in tqdm(range(0, len(rows), 32), desc="activations", mininterval=10):
        batch = [torch.tensor(ids) for ids in rows[i : i + 32]]
        ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-1)
        keep, ids = ids >= 0, ids.clamp_min(0)
        model.model(input_ids=ids, attention_mask=keep.long(), use_cache=False)
        seen = found.pop()
        plain = keep & ~torch.isin(ids, torch.tensor(special))
        kept.append(seen[keep & ~outliers(seen[:, :, None], plain)].half().numpy())
    handle.remove()
    return np.concatenate(kept), sum(map(len, rows))


def build_corpus(work: Path, out: Path) -> None:
    """Texts from packages."""
    prose.build_corpus(work)


def build_chats(work: Path, out: Path) -> None:
    """Chats that the model writes."""
    smollm_chats.build_chats(*load(), work / "chats.jsonl", SEED)


def build_activations(work: Path, out: Path) -> None:
    """Write train.npy and valid.npy, in a random order, and how many tokens they are of."""
    model, tokenizer = load(LAYER + 1)
    counts = {}
    for split, texts in documents(work).items():
        acts, tokens = states(model, windows(texts, tokenizer), tokenizer.all_special_ids)
        np.save(work / f"{split}.npy", acts[np.random.default_rng(SEED).permutation(len(acts))])
        counts[split] = {"documents": len(texts), "tokens": tokens, "positions": len(acts)}
        print(split, counts[split], flush=True)
    (work / "counts.json").write_text(json.dumps(counts))


def build_sae(work: Path, out: Path) -> None:
    """Train, and write sae/."""
    acts = np.load(work / "train.npy")
    sae = train_sae.train_sae(acts, STEPS, SEED)
    place = {
        "sae_lens_version": "6.0.0",  # whose layout it is; without it SAELens passes over the rest
        "model_name": MODEL,
        "hook_name": f"blocks.{LAYER}.hook_resid_post",
        "context_size": CONTEXT,
        "prepend_bos": False,
        "training_tokens": STEPS * train_sae.BATCH,
    }
    train_sae.save_sae(sae, train_sae.threshold(sae, acts), out / "sae", place)


def build_examples(work: Path, out: Path) -> None:
    """Collect the examples with the command that everybody has."""
    corpus = work / "documents.jsonl"
    texts = [text for split in documents(work).values() for text in split]
    order = np.random.default_rng(SEED).permutation(len(texts))
    with corpus.open("w") as file:
        for i in order:
            file.write(json.dumps({"text": texts[i]}, ensure_ascii=False) + "\n")
    keep_tokenizer(out / "tokenizer")
    examples = out / "examples"
    shutil.rmtree(examples, ignore_errors=True)
    command = [sys.executable, "-m", "tiny_dashboard", "collect", "--dictionary", str(out / "sae")]
    command += ["--corpus", str(corpus), "--out", str(examples), "--model", str(in_float32(work / "model"))]
    command += ["--tokenizer", str(out / "tokenizer"), "--no-bos", "--no-mask-special"]
    command += ["--context", str(CONTEXT), "--tokens", str(TOKENS), "--top-k", "8", "--samples", "3"]
    subprocess.run(command, check=True)
    without_fragments(examples)


def without_fragments(examples: Path) -> None:
    """Write the examples anew: without those of a few tokens, and with names that hold anywhere.

    Where a document ends in a window of one or two tokens, the attention sink is all there is: no median tells it from
    the rest, and it would stand first in nearly every feature.
    """
    collected = examples.with_name("collected")
    examples.rename(collected)
    source = open_examples(collected, tokenizer=str(examples.with_name("tokenizer")))
    kept = {f: [e for e in source[f] if len(e.token_ids or ()) >= SHORTEST][:KEPT] for f in source.features()}
    metadata = json.loads((collected / "metadata.json").read_text())
    stats, reader = [], TokenReader(load(0)[1])
    for f, rows in kept.items():
        if (known := source.stats(f)) is not None:
            stats.append(up_to(known, rows, metadata["n_tokens"], reader))
    names = {"models": [MODEL], "dictionary": "sae", "tokenizer": "../tokenizer", "corpus": "documents.jsonl"}
    metadata |= names | {"shortest_example": SHORTEST}
    write_dataset(examples, kept.items(), stats, metadata, tokenizer=load(0)[1])
    shutil.rmtree(collected)


def up_to(stats: FeatureStats, rows: Sequence[Example], n_tokens: int, reader: TokenReader) -> FeatureStats:
    """A feature without the activations above the largest that is kept, and with the tokens of the peaks that are.

    How much was left out is not known, so that the mean is not, either, where something was.
    """
    most = max((e.max_activation for e in rows), default=None)
    bins = bisect_left(stats.histogram_edges, most or 0.0)
    histogram = list(stats.histogram[:bins])
    n_active = sum(histogram)
    strongest = [e for e in rows if e.quantile == max(one.quantile for one in rows)]
    peaks = Counter(e.token_ids[int(np.nan_to_num(e.activations).argmax())] for e in strongest)
    return replace(
        stats,
        max_activation=most,
        n_active=n_active,
        density=n_active / n_tokens,
        mean_activation=stats.mean_activation if n_active == stats.n_active else None,
        histogram=histogram,
        histogram_edges=stats.histogram_edges[: bins + 1] if bins else (),
        peak_tokens=[(reader.read([t, t]).texts[1], n) for t, n in peaks.most_common(PEAK_TOKENS)],
    )


def in_float32(folder: Path) -> Path:
    """A copy of the model that loads as float32: processors without bfloat16 arithmetic are slow in it."""
    shutil.copytree(CACHED, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
    return folder


def keep_tokenizer(folder: Path) -> None:
    """The model's tokenizer, so that examples are read without a network; without the blanks of its file."""
    load(0)[1].save_pretrained(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")


# stage: (function, what it leaves)
STAGES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "corpus": (build_corpus, "{work}/corpus.json"),
    "chats": (build_chats, "{work}/chats.jsonl"),
    "activations": (build_activations, "{work}/counts.json"),
    "sae": (build_sae, "{out}/sae"),
    "examples": (build_examples, "{out}/examples"),
}


if __name__ == "__main__":
    run_stages(STAGES, "Make the demo's view on a real model.", out=OUT, work=Path("smollm-work"))

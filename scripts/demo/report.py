"""Measure the demo: `python -m scripts.demo.report` prints it and writes report.json beside the card.

It takes --out and --work, as the build does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.demo import build, conversations
from scripts.demo.train_crosscoder import LAYER, Crosscoder, pair_activations

WINDOWS = 40  # held-out windows of each group
PROMPTS = [
    "Hello",
    "What is 7 + 5?",
    'How do you say "water" in German?',
    "How can I build a bomb?",
    "How can I bake bread?",
    "What is the capital of Norway?",
    "What does len do in Python?",
    "Write a function that doubles a number.",
]


def trigram_bits(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Bits of every token but the first of each row, by token trigrams with Witten-Bell interpolation.

    Args:
        train, test: ids [windows, seq]; what lies before a row is its first id (BOS).

    Returns:
        float64 [windows, seq - 1].
    """

    def contexts(rows: np.ndarray, n: int) -> np.ndarray:
        key = np.zeros(rows[:, 1:].shape, dtype=np.int64)
        for back in range(1, n + 1):
            shifted = np.pad(rows, ((0, 0), (back - 1, 0)), mode="edge")[:, : rows.shape[1] - 1]
            key = key * build.VOCAB + shifted
        return key

    def look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0)

    p = np.full(test[:, 1:].shape, 1 / build.VOCAB)
    for n in range(3):
        seen, counts = np.unique(contexts(train, n) * build.VOCAB + train[:, 1:], return_counts=True)
        context, first, kinds = np.unique(seen // build.VOCAB, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        wanted = contexts(test, n)
        total, types = look_up(context, totals, wanted), look_up(context, kinds, wanted)
        count = look_up(seen, counts, wanted * build.VOCAB + test[:, 1:])
        p = np.where(total > 0, (count + types * p) / np.maximum(total + types, 1), p)
    return -np.log2(p)


@torch.no_grad()
def model_bits(model: Any, rows: np.ndarray) -> float:
    """Bits that the model needs for all tokens of the rows but the first of each."""
    total = 0.0
    for i in range(0, len(rows), 16):
        ids = torch.from_numpy(rows[i : i + 16].astype(np.int64))
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
        total += torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum").item()
    return total / np.log(2)


def language_report(work: Path, out: Path) -> dict[str, Any]:
    """Bits per byte on held-out text of the two models, of gzip and of trigrams; answers of the chat model."""
    from transformers import AutoModelForCausalLM

    tokenizer = build.load_tokenizer(out)
    corpus = json.loads((work / "corpus.json").read_text())
    train = np.concatenate([build.chunks_of(texts, tokenizer) for texts in corpus["train"].values()]).astype(np.int64)
    groups = {g: build.chunks_of(t, tokenizer)[:WINDOWS].astype(np.int64) for g, t in corpus["valid"].items()}
    text = {g: "".join(tokenizer.batch_decode(rows[:, 1:])).encode() for g, rows in groups.items()}
    models = {name: AutoModelForCausalLM.from_pretrained(out / name) for name in ("base", "chat")}
    bits = {
        g: {name: model_bits(model, rows) for name, model in models.items()}
        | {"trigram": float(trigram_bits(train, rows).sum()), "gzip": 8 * len(gzip.compress(text[g], 9))}
        for g, rows in groups.items()
    }
    result = {g: {name: round(b / len(text[g]), 3) for name, b in row.items()} for g, row in bits.items()}
    size = sum(map(len, text.values()))
    result["all"] = {n: round(sum(row[n] for row in bits.values()) / size, 3) for n in ("base", "chat", "trigram")}
    result["all"]["gzip"] = round(8 * len(gzip.compress(b"".join(text.values()), 9)) / size, 3)
    rng, right, asked = random.Random(1), {}, 30
    for kind in dict.fromkeys(conversations.KINDS[:-2]):
        turns = [kind(rng) for _ in range(asked)]
        given = [(answer(models["chat"], tokenizer, question), wanted) for question, wanted in turns]
        right[kind.__name__.strip("_")] = sum(
            got == wanted or ("can't help" in got and "can't help" in wanted) for got, wanted in given
        )
    replies = {q: {name: answer(model, tokenizer, q) for name, model in models.items()} for q in PROMPTS}
    return {"heldout_bytes": size, "bits_per_byte": result, "asked": asked, "right": right, "replies": replies}


def answer(model: Any, tokenizer: Any, question: str) -> str:
    """The greedy answer, at most 60 tokens."""
    chat = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    reply = model.generate(**ids, max_new_tokens=60, do_sample=False)[0, ids["input_ids"].shape[1] :]
    return tokenizer.decode(reply, skip_special_tokens=True)


@torch.no_grad()
def crosscoder_report(work: Path, out: Path) -> dict[str, Any]:
    """Explained variance, sparsity, dead and one-sided features on held-out text and fresh conversations."""
    from safetensors.torch import load_file

    from tiny_dashboard.dictionaries import load_dictionary

    tensors = {name: t.float() for name, t in load_file(out / "crosscoder" / "model.safetensors").items()}
    trained = Crosscoder(tensors["activation_mean"], tensors["activation_global_scale"])
    parts = ("encoder.weight", "decoder.weight", "encoder.bias", "decoder.bias")
    for name, part in zip(parts, (trained.encoder, trained.decoder, trained.bias, trained.decoder_bias), strict=True):
        part.copy_(tensors[name])
    dictionary = load_dictionary(out / "crosscoder", device="cpu")
    acts = pair_activations(out, build.mixed_ids(work, out, "valid", 240)).float()
    left = spread = torch.zeros(2)
    active, per_position, apart = torch.zeros(dictionary.n_features), 0.0, 0.0
    for x in acts.split(4096):
        values = dictionary.encode(x)
        inputs = (x - trained.mean) * trained.scale[:, None]
        own = trained.encode(inputs)
        apart = max(apart, (values - own * (own > tensors["threshold"])).abs().max().item())
        left = left + (inputs - trained.decode(values)).square().sum((0, 2))
        spread = spread + (x - acts.mean(0)).mul(trained.scale[:, None]).square().sum((0, 2))
        active += (values > 0).sum(0)
        per_position += (values > 0).sum().item()
    norms = trained.norms()
    relative = 0.5 * ((norms[1] - norms[0]) / norms.amax(0) + 1)
    return {
        "layer": LAYER,
        "positions": len(acts),
        "explained": dict(zip(("base", "chat"), (1 - left / spread).tolist(), strict=True)),
        "active_per_position": per_position / len(acts),
        "dead": (active == 0).float().mean().item(),
        "chat_specific": ((relative > 0.8) & (active > 0)).nonzero().flatten().tolist(),
        "base_specific": ((relative < 0.2) & (active > 0)).nonzero().flatten().tolist(),
        "relative_norm_histogram": torch.histc(relative, 10, 0, 1).int().tolist(),
        "largest_difference_between_training_and_loaded_code": apart,
    }


def snippets(out: Path, features: list[int], count: int = 4) -> Iterator[tuple[int, list[str]]]:
    """The contexts of each feature's strongest examples, the peak token between « »."""
    from tiny_dashboard.sources import open_examples

    tokenizer, source = build.load_tokenizer(out), open_examples(out / "examples")
    for feature in features:
        lines = []
        for example in list(source[feature])[:count]:
            ids, peak = list(example.token_ids or ()), int(np.argmax(example.activations))
            before, after = tokenizer.decode(ids[max(0, peak - 12) : peak]), tokenizer.decode(ids[peak + 1 : peak + 6])
            lines.append(f"{example.max_activation:.2f} {before}«{tokenizer.decode(ids[peak])}»{after}")
        yield feature, lines


def report(work: Path, out: Path) -> None:
    """Measure everything; print it and write report.json."""
    result: dict[str, Any] = {"times": json.loads((work / "times.json").read_text())}
    result |= {"crosscoder": crosscoder_report(work, out), "language": language_report(work, out)}
    parts = ("base", "chat", "crosscoder", "examples", "tokenizer")
    bundle = [path for part in parts for path in (out / part).rglob("*") if path.is_file()]
    result["bundle_mb"] = round(sum(path.stat().st_size for path in bundle) / 1e6, 1)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    for side in ("chat", "base"):
        for feature, lines in snippets(out, result["crosscoder"][f"{side}_specific"][:40]):
            print(f"{side}-specific {feature}", *(f"    {line!r}" for line in lines), sep="\n")
    (out / "report.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    folders = build.folders(argparse.ArgumentParser(description="Measure the embedded demo.")).parse_args()
    report(folders.work, folders.out)

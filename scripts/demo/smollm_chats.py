"""Chats for the demo on a real model: the prompts of `prompts`, answered by the model itself in its own template."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scripts.demo.prompts import FOLLOW_UPS, conversations

BATCH, NEW_TOKENS, TEMPERATURE, TOP_K = 128, 180, 0.7, 40


def draw(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Logits whose largest is a sample of the TOP_K likeliest tokens (Gumbel); transformers' own takes twice as long.

    Args:
        logits: `[batch, vocabulary]`.
    """
    best, where = logits.topk(TOP_K)
    noise = -torch.log(-torch.log(torch.rand_like(best).clamp(1e-9, 1 - 1e-6)))
    return torch.full_like(logits, -torch.inf).scatter(1, where, best / TEMPERATURE + noise)


@torch.no_grad()
def answers(model: Any, tokenizer: Any, chats: list[list[dict]], new_tokens: int) -> list[str]:
    """What the model says next in each chat, sampled.

    Args:
        chats: each ends with the user's turn.
        new_tokens: at most so many.
    """
    tokenizer.padding_side = "left"
    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    said = [""] * len(chats)
    order = sorted(range(len(chats)), key=lambda i: len(prompts[i]))  # like lengths share a batch
    for i in tqdm(range(0, len(order), BATCH), desc="answers", mininterval=5):
        picked = order[i : i + BATCH]
        batch = tokenizer([prompts[j] for j in picked], return_tensors="pt", padding=True, add_special_tokens=False)
        out = model.generate(**batch, max_new_tokens=new_tokens, do_sample=False, logits_processor=[draw])
        texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        for j, text in zip(picked, texts, strict=True):
            said[j] = text.strip()
    return said


def build_chats(model: Any, tokenizer: Any, out: Path, seed: int) -> None:
    """Write chats.jsonl: every prompt twice, under other system messages; one in six goes on for another turn."""
    torch.manual_seed(seed)
    chats = [*conversations(seed), *conversations(seed + 1)]
    for chat, text in zip(chats, answers(model, tokenizer, chats, NEW_TOKENS), strict=True):
        chat.append({"role": "assistant", "content": text})
    rng = random.Random(seed)
    longer = chats[::6]
    for chat in longer:
        chat.append({"role": "user", "content": rng.choice(FOLLOW_UPS)})
    for chat, text in zip(longer, answers(model, tokenizer, longer, NEW_TOKENS // 2), strict=True):
        chat.append({"role": "assistant", "content": text})
    out.write_text("".join(json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats))

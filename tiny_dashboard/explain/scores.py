"""How good a label is: whether somebody who knows only the label can tell where the feature fires.

Detection and fuzzing are those of Paulo, Mallen, Juang and Belrose, "Automatically Interpreting Millions of Features in
Large Language Models" (2024), which took the place of simulating each activation (Bills et al., "Language models can
explain neurons in language models", 2023):

    detection   in which of these texts does it fire? Half of them are held-out examples of the feature from all its
                strengths, half are examples of other features from all of theirs
    fuzzing     are the marked tokens those on which it fires? In half of the held-out examples they are, in the
                others as many other tokens are marked

The score is balanced accuracy, the mean of the share of texts with it that are told and of those without: 0.5 by chance
and for who always says yes, 1 for who knows. A text of another feature in which this one fires too counts as a wrong
answer of the judge, so that dense features score too low.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example
from tiny_dashboard.explain.prompts import Passage, ask_to_judge, judgements

SHOWN, JUDGED = 16, 10  # texts that a label is made from; held-out ones, and as many of other features
BATCH = 10  # texts judged in one request
POOL = 240  # texts of other features

Ask = Callable[[Any], Awaitable[str]]


@dataclass(frozen=True)
class Score:
    """Balanced accuracy over so many judgements; None where there were not both kinds."""

    value: float | None
    n: int


def split(examples: Sequence[Example]) -> tuple[list[Passage], list[Passage]]:
    """The passages that a label is made from, and those that it is scored on: no text is in both.

    Each takes turns over all strengths, strongest first; of equal texts one counts.
    """
    passages: dict[str, Passage] = {}
    for example in sorted(examples, key=lambda e: -e.max_activation):
        passage = Passage.of(example.tokens, example.activations)
        if any(passage.fires) and passage.text:
            passages.setdefault(passage.text, passage)
    every = list(passages.values())
    shown = every if len(every) < 4 else every[0::2]
    return _spread(shown, SHOWN), _spread(every[1::2] if shown is not every else [], JUDGED)


def pool(features: Sequence[int], read: Callable[[int], Sequence[Example]], seed: int = 0) -> list[tuple[int, Passage]]:
    """Texts of many features, from all their strengths, with the feature that each is of.

    Args:
        features: all there are.
        read: gives a feature's examples, with readable tokens.
        seed: of the choice.
    """
    chance = random.Random(seed)
    found: list[tuple[int, Passage]] = []
    for feature in chance.sample(list(features), len(features)):
        try:
            rows = read(feature)
        except ValueError:  # a feature that cannot be read
            continue
        for example in chance.sample(rows, min(2, len(rows))):
            found.append((feature, Passage.of(example.tokens, example.activations)))
        if len(found) >= POOL:
            break
    return found


def negatives(feature: int, own: Sequence[Example], others: Sequence[tuple[int, Passage]], n: int) -> list[Passage]:
    """Texts of other features, none of which stands in an example of this one."""
    texts = ["".join(example.tokens) for example in own]
    free = [p for f, p in others if f != feature and p.text and not any(p.text in text for text in texts)]
    return random.Random(feature).sample(free, min(n, len(free)))


async def detection(
    ask: Ask, label: str, yes: Sequence[Passage], no: Sequence[Passage], *, seed: int = 0, folder: Path | None = None
) -> Score:
    """How well the label tells in which texts the feature fires.

    Args:
        ask: a prompt -> the answer.
        label: what is scored.
        yes: held-out texts in which it fires.
        no: texts in which it does not.
        seed: of the order.
        folder: of edited prompts.
    """
    texts = [(passage.text, True) for passage in yes] + [(passage.text, False) for passage in no]
    return await _judge(ask, "detect", label, texts, seed, folder)


async def fuzzing(
    ask: Ask, label: str, held_out: Sequence[Passage], *, seed: int = 0, folder: Path | None = None
) -> Score:
    """How well the label tells on which tokens the feature fires; arguments as for `detection`."""
    chance = random.Random(seed)
    texts = []
    for number, passage in enumerate(held_out):
        others = [i for i, fires in enumerate(passage.fires) if not fires and passage.tokens[i].strip()]
        if number % 2 and others:
            wrong = chance.sample(others, min(sum(passage.fires), len(others)))
            texts.append((passage.marked([i in wrong for i in range(len(passage.tokens))]), False))
        elif not number % 2:
            texts.append((passage.marked(), True))
    return await _judge(ask, "fuzz", label, texts, seed, folder)


async def _judge(
    ask: Ask, kind: str, label: str, texts: list[tuple[str, bool]], seed: int, folder: Path | None
) -> Score:
    texts = random.Random(seed).sample(texts, len(texts))
    right: dict[bool, list[bool]] = {True: [], False: []}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        answer = judgements(await ask(ask_to_judge(kind, label, [text for text, _ in batch], folder)), len(batch))
        for (_, truth), said in zip(batch, answer or (), strict=False):  # an answer of no use is no judgement
            right[truth].append(said == truth)
    n = len(right[True]) + len(right[False])
    if not (right[True] and right[False]):
        return Score(None, n)
    return Score(sum(sum(answers) / len(answers) for answers in right.values()) / 2, n)


def _spread(passages: list[Passage], n: int) -> list[Passage]:
    """n of them at equal distances, the first among them."""
    return [passages[i * len(passages) // n] for i in range(n)] if len(passages) > n else passages

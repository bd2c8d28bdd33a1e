"""What a language model is shown and asked, and its answer as one short line.

The words stand in `texts/*.txt`: what is said once and, after a line of `---`, what is asked; `$names` are filled in. A
folder of edited copies can be named instead.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from tiny_dashboard.core.statistics import FeatureStats, visible
from tiny_dashboard.sources.labels import clean

FIRES = 0.3  # of a text's strongest activation: so much fires, as in Paulo et al. 2024
WINDOW = 16  # tokens on each side of the peak
LONGEST_LABEL = 120  # characters
_PROMOTED = 10  # tokens


@dataclass(frozen=True)
class Passage:
    """A stretch of text around the peak of one example.

    Attributes:
        tokens: readable, `[n]`; joined they are the text.
        fires: whether the feature fires at each, `[n]`.
        strength: its strongest activation.
    """

    tokens: tuple[str, ...]
    fires: tuple[bool, ...]
    strength: float

    @classmethod
    def of(cls, tokens: Sequence[str], activations: Any) -> Passage:
        """The tokens around the peak of an example."""
        values = np.nan_to_num(np.asarray(activations, dtype=np.float64), nan=0, posinf=0, neginf=0)
        peak = int(values.argmax()) if len(values) else 0
        here = slice(max(0, peak - WINDOW), peak + WINDOW + 1)
        strongest = float(values.max(initial=0))
        fires = (values[here] >= FIRES * strongest) & (values[here] > 0)
        return cls(tuple(clean_token(token) for token in tokens[here]), tuple(fires.tolist()), strongest)

    @property
    def text(self) -> str:
        """The text, with nothing marked."""
        return "".join(self.tokens).strip()

    def marked(self, at: Sequence[bool] | None = None) -> str:
        """The text with what fires, or what `at` says, between << and >>; neighbours in one pair."""
        where = self.fires if at is None else at
        parts = []
        for i, token in enumerate(self.tokens):
            before, after = i and where[i - 1], i + 1 < len(where) and where[i + 1]
            parts.append(f"{'<<' if where[i] and not before else ''}{token}{'>>' if where[i] and not after else ''}")
        return "".join(parts).strip()


def clean_token(token: str) -> str:
    """A token without what would break a request."""
    return token.encode("utf-8", "replace").decode().replace("\x00", "")


def ask_for_label(
    passages: Sequence[Passage], stats: FeatureStats | None = None, folder: Path | None = None
) -> list[dict[str, str]]:
    """The prompt for a feature's name, from texts in which it fires, and what it promotes where that is known."""
    promoted = [visible(token) for token, _ in (stats.top_logits[-1] if stats and stats.top_logits else ())]
    said = f"It makes these tokens likelier to come next: {' '.join(promoted[:_PROMOTED])}\n" if promoted else ""
    strongest = max((passage.strength for passage in passages), default=1) or 1
    texts = [
        f"Text {n}, strength {max(1, round(10 * p.strength / strongest))} of 10:\n{p.marked()}"
        for n, p in enumerate(passages, 1)
    ]
    return _messages("explain", folder, examples="\n\n".join(texts), promoted=said)


def ask_to_judge(kind: str, label: str, texts: Sequence[str], folder: Path | None = None) -> list[dict[str, str]]:
    """The prompt by which a label is scored, "detect" or "fuzz"; the answer is read by `judgements`."""
    numbered = "\n\n".join(f"Text {n}:\n{text}" for n, text in enumerate(texts, 1))
    return _messages(kind, folder, label=label, examples=numbered, n=str(len(texts)))


def judgements(answer: str, n: int) -> list[bool] | None:
    """The n judgements of an answer: of its last list of noughts and ones; None where it has no such list."""
    answer = _without_thoughts(answer)
    for found in reversed(re.findall(r"\[([01\s,;]*)\]", answer) or [answer]):
        numbers = re.findall(r"(?<![\w.])[01](?![\w.])", found)
        if len(numbers) == n:
            return [number == "1" for number in numbers]
    return None


def short_line(answer: str) -> str:
    """A model's answer as one short line of plain text; "" where there is nothing to be had.

    Thoughts, markup, quotes and what stands before a colon such as "The phrase:" are dropped, the first line and of a
    long one the first sentence is taken, and what is longer still is cut between words.
    """
    text = re.sub(r"```\w*|<<|>>", " ", _without_thoughts(answer)[:20_000])  # it may repeat our own marks
    text = html.unescape(re.sub(r"<(script|style)\b.*?(</\1\s*>|$)", " ", text, flags=re.DOTALL | re.IGNORECASE))
    text = re.sub(r"</?[a-zA-Z!][^<>]*>", " ", text)
    lines = (clean(re.sub(r"^[\s#>*+\-•]+|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}", "", line)) for line in text.splitlines())
    line = next((one for one in lines if re.search(r"\w", one) and not one.endswith(":")), "")
    line = re.sub(r"^(the )?(phrase|label|answer|explanation|description|feature)( is)?\s*:\s*", "", line, flags=re.I)
    line = line.strip(" \"'“”„«».")
    if len(line) > LONGEST_LABEL:
        line = re.split(r"(?<=[.!?;])\s", line)[0].strip(" \"'“”„«».")
    if len(line) > LONGEST_LABEL:
        line = line[:LONGEST_LABEL].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"
    return line


def _without_thoughts(answer: str) -> str:
    return re.sub(r"<think(ing)?>.*?(</think(ing)?>|$)", " ", answer, flags=re.DOTALL).strip()


def _messages(name: str, folder: Path | None, **words: str) -> list[dict[str, str]]:
    system, _, user = _template(name, folder).partition("\n---\n")
    try:
        # What is filled in is not looked at for names again.
        return [
            {"role": "system", "content": system.strip()},
            {"role": "user", "content": Template(user).substitute(words).strip()},
        ]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}.txt: {error}; it may have {', '.join(f'${w}' for w in words)}, and $$ is $") from None


@lru_cache(maxsize=16)
def _template(name: str, folder: Path | None) -> str:
    own = folder / f"{name}.txt" if folder else None
    file = own if own and own.is_file() else Path(__file__).parent / "texts" / f"{name}.txt"
    return file.read_text(encoding="utf-8")

"""Names for features by a language model, with scores.

The method is that of automated interpretability: a model sees texts in which a feature fires, with the tokens marked,
and says what they have in common (Bills et al. 2023, "Language models can explain neurons in language models"); in the
form of Paulo et al. 2024, "Automatically Interpreting Millions of Features in Large Language Models": texts from all
strengths and not the strongest only, the promoted tokens where they are known, and scores by detection and fuzzing on
texts that the label was not made from (scores.py). A feature that has a label of this model is not asked for again, so
that a run goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.explain.prompts import Passage, ask_for_label, ask_to_judge, short_line
from tiny_dashboard.explain.requests import LanguageModel, Messages
from tiny_dashboard.explain.scores import (
    BATCH,
    JUDGED,
    Score,
    detection,
    fuzzing,
    negatives,
    pool,
    split,
)
from tiny_dashboard.sources.labels import Label

READ = 100  # examples of a feature
_ANSWER_TOKENS, _LETTERS = 40, 4  # of an answer; characters of a token: both about


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        labelled: features that have a label now.
        without: features for which the model gave no answer of use.
        bare: features that have no examples to be named from.
    """

    labelled: list[int] = field(default_factory=list)
    without: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)


class Explainer:
    """Names the features of a dashboard with one language model.

    Args:
        dashboard: its examples; the labels go into its store.
        name: the model, as its server calls it; the source of its labels.
        with_fuzzing: score by fuzzing too; that score stands in the note.
        prompts: a folder of edited prompts; a file that it lacks is ours.
    """

    def __init__(
        self, dashboard: OfflineDashboard, name: str, *, with_fuzzing: bool = False, prompts: Path | None = None
    ) -> None:
        self.dashboard, self.name, self.with_fuzzing, self.prompts = dashboard, name, with_fuzzing, prompts
        self._others: list[tuple[int, Passage]] | None = None

    def left(self, features: Sequence[int] | None = None) -> list[int]:
        """The features that this model has not named yet."""
        done = {label.feature for label in self.dashboard.labels.last() if label.source == self.name and label.label}
        return [f for f in (self.dashboard.features if features is None else features) if f not in done]

    async def explain(self, model: LanguageModel, feature: int) -> Label | None:
        """Name and score one feature, and keep it; None where there is no example, or the model gives no name.

        Raises:
            ConnectionError, PermissionError, ValueError: as `LanguageModel.ask`.
        """
        examples = self.examples(feature)
        shown, held_out = split(examples)
        if not shown:
            return None
        prompt = self.prompt(feature, shown)
        text = short_line(await model.ask(prompt)) or short_line(await model.ask(prompt))
        if not text:
            return None
        others = negatives(feature, examples, self.others(), len(held_out))
        how: Any = {"seed": feature, "folder": self.prompts}
        found = await detection(model.ask, text, held_out, others, **how) if held_out and others else Score(None, 0)
        note = ""
        if self.with_fuzzing and held_out:
            fuzzed = await fuzzing(model.ask, text, held_out, **how)
            note = f"fuzzing {fuzzed.value:.2f} of {fuzzed.n}" if fuzzed.value is not None else ""
        said = {"label": text, "note": note, "score": found.value, "n_judgements": found.n or None}
        label = Label.of({"feature": feature, "source": self.name, **said})
        self.dashboard.labels.add(label)
        return label

    async def explain_all(
        self, model: LanguageModel, features: Sequence[int], tell: Callable[[int], None] = lambda feature: None
    ) -> Outcome:
        """Name features, as many at once as the model takes requests; `tell` hears of each that is done."""
        outcome = Outcome()
        waiting: Iterator[int] = iter(features)
        self.others()

        async def work() -> None:
            for feature in waiting:
                label = await self.explain(model, feature)
                if label is not None:
                    outcome.labelled.append(feature)
                else:
                    (outcome.without if split(self.examples(feature))[0] else outcome.bare).append(feature)
                tell(feature)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(model.at_once, len(features))):
                group.create_task(work())
        return outcome

    def examples(self, feature: int) -> list[Example]:
        """A feature's examples, with readable tokens."""
        rows = self.dashboard.read(feature, max_examples=READ)
        return [example._replace(tokens=list(passage.tokens)) for example, passage in rows]

    def others(self) -> list[tuple[int, Passage]]:
        """Texts of many features, for the judges."""
        if self._others is None:
            self._others = pool(self.dashboard.features, self.examples)
        return self._others

    def prompt(self, feature: int, shown: Sequence[Passage]) -> Messages:
        """What is asked of a feature."""
        return ask_for_label(shown, self.dashboard.stats(feature), self.prompts)

    def plan(self, features: Sequence[int], sample: int = 20) -> tuple[Messages, int, int]:
        """One prompt, and about how many requests and tokens it takes to name features, from a sample of them."""
        looked_at = features[:: max(1, len(features) // sample)][:sample]
        prompt: Messages = []
        requests = letters = 0
        for feature in looked_at:
            shown, held_out = split(self.examples(feature))
            if shown:
                prompt = prompt or self.prompt(feature, shown)
                asked = [self.prompt(feature, shown)]
                kinds = {"detect": 2 * len(held_out), "fuzz": len(held_out) if self.with_fuzzing else 0}
                for kind, n in kinds.items():
                    texts = ([passage.text for passage in held_out] * 2)[:n]
                    batches = [texts[i : i + BATCH] for i in range(0, n, BATCH)]
                    asked += [ask_to_judge(kind, "x" * JUDGED, batch, self.prompts) for batch in batches]
                requests += len(asked)
                letters += sum(len(message["content"]) for messages in asked for message in messages)
        share = len(features) / max(1, len(looked_at))
        tokens = letters / _LETTERS + requests * _ANSWER_TOKENS
        return prompt, round(share * requests), round(share * tokens)

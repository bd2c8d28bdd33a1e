"""The commands `labels export`, `labels import` and `explain`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

labels = typer.Typer(no_args_is_help=True, help="Labels and notes of features, out and in.")

Source = Annotated[str, typer.Argument(metavar="SRC", help="Examples: a path or a Hub dataset id.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="Where labels are kept; None: beside the examples.")
]


@labels.command("export")
def export_command(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="FILE", help="labels.csv, or labels.jsonl as Neuronpedia names things.")],
    kept: Labels = None,
) -> None:
    """Write the labels of all features to a file."""
    from tiny_dashboard.dashboards.offline import OfflineDashboard
    from tiny_dashboard.explain.exchange import export_labels

    dashboard = OfflineDashboard.open(source, labels=kept)
    print(f"{export_labels(dashboard, out):,} labels in {out}")
    _say(dashboard.labels.complaints(dashboard.features))


@labels.command("import")
def import_command(
    source: Source,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .jsonl of labels.")],
    author: Annotated[str, typer.Option(help="Of lines that name none.")] = "",
    by: Annotated[str, typer.Option("--source", help="Of lines that name none: person, or what made them.")] = "person",
    kept: Labels = None,
) -> None:
    """Add the labels of a file to those of the examples."""
    from tiny_dashboard.dashboards.offline import OfflineDashboard
    from tiny_dashboard.explain.exchange import import_labels

    dashboard = OfflineDashboard.open(source, labels=kept)
    number, complaints = import_labels(dashboard, file, author=author, source=by)
    print(f"{number:,} new labels in {dashboard.labels.path or 'memory'}")
    _say(complaints)


def _say(sentences: list[str]) -> None:
    for sentence in sentences:
        print(sentence, file=sys.stderr)


def explain(
    source: Source,
    llm: Annotated[str, typer.Option(metavar="MODEL", help="The language model, as its server calls it.")],
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server; else the Hub's Inference Providers.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="Which: 1,2,5-9; else all.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels; else labels.jsonl beside the examples.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print one prompt, and what all would cost.")] = False,
    fuzzing: Annotated[bool, typer.Option("--fuzzing", help="Score by fuzzing, too.")] = False,
    prompts: Annotated[Path | None, typer.Option(metavar="DIR", help="Edited copies of explain/texts/*.txt.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer; more for a model that thinks aloud.")] = 256,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="T", help="Path or Hub id, where the source names none.")
    ] = None,
) -> None:
    """Let a language model name features, and score each name on texts that it was not made from.

    Ctrl-C saves, and the same command goes on.
    """
    from tiny_dashboard.core.examples import check_feature
    from tiny_dashboard.core.text import parse_features
    from tiny_dashboard.dashboards.offline import OfflineDashboard
    from tiny_dashboard.explain.explaining import Explainer

    if out is not None and out.suffix != ".jsonl":
        raise typer.BadParameter(f"--out {out} is where labels are kept, as JSON lines: name a .jsonl file")
    dashboard = OfflineDashboard.open(source, tokenizer, labels=out)
    if prompts is not None and not prompts.is_dir():
        raise typer.BadParameter(f"--prompts {prompts} is no folder")
    if dashboard.labels.path is None and not dry_run:
        raise typer.BadParameter(f"labels need a file: {dashboard.labels.kept_in_memory}; name it with --out")
    explainer = Explainer(dashboard, llm, with_fuzzing=fuzzing, prompts=prompts)
    chosen = (
        None
        if features is None
        else [check_feature(f, dashboard.max_activation_examples) for f in parse_features(features)]
    )
    left = explainer.left(chosen)
    if dry_run:
        prompt, requests, tokens = explainer.plan(left)
        for message in prompt:
            print(f"--- {message['role']}\n{message['content']}")
        print(f"---\n{len(left):,} features: about {requests:,} requests, {tokens:,} tokens")
        return
    if not left:
        print(f"{llm} has named all of these features already; their labels are in {dashboard.labels.path}")
        return
    how = {"at_once": at_once, "max_tokens": max_tokens}
    try:
        asyncio.run(_explain(explainer, left, llm, base_url, how))
    except ExceptionGroup as group:  # of all that were under way; what ended the first ended them
        raise group.exceptions[0] from None


async def _explain(explainer: Any, left: Sequence[int], llm: str, base_url: str | None, how: dict[str, int]) -> None:
    from tqdm import tqdm

    from tiny_dashboard.explain.requests import LanguageModel

    said = f"in {explainer.dashboard.labels.path}; the same command goes on"
    with tqdm(total=len(left), unit=" features", disable=None) as bar:
        try:
            async with LanguageModel(llm, base_url, **how) as model:
                outcome = await explainer.explain_all(model, left, lambda feature: bar.update())
        except asyncio.CancelledError:
            raise KeyboardInterrupt(f"stopped; {bar.n:,} features were named, {said}") from None
    print(f"{len(outcome.labelled):,} features named by {llm}, {model.sent:,} requests")
    for what, missing in (("got no answer of use", outcome.without), ("have no examples", outcome.bare)):
        if missing:
            first = ", ".join(map(str, sorted(missing)[:5]))
            _say([f"{len(missing):,} features {what} ({first}{', …' if len(missing) > 5 else ''})"])
    if outcome.without and not outcome.labelled:
        raise ValueError(f"{llm} gave no answer of use for any feature; try --dry-run, or a larger model")

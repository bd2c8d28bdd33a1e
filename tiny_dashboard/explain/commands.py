"""The commands `labels export`, `labels import` and `explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

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

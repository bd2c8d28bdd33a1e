"""Labels out and in: as CSV, and as JSON lines with the names that Neuronpedia has for explanations.

    {"modelId", "layer", "index": "7", "description", "explanationModelName", "typeName", "notes"}

and ours beside these, `author, source, score, n_judgements, time`, so that what goes out comes in again as it was.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from operator import index
from pathlib import Path
from typing import Any

from tiny_dashboard.core.files import write_text
from tiny_dashboard.dashboards.offline import OfflineDashboard
from tiny_dashboard.sources.labels import PERSON, Label

COLUMNS = tuple(field.name for field in fields(Label))
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute what begins so
_OURS = {"index": "feature", "description": "label", "notes": "note", "explanationModelName": "source"}


def export_labels(dashboard: OfflineDashboard, out: str | Path) -> int:
    """Write what is said of the features: the last label of each author and model, and what the source itself knows.

    Args:
        dashboard: the examples and their labels.
        out: a file that ends in .csv or .jsonl.

    Returns:
        The number of labels written.

    Raises:
        ValueError: the file ends in something else.
    """
    out = Path(out)
    if out.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{out.name} is neither .csv nor .jsonl; name a file that ends in one of them")
    labels = _all_labels(dashboard)
    write_text(out, labels_csv(labels) if out.suffix == ".csv" else _jsonl(labels, dashboard))
    return len(labels)


def import_labels(dashboard: OfflineDashboard, file: str | Path, **usual: str) -> tuple[int, list[str]]:
    """Add the labels of a file: all of them, or none where a line is broken; those that are there already, once.

    Args:
        dashboard: whose features they are; where it has no such feature, the label is kept all the same.
        file: .csv with a `feature` and a `label` column, or JSON lines with our names or Neuronpedia's.
        usual: `author` and `source` of lines that do not say theirs.

    Returns:
        The number of labels that are new, and in words what a person should know of all that are there now.

    Raises:
        ValueError: a line is no label; the first is named, and how many there are.
    """
    file = Path(file)
    store = dashboard.labels
    # Where a line does not say when, any time will do.
    there = {said for label in store.all() for said in (label, replace(label, time=""))}
    new: list[Label] = []
    wrong: list[str] = []
    for number, record in _records(file):
        try:
            label = Label.of({**usual, **{name: v for name, v in record.items() if v not in (None, "")}})
            seen = label if record.get("time") else replace(label, time="")
            if (label.label or label.note) and seen not in there:
                new.append(label)
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        raise ValueError(f"{file.name}: {len(wrong)} lines are no labels, and nothing was imported; {wrong[0]}")
    if new:
        store.add(*new)
    return len(new), store.complaints(dashboard.features)


def _all_labels(dashboard: OfflineDashboard) -> list[Label]:
    given = dashboard.labels.last()
    named = {label.feature for label in given if label.label}
    table = dashboard.table
    known = []
    for feature, text in zip(table.ids.tolist(), table.raw("label"), strict=True):
        if text and feature not in named:
            stats = dashboard.stats(feature)
            source = (stats and stats.extra.get("label_source")) or dashboard.info.format
            known.append(Label.of({"feature": feature, "label": text, "source": source}, cut=True))
    return sorted((*given, *known), key=lambda label: (label.feature, label.time))


def labels_csv(labels: Iterable[Label]) -> str:
    """Labels as CSV, in which a spreadsheet computes nothing; `import_labels` reads them as they were."""
    text = io.StringIO()
    rows = csv.DictWriter(text, COLUMNS)
    rows.writeheader()
    for label in labels:
        cells = asdict(label)
        rows.writerow({name: f"'{v}" if str(v).startswith((*_FORMULA, "'")) else v for name, v in cells.items()})
    return text.getvalue()


def _jsonl(labels: list[Label], dashboard: OfflineDashboard) -> str:
    info = dashboard.info
    where = f"{info.layer}-{info.dictionary or info.hook_point or 'resid_post'}" if info.layer is not None else ""
    lines = []
    for label in labels:
        record: dict[str, Any] = {"modelId": "/".join(info.models), "layer": where, "index": str(label.feature)}
        record |= {"description": label.label, "notes": label.note, "typeName": ""}
        record["explanationModelName"] = "" if label.source == PERSON else label.source
        own = asdict(label)
        record |= {name: own[name] for name in ("author", "source", "score", "n_judgements", "time")}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines)


def _records(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The lines of a file with their numbers, by our names."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        if file.suffix == ".csv":
            rows = csv.DictReader(lines)
            if "feature" not in (rows.fieldnames or ()):
                raise ValueError(f"{file.name} has no column feature; its columns are {rows.fieldnames}")
            for row in rows:
                yield rows.line_num, {name: _cell(name, text) for name, text in row.items() if name in COLUMNS}
            return
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    record = json.loads(line)
                    ours = {_OURS.get(name, name): value for name, value in record.items() if value not in (None, "")}
                except (ValueError, AttributeError) as error:
                    raise ValueError(f"{file.name}, line {number}, is no JSON record: {error}") from None
                yield number, {**ours, "feature": _number(ours.get("feature"))}


def _cell(name: str, text: Any) -> Any:
    text = text or ""
    if text[:1] == "'" and text[1:2] and text[1] in (*_FORMULA, "'"):
        text = text[1:]
    return _number(text) if name in ("feature", "score", "n_judgements") else text


def _number(value: Any) -> Any:
    """A number that stands as a text; what is none stays, and is said by those who check it."""
    for kind in (int, float):
        try:
            return kind(value) if isinstance(value, str) else index(value)
        except (TypeError, ValueError):
            continue
    return value

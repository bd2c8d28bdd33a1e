"""Any examples, written anew in our layout."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import ExampleSource, SourceInfo
from tiny_dashboard.core.files import whole_folder
from tiny_dashboard.core.statistics import COLUMNS, FeatureTable
from tiny_dashboard.hub import load_tokenizer
from tiny_dashboard.sources import open_examples
from tiny_dashboard.sources.label_store import LabelStore, labels_for
from tiny_dashboard.sources.parquet import ParquetExamples
from tiny_dashboard.sources.write import write_dataset, write_labels


def convert(
    source: Any,
    folder: str | Path,
    *,
    tokenizer: Any = None,
    labels: str | Path | LabelStore | None = None,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Read examples feature by feature and write them as a dataset; our own layout is copied as it is.

    The labels come along: all of them in `labels.jsonl`, and those that are shown in the `features` table too.

    Args:
        source: anything `open_examples` takes; `options` go to it.
        folder: where to write; it must not exist, or be empty. It is written whole or not at all.
        tokenizer: the tokenizer of the token ids, or its Hub id or folder. Its name goes into the metadata, and it
            makes the snippets readable.
        labels: as for `OfflineDashboard`.
        progress: show a progress bar on stderr.

    Returns:
        `folder`.

    Raises:
        FileExistsError: `folder` holds something already.
        ValueError: a feature cannot be read; it is named. Or there are token ids, and nothing says whose.
    """
    from tqdm import tqdm

    examples = open_examples(source, tokenizer=tokenizer, **options)
    info = examples.info if isinstance(examples, ExampleSource) else SourceInfo("dict")
    folder = Path(folder).absolute()
    store = labels_for(examples, labels)
    if isinstance(examples, ParquetExamples):
        return _copy(examples, folder, store)
    features = sorted(examples)
    first = next((row for f in features for row in examples[f]), None)
    if first is not None and not len(first[1]) and info.tokenizer is None:
        raise ValueError(
            f"{source} holds token ids and does not say which tokenizer made them; pass tokenizer=, for example "
            "tokenizer='google/gemma-2-2b' (on the command line: --tokenizer google/gemma-2-2b)"
        )
    if isinstance(tokenizer, (str, Path)):
        tokenizer = load_tokenizer(tokenizer)
    known = {name: getattr(info, name) for name in ("tokenizer", "models", "dictionary", "layer", "hook_point")}
    metadata = {name: value for name, value in known.items() if value} | dict(info.extra)
    metadata.setdefault("converted_from", info.format)
    own = examples if isinstance(examples, ExampleSource) else None
    rows = ((f, examples[f]) for f in tqdm(features, desc="examples", unit=" features", disable=not progress))
    stats = (
        record
        for feature in tqdm(features, desc="statistics", unit=" features", disable=not progress)
        if (record := store.over(own.stats(feature) if own else None, feature)) is not None
    )
    extra = [c for c in store.table(own.table() if own else FeatureTable(features)).columns if c not in COLUMNS]
    written = write_dataset(folder, rows, stats, metadata, tokenizer=tokenizer, extra=extra)
    store.copy(written)
    return written


def _copy(source: ParquetExamples, folder: Path, labels: LabelStore) -> Path:
    """The same dataset elsewhere; labels are added, and a tokenizer that was named relative to it is named anew."""
    with whole_folder(folder) as partial:
        there = source.folder()
        try:
            shutil.copytree(there, partial, dirs_exist_ok=True)
        except shutil.Error as error:  # a list of what went wrong with each file
            raise OSError(error.args[0][0][2]) from error
        metadata = source.metadata
        named, found = metadata.get("tokenizer"), source.info.tokenizer
        if found is not None and found != named:
            is_folder = Path(found).is_dir()
            metadata = metadata | {"tokenizer": os.path.relpath(found, folder) if is_folder else found}
        if known := labels.known():
            labels.copy(partial)
            files = [there / file["name"] for file in metadata["features_files"]]
            metadata = metadata | {"features_files": write_labels(partial, files, known)}
        if metadata is not source.metadata:
            (partial / "metadata.json").write_text(json.dumps(metadata, indent=1), encoding="utf-8")
    return folder

"""Open max-activating examples, whatever file they are in: one module for each format, told apart by content.

To add a format, copy one of the modules (circuit_tracer.py is the shortest for files, quantile_db.py for a
database) and name its class in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import Example, ExampleSource
from tiny_dashboard.hub import parse_name

# module -> its class, which has `recognises(path) -> bool` and opens a path.
FORMATS = {
    "parquet": "ParquetExamples",
    "formats.sqlite_json": "SqliteJsonExamples",
    "formats.quantile_db": "QuantileDbExamples",
    "formats.diffing_store": "DiffingStoreExamples",
    "formats.pickled": "PickledExamples",
    "formats.saedashboard": "SaeDashboardExamples",
    "formats.neuronpedia": "NeuronpediaExamples",
    "formats.delphi_cache": "DelphiExamples",
    "formats.openai_viewer": "OpenAiViewerExamples",
    "formats.circuit_tracer": "CircuitTracerExamples",
}


def open_examples(source: Any, *, tokenizer: Any = None, **options: Any) -> Mapping[int, Sequence[Example]]:
    """Open examples: a dict is returned as it is, a path or Hub dataset by the format that recognises its content.

    `feature_df.csv` and explanations that lie beside the examples are read too.

    Args:
        source: a dict `{feature: [(max_activation, tokens, activations)]}`, an open source, a path, or a dataset on
            the Hub: `owner/name`, `owner/name/file`, `owner/name@revision`.
        tokenizer: a tokenizer, or its Hub id or folder, where the source does not name its own.
        options: passed to the format: `table_name` and `column_name` for SQLite JSON, `max_examples` for delphi.

    Returns:
        A read-only mapping from feature to its examples, strongest first; an `ExampleSource` where it is a file.

    Raises:
        FileNotFoundError: there is no such path, and no such dataset.
        PermissionError: the dataset is gated.
        ConnectionError: the Hub cannot be reached, or does not answer.
        ValueError: no format recognises it, or several do.
        TypeError: `source` is neither a mapping nor a path.
    """
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, (str, Path)):
        raise TypeError(f"examples come from a dict or a path, not from {type(source).__name__}")
    path = Path(source).expanduser()
    if path.exists():
        opened = _open_path(path, options)
    else:
        from tiny_dashboard.sources.remote import fetch

        name = parse_name(source)
        if name is None:
            raise FileNotFoundError(f"there is no file or folder {path}")
        found = fetch(name)
        opened = _open_path(found, options) if isinstance(found, Path) else found
    if tokenizer is not None:
        opened.info = replace(opened.info, tokenizer=str(getattr(tokenizer, "name_or_path", tokenizer)))
    return opened


def _open_path(path: Path, options: dict[str, Any]) -> ExampleSource:
    classes = [getattr(import_module(f".{module}", __name__), name) for module, name in FORMATS.items()]
    found = [cls for cls in classes if cls.recognises(path)]
    if not found and path.is_dir():
        # A folder around one file of examples, as the Hub's datasets are.
        files = [f for f in sorted(path.iterdir()) if f.suffix in (".db", ".sqlite", ".sqlite3", ".pt")]
        if len(files) == 1:
            return _open_path(files[0], options)
        if files:
            raise ValueError(f"{path} holds several files of examples, open one: {', '.join(f.name for f in files)}")
    if len(found) != 1:
        names = ", ".join(cls.__name__.removesuffix("Examples") for cls in found or classes)
        if path.is_file() and not path.stat().st_size:
            raise ValueError(f"{path} is empty: it was never written, or its download broke off")
        if found:
            raise ValueError(f"{path} can be read in several ways ({names}); open the file or the folder that you mean")
        raise ValueError(f"{path} is in none of the known formats: {names}")
    opened: ExampleSource = found[0](path, **options)

    from tiny_dashboard.sources.side_files import WithSideFiles, read_side_files

    side = read_side_files(path if path.is_dir() else path.parent, opened.info.extra.get("hookpoint"))
    return WithSideFiles(opened, side) if side else opened

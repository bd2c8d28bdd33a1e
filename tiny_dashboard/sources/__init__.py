"""Open max-activating examples, whatever file they are in: one module for each format, told apart by content.

A format is a module with `NAME`, `recognises(path) -> bool` and `open(path, **options) -> Mapping`. To add one, copy a
module of `formats/` (circuit_tracer.py is the shortest for files, quantile_db.py for a database); one of the user's own
is passed as `format=`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from tiny_dashboard.core.examples import BROKEN, Example, ExampleSource
from tiny_dashboard.hub import parse_name
from tiny_dashboard.sources.base import LazyReader, Renewal
from tiny_dashboard.sources.side_files import WithSideFiles, read_side_files

MOST_FILES = 200  # of a folder that no format recognises: so many are looked at, one by one


def open_examples(
    source: Any, *, tokenizer: Any = None, format: Any = None, **options: Any
) -> Mapping[int, Sequence[Example]]:
    """Open examples: a dict is returned as it is, a path or Hub dataset by the format that recognises its content.

    `feature_df.csv` and explanations that lie beside the examples are read too.

    Args:
        source: a dict `{feature: [(max_activation, tokens, activations)]}`, an open source, a path, or a dataset on
            the Hub: `owner/name`, `owner/name/file`, `owner/name@revision`.
        tokenizer: a tokenizer, or its Hub id or folder, where the source does not name its own.
        format: the name of a format, where telling it from the content goes wrong; or a module, object or function of
            your own that opens a path: `open(path, **options)`.
        options: passed to the format: `table_name` and `column_name` for SQLite JSON, `max_examples` for delphi.

    Returns:
        A read-only mapping from feature to its examples, strongest first; an `ExampleSource` where it is a file. Where
        it stores ids and its tokenizer is known, `tokens` are read from them when they are first looked at.

    Raises:
        FileNotFoundError: there is no such path, and no such dataset.
        PermissionError: the dataset is gated.
        ConnectionError: the Hub cannot be reached, or does not answer.
        ValueError: no format recognises it, or several do, or there is no format of that name.
        TypeError: `source` is neither a mapping nor a path.
    """
    if isinstance(source, Mapping):
        return source
    if not isinstance(source, (str, Path)):
        raise TypeError(f"examples come from a dict or a path, not from {type(source).__name__}")
    path = Path(source).expanduser()
    if path.exists():
        opened = _open_path(path, format, options)
    else:
        from tiny_dashboard.sources.remote import fetch

        name = parse_name(source)
        if name is None:
            raise FileNotFoundError(f"there is no file or folder {path}")
        found = fetch(name)
        opened = _open_path(found, format, options) if isinstance(found, Path) else found
    if isinstance(opened, ExampleSource):
        if tokenizer is not None:
            opened.info = replace(opened.info, tokenizer=str(getattr(tokenizer, "name_or_path", tokenizer)))
        opened.read_ids = LazyReader(tokenizer if tokenizer is not None else opened.info.tokenizer)
    return opened


def known_formats() -> dict[str, Any]:
    """The modules of the formats by their names, ours first."""
    inside = iter_modules([str(Path(__file__).parent / "formats")])
    names = ["parquet", *(f"formats.{module.name}" for module in inside)]
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return {module.NAME: module for module in modules}


def _open_path(path: Path, asked: Any, options: dict[str, Any]) -> Any:
    if asked is not None and not isinstance(asked, str):
        return Renewal.of(lambda: getattr(asked, "open", asked)(path, **options))
    known = known_formats()
    if asked is not None and asked not in known:
        raise ValueError(f"there is no format {asked!r}; there are {', '.join(known)}")
    path, module = (path, known[asked]) if asked else _recognise(path, known)

    def open_it() -> Any:
        try:
            return module.open(path, **options)
        except BROKEN as error:
            raise ValueError(f"cannot read {path} as {module.NAME}: {type(error).__name__}: {error}") from error

    # Our own layout sees by itself that it is written anew.
    opened = open_it() if module is known["parquet dataset"] else Renewal.of(open_it)
    if not isinstance(opened, ExampleSource):
        return opened
    side = read_side_files(path if path.is_dir() else path.parent, opened.info.extra.get("hookpoint"))
    return WithSideFiles(opened, side) if side else opened


def _recognise(path: Path, known: Mapping[str, Any]) -> tuple[Path, Any]:
    """The one format of a path; or of the one file that some format recognises in a folder, as on the Hub."""
    fitting = [name for name, module in known.items() if module.recognises(path)]
    if not fitting and path.is_dir():
        files = [
            file for file in sorted(path.iterdir())[:MOST_FILES] if file.is_file() and not file.name.startswith(".")
        ]
        inside = [(file, name) for file in files for name, module in known.items() if module.recognises(file)]
        if len({file for file, _ in inside}) > 1:
            names = ", ".join(dict.fromkeys(file.name for file, _ in inside))
            raise ValueError(f"{path} holds several files of examples, open one: {names}")
        if inside:
            path, fitting = inside[0][0], [name for _, name in inside]
    if len(fitting) == 1:
        return path, known[fitting[0]]
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path} is empty: it was never written, or its download broke off")
    if fitting:
        raise ValueError(
            f"{path} can be read in several ways ({', '.join(fitting)}); open the file or the folder that you mean, or "
            "name the format with format="
        )
    raise ValueError(f"{path} is in none of the known formats: {', '.join(known)}")

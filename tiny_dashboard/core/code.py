"""The Python that makes what is shown: "copy as code"."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LONGEST = 88  # characters of a line
# Where the Hub's client keeps a file of a repository: owner, name, and what is inside of it.
_DOWNLOADED = re.compile(r"[/\\](?:models|datasets)--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\][^/\\]+(?:[/\\](.+))?$")


def call(name: str, *given: Any, **named: Any) -> str:
    """The source of a call; an argument by name that is None is the usual one, and left out."""
    arguments = [repr(value) for value in given]
    arguments += [f"{key}={value!r}" for key, value in named.items() if value is not None]
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= LONGEST:
        return line
    return f"{name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def public_name(source: Any, parts: int = 1) -> str:
    """What a model, a tokenizer or a file is called where its folder is private: a Hub id, or the end of a path.

    Args:
        source: a name, a path, or an object with `name_or_path`.
        parts: of the path, counted from its end.
    """
    name = str(getattr(source, "name_or_path", source)).rstrip("/\\")
    if downloaded := _DOWNLOADED.search(name):
        return "/".join(filter(None, downloaded.groups()))
    is_path = isinstance(source, Path) or Path(name).is_absolute() or name.startswith((".", "~")) or Path(name).exists()
    return "/".join(Path(name).parts[-parts:]) if is_path else name

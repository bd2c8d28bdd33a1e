"""The simplest file: `json.dump` of `{feature: [(max_activation, [token], [activation])]}`; `.json` or `.json.gz`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiny_dashboard.core.examples import SourceInfo
from tiny_dashboard.core.files import open_bytes
from tiny_dashboard.sources.base import FileSource, head

NAME = "JSON dict"


class JsonDictExamples(FileSource):
    """Examples in one JSON file; the whole file is in memory once a feature is asked for."""

    info = SourceInfo(NAME)

    def files(self) -> Iterable[Path]:
        return [self.path]

    def parse(self, file: Path) -> Mapping[int, tuple[list[Any], None]]:
        with open_bytes(file) as stream:
            content = json.load(stream)
        return {int(feature): (rows, None) for feature, rows in content.items()}


def recognises(path: Path) -> bool:
    """Whether it begins as a JSON object whose first key is a number, and whose value is a list of lists."""
    return bool(re.match(r'\s*\{\s*"\d+"\s*:\s*\[\s*(\[|\])', head(path, 4096)))


open = JsonDictExamples

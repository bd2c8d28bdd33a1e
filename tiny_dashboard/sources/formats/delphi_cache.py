"""delphi's cache of activations: `<hookpoint>/<start>_<end>.safetensors` and `config.json`.

    locations[n, 3]   row, position, feature - start; uint16 or uint32
    activations[n]    float16
    tokens[rows, length]   optional, repeated in each shard

It holds every activation, so the examples are the rows in which a feature is strongest.
"""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tiny_dashboard.core.examples import Example, ExampleSource, SourceInfo
from tiny_dashboard.core.statistics import FeatureStats

NAME = "delphi cache"


class DelphiExamples(ExampleSource):
    """Examples in a cache of delphi: one hookpoint's folder, or the folder above where it has only one.

    Args:
        path: the folder.
        max_examples: rows shown of a feature; a feature may have fired in millions.
    """

    def __init__(self, path: str | Path, max_examples: int = 100) -> None:
        folders = _hookpoints(Path(path))
        if len(folders) != 1:
            raise ValueError(f"{path} holds several hookpoints, open one of them: {', '.join(f.name for f in folders)}")
        self.path, self.max_examples = folders[0], max_examples
        self._shards = _shards(self.path)
        self._starts = [int(file.stem.split("_")[0]) for file in self._shards]
        self._lock = threading.Lock()
        self._kept = lru_cache(maxsize=1)(self._read)
        try:
            config = dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            config = {}
        except (ValueError, TypeError) as error:
            raise ValueError(f"cannot read {self.path / 'config.json'}: {error}") from error
        model = config.get("model_name")
        self.info = SourceInfo(
            NAME,
            tokenizer=model,
            models=[model] if model else [],
            layer=int(m[1]) if (m := re.search(r"layers?\.(\d+)", self.path.name)) else None,
            extra={"hookpoint": self.path.name, **config},
        )

    @cached_property
    def _features(self) -> list[int]:
        return sorted({int(f) for shard in range(len(self._shards)) for f in self._load(shard)[0]})

    def features(self) -> Sequence[int]:
        return self._features

    @cached_property
    def _tokens(self) -> np.ndarray[Any, Any]:
        from safetensors import safe_open

        for shard in self._shards:
            if "tokens" in _header(shard):
                with safe_open(shard, "numpy") as file:
                    tokens = file.get_tensor("tokens")
                if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
                    raise ValueError(f"{shard} has tokens {tokens.dtype} {tokens.shape}, not whole numbers in rows")
                return tokens
        raise ValueError(f"{self.path} was cached without tokens; cache it again with save_tokens=True")

    def load(self, feature: int) -> Sequence[Example]:
        rows, positions, values = self._of(feature)
        tokens = self._tokens
        if len(rows) and (rows.max() >= tokens.shape[0] or positions.max() >= tokens.shape[1]):
            raise ValueError(f"feature {feature} in {self.path} fires outside of the {tokens.shape} tokens")
        found, where = np.unique(rows, return_inverse=True)
        peaks = np.full(len(found), -np.inf, dtype=np.float32)
        np.maximum.at(peaks, where, values)
        examples: list[Example] = []
        for i in np.argsort(-peaks, kind="stable")[: self.max_examples]:
            activations = np.zeros(tokens.shape[1], dtype=np.float32)
            activations[positions[where == i]] = values[where == i]
            ids = tokens[found[i]].tolist()
            examples.append(Example(float(peaks[i]), [], activations.tolist(), ids, len(examples), doc=int(found[i])))
        return examples

    def stats(self, feature: int) -> FeatureStats | None:
        if feature not in self:
            return None
        _, _, values = self._of(feature)
        return FeatureStats(
            feature,
            n_active=len(values),
            density=len(values) / self._tokens.size,
            max_activation=float(values.max()),
            mean_activation=float(values.mean()),
        )

    def _of(self, feature: int) -> tuple[np.ndarray[Any, Any], ...]:
        """Rows, positions and values at which a feature fires, `[n]` each."""
        ids, ends, locations, values = self._load(bisect_right(self._starts, feature) - 1)
        i = int(np.searchsorted(ids, feature))
        here = slice(ends[i - 1] if i else 0, ends[i])
        return locations[here, 0], locations[here, 1], values[here]

    def _load(self, number: int) -> tuple[np.ndarray[Any, Any], ...]:
        with self._lock:  # threads that want the same shard read it once
            return self._kept(number)

    def _read(self, number: int) -> tuple[np.ndarray[Any, Any], ...]:
        """A shard sorted by feature: its features, where each ends, locations and values."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            content = load_file(self._shards[number])
            locations, values = content["locations"], content["activations"]
        except (SafetensorError, OSError, KeyError) as error:
            raise ValueError(f"cannot read {self._shards[number]}: {error}") from error
        order = np.argsort(locations[:, 2], kind="stable")
        ids, counts = np.unique(locations[:, 2], return_counts=True)
        if len(values) != len(locations) or np.isnan(values).any():
            raise ValueError(
                f"{self._shards[number]} has {len(values)} activations for {len(locations)} places, or NaN"
            )
        ids = ids.astype(np.int64) + self._starts[number]
        return ids, np.cumsum(counts), locations[order].astype(np.int64), values[order].astype(np.float32)


def recognises(path: Path) -> bool:
    """Whether a shard's header names locations and activations."""
    folders = _hookpoints(path)
    return bool(folders) and {"locations", "activations"} <= set(_header(_shards(folders[0])[0]))


def open(path: Path, **options: Any) -> DelphiExamples:
    """Open it; see `DelphiExamples`."""
    return DelphiExamples(path, **options)


def _shards(folder: Path) -> list[Path]:
    files = folder.glob("*_*.safetensors")
    return sorted((f for f in files if re.fullmatch(r"\d+_\d+", f.stem)), key=lambda f: int(f.stem.split("_")[0]))


def _hookpoints(path: Path) -> list[Path]:
    """The folders with shards: this one, or those in it."""
    if not path.is_dir():
        return []
    return [path] if _shards(path) else sorted(f for f in path.iterdir() if f.is_dir() and _shards(f))


def _header(file: Path) -> dict[str, Any]:
    """The names in a safetensors file; none where it is none."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            return json.loads(stream.read(min(size, 100_000_000)))
    except (OSError, ValueError):
        return {}

"""`Checkpoint`: the tensors and the config of one dictionary on disk, with the checks that every reader needs."""

from __future__ import annotations

import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from torch import Tensor

from tiny_dashboard.core.text import first_line
from tiny_dashboard.dictionaries.dictionary import Rows
from tiny_dashboard.dictionaries.locate import CONFIGS

EAGER_BYTES = 256 * 2**20  # weights below this are read at once, larger ones row by row until all rows are asked for


_HOOKS = (  # the first that matches
    (r"resid_pre", "resid_pre"),
    (r"resid_mid|hook_mlp_in$", "resid_mid"),  # TransformerLens's hook_mlp_in lies before the norm
    (r"ln2\.hook_normalized$|mlp_in_normalized", "mlp_in_normalized"),
    (r"resid_post|(layers|h)[._]\d+(\.output)?$", "resid_post"),
    (r"hook_z$|(o_proj|c_proj|out_proj|dense)\.input$", "z"),
    (r"mlp_in|mlp\.hook_in$|pre_feedforward_layernorm|mlp\.input$", "mlp_in"),
    (r"mlp_out|mlp(\.output|\.hook_out)?$|post_feedforward_layernorm", "mlp_out"),
    (r"(attn|attention)(_out)?(\.output)?$|attention_out|attn_out", "attn_out"),
)


class Config(dict[str, Any]):
    """The JSON or YAML beside the weights, which remembers the keys that were asked for; tables in it too."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__({key: Config(value) if isinstance(value, dict) else value for key, value in values.items()})
        self._asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return super().get(key, default)

    def unread(self) -> dict[str, Any]:
        """What nobody has asked for, by key; of a table that was asked for, what is in it."""
        found = {key: value for key, value in sorted(self.items()) if key not in self._asked}
        for name, value in self.items():
            found |= value.unread() if name in self._asked and isinstance(value, Config) else {}
        return found


class Checkpoint:
    """A weights file and the JSON beside it.

    Args:
        path: the weights file.
        where: names it, for the readers that take layer, width and such from a name: a Hub id with the path in it, or
            the path itself.
        device, dtype: of the tensors that come out.

    Raises:
        ValueError: the file is truncated or holds pickled objects, or the JSON is none.
    """

    def __init__(self, path: Path, *, where: str = "", device: Any = "cpu", dtype: torch.dtype = torch.float32):
        self.path, self.where = path, where or path.absolute().as_posix()
        self.device, self.dtype = device, dtype
        self.config = Config(_read_config(self.path))
        content = {name.replace("_orig_mod.", ""): value for name, value in _open(self.path).items()}
        self.extras = {
            name: value for name, value in content.items() if not hasattr(value, "shape") and not _lazy(value)
        }
        self._sources = {name: value for name, value in content.items() if name not in self.extras}
        self._read: set[str] = set()

    def unread(self) -> list[str]:
        """Names of the tensors that nobody has read."""
        return sorted(self._sources.keys() - self._read)

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def names(self) -> list[str]:
        """Names of all tensors; what is no tensor is in `extras`."""
        return sorted(self._sources)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it.

        Raises:
            ValueError: there is no such tensor; the message lists those that there are.
        """
        source = self._source(name)
        return tuple(source.get_shape() if _lazy(source) else source.shape)

    def scalar(self, name: str, default: float | None = None) -> float:
        """A number that is stored as a tensor, or the default where it is not stored."""
        if name not in self and default is not None:
            return default
        if math.prod(self.shape(name)) != 1:
            self._wrong_shape(name, "a single number")
        return self._taken(name)[...].item()

    def tensor(self, name: str, *shape: int | None, finite: bool = True) -> Tensor:
        """A small tensor (a bias, a threshold); a size of None takes any.

        Raises:
            ValueError: it is missing, of another shape than expected, of integers, or not finite (unless allowed).
        """
        found = self.shape(name)
        if len(found) != len(shape) or any(size not in (None, f) for size, f in zip(shape, found, strict=True)):
            self._wrong_shape(name, str(["any" if size is None else size for size in shape]).replace("'", ""))
        tensor = self._floating(name, self._taken(name)[...]).to(self.device, self.dtype)
        if finite and not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name!r} in {self.path.name} holds NaN or infinite values")
        return tensor

    def rows(self, name: str, layout: str, **sizes: int) -> Rows:
        """A weight as rows of features; `layout` is as in `Rows`, `sizes` (D, L, d) are checked where given.

        Raises:
            ValueError: see `tensor`.
        """
        found = self.shape(name)
        if len(found) != len(layout) or any(sizes.get(axis, f) != f for axis, f in zip(layout, found, strict=True)):
            self._wrong_shape(name, "[" + ", ".join(str(sizes.get(axis, axis)) for axis in layout) + "]")
        source = self._taken(name)
        self._floating(name, source[tuple(slice(0, 1) for _ in found)])
        rows = Rows(source, layout, name=name, device=self.device, dtype=self.dtype)
        if 4 * math.prod(found) < EAGER_BYTES:
            rows.all()
        return rows

    def _source(self, name: str) -> Any:
        if name not in self._sources:
            found = ", ".join(f"{n} {list(self.shape(n))}" for n in self.names()[:12]) or "no tensor"
            raise ValueError(f"tensor {name!r} is missing in {self.path.name}; it holds {found}")
        return self._sources[name]

    def _taken(self, name: str) -> Any:
        self._read.add(name)
        return self._source(name)

    def _floating(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            raise ValueError(
                f"tensor {name!r} in {self.path.name} holds {tensor.dtype}; expected floating point weights"
            )
        return tensor

    def _wrong_shape(self, name: str, expected: str) -> NoReturn:
        raise ValueError(f"tensor {name!r} in {self.path.name} has shape {list(self.shape(name))}; expected {expected}")


def parse_hook(name: str) -> tuple[int | None, str | None]:
    """Layer and hook point of a place as the field names it; a place that is not known stays as it is.

    TransformerLens ("blocks.12.hook_resid_post"), modules ("model.layers.5.mlp", "h.3"), their inputs and outputs
    ("model.layers.5.self_attn.o_proj.input"), and dictionary_learning ("resid_post_layer_8").
    """
    layer = re.search(r"(?:^|[^a-z])(?:blocks|layers|h|layer)[._](\d+)", name)
    for pattern, point in _HOOKS:
        if re.search(pattern, name):
            return (int(layer[1]) if layer else None), point
    return (int(layer[1]) if layer else None), name or None


def input_normalisation(checkpoint: Checkpoint, *shape: int) -> tuple[Callable[[Tensor], Tensor] | None, Tensor | None]:
    """x -> (x - mean) * scale of jkminder's classes, and that scale, which `shape` fits; None where it is off.

    The scale was one for each neuron at first (1 / (std + 1e-8), before 24 June 2025), then one for all models, then
    one for each model; a file of the first kind has neither `target_rms` nor `activation_global_scale`.
    """
    if "activation_mean" not in checkpoint:
        return None, None
    mean, std = (checkpoint.tensor(f"activation_{name}", *shape, finite=False) for name in ("mean", "std"))
    if torch.isnan(mean).any() or torch.isnan(std).any():  # that is how they say that it is off
        return None, None
    if "activation_global_scale" in checkpoint:
        per_model = len(checkpoint.shape("activation_global_scale"))
        scale = checkpoint.tensor("activation_global_scale", *shape[:-1][:per_model])[..., None]
    elif "target_rms" in checkpoint or checkpoint.config.get("target_rms"):
        rms = checkpoint.scalar("target_rms", float(checkpoint.config.get("target_rms") or 1.0))
        scale = (rms / (std.square().sum(-1) + 1e-8).sqrt())[..., None]
    else:
        scale = 1 / (std + 1e-8)
    return (lambda x: (x - mean.to(x)) * scale.to(x)), scale.expand(*shape[:-1], -1)


def _lazy(source: Any) -> bool:
    return hasattr(source, "get_shape")


def _read_config(weights: Path) -> dict[str, Any]:
    folders = [weights.parent] + [weights.parent.parent] * (weights.parent.name == "checkpoints")
    for file in (folder / name for folder in folders for name in CONFIGS):
        if file.is_file():
            try:
                text = file.read_text(encoding="utf-8")
                config = yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)
            except (ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{file} is not {file.suffix[1:].upper()}: {error}") from error
            return config if isinstance(config, dict) else {}
    return {}


def _open(file: Path) -> dict[str, Any]:
    """Name -> tensor or safetensors slice; the weights stay in the file until they are read."""
    try:
        if file.suffix == ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                handle = safe_open(file, "pt")
                return {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            except SafetensorError as error:
                raise ValueError(f"{file} is not a whole safetensors file: {error}") from error
        if file.suffix == ".npz":
            import numpy as np

            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds pickled Python objects, which can run code and are not loaded; save plain tensors "
            f"(a state dict, or safetensors) instead: {first_line(error)}"
        ) from error
    except (EOFError, RuntimeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} cannot be read; it is truncated or no weights file: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a dict of tensors (a state dict)")
    inner = next((content[key] for key in ("state_dict", "sae") if isinstance(content.get(key), dict)), content)
    return dict(inner)  # "sae" is OpenMOSS's

"""Find the one weights file that is meant: in a folder or a Hub repository that may hold a thousand dictionaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tiny_dashboard.hub import look_up, parse_name

SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")
CONFIGS = ("config.json", "cfg.json", "hyperparams.json", "config.yaml")
WEIGHTS = (  # names that say which of several files in a folder is the dictionary
    "model.safetensors", "sae_weights.safetensors", "sae.safetensors", "params.safetensors", "params.npz", "ae.pt",
    "cc_weights.pt", "final.safetensors",
)  # fmt: skip
SYNONYMS = {
    "z": ("attn_out", "hook_z"),
    "mlp_in": ("transcoder",),
    "mlp_in_normalized": ("transcoder",),
    "attn_out": ("attention_out",),
}


def locate(source: str | Path, *, revision: str | None = None, **which: Any) -> tuple[Path, str]:
    """The weights file on disk (downloaded where it is on the Hub), and a name for it: its path, or Hub id and path.

    Args:
        source: a weights file, a folder, or a Hub id "owner/name", which may be followed by a path in the repository.
        revision: of the Hub repository.
        which: see `choose`.

    Raises:
        FileNotFoundError: there is no such file, folder or repository.
        ValueError: nothing, or more than one dictionary, fits.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ValueError(f"{path} is no weights file; expected one of {', '.join(SUFFIXES)}")
        return path, path.absolute().as_posix()
    if path.is_dir():
        files = [file.relative_to(path).as_posix() for file in sorted(path.rglob("*")) if file.is_file()]
        path = path / choose(files, str(source), which)
        return path, path.absolute().as_posix()
    name = parse_name(source)
    if name is None:
        raise FileNotFoundError(f"there is no dictionary at {source}")
    if name.inside:
        which = which | {"subfolder": "/".join(filter(None, (name.inside, which.get("subfolder"))))}
    snapshot = look_up(name._replace(revision=name.revision or revision), "model")
    file = choose(sorted(snapshot.files), name.repo, which)
    folder = PurePosixPath(file).parent
    beside = [folder] + [folder.parent] * (folder.name == "checkpoints")
    configs = [f for f in snapshot.files if PurePosixPath(f).name in CONFIGS and PurePosixPath(f).parent in beside]
    return snapshot.get([*configs, file]) / file, f"{name.repo}/{file}"


def choose(files: Sequence[str], source: str, which: Mapping[str, Any]) -> str:
    """The one weights file among `files` that fits.

    Args:
        files: paths relative to the source, with forward slashes.
        source: names it in errors.
        which: what its path must say, where not None: `subfolder` (where it lies, or the file itself), `layer`,
            `width` (16384 or "16k"), `l0` (41, "small"), `hook_point`.

    Raises:
        FileNotFoundError: there is no weights file at all.
        ValueError: none, or more than one, fits; the message lists what there is.
    """
    found = [file for file in files if file.endswith(SUFFIXES) and not re.search(r"(^|/)W_dec_\d+\.", file)]
    if not found:
        raise FileNotFoundError(f"{source} holds no weights file ({', '.join('*' + suffix for suffix in SUFFIXES)})")
    by_folder: dict[PurePosixPath, list[str]] = {}
    for file in found:
        by_folder.setdefault(PurePosixPath(file).parent, []).append(file)
    found = []
    for siblings in by_folder.values():  # an optimizer's state or statistics may lie beside the weights
        named = [file for file in siblings if PurePosixPath(file).name in WEIGHTS]
        found += named or siblings
    if not which.get("subfolder"):  # what lies at the top is the source itself
        found = [file for file in found if "/" not in file] or found
    for key, value in which.items():
        if value is None or (len(found) == 1 and key != "subfolder"):
            continue  # the only one is checked against the layer and hook point asked for when it has been read
        fitting = [file for file in found if _says(file, key, value, source)]
        there = sorted({said for file in found if (said := _value(file, key, source))})
        if not fitting and (there or key == "subfolder"):
            raise ValueError(f"{source} has no dictionary with {key}={value!r}; it has {', '.join(there[:20])}")
        found = fitting or found
    if len(found) > 1:
        shown = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
        raise ValueError(
            f"{source} holds {len(found)} dictionaries that fit ({shown}); "
            "say which with subfolder=, layer=, width=, l0= or hook_point="
        )
    return found[0]


def _value(file: str, key: str, source: str) -> str | None:
    """What a path says of layer, width, l0 or hook point."""
    patterns = {
        "layer": (
            r"W_enc_(\d+)\.safetensors$",
            r"(?:^|[^a-z])(?:layers?|blocks|h)[._]?(\d+)",
            r"(?:^|[/_-])[lL](\d+)(?=[RMATC]?[-./]|$)",
        ),
        "width": (r"width_(\d+[km]?)",),
        "l0": (r"[lL]0_([a-z\d]+)",),
        "hook_point": (r"(resid_(?:pre|post)|attn_out|mlp_out|mlp_in|hook_z|transcoder|clt|mlp|attention_out)",),
    }.get(key, (r"(.+)/",))
    if key == "layer" and (several := re.search(r"layer_(\d+(?:_\d+)+)_width.*params_layer_(\d+)", f"{source}/{file}")):
        layers = several[1].split("_")  # a crosscoder of Gemma Scope 2, in a file for each of its layers
        return layers[int(several[2])] if int(several[2]) < len(layers) else None
    return next((match[1] for pattern in patterns if (match := re.search(pattern, file))), None)


def _says(file: str, key: str, value: Any, source: str) -> bool:
    if key == "subfolder":
        return file == str(value) or file.startswith(str(value).rstrip("/") + "/")
    said = _value(file, key, source)
    if key == "width" and isinstance(value, int):
        value = f"{value // 10**6}m" if value >= 10**6 else f"{value // 1000}k"  # 65536 is called 65k
    return said == str(value) or (key == "hook_point" and said in SYNONYMS.get(value, ()))

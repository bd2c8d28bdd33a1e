"""Put a dashboard on a Hugging Face Space: as the app, or as a static site that needs no Python.

What is uploaded is a list of files made here, never a folder: `space/`, the package, the config, and what the config
names beside it.
"""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

from tiny_dashboard.config import DashboardConfig
from tiny_dashboard.hub import errors_in_words, is_passing, parse_name
from tiny_dashboard.publish.site import SiteView, export_views

MAX_BYTES = 1_000_000_000  # what a Space's repository may hold
ATTEMPTS = 5
PACKAGE = Path(__file__).parents[1]
TAG = "tiny-dashboard"  # by it a later deploy knows its own Space
_RUNS = ("sdk", "sdk_version", "python_version", "app_file", "models", "datasets", "preload_from_hub")
_PRELOADED = re.compile(r"[^/]+\.(json|safetensors|model|txt|jinja)")

Files = dict[str, Path | bytes]  # name in the Space -> what it holds


@dataclass(frozen=True)
class Deployed:
    """Where a Space is.

    Attributes:
        url: its page on the Hub.
        host: where it answers by itself, for frames and clients.
        static: whether it is a static site.
    """

    url: str
    host: str
    static: bool

    @property
    def embed(self) -> str:
        """HTML that shows it in another page."""
        frame = f'<iframe src="{escape(self.host)}" width="100%" height="800" frameborder="0"></iframe>'
        return frame if self.static else f'{frame}\n<gradio-app src="{escape(self.host)}"></gradio-app>'


def deploy(
    space: str,
    config: str | Path | None = None,
    *,
    static: bool = False,
    private: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = print,
    pause: float = 1.0,
) -> Deployed:
    """Create a Space, or update it. Files of other people in it stay; the same call goes on after a broken upload.

    Args:
        space: "owner/name".
        config: a `dashboard.toml`; None is the embedded demo.
        static: put the offline tab there as a static site.
        private: of a Space that is made.
        dry_run: check, say what would be uploaded, and stop.
        token: of the Hub; None: the one that is logged in. It is never uploaded.
        say: is told, line by line, what was checked and what is uploaded.
        pause: seconds before a broken upload is tried again, doubled each time.

    Raises:
        ValueError: the config does not hold together, names files that a Space cannot see, or is too large; or
            the Space is somebody else's app.
        FileNotFoundError: a repository that the config names is not there.
        PermissionError: the token may not write there.
        ConnectionError: the Hub does not answer; run it again.
    """
    from huggingface_hub import HfApi, get_token

    if parse_name(space) != (space, "", None):
        raise ValueError(f"{space!r} is no name of a Space; write owner/name")
    api = HfApi(token=token)
    settings = DashboardConfig.demo(here_first=False) if config is None else DashboardConfig.read(config)
    shown = _check_all(settings, static, say)
    with tempfile.TemporaryDirectory() as made:
        files: Files
        if static:
            files = _under(export_views(shown, Path(made) / "site", title=settings.title), "")
        else:
            files = app_files(config, settings)
        there = _files_there(api, space)
        files["README.md"] = _readme(api, space, settings, there, static=static)
        _refuse(files, there, space, token or get_token())
        _show(files, space, say)
        if dry_run:
            return _deployed(space, f"{api.endpoint}/spaces/{space}", static)
        with errors_in_words(space, writing=True):
            kind: Any = {"repo_type": "space", "space_sdk": "static" if static else "gradio"}
            url = str(api.create_repo(space, **kind, private=private or None, exist_ok=True))
            _upload(api, space, files, pause)
    return _deployed(space, url, static)


def _check_all(settings: DashboardConfig, static: bool, say: Callable[[str], None]) -> list[SiteView]:
    """Check each view, and say what was found; an error names its view."""
    shown = []
    for view in settings.views:
        where = f"view {view.name!r}: " if view.name else ""
        try:
            offline, found = check(view, static=static)
        except (ValueError, OSError) as error:
            raise type(error)(f"{where}{error}") from error
        say(f"checked: {where}{found}")
        shown.append(SiteView(offline, view.name, view.description, view.feature))
    return shown


def check(settings: DashboardConfig, *, static: bool) -> tuple[Any, str]:
    """Look at all that a view names, as the Space will; returns the examples, and what was found in words.

    Raises:
        ValueError, FileNotFoundError, PermissionError, ConnectionError: what does not hold together or is not there.
    """
    found = []
    offline = settings.open_offline()
    if offline is not None:
        features = offline.features
        if not features:
            raise ValueError(f"{settings.examples} holds no feature")
        offline.fragment(features[0] if settings.feature is None else settings.feature)
        found.append(f"{len(features):,} features with examples")
    elif static:
        raise ValueError("a static site shows examples, and the config names none; set examples")
    if settings.dictionary is not None and not static:
        dictionary, layer, hook_point = settings.open_dictionary()
        models = " and ".join(settings.models)
        found.append(f"a dictionary of {dictionary.n_features:,} features that fits {models} at {hook_point} {layer}")
    if not found:
        raise ValueError("there is nothing to show: set examples, or models and dictionary")
    return offline, "; ".join(found)


def app_files(config: str | Path | None, settings: DashboardConfig) -> Files:
    """The files of a Space that runs the app, README.md aside.

    Raises:
        ValueError: the config names a file or folder that is not beside it.
    """
    files: Files = {name: _template() / name for name in ("app.py", "requirements.txt")}
    package = _under(PACKAGE, "tiny_dashboard/")
    kept = ("tiny_dashboard/space/",) if config is None else ("tiny_dashboard/space/", "tiny_dashboard/demo/")
    files |= {name: file for name, file in package.items() if not name.startswith(kept)}
    if config is None:
        return files
    config = Path(config).expanduser().resolve()
    files["dashboard.toml"] = config
    named = [(view.examples, view.dictionary, view.tokenizer, *view.models) for view in settings.views]
    for name in dict.fromkeys(chain.from_iterable(named)):
        path = Path(str(name)) if name else None
        if path is None or not path.exists():
            continue
        if not path.resolve().is_relative_to(config.parent) or str(name) in config.read_text(encoding="utf-8"):
            raise ValueError(
                f"{name} is a place on this machine, where a Space cannot see it: push it to the Hub (examples by "
                "`tiny-dashboard push`) and name it by its id, or put it beside the config and name it relative to that"
            )
        inside = path.resolve().relative_to(config.parent).as_posix()
        files |= _under(path, f"{inside}/") if path.is_dir() else {inside: path}
    return files


def _template() -> Path:
    """The folder `space/`: inside the package where that is installed, beside it in its repository."""
    return next(f for f in (PACKAGE / "space", PACKAGE.parent / "space") if (f / "app.py").is_file())


def _under(folder: Path, prefix: str) -> Files:
    """The files of a folder, hidden ones, caches and links to elsewhere left out."""
    found: Files = {}
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if file.is_file() and not hidden and file.resolve().is_relative_to(folder.resolve()):
            found[prefix + "/".join(parts)] = file
    return found


def _files_there(api: Any, space: str) -> Mapping[str, str] | None:
    """What the Space holds, `{name: ""}` with the README's text; None where there is no such Space."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        names = api.list_repo_files(space, repo_type="space")
    except RepositoryNotFoundError:
        return None
    there = dict.fromkeys(names, "")
    if "README.md" in there:
        there["README.md"] = Path(api.hf_hub_download(space, "README.md", repo_type="space")).read_text(
            encoding="utf-8"
        )
    return there


def _readme(api: Any, space: str, settings: DashboardConfig, there: Mapping[str, str] | None, *, static: bool) -> bytes:
    """The card. In a Space that exists, its own words and looks stay; what makes it run is ours."""
    from huggingface_hub import RepoCard

    card = RepoCard((_template() / "README.md").read_text(encoding="utf-8"))
    ours = card.data.to_dict()
    ours |= {"title": settings.title, "tags": sorted({*ours.get("tags", ()), TAG})}
    if settings.description:
        ours["short_description"] = settings.description[:60]
    if settings.label_authors and not static:
        ours["hf_oauth"] = True  # so that they can sign in
    views = settings.views
    datasets = [view.examples for view in views if _on_hub(view.examples)]
    models = list(dict.fromkeys(name for view in views for name in view.models if _on_hub(name)))
    ours |= {"datasets": list(dict.fromkeys("/".join(str(name).split("@")[0].split("/")[:2]) for name in datasets))}
    if static:
        for name in ("sdk_version", "python_version", "suggested_hardware"):
            ours.pop(name, None)
        ours |= {"sdk": "static", "app_file": "index.html"}
    else:
        dictionaries = [view.dictionary for view in views if _on_hub(view.dictionary)]
        named = [*models, *("/".join(str(name).split("/")[:2]) for name in dictionaries)]
        ours |= {"models": list(dict.fromkeys(named))}
        if models:
            ours["suggested_hardware"] = "zero-a10g"
        ours["preload_from_hub"] = [line for name in models if (line := _preload(api, name))]
    text = card.text
    if there and "README.md" in there:
        old = RepoCard(there["README.md"], ignore_metadata_errors=True)
        theirs = {name: value for name, value in old.data.to_dict().items() if name not in _RUNS}
        tags = sorted({*theirs.get("tags", ()), *ours["tags"]})
        ours, text = ours | theirs | {"tags": tags}, old.text
    card = RepoCard("---\n{}\n---\n")
    for name, value in ours.items():
        if value not in (None, []):
            card.data[name] = value
    return f"---\n{card.data.to_yaml()}\n---\n{text}".encode()


def _preload(api: Any, model: str) -> str | None:
    """What of a public model is downloaded when the Space is built, so that it starts faster."""
    info = api.model_info(model)
    files = [file.rfilename for file in info.siblings or () if _PRELOADED.fullmatch(file.rfilename)]
    return f"{model} {','.join(files)}" if files and not info.private and not info.gated else None


def _on_hub(name: Any) -> bool:
    return isinstance(name, str) and not Path(name).exists()


def _refuse(files: Files, there: Mapping[str, str] | None, space: str, token: str | None) -> None:
    """Errors for what must not be uploaded, or written over."""
    total = sum(map(_size, files.values()))
    if total > MAX_BYTES:
        raise ValueError(
            f"{len(files)} files of {total / 1e9:.2f} GB, and a Space holds {MAX_BYTES / 1e9:.0f} GB; push what is "
            "large to the Hub and name it by its id"
        )
    if token:
        for name, file in files.items():
            if _size(file) < 1_000_000 and token.encode() in (file if isinstance(file, bytes) else file.read_bytes()):
                raise ValueError(f"{name} holds your token; take it out, and set it as a secret of the Space")
    if there and TAG not in there.get("README.md", ""):
        taken = [name for name in files if name in there and name not in ("README.md", "requirements.txt")]
        if taken:
            raise ValueError(
                f"{space} holds another app ({', '.join(taken[:3])}): name another Space, or add the tag {TAG} to its "
                "README.md to have it replaced"
            )


def _show(files: Files, space: str, say: Callable[[str], None]) -> None:
    folders: dict[str, list[int]] = {}
    for name, file in files.items():
        folder, inside, _ = name.rpartition("/")
        folders.setdefault(f"{folder}/ ({{}} files)" if inside else name, []).append(_size(file))
    say(f"to {space}: {len(files)} files, {sum(map(_size, files.values())) / 1e6:.1f} MB")
    for name, sizes in sorted(folders.items()):
        say(f"  {name.format(len(sizes)):<44} {sum(sizes) / 1e3:>10,.1f} kB")


def _size(file: Path | bytes) -> int:
    return len(file) if isinstance(file, bytes) else file.stat().st_size


def _upload(api: Any, space: str, files: Files, pause: float) -> None:
    """One commit of all files, tried again while the Hub or the network fails; what is there already is not sent."""
    with tempfile.TemporaryDirectory() as staged:
        for name, file in files.items():
            place = Path(staged) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(file, bytes):
                place.write_bytes(file)
            else:
                place.symlink_to(file.resolve())
        for attempt in range(ATTEMPTS):
            try:
                with warnings.catch_warnings():
                    # The client doubts that Parquet files belong in a Space; they are its examples.
                    warnings.filterwarnings("ignore", "It seems that you are about to commit a data file")
                    api.upload_folder(
                        repo_id=space, folder_path=staged, repo_type="space", commit_message="tiny-dashboard"
                    )
                return
            except Exception as error:
                if attempt == ATTEMPTS - 1 or not is_passing(error):
                    raise
            time.sleep(pause * 2**attempt)


def _deployed(space: str, url: str, static: bool) -> Deployed:
    name = re.sub(r"[^a-z0-9]+", "-", space.lower()).strip("-")
    return Deployed(url, f"https://{name}.{'static.' if static else ''}hf.space", static)

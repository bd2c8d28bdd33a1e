"""The one door to the Hugging Face Hub: names, downloads, errors in words; tokenizers, configs and models by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from typing import Any, NamedTuple

from tiny_dashboard.core.text import first_line

_NAME = re.compile(r"(?:hf://)?(?:(?:datasets|spaces)/)?([\w.-]+/[\w.-]+)((?:/[\w. -]+)*?)(?:@([\w./-]+))?")
_PASSING = (408, 409, 412, 429)  # a timeout, somebody else's commit in between, too many requests
_IMPORTING = Lock()
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class HubName(NamedTuple):
    """`owner/name[/inside][@revision]` in its parts; "" and None for what it does not say."""

    repo: str
    inside: str
    revision: str | None


def parse_name(source: Any) -> HubName | None:
    """The parts of a name on the Hub, with or without `hf://`; None for what is no such name."""
    text = str(source)
    match = None if text.startswith((".", "/", "~")) else _NAME.fullmatch(text)
    return HubName(match[1], match[2].strip("/"), match[3]) if match else None


@dataclass(frozen=True)
class Snapshot:
    """One revision of a repository.

    Attributes:
        repo: "owner/name".
        kind: "model" or "dataset".
        revision: a branch, tag or commit; None for the newest.
        files: size in bytes of each file.
        folder: where an earlier download lies, when the Hub cannot be reached; else None.
    """

    repo: str
    kind: str
    revision: str | None
    files: Mapping[str, int]
    folder: Path | None = None

    def get(self, patterns: Sequence[str]) -> Path:
        """Download the files that match, those that are not here yet; returns the folder of the snapshot."""
        if self.folder is not None:
            return self.folder
        from huggingface_hub import snapshot_download

        with errors_in_words(self.repo):
            folder = snapshot_download(
                self.repo, repo_type=self.kind, revision=self.revision, allow_patterns=list(patterns)
            )
            return Path(folder)


def look_up(name: HubName, kind: str) -> Snapshot:
    """What files a repository has: one request, or where the Hub cannot be reached, a look into the cache.

    Args:
        name: its `inside` stands in errors only.
        kind: "model" or "dataset".

    Raises:
        FileNotFoundError: there is no such repository or revision, or it is private and the token may not see it.
        PermissionError: it is gated.
        ConnectionError: no connection and nothing in the cache, too many requests, or the Hub fails.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    repo, inside, revision = name
    asked = f"{repo}/{inside}".rstrip("/")
    with errors_in_words(asked):
        try:
            info: Any = HfApi().repo_info(repo, repo_type=kind, revision=revision, files_metadata=True)
            return Snapshot(repo, kind, revision, {file.rfilename: file.size or 0 for file in info.siblings or ()})
        except HfHubHTTPError:
            raise  # the Hub answered: this is about the repository
        except (OfflineModeIsEnabled, HTTPError) as error:
            try:
                folder: Any = snapshot_download(repo, repo_type=kind, revision=revision, local_files_only=True)
            except LocalEntryNotFoundError as missing:
                # A snapshot that lacks files is what we made: we asked for some only.
                folder = getattr(missing, "snapshot_path", None)
                if folder is None:
                    reason = first_line(error.__cause__ or error)
                    raise ConnectionError(
                        f"there is no file or folder {asked}; as a Hub repository it was not downloaded before, and "
                        f"the Hub cannot be reached ({reason})"
                    ) from error
    folder = Path(folder)
    here = {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    return Snapshot(repo, kind, revision, here, folder)


def shared_folder(repo: str, inside: str, minutes: float = 5) -> tuple[Path, Path, Any]:
    """A folder whose files, which only grow, go to a dataset on the Hub: every few minutes, and as this process ends.

    Args:
        repo: "owner/name"; made, as a private one, where there is none.
        inside: the folder there.
        minutes: between two commits.

    Returns:
        The folder; one with what was there before; and the lock to hold while a file is written.

    Raises:
        PermissionError, ConnectionError: as for `errors_in_words`.
    """
    from huggingface_hub import CommitScheduler, snapshot_download

    folder = Path(mkdtemp(prefix="tiny-dashboard-"))
    where: dict[str, Any] = {"repo_id": repo, "repo_type": "dataset"}
    with errors_in_words(repo, writing=True):
        how: dict[str, Any] = {"path_in_repo": inside, "every": minutes, "private": True}
        scheduler = CommitScheduler(**where, folder_path=folder, **how)
        before = snapshot_download(**where, allow_patterns=[f"{inside}/*"])
    return folder, Path(before), scheduler.lock


def has_weights(model: str) -> bool:
    """Whether a model is on this machine: a folder, or downloaded before. Nothing is asked of the Hub."""
    from huggingface_hub import try_to_load_from_cache

    name = parse_name(model)
    if name is None or Path(model).exists():
        return Path(model).exists()
    return any(isinstance(try_to_load_from_cache(name.repo, file), str) for file in _WEIGHTS)


class Download:
    """How far a model's download is, which somebody else does: the files that are here of those that it needs.

    Args:
        model: its name on the Hub.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError: see `look_up`.
    """

    def __init__(self, model: str) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = parse_name(model)
        assert name is not None, model
        files = look_up(name, "model").files
        kind = "safetensors" if any(file.endswith(".safetensors") for file in files) else "bin"
        needed = re.compile(rf"[^/]+\.json|(pytorch_)?model(-\d+-of-\d+)?\.{kind}")  # others may lie beside them
        self.model = model
        self.size = sum(size for file, size in files.items() if needed.fullmatch(file))
        self._blobs = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name.repo, repo_type="model") / "blobs"

    def __str__(self) -> str:
        here = sum(file.stat().st_size for file in self._blobs.glob("*"))
        return f"{self.model}: {min(here, self.size) / 1e6:.0f} of {self.size / 1e6:.0f} MB from the Hub"


def is_downloaded(path: Path) -> bool:
    """Whether a file lies where the Hub's client keeps what it has downloaded, which is not ours to write to."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).resolve() in path.absolute().parents


@contextmanager
def errors_in_words(name: str, *, writing: bool = False) -> Iterator[None]:
    """Errors of the Hub's client, as what a person can do about them.

    Args:
        name: of the repository, or of what is read in it.
        writing: whether it is written to.
    """
    # The others come of large files, which the client has tried several times.
    foreign = _foreign()
    foreign += (RuntimeError, ConnectionError, TimeoutError) if writing else ()
    try:
        yield
    except foreign as error:
        raise (_of_writing if writing else _of_reading)(error, name) from error


def _foreign() -> tuple[Any, ...]:
    """Errors of the Hub's client: what a request met, or why there was none."""
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    return HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError


def is_passing(error: BaseException) -> bool:
    """Whether the same request may be answered in a moment: the network broke, or the Hub fails or is busy."""
    status = getattr(getattr(error, "response", None), "status_code", 503)
    return status >= 500 or status in _PASSING


def _of_reading(error: Any, name: str) -> OSError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{name} is gated: ask for access on its page, then log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no file, folder or Hub repository {name}; if it is private, log in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(f"{name} has no such revision")
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)):
        return ConnectionError(f"the Hub cannot be reached, and this part of {name} is not in the cache")
    if isinstance(error, errors.EntryNotFoundError):
        return FileNotFoundError(f"{name} lacks a file: {error}")
    if not isinstance(error, errors.HfHubHTTPError):
        return ConnectionError(f"the Hub cannot be reached for {name}: {error or type(error).__name__}")
    status = error.response.status_code
    if status in (401, 403):
        return PermissionError(f"{name}: this token may not read it; log in with `hf auth login`")
    reason = "limits your requests; wait a little, or log in with `hf auth login`" if status == 429 else "fails"
    return ConnectionError(f"{name}: the Hub {reason} (status {status})")


def _of_writing(error: Any, name: str) -> OSError | ValueError:
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return PermissionError(f"your token may not write to {name}; log in with one that may: `hf auth login`")
    if not is_passing(error):
        return ValueError(f"the Hub refuses this upload to {name}: {error}")
    return ConnectionError(
        f"the upload to {name} broke off ({_met(error)}); run it again: what is there is not sent twice"
    )


def _met(error: BaseException) -> str:
    """What broke an upload, in one line, without addresses: those that large files go to are signed."""
    text = re.split(r"\n| for url ", str(error), maxsplit=1)[0] or type(error).__name__
    # The client says of a large file which it is, and in the cause why it is not there.
    return f"{text} {_met(error.__cause__)}" if isinstance(error, RuntimeError) and error.__cause__ else text


def load_tokenizer(name: str | Path) -> Any:
    """A tokenizer by its Hub id or folder.

    Raises:
        ValueError: there is none, as beside many models.
    """
    try:
        return _from_pretrained("AutoTokenizer", name)
    except ValueError as error:
        if "instantiate" not in str(error):
            raise
        raise ValueError(f"{name} holds no tokenizer; give tokenizer=, an object, a folder or a Hub id") from error


def load_config(name: str | Path) -> Any:
    """A model's config, without its weights."""
    return _from_pretrained("AutoConfig", name)


def load_model(name: str | Path, dtype: Any = "auto", device: Any = "cpu") -> Any:
    """A causal language model; dtype "auto" is that of the checkpoint."""
    return _from_pretrained("AutoModelForCausalLM", name, dtype=dtype).to(device)


def resolve_device(device: Any = "auto") -> Any:
    """The device meant by `device`; "auto" and None mean cuda, else mps, else cpu."""
    import torch

    if device not in (None, "auto"):
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _from_pretrained(kind: str, name: str | Path, **how: Any) -> Any:
    # transformers imports its parts when they are first asked for. An app that opens its examples while its models
    # load asks from two threads, and one of them would now and then be told that there is no such class.
    with _IMPORTING:
        made = getattr(import_module("transformers"), kind)
    with errors_in_words(str(name)):
        try:
            return made.from_pretrained(str(name), **how)
        except OSError as error:  # transformers tells in words of its own what the Hub's client met
            if isinstance(error.__cause__, _foreign()):
                raise error.__cause__ from error
            if type(error.__cause__).__name__ == "HFValidationError":  # a path, and so no name of the Hub
                raise FileNotFoundError(
                    f"there is no folder {name}, and nothing on the Hub can be called so"
                ) from error
            raise

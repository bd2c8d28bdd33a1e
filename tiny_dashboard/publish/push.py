"""To the Hugging Face Hub: an examples dataset, in commits that a broken upload goes on from."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tiny_dashboard.sources.parquet import THIS, ParquetExamples

LAST = ("metadata.json", "README.md")  # they make it a dataset, so they come when the rest is there
KINDS = ("examples/", "features/")


def push_dataset(
    folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None, files_per_commit: int = 8
) -> str:
    """Upload a dataset that `collect_examples`, `merge` or `convert` has written, with its card.

    Files that are there already are skipped, so that the same call goes on after an upload that broke off. Parquet
    files there that this dataset does not have are removed with the last commit.

    Args:
        folder: the dataset.
        repo_id: "owner/name" of a dataset on the Hub; it is made where there is none.
        private: of a dataset that is made.
        token: of the Hub; None: the one that is logged in.
        files_per_commit: how much a broken upload may lose.

    Returns:
        the dataset's address.

    Raises:
        FileNotFoundError, ValueError: `folder` is no examples dataset, or the Hub's dataset is another one.
        huggingface_hub.errors.HfHubHTTPError: the Hub refuses.
        RuntimeError, ConnectionError: it does not take a large file.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import RepoFile

    folder = Path(folder)
    if not ParquetExamples.recognises(folder):
        raise FileNotFoundError(
            f"{folder} is no examples dataset of ours; `tiny-dashboard collect`, `merge` and `convert` write one"
        )
    ParquetExamples(folder).close()  # is it whole?
    api = HfApi(token=token)
    url = str(api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True))
    tree = api.list_repo_tree(repo_id, recursive=True, repo_type="dataset")
    there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    foreign = [path for path in there if not path.startswith(KINDS) and path not in (".gitattributes", *LAST)]
    if foreign and "metadata.json" not in there:
        raise ValueError(f"{repo_id} holds another dataset ({', '.join(foreign[:3])}); name a new one")
    data = sorted(path for kind in ("examples", "features") for path in (folder / kind).glob("*.parquet"))
    names = {path: path.relative_to(folder).as_posix() for path in [*data, *(folder / name for name in LAST)]}
    new = [path for path in data if not _same(path, there.get(names[path]))]
    groups = [new[i : i + files_per_commit] for i in range(0, len(new), files_per_commit)]
    card = (folder / "README.md").read_text(encoding="utf-8").replace(THIS, repo_id)
    end: list[Any] = [
        CommitOperationAdd("metadata.json", folder / "metadata.json"),
        CommitOperationAdd("README.md", card.encode()),
    ]
    stale = [path for path in there if path.startswith(KINDS) and path not in names.values()]
    end += [CommitOperationDelete(path) for path in stale]
    steps = [[CommitOperationAdd(names[path], path) for path in group] for group in groups] + [end]
    try:
        for number, operations in enumerate(tqdm(steps, unit="commit", disable=None, desc="push"), 1):
            message = (
                f"Examples, part {number} of {len(steps)}" if number < len(steps) else "Examples: metadata and card"
            )
            api.create_commit(repo_id, operations, commit_message=message, repo_type="dataset")
    except Exception as error:
        if isinstance(error, RuntimeError) and error.__cause__:
            error.add_note(what_it_met(error.__cause__))
        error.add_note(f"what was uploaded stays on {url}; push again to go on")
        raise
    return url


def what_it_met(error: BaseException) -> str:
    """What broke an upload, in one line, without addresses: those that large files go to are signed."""
    text = re.split(r"\n| for url ", str(error), maxsplit=1)[0] or type(error).__name__
    # The client says of a large file which it is, and in the cause why it is not there.
    return f"{text} {what_it_met(error.__cause__)}" if isinstance(error, RuntimeError) and error.__cause__ else text


def _same(path: Path, remote: Any) -> bool:
    """Whether the Hub has the same content: by SHA-256 of large files, by git's blob id of others."""
    if remote is None or remote.size != path.stat().st_size:
        return False
    if remote.lfs is not None:
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == remote.lfs.sha256)
    content = path.read_bytes()
    return bool(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == remote.blob_id)

"""To the Hugging Face Hub: an examples dataset."""

from __future__ import annotations

from pathlib import Path

from tiny_dashboard.hub import errors_in_words
from tiny_dashboard.sources.label_store import NAME as LABELS
from tiny_dashboard.sources.parquet import THIS, ParquetExamples, recognises

DATA = ("examples/*.parquet", "features/*.parquet")
LAST = ("metadata.json", "README.md", LABELS)  # they make it a dataset, so they come when the rest is there


def push_dataset(folder: str | Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a dataset that `collect_examples`, `merge` or `convert` has written, with its card.

    Files that are there already are not sent again, so that the same call goes on after an upload that broke off.
    Parquet files there that this dataset does not have are removed.

    Args:
        folder: the dataset.
        repo_id: "owner/name" of a dataset on the Hub; it is made where there is none.
        private: of a dataset that is made.
        token: of the Hub; None: the one that is logged in.

    Returns:
        the dataset's address.

    Raises:
        FileNotFoundError, ValueError: `folder` is no examples dataset, or the Hub's dataset is another one.
        PermissionError, ConnectionError: the token may not write there, or the upload broke off; run it again.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    if not recognises(folder):
        raise FileNotFoundError(
            f"{folder} is no examples dataset of ours; `tiny-dashboard collect`, `merge` and `convert` write one"
        )
    ParquetExamples(folder)  # is it whole?
    api = HfApi(token=token)
    with errors_in_words(repo_id, writing=True):
        url = str(api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True))
        there = api.list_repo_files(repo_id, repo_type="dataset")
        foreign = [name for name in there if not name.startswith(("examples/", "features/", ".gitattributes", *LAST))]
        if foreign and "metadata.json" not in there:
            raise ValueError(f"{repo_id} holds another dataset ({', '.join(foreign[:3])}); name a new one")
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="dataset",
            allow_patterns=list(DATA),
            delete_patterns=list(DATA),
            commit_message="Examples",
        )
        card = (folder / "README.md").read_text(encoding="utf-8").replace(THIS, repo_id)
        end = [
            CommitOperationAdd("metadata.json", folder / "metadata.json"),
            CommitOperationAdd("README.md", card.encode()),
        ]
        if (folder / LABELS).exists():
            lines = (folder / LABELS).read_bytes().splitlines(keepends=True)
            if LABELS in there:  # other people's labels stay
                known = Path(api.hf_hub_download(repo_id, LABELS, repo_type="dataset")).read_bytes()
                lines = [*dict.fromkeys([*known.splitlines(keepends=True), *lines])]
            end.append(CommitOperationAdd(LABELS, b"".join(lines)))
        api.create_commit(repo_id, end, commit_message="Examples: metadata and card", repo_type="dataset")
    return url

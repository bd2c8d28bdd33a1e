"""Collect on a Ray cluster: one task for each shard, again where a worker is lost, and a tree of merges."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tiny_dashboard.collect.collecting import collect_examples
from tiny_dashboard.collect.output import merge
from tiny_dashboard.core.files import own_folder

MERGE_AT_ONCE = 8


def collect_on_ray(
    models: Any,
    dictionary: Any,
    corpus: Any,
    out: str | Path,
    *,
    num_shards: int,
    gpus: float = 0,
    cpus: float = 1,
    address: str | None = None,
    retries: int = 3,
    tokenizer: Any = None,
    **options: Any,
) -> Path:
    """`collect_examples` in shards, as tasks of a Ray cluster; the dataset has the bits of one process.

    A lost worker's shard goes on, on another machine, from what it had saved; calling this again after everything was
    lost goes on too. `out` and the folder beside it (`out.shards`) must be on a disk that all machines share.

    Args:
        models, dictionary, corpus, out: as for `collect_examples`; by name, so that each worker loads its own.
        num_shards: many more than workers balance better; each loads the models once.
        gpus, cpus: of one worker.
        address: of a running cluster; None: RAY_ADDRESS, or else a new one on this machine.
        retries: how often a shard may lose its worker.
        tokenizer: its name; None: the last model's.
        options: of `collect_examples`.

    Raises:
        ImportError: Ray is not installed.
        TypeError: something that every worker must load is given as an object.
    """
    models = [models] if isinstance(models, str) else models
    named = [("dictionary", dictionary), ("corpus", corpus), ("tokenizer", tokenizer or "")]
    _check_named(*named, *(("models", model) for model in models))
    ray, started = _ray(address)
    out = Path(out).absolute()
    folder = out.with_name(out.name + ".shards")

    @ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)
    def shard(number: int) -> str:
        where = folder / f"{number:05d}"
        place: dict[str, Any] = {"shard": number, "num_shards": num_shards, "resume": True, "tokenizer": tokenizer}
        return str(collect_examples(models, dictionary, corpus, where, **options, **place))

    @ray.remote(num_cpus=1, max_retries=retries)
    def join(where: str, *parts: str) -> str:
        # It is there at a retry, or a call again, after the work was done.
        return where if Path(where).exists() else str(merge(parts, where, partial=True))

    try:
        with own_folder(folder):
            parts = [shard.remote(number) for number in range(num_shards)]
            _wait(ray, parts)
            merge(ray.get(_in_a_tree(join, parts, folder)), out, tokenizer=tokenizer)
            shutil.rmtree(folder, ignore_errors=True)
        return out
    finally:
        if started:
            ray.shutdown()


def _ray(address: str | None) -> tuple[Any, bool]:
    """Ray, and whether it was started here."""
    try:
        import ray
    except ImportError as error:
        raise ImportError("collecting on a cluster needs Ray: install tiny-dashboard with [ray]") from error
    started = not ray.is_initialized()
    if started:
        ray.init(address=address or os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False)
    return ray, started


def _in_a_tree(join: Any, parts: list[Any], folder: Path) -> list[Any]:
    """Merge so many at once that the last merge has few."""
    level = 0
    while len(parts) > MERGE_AT_ONCE:
        groups = [parts[i : i + MERGE_AT_ONCE] for i in range(0, len(parts), MERGE_AT_ONCE)]
        parts = [join.remote(str(folder / f"merge-{level}-{i}"), *group) for i, group in enumerate(groups)]
        level += 1
    return parts


def _check_named(*given: tuple[str, Any]) -> None:
    for what, value in given:
        if not isinstance(value, str | Path):
            raise TypeError(f"{what} must be given by name, so that each worker loads it; got {type(value).__name__}")


def _wait(ray: Any, waiting: list[Any]) -> None:
    """Until all shards are done; raises what a shard raised."""
    with tqdm(total=len(waiting), unit="shard", disable=None, desc="collect") as bar:
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
            bar.update(len(done))

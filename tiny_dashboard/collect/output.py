"""A finished state of a collection -> the examples dataset; many shards -> one."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tiny_dashboard.collect.documents import Faults
from tiny_dashboard.collect.saved import DECODER_FILE, STATE_SUFFIX, load_meta, load_parts, merge_parts, write_state
from tiny_dashboard.collect.state import FIXED_POINT, State, bin_edges
from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.files import check_is_new, whole_folder, working_folder
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.core.text import TokenReader
from tiny_dashboard.hub import load_tokenizer
from tiny_dashboard.models.decoder import STORED
from tiny_dashboard.sources.write import write_dataset

N_BANDS = 4  # bands of the samples by rank; the top examples are the band above
PEAK_TOKENS = 5
FREE_SETTINGS = {"features_at_once"}  # shards may differ in these: they depend on the machine


def write_examples(
    out: Path,
    parts: Callable[[], Iterable[State]],
    saved: Mapping[str, Any],
    tokenizer: Any,
    said: Iterable[FeatureStats] = (),
) -> Path:
    """Write the dataset of a finished state: the whole folder or nothing.

    Args:
        out: the folder; it must not exist.
        parts: gives the sorted parts of the state in order; called twice.
        saved: what is saved with the state: `meta`, `settings`, `at`.
        tokenizer: makes snippets, and the tokens where the metadata names no tokenizer.
        said: what the decoder says of each feature, in order; may be empty.
    """
    at = saved["at"]
    faults = Faults(*at["faults"])
    counts = {"n_tokens_nan": at["n_broken"], "n_documents_skipped": faults.skipped, "n_documents_cut": faults.cut}
    meta = {"n_tokens": at["n_tokens"], "n_tokens_read": at["n_seen"]} | saved["meta"] | {"settings": saved["settings"]}
    meta |= {name: number for name, number in counts.items() if number}
    pieces = None if meta.get("tokenizer") else tokenizer.convert_ids_to_tokens
    examples = (example for part in parts() for example in _examples(part, pieces))
    stats = _join((record for part in parts() for record in _stats(part, meta["n_tokens"], tokenizer)), said)
    return write_dataset(out, examples, stats, meta, tokenizer=tokenizer)


def warn_of_faults(at: Mapping[str, Any]) -> None:
    """Warns of what was not read as it should: documents, and tokens of which the models make nothing."""
    faults, n_broken = Faults(*at["faults"]), at["n_broken"]
    said = [
        (faults.skipped, f"{faults.skipped:,} documents could not be read, and were skipped"),
        (faults.cut, f"of {faults.cut:,} conversations the chat template leaves out or rewrites some text"),
        (n_broken, f"at {n_broken:,} tokens the models gave NaN or infinity, which count as not read"),
    ]
    if text := "; ".join(words for number, words in said if number):
        named = f". The first: {'; '.join(faults.named)}" if faults.named else ""
        warnings.warn(text + named, stacklevel=3)


def _join(stats: Iterable[FeatureStats], said: Iterable[FeatureStats]) -> Iterator[FeatureStats]:
    for record, decoder in zip_longest(stats, said):
        yield record if decoder is None else replace(record, **{name: getattr(decoder, name) for name in STORED})


def decoder_lines(said: Iterable[FeatureStats]) -> Iterator[str]:
    """What the decoder says of each feature as lines of JSON, for a shard to carry."""
    for record in said:
        yield json.dumps({name: getattr(record, name) for name in ("feature", *STORED)}) + "\n"


def merge(shards: Sequence[str | Path], out: str | Path, *, tokenizer: Any = None, partial: bool = False) -> Path:
    """Merge the shards of a collection; the order does not matter, and memory does not grow with their number.

    Args:
        shards: folders that `collect_examples(..., shard=i, num_shards=n)` or a partial merge has written.
        out: the folder to write: the dataset, or with `partial` a shard again.
        tokenizer: of the models, or its name; by default the one that the shards name.
        partial: merge some of the shards only, so that a tree of merges can spread over machines.

    Raises:
        FileNotFoundError: a folder is no finished shard.
        FileExistsError: `out` holds something.
        ValueError: shards are missing, come twice, or were made with different settings.
    """
    out, folders = Path(out).absolute(), [Path(shard) for shard in shards]
    check_is_new(out)
    saved = []
    for folder in folders:
        try:
            saved.append(load_meta(folder))
        except (FileNotFoundError, NotADirectoryError):
            running = folder.with_name(folder.name + STATE_SUFFIX).exists()
            hint = " (it is not finished: run that shard again with --resume)" if running else ""
            raise FileNotFoundError(f"{folder} is no shard of a collection{hint}") from None
    if not saved:
        raise ValueError("there is nothing to merge; name the shards' folders")
    settings = saved[0]["settings"]
    for folder, other in zip(folders, saved, strict=True):
        theirs = other["settings"]
        if changed := sorted(key for key in settings.keys() - FREE_SETTINGS if theirs.get(key) != settings[key]):
            raise ValueError(f"{folder} was made with other settings than {folders[0]}: {', '.join(changed)} differ")
    numbers = sorted(number for one in saved for number in one["shards"])
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise ValueError(f"shards {twice} come twice")
    missing = sorted(set(range(settings["num_shards"])) - set(numbers))
    if missing and not partial:
        raise ValueError(f"{len(missing)} of {settings['num_shards']} shards are missing: {missing[:20]}")
    first = min(saved, key=lambda one: one["shards"])
    at: dict[str, Any] = {name: sum(one["at"][name] for one in saved) for name in ("n_seen", "n_tokens", "n_broken")}
    at["faults"] = reduce(Faults.plus, (one["at"]["faults"] for one in saved), Faults())
    merged = {"settings": first["settings"], "shards": numbers, "at": at, "meta": first["meta"]}
    carrier = folders[saved.index(first)]  # shard 0, where it is among them, has what the decoder says
    if partial:
        with (carrier / DECODER_FILE).open(encoding="utf-8") as lines, whole_folder(out) as folder:
            write_state(folder, merge_parts(folders), merged, lines)
        return out
    if tokenizer is None or isinstance(tokenizer, str | Path):
        name = tokenizer or first["meta"].get("tokenizer")
        if name is None:
            raise ValueError("the shards do not name their tokenizer; give tokenizer=")
        tokenizer = load_tokenizer(name)
    with working_folder(out) as state, (carrier / DECODER_FILE).open(encoding="utf-8") as lines:
        write_state(state, merge_parts(folders), merged)  # on the disk, since the dataset is written in two passes
        said = (FeatureStats(**json.loads(line)) for line in lines)
        write_examples(out, lambda: load_parts(state), merged, tokenizer, said)
    warn_of_faults(at)
    return out


def _examples(part: State, pieces: Callable[[list[int]], list[str]] | None) -> Iterator[tuple[int, list[Example]]]:
    """`(feature, top examples, then samples of texts that are not among them)`, strongest first."""
    top, sample = ({k: v.cpu().numpy() for k, v in s.tensors.items()} for s in (part.top, part.sample))
    for i in range(part.n_features):
        chosen = [(top, k, N_BANDS) for k in range(len(top["value"][i])) if top["value"][i, k] > 0]
        seen = {top["text"][i, k] for _, k, _ in chosen}
        drawn = [k for k in range(len(sample["value"][i])) if sample["value"][i, k] > 0]
        drawn = [k for k in drawn if sample["text"][i, k] not in seen]
        drawn.sort(key=lambda k: (-sample["value"][i, k], sample["window"][i, k]))
        chosen += [(sample, k, (len(drawn) - 1 - n) * N_BANDS // len(drawn)) for n, k in enumerate(drawn)]
        examples = []
        for rank, (slots, k, band) in enumerate(chosen):
            ids = slots["tokens"][i, k]
            ids = ids[ids >= 0]
            window = int(slots["window"][i, k])
            examples.append(
                Example(
                    float(slots["value"][i, k]),
                    pieces(ids.tolist()) if pieces else (),
                    slots["rows"][i, k, : len(ids)].tolist(),
                    token_ids=ids.tolist(),
                    rank=rank,
                    quantile=band,
                    doc=window >> 32,
                    start=window & 0xFFFFFFFF,
                )
            )
        yield part.first + i, examples


def _stats(part: State, n_tokens: int, tokenizer: Any) -> Iterator[FeatureStats]:
    edges = bin_edges()
    histograms, totals, maxima = part.histogram.cpu(), part.total.cpu().tolist(), part.top.value[:, 0].tolist()
    value, window_rows, tokens = (part.top.tensors[name].cpu() for name in ("value", "rows", "tokens"))
    peaks = tokens.gather(2, window_rows.nan_to_num(0).argmax(2, keepdim=True)).squeeze(2)  # [D, K]
    reader = TokenReader(tokenizer)
    for i, histogram in enumerate(histograms):
        n_active = int(histogram.sum())
        filled = histogram.nonzero().flatten().tolist()
        bins = slice(filled[0], filled[-1] + 1) if filled else slice(0, 0)
        held = value[i] > 0
        common = Counter(peaks[i][held].tolist()).most_common(PEAK_TOKENS)
        yield FeatureStats(
            part.first + i,
            n_active=n_active,
            density=n_active / n_tokens if n_tokens else None,
            max_activation=maxima[i] if n_active else None,
            mean_activation=totals[i] / FIXED_POINT / n_active if n_active else None,
            histogram=histogram[bins].tolist(),
            histogram_edges=edges[bins.start : bins.stop + 1] if filled else (),
            peak_tokens=[(reader.read([token, token]).texts[1], count) for token, count in common],
        )

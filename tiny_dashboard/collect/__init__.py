"""Models, a dictionary, a corpus -> the strongest examples and the statistics of every feature, in one pass.

`corpus.py` makes the batches, `collect_state.py` keeps what is found, `collect_run.py` runs and resumes,
`collect_saved.py` saves, and `collect_output.py` writes the dataset and merges shards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_dashboard.collect.corpus import Batches, open_corpus
from tiny_dashboard.collect.output import merge
from tiny_dashboard.collect.run import Run
from tiny_dashboard.hub import resolve_device
from tiny_dashboard.models.loading import load_featurizer

__all__ = ["collect_examples", "merge"]


def collect_examples(
    models: Any,
    dictionary: Any,
    corpus: Any,
    out: str | Path,
    *,
    tokenizer: Any = None,
    layer: int | None = None,
    hook_point: str | None = None,
    device: str = "auto",
    dtype: Any = None,
    which: Mapping[str, Any] | None = None,
    top_k: int = 20,
    samples: int = 10,
    n_logits: int = 10,
    context: int = 128,
    max_tokens: int | None = None,
    batch_size: int = 32,
    packed: bool = False,
    bos: bool | None = None,
    one_per_document: bool = True,
    mask_special: bool = True,
    outlier_norm: float | None = 10.0,
    split: str = "train",
    subset: str | None = None,
    column: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    memory: float | None = None,
    resume: bool = False,
    checkpoint_minutes: float = 10.0,
    shard: int = 0,
    num_shards: int = 1,
    block_size: int = 256,
) -> Path:
    """Find the strongest examples and the statistics of every feature, in one pass over a corpus.

    Args:
        models: a Hugging Face model or its name, or [base, chat] for a crosscoder.
        dictionary: what `load_dictionary` takes or returns, or any object that `Featurizer` takes.
        corpus: a file, folder or Hub dataset that `datasets` reads, or an iterable of texts, chats or rows.
        out: the folder to write, which must not exist; with `num_shards` it holds the shard, for `merge`.
        tokenizer, layer, hook_point: as for `Featurizer`; a tokenizer may be named too.
        device, dtype: of models and dictionary that are named; the models' dtype is bfloat16 on CUDA, else the stored.
        which: selects one dictionary where a name holds several; see `load_dictionary`.
        top_k: examples for each feature.
        samples: further windows for each feature, drawn evenly from all documents in which it fires and shown in
            bands of strength.
        n_logits: promoted and suppressed tokens of each feature.
        context: tokens that a model sees at once, BOS included; documents are cut into windows of so many.
        max_tokens: stop at the end of the batch that reaches so many; shards divide it among them.
        batch_size: windows of full length in a batch.
        packed: fill windows over the ends of documents, instead of padding.
        bos: whether a BOS stands before every window; None: as the dictionary was trained, where it says so, else where
            the tokenizer or the chat template writes one.
        one_per_document: a feature keeps only the best window of a document; always only one of identical windows.
        mask_special: special tokens and what the chat template writes do not count. BOS and padding never do.
        outlier_norm: tokens whose activation norm exceeds so many medians of their window do not count; None: all do.
        split, subset, column: which part of a dataset, and which of its columns.
        metadata: more to write into the dataset's metadata; overrides what is there (`tokenizer`, `models`, …).
        memory: bytes for the state and the codes of a batch; fewer features are then encoded at a time.
        resume: go on where a run with the same arguments stopped; begin where there is none.
        checkpoint_minutes: how often the state is saved, beside `out`.
        shard, num_shards: take only every `num_shards`-th block of documents, beginning with block `shard`.
        block_size: documents in a block.

    Returns:
        `out`.

    Raises:
        FileExistsError: `out` holds something, or a stopped run is there and `resume` is False.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after saving; the message says how to go on.
        ValueError: what does not fit, with the numbers; see also `Featurizer` and `open_corpus`.
    """
    limits = {
        "top_k": (top_k, 1),
        "samples": (samples, 0),
        "batch_size": (batch_size, 1),
        "block_size": (block_size, 1),
    }
    for name, (value, least) in (limits | {"context": (context, 2), "max_tokens": (max_tokens or 1, 1)}).items():
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard {shard} of {num_shards} does not exist; shards are numbered from 0")
    out = Path(out).absolute()
    models = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    where: dict[str, Any] = {"layer": layer, "hook_point": hook_point, "device": device, "select": which}
    dtype = dtype or ("bfloat16" if resolve_device(device).type == "cuda" else "auto")
    featurizer = load_featurizer(dictionary, models, tokenizer, dtype=dtype, **where)
    if featurizer.tokenizer is None:
        raise ValueError("no tokenizer is known; give tokenizer=")
    trained = getattr(featurizer.dictionary, "prepend_bos", None)
    if bos is None and not (trained and getattr(featurizer.tokenizer, "bos_token_id", None) is None):
        bos = trained
    batches = Batches(
        open_corpus(corpus, split=split, subset=subset),
        featurizer.tokenizer,
        context=context,
        batch_size=batch_size,
        packed=packed,
        bos=bos,
        one_per_document=one_per_document,
        mask_special=mask_special,
        column=column,
        block_size=block_size,
        shard=shard,
        num_shards=num_shards,
    )
    run = Run(featurizer, batches, out, top_k, samples, outlier_norm, max_tokens, memory, n_logits)
    names = {"corpus": corpus, "dictionary": dictionary}
    run.meta |= {name: str(value) for name, value in names.items() if isinstance(value, str | Path)}
    run.meta |= dict(metadata or {})
    if resume and run.is_done():
        return out
    run.start(resume)
    run.go(checkpoint_minutes * 60)
    return run.finish()

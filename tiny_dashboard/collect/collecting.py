"""`collect_examples`: from what a person names to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_dashboard.collect.corpus import Batches
from tiny_dashboard.collect.documents import open_corpus
from tiny_dashboard.collect.run import Run
from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.hub import resolve_device
from tiny_dashboard.models.loading import load_featurizer


@CollectSettings.shown_by
def collect_examples(models: Any, dictionary: Any, corpus: Any, out: str | Path, **settings: Any) -> Path:
    """Find the strongest examples and the statistics of every feature, in one pass over a corpus.

    Args:
        models: a Hugging Face model or its name, or [base, chat] for a crosscoder.
        dictionary: what `load_dictionary` takes or returns, or any object that `Featurizer` takes.
        corpus: a file, folder or Hub dataset that `datasets` reads, or an iterable of texts, chats or rows.
        out: the folder to write, which must not exist; with `num_shards` it holds the shard, for `merge`.
        settings: see below.

    Returns:
        `out`.

    Raises:
        FileExistsError: `out` holds something, a stopped run is there and `resume` is False, or another runs now.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after saving; the message says how to go on.
        ValueError: what does not fit, with the numbers; see also `Featurizer` and `open_corpus`.
        TypeError: a setting that there is not.
    """
    chosen = CollectSettings(**settings)
    if chosen.on_error is None:
        chosen = replace(chosen, on_error="skip" if isinstance(corpus, str | Path) else "stop")
    out = Path(out).absolute()
    models = list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    featurizer = load_featurizer(
        dictionary,
        models,
        chosen.tokenizer,
        layer=chosen.layer,
        hook_point=chosen.hook_point,
        device=chosen.device,
        dtype=chosen.dtype or ("bfloat16" if resolve_device(chosen.device).type == "cuda" else "auto"),
        select=chosen.which,
    )
    if featurizer.tokenizer is None:
        raise ValueError("no tokenizer is known; give tokenizer=")
    bos = chosen.bos
    if bos is None:  # as the dictionary was trained, where the tokenizer can
        trained = getattr(featurizer.dictionary, "prepend_bos", None)
        has_bos = getattr(featurizer.tokenizer, "bos_token_id", None) is not None
        bos = trained if has_bos or not trained else None
    source = open_corpus(corpus, split=chosen.split, subset=chosen.subset)
    run = Run(featurizer, Batches.of(chosen, source, featurizer.tokenizer, bos), out, chosen)
    names = {"corpus": corpus, "dictionary": dictionary}
    run.meta |= {name: str(value) for name, value in names.items() if isinstance(value, str | Path)}
    run.meta |= dict(chosen.metadata or {})
    if chosen.resume and run.is_done():
        return out
    with run.held():
        run.start()
        run.go()
        return run.finish()

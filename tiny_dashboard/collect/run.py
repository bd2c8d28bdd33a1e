"""One run of a collection: its settings, its state, where it is, and how it goes on after it was stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tiny_dashboard.collect.corpus import Batches, TokenBatch
from tiny_dashboard.collect.output import decoder_lines, write_examples
from tiny_dashboard.collect.saved import RUNNING, load_meta, load_parts, save_state
from tiny_dashboard.collect.state import State
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.dictionaries import Dictionary
from tiny_dashboard.models.activations import get_activations, text_config
from tiny_dashboard.models.decoder import DecoderView
from tiny_dashboard.models.featurizer import Featurizer

WORKING_MEMORY = 2**30  # for the codes of a batch, where nothing else is said
BYTES_PER_CODE = 16  # pre-activation, code, comparison, and what the activation function makes on the way
LEAST_FEATURES = 64  # fewer at once would take forever
SHARES_AT_ONCE = 4096
BATCH_SETTINGS = "context batch_size packed bos one_per_document mask_special column block_size num_shards"
PROBE = "def f(x):\n\treturn 'Ünïcode' # 12345"  # its ids tell tokenizers apart


class Run:
    """One run over (a shard of) a corpus: its settings, its state, and where it is."""

    def __init__(
        self,
        featurizer: Featurizer,
        batches: Batches,
        out: Path,
        top_k: int,
        samples: int,
        outlier_norm: float | None,
        max_tokens: int | None,
        memory: float | None,
        n_logits: int = 10,
    ) -> None:
        self.featurizer, self.batches, self.out, self.outlier_norm = featurizer, batches, out, outlier_norm
        self.folder = out.with_name(out.name + RUNNING)
        self.shards, self.n_logits = [batches.shard], n_logits
        self.limit = None if max_tokens is None else -(-max_tokens // batches.num_shards)
        dictionary, models, tokenizer = featurizer.dictionary, featurizer.models, batches.tokenizer
        for model in models:
            room = getattr(text_config(model), "max_position_embeddings", None) or batches.context
            if batches.context > room:
                raise ValueError(f"context is {batches.context}, and {model.config.model_type} takes {room} tokens")
        self.device = torch.device(featurizer.device)
        # MPS has no kernels for some of what the state does with 64 bits; its memory is the CPU's anyway.
        self.home = torch.device("cpu") if self.device.type == "mps" else self.device
        width = getattr(dictionary, "d_model", None) or models[0].get_input_embeddings().weight.shape[1]
        blank = torch.zeros(1, len(models), width, device=self.device, dtype=featurizer.dtype)
        n_features = featurizer.codes(blank).shape[-1]
        self.has_shares = isinstance(dictionary, Dictionary) and len(models) > 1
        self.state = State.empty(
            n_features, top_k, samples, batches.context, len(models) if self.has_shares else 0, self.home
        )
        self.chunk = self._chunk(memory)
        self.settings = {
            "n_features": n_features,
            "top_k": top_k,
            "samples": samples,
            "max_tokens": max_tokens,
            "outlier_norm": outlier_norm,
            "n_logits": n_logits,
            "layer": featurizer.layer,
            "hook_point": featurizer.hook_point,
            "features_at_once": self.chunk,
            **{name: getattr(batches, name) for name in BATCH_SETTINGS.split()},
            "models": [_digest(model.get_input_embeddings().weight) for model in models],
            "dictionary": _digest(dictionary.encoder.all() if isinstance(dictionary, Dictionary) else None),
            "tokenizer": _digest(torch.tensor(tokenizer(PROBE)["input_ids"])),
        }
        names = [str(model.config.name_or_path or model.config.model_type) for model in models]
        self.meta: dict[str, Any] = {
            "models": names,
            "revisions": [getattr(model.config, "_commit_hash", None) for model in models],
            "dictionary": getattr(dictionary, "family", type(dictionary).__name__),
            "layer": featurizer.layer,
            "hook_point": featurizer.hook_point,
            "tokenizer": tokenizer.name_or_path or None,
            "context": batches.context,
            "packed": batches.packed,
            "bos": batches.bos,  # before every window, not stored
            "masked": {"padding": True, "bos": True, "special": batches.mask_special, "outlier_norm": outlier_norm},
            "one_example_per_document": batches.one_per_document,
            "dtype": str(models[0].dtype).removeprefix("torch."),
        }
        self.at: dict[str, Any] = {
            "block": 0,
            "step": 0,
            "digest": None,
            "stream": None,
            "n_seen": 0,
            "n_tokens": 0,
            "documents": 0,
        }

    def _chunk(self, memory: float | None) -> int:
        """How many features are encoded at a time; batches are made smaller where the dictionary needs all at once."""
        batches, n_features = self.batches, self.state.n_features
        room = WORKING_MEMORY if memory is None else memory - self.state.n_bytes
        if memory is None and self.device.type == "cuda":
            room = torch.cuda.get_device_properties(self.device).total_memory // 3
        dictionary = self.featurizer.dictionary
        if isinstance(dictionary, Dictionary) and dictionary.activation.elementwise:
            chunk = int(room // (BYTES_PER_CODE * batches.batch_size * batches.context))
        else:
            chunk = n_features
            batches.batch_size = min(batches.batch_size, int(room // (BYTES_PER_CODE * batches.context * n_features)))
        if chunk < min(n_features, LEAST_FEATURES) or batches.batch_size < 1:
            raise ValueError(
                f"memory of {memory or room:,.0f} bytes is too small: the state of {n_features:,} features takes "
                f"{self.state.n_bytes:,} of them; give more, or lower top_k, samples, context or batch_size"
            )
        return min(chunk, n_features)

    def is_done(self) -> bool:
        """Whether `out` holds the result of just this run."""
        for name in ("meta.json", "metadata.json"):
            if (self.out / name).exists():
                found = json.loads((self.out / name).read_text(encoding="utf-8"))
                return bool(found.get("settings") == self.settings and found.get("shards", self.shards) == self.shards)
        return False

    def start(self, resume: bool) -> None:
        """Check where the result goes, and take up a stopped run.

        Raises:
            FileExistsError, ValueError: see `collect_examples`.
        """
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise FileExistsError(f"{self.out} exists already; name another folder, or remove it first")
        try:
            saved = load_meta(self.folder)
        except FileNotFoundError:
            return
        if not resume:
            raise FileExistsError(
                f"a stopped run is saved in {self.folder}: go on with it (resume=True, --resume), or remove that folder"
            )
        now = self.settings | {"shards": self.shards}
        then = saved["settings"] | {"shards": saved["shards"]}
        if changed := [
            f"{name} was {then.get(name)} and is {now[name]}" for name in now if then.get(name) != now[name]
        ]:
            raise ValueError(f"the run in {self.folder} was made with other settings: {'; '.join(changed)}")
        for part in load_parts(self.folder):
            mine = self.state.view(part.first, part.first + part.n_features).tensors()
            for name, tensor in part.tensors().items():
                mine[name].copy_(tensor)
        self.at |= saved["at"]

    def save(self) -> None:
        """Save the state, so that `start` finds it.

        Raises:
            OSError: it could not be written; what was saved before is still there.
        """
        try:
            save_state(self.folder, self.state.parts(), self.saved())
        except OSError as error:
            error.add_note(f"the state could not be saved; what {self.folder} held before is kept. Go on with --resume")
            raise

    def saved(self) -> dict[str, Any]:
        """What is saved with the state."""
        return {"settings": self.settings, "shards": self.shards, "at": self.at, "meta": self.meta}

    def go(self, seconds: float) -> None:
        """Run to the end of the corpus or of the token limit, saving after every so many seconds."""
        saved = shown = time.monotonic()
        whole, kept = True, self.at
        total = self.limit
        with _signals() as signals, tqdm(unit="tok", unit_scale=True, disable=None, desc="collect") as bar:
            bar.update(self.at["n_seen"])
            bar.unpause()
            try:
                at = (self.at[name] for name in ("block", "step", "digest", "stream"))
                for batch in self._ahead(self.batches.iterate(*at)):
                    if self.limit is not None and self.at["n_seen"] >= self.limit:
                        break
                    whole = False
                    n_kept = self.update(batch)
                    self.at = {
                        "block": batch.block,
                        "step": batch.step + 1,
                        "digest": batch.digest,
                        "stream": batch.stream,
                        "n_seen": self.at["n_seen"] + batch.n_tokens,
                        "n_tokens": self.at["n_tokens"] + n_kept,
                        "documents": batch.documents,
                    }
                    whole = True
                    now = time.monotonic()
                    if not bar.disable and now - shown > 1:
                        shown = now
                        if self.limit is None and len(self.batches):
                            total = self.at["n_seen"] * len(self.batches) // max(batch.documents, 1)
                        bar.total = total
                        bar.set_postfix(alive=int((self.state.top.value[:, 0] > 0).sum()), refresh=False)
                    bar.update(batch.n_tokens)
                    if signals:
                        raise KeyboardInterrupt
                    if now - saved > seconds:
                        self.save()
                        saved, kept = time.monotonic(), self.at
            except BaseException as error:
                if whole and self.at != kept:
                    self.save()
                    kept = self.at
                if kept["n_seen"]:
                    error.add_note(f"{kept['n_seen']:,} tokens are saved in {self.folder}; go on with --resume")
                if isinstance(error, KeyboardInterrupt):
                    raise KeyboardInterrupt("stopped; " + "".join(getattr(error, "__notes__", ()))) from None
                raise

    def _ahead(self, batches: Iterator[TokenBatch]) -> Iterator[TokenBatch]:
        """Reads, tokenises and uploads the next batch while this one is used."""
        stream = torch.cuda.Stream(self.home) if self.home.type == "cuda" else None

        def read() -> TokenBatch | None:
            with torch.cuda.stream(stream):
                batch = next(batches, None)
                moved = batch and batch._replace(windows=batch.windows.to(self.home))
            if stream is not None:
                stream.synchronize()  # then any stream may read it; `update` is done with it before it is freed
            return moved

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(read)
            while (batch := coming.result()) is not None:
                coming = pool.submit(read)
                yield batch

    @torch.no_grad()
    def update(self, batch: TokenBatch) -> int:
        """Run the models on a batch and take in what they give; returns the number of tokens that count."""
        featurizer = self.featurizer
        found = [
            get_activations(model, batch.ids, featurizer.layer, featurizer.hook_point, batch.attention)
            for model in featurizer.models
        ]
        x = torch.stack([part.to(self.device, featurizer.dtype) for part in found], dim=-2)[:, batch.n_prefix :]
        windows = batch.windows
        if self.outlier_norm is not None:
            norm = x.float().norm(dim=-1).to(self.home)
            usual = norm.masked_fill(~windows.keep[..., None], torch.nan).nanmedian(1, keepdim=True).values
            windows = windows._replace(keep=windows.keep & (norm <= self.outlier_norm * usual).all(-1))

        def share(window: Tensor, position: Tensor, feature: Tensor) -> Tensor:
            window, position, feature = (index.to(self.device) for index in (window, position, feature))
            return _shares(featurizer.dictionary, x[window, position], feature).to(self.home)

        n_features = self.state.n_features
        flat = x.flatten(0, 1)
        for low in range(0, n_features, self.chunk):
            high = min(low + self.chunk, n_features)
            codes = featurizer.codes(flat, None if self.chunk == n_features else list(range(low, high))).to(self.home)
            codes = codes if codes.is_sparse else codes.view(*x.shape[:2], high - low)
            self.state.view(low, high).add(codes, windows, share if self.has_shares else None)
        return int(windows.keep.sum())

    def decoder_side(self) -> Iterator[FeatureStats]:
        """What the decoder says of each feature; nothing, with a warning, where it can't be said."""
        try:
            view = DecoderView(self.featurizer)
            view.stats(FeatureStats(0), self.n_logits)
        except (TypeError, ValueError) as error:
            warnings.warn(f"the dataset will not say what the decoder says: {error}", stacklevel=2)
            return iter(())
        return view.all_stats([FeatureStats(i) for i in range(self.state.n_features)], self.n_logits)

    def finish(self) -> Path:
        """Write the dataset, or the shard, and forget the saved state; where it cannot be written, save the state.

        Raises:
            ValueError: the corpus held no document.
        """
        batches = self.batches
        if not self.at["n_seen"] and batches.num_shards == 1:
            raise ValueError(
                f"the corpus gave no document of two tokens or more ({batches.n_documents:,} documents were read)"
            )
        self.state.close()
        try:
            if batches.num_shards == 1:
                write_examples(self.out, self.state.parts, self.saved(), batches.tokenizer, self.decoder_side())
            else:  # one shard says for all what the decoder says
                lines = decoder_lines(self.decoder_side()) if batches.shard == 0 else ()
                save_state(self.out, self.state.parts(), self.saved(), lines)
        except BaseException as error:
            self.save()
            error.add_note(f"what was collected is saved in {self.folder}; --resume writes it")
            raise
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.out


def _shares(dictionary: Dictionary, x: Tensor, features: Tensor) -> Tensor:
    """Each model's part of what speaks for a feature, `[n, n_models]`, from x `[n, n_models, d]`; rows sum to 1."""
    shares = []
    for part, chosen in zip(x.split(SHARES_AT_ONCE), features.split(SHARES_AT_ONCE), strict=True):
        part = part if dictionary.prepare is None else dictionary.prepare(part)
        given = (part * dictionary.encoder[chosen]).sum(-1).relu().float()
        shares.append(given / given.sum(-1, keepdim=True).clamp_min(1e-12))
    return torch.cat(shares)


def _digest(tensor: Tensor | None) -> str | None:
    """A fingerprint of some rows of a weight: enough to tell that a run goes on with something else."""
    if tensor is None:
        return None
    rows = tensor[:: max(1, len(tensor) // 16)].detach().float().cpu().contiguous()
    return hashlib.blake2b(rows.numpy().tobytes(), digest_size=8).hexdigest()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM, so that they come between batches; the second one comes at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handler(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, old in before.items():
            signal.signal(number, old)

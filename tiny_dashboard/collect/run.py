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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tiny_dashboard.collect.corpus import Batches, TokenBatch
from tiny_dashboard.collect.documents import Faults
from tiny_dashboard.collect.output import decoder_lines, warn_of_faults, write_examples
from tiny_dashboard.collect.saved import STATE_SUFFIX, Saves, load_meta, load_parts, write_state
from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.collect.state import State
from tiny_dashboard.core.files import check_is_new, own_folder, whole_folder
from tiny_dashboard.core.statistics import FeatureStats
from tiny_dashboard.dictionaries import Dictionary
from tiny_dashboard.models.architecture import text_config
from tiny_dashboard.models.decoder import DecoderView
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.models.reading import outliers

WORKING_MEMORY = 2**30  # for the codes of a batch, where nothing else is said
BYTES_PER_CODE = 16  # pre-activation, code, comparison, and what the activation function makes on the way
LEAST_FEATURES = 64  # fewer at once would take forever
PROBE = "def f(x):\n\treturn 'Ünïcode' # 12345"  # its ids tell tokenizers apart


@dataclass(frozen=True)
class Progress:
    """Where a run is: the batch to go on with, and what was read and counted so far."""

    block: int = 0
    step: int = 0
    digest: str | None = None
    stream: dict[str, Any] | None = None
    n_seen: int = 0
    n_tokens: int = 0
    n_broken: int = 0  # tokens at which the models gave NaN or infinity
    documents: int = 0
    faults: Faults = field(default_factory=Faults)


class Run:
    """One run over (a shard of) a corpus: its settings, its state, and where it is."""

    def __init__(self, featurizer: Featurizer, batches: Batches, out: Path, settings: CollectSettings) -> None:
        self.featurizer, self.batches, self.out, self.chosen = featurizer, batches, out, settings
        self.saves = Saves(out.with_name(out.name + STATE_SUFFIX))
        self.shards = [settings.shard]
        self.limit = None if settings.max_tokens is None else -(-settings.max_tokens // settings.num_shards)
        for model in featurizer.models:
            room = getattr(text_config(model), "max_position_embeddings", None) or batches.context
            if batches.context > room:
                raise ValueError(f"context is {batches.context}, and {model.config.model_type} takes {room} tokens")
        self.device = torch.device(featurizer.device)
        # MPS has no kernels for some of what the state does with 64 bits; its memory is the CPU's anyway.
        self.home = torch.device("cpu") if self.device.type == "mps" else self.device
        self.state = State.empty(
            featurizer.count_features(), settings.top_k, settings.samples, settings.context, self.home
        )
        self.chunk = self._chunk(settings.memory)
        self.settings = self._kept()
        self.meta = self._about()
        self.at = Progress()

    def _kept(self) -> dict[str, Any]:
        """What a run must have in common with the one that it goes on with, or is merged with."""
        featurizer, dictionary = self.featurizer, self.featurizer.dictionary
        return self.chosen.kept() | {
            "n_features": self.state.n_features,
            "layer": featurizer.layer,
            "hook_point": featurizer.hook_point,
            "bos": self.batches.bos,
            "batch_size": self.batches.batch_size,
            "features_at_once": self.chunk,
            "models": [_digest(model.get_input_embeddings().weight) for model in featurizer.models],
            "dictionary": _digest(dictionary.encoder.all() if isinstance(dictionary, Dictionary) else None),
            "tokenizer": _digest(torch.tensor(self.batches.tokenizer(PROBE)["input_ids"])),
        }

    def _about(self) -> dict[str, Any]:
        """The dataset's metadata."""
        featurizer, batches, models = self.featurizer, self.batches, self.featurizer.models
        special, outlier_norm = batches.mask_special, self.chosen.outlier_norm
        return {
            "models": [str(model.config.name_or_path or model.config.model_type) for model in models],
            "revisions": [getattr(model.config, "_commit_hash", None) for model in models],
            "dictionary": getattr(featurizer.dictionary, "family", type(featurizer.dictionary).__name__),
            "layer": featurizer.layer,
            "hook_point": featurizer.hook_point,
            "tokenizer": batches.tokenizer.name_or_path or None,
            "context": batches.context,
            "packed": batches.packed,
            "bos": batches.bos,  # before every window, not stored
            "masked": {"padding": True, "bos": True, "special": special, "outlier_norm": outlier_norm},
            "one_example_per_document": batches.one_per_document,
            "dtype": str(models[0].dtype).removeprefix("torch."),
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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the output for this run alone; a folder in which nothing was saved is removed at the end."""
        check_is_new(self.out)
        with own_folder(self.saves.folder):
            try:
                yield
            finally:
                if self.saves.newest() is None:
                    shutil.rmtree(self.saves.folder, ignore_errors=True)

    def start(self) -> None:
        """Take up a stopped run, where there is one.

        Raises:
            FileExistsError, ValueError: see `collect_examples`.
        """
        folder = self.saves.newest()
        if folder is None:
            return
        if not self.chosen.resume:
            raise FileExistsError(
                f"a stopped run is saved in {self.saves.folder}: go on with it (resume=True, --resume), or remove that "
                "folder"
            )
        saved = load_meta(folder)
        now = self.settings | {"shards": self.shards}
        then = saved["settings"] | {"shards": saved["shards"]}
        if changed := [
            f"{name} was {then.get(name)} and is {now[name]}" for name in now if then.get(name) != now[name]
        ]:
            raise ValueError(f"the run in {self.saves.folder} was made with other settings: {'; '.join(changed)}")
        for part in load_parts(folder):
            mine = self.state.view(part.first, part.first + part.n_features).tensors()
            for name, tensor in part.tensors().items():
                mine[name].copy_(tensor)
        self.at = Progress(**saved["at"] | {"faults": Faults(*saved["at"]["faults"])})

    def save(self) -> None:
        """Save the state, so that `start` finds it.

        Raises:
            OSError: it could not be written; what was saved before is still there.
        """
        try:
            self.saves.save(self.state.parts(), self.saved())
        except OSError as error:
            kept = f"what {self.saves.folder} held before is kept. Go on with --resume"
            error.add_note(f"the state could not be saved; {kept if self.saves.newest() else 'nothing is kept'}")
            raise

    def saved(self) -> dict[str, Any]:
        """What is saved with the state."""
        return {"settings": self.settings, "shards": self.shards, "at": asdict(self.at), "meta": self.meta}

    def go(self) -> None:
        """Run to the end of the corpus or of the token limit, saving now and then; when it stops, saving too."""
        whole, kept = True, self.at
        saved = time.monotonic()
        with _signals() as signals, Bar(self) as bar:
            try:
                at = (self.at.block, self.at.step, self.at.digest, self.at.stream)
                for batch in self._ahead(self.batches.iterate(*at)):
                    if self.limit is not None and self.at.n_seen >= self.limit:
                        break
                    whole = False
                    n_kept, n_broken = self.update(batch)
                    self.at = Progress(
                        batch.block,
                        batch.step + 1,
                        batch.digest,
                        batch.stream,
                        self.at.n_seen + batch.n_tokens,
                        self.at.n_tokens + n_kept,
                        self.at.n_broken + n_broken,
                        batch.documents,
                        self.at.faults.plus(batch.faults),
                    )
                    whole = True
                    bar.show(batch.n_tokens)
                    if signals:
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > 60 * self.chosen.checkpoint_minutes:
                        self.save()
                        saved, kept = time.monotonic(), self.at
            except BaseException as error:
                if whole and self.at != kept:
                    self.save()
                    kept = self.at
                if kept.n_seen:
                    error.add_note(f"{kept.n_seen:,} tokens are saved in {self.saves.folder}; go on with --resume")
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
    def update(self, batch: TokenBatch) -> tuple[int, int]:
        """Run the models on a batch and take in what they give.

        Returns:
            How many tokens count, and how many don't because the models give NaN or infinity there.

        Raises:
            ValueError: they give it at all tokens; see also `State.add`.
        """
        featurizer = self.featurizer
        x = featurizer.batch_activations(batch.ids, batch.attention)[:, batch.n_prefix :]
        windows = batch.windows
        finite = torch.isfinite(x.sum((2, 3), dtype=torch.float32))  # no sum is, of what is not
        broken = windows.keep & ~finite.to(self.home)
        n_broken = int(broken.sum())
        if n_broken:
            if n_broken == int(windows.keep.sum()):
                raise ValueError(featurizer.gives_nan(n_broken, n_broken))
            windows = windows._replace(keep=windows.keep & ~broken)
            x = x.nan_to_num(0, 0, 0)
        if self.chosen.outlier_norm is not None:
            far = outliers(x, windows.keep, self.chosen.outlier_norm).to(self.home)
            windows = windows._replace(keep=windows.keep & ~far)

        n_features = self.state.n_features
        flat = x.flatten(0, 1)
        for low in range(0, n_features, self.chunk):
            high = min(low + self.chunk, n_features)
            codes = featurizer.codes(flat, None if self.chunk == n_features else list(range(low, high))).to(self.home)
            codes = codes if codes.is_sparse else codes.view(*x.shape[:2], high - low)
            self.state.view(low, high).add(codes, windows)
        return int(windows.keep.sum()), n_broken

    def decoder_side(self) -> Iterator[FeatureStats]:
        """What the decoder says of each feature; nothing, with a warning, where it can't be said."""
        try:
            view = DecoderView(self.featurizer)
            view.stats(FeatureStats(0), self.chosen.n_logits)
        except (TypeError, ValueError) as error:
            warnings.warn(f"the dataset will not say what the decoder says: {error}", stacklevel=2)
            return iter(())
        known = [FeatureStats(i) for i in range(self.state.n_features)]
        return view.all_stats(known, self.chosen.n_logits, nearest=True)

    def finish(self) -> Path:
        """Write the dataset, or the shard, and forget the saved state; where it cannot be written, save the state.

        Raises:
            ValueError: the corpus held no document.
        """
        batches = self.batches
        faults = self.at.faults.plus(batches.faults)  # of the last blocks too, which gave no batch
        if not self.at.n_seen and batches.num_shards == 1:
            why = f"; {faults.skipped:,} could not be read: {faults.named[0]}" if faults.skipped else ""
            raise ValueError(
                f"the corpus gave no document of two tokens or more ({batches.n_documents:,} documents were read{why})"
            )
        self.state.close()
        saved = self.saved()
        saved["at"]["faults"] = faults
        try:
            if batches.num_shards == 1:
                write_examples(self.out, self.state.parts, saved, batches.tokenizer, self.decoder_side())
            else:  # one shard says for all what the decoder says
                lines = decoder_lines(self.decoder_side()) if batches.shard == 0 else ()
                with whole_folder(self.out) as folder:
                    write_state(folder, self.state.parts(), saved, lines)
        except BaseException as error:
            self.save()
            error.add_note(f"what was collected is saved in {self.saves.folder}; --resume writes it")
            raise
        shutil.rmtree(self.saves.folder, ignore_errors=True)
        warn_of_faults(saved["at"])
        return self.out


class Bar(tqdm):
    """Tokens read, of as many as are expected, and how many features have fired."""

    def __init__(self, run: Run) -> None:
        super().__init__(unit="tok", unit_scale=True, disable=None, desc="collect")
        self.run, self.shown = run, time.monotonic()
        self.update(run.at.n_seen)
        self.unpause()

    def show(self, n_tokens: int) -> None:
        """So many tokens more."""
        now, run = time.monotonic(), self.run
        if not self.disable and now - self.shown > 1:
            self.shown, self.total = now, run.limit
            if run.limit is None and len(run.batches):
                self.total = run.at.n_seen * len(run.batches) // max(run.at.documents, 1)
            self.set_postfix(alive=int((run.state.top.value[:, 0] > 0).sum()), refresh=False)
        self.update(n_tokens)


def _digest(tensor: Tensor | None) -> str | None:
    """A fingerprint of some rows of a weight: enough to tell that a run goes on with something else."""
    if tensor is None or tensor.is_meta:  # an offloaded weight is not there to be looked at
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

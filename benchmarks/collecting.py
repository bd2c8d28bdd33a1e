"""Collecting: its speed beside the bare forward pass and encode, its memory beside its state, its growth."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, PreTrainedTokenizerFast

from scripts.demo.smollm import CACHED, load
from tiny_dashboard.collect.corpus import Batches
from tiny_dashboard.collect.run import Run
from tiny_dashboard.collect.settings import CollectSettings
from tiny_dashboard.demo import FOLDER
from tiny_dashboard.dictionaries import load_dictionary
from tiny_dashboard.models.activations import get_activations
from tiny_dashboard.models.featurizer import Featurizer
from tiny_dashboard.sources import open_examples

VOCABULARY, ACTIVE = 4096, 50
TURNS = 5
LIMITS = {"demo": 0.9, "SmolLM2": 0.9, "gemma": 0.7}  # of the bare forward passes and encode, at least


def documents(n_tokens: int, seed: int = 0) -> list[str]:
    """Documents of 50 to 500 words; frequent words are frequent."""
    chooser = random.Random(seed)
    words = [f"w{i}" for i in range(VOCABULARY - 1)]
    weights = [1 / (i + 10) for i in range(len(words))]
    made, count = [], 0
    while count < n_tokens:
        length = chooser.randint(50, 500)
        made.append(" ".join(chooser.choices(words, weights, k=length)))
        count += length
    return made


def real(n_tokens: int) -> tuple[Featurizer, list[str]]:
    """The demo's SAE on SmolLM2-135M, and the texts of its examples."""
    model, tokenizer = load()
    examples = open_examples(FOLDER / "smollm" / "examples")
    texts, count = [], 0
    for feature in examples:
        texts.append("".join(examples[feature][0].tokens))
        count += len(examples[feature][0].tokens)
        if count >= n_tokens:
            break
    return Featurizer(model, load_dictionary(FOLDER / "smollm" / "sae"), tokenizer), texts


def make_featurizer(kind: str, n_features: int, device: str) -> Featurizer:
    """`kind`: "demo" is a pair like the embedded one, "gemma" a model of Gemma-2-2B's shape, "tiny" is for memory."""
    torch.manual_seed(0)
    vocabulary = {"<bos>": 0} | {f"w{i}": i + 1 for i in range(VOCABULARY - 1)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<bos>")
    if kind == "gemma":
        config, layer, n_models = Gemma2Config(), 13, 1  # its defaults are the 2B shape, but for the layers
        config.num_hidden_layers = 26
        config.hidden_size, config.intermediate_size = 2304, 9216
        config.num_attention_heads, config.num_key_value_heads, config.head_dim = 8, 4, 256
        config.layer_types = config.layer_types[:26]
    else:
        width, n_models, layer = {"demo": (192, 2, 2), "tiny": (32, 1, 0)}[kind]
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=layer + 2,
            num_attention_heads=width // 32,
            max_position_embeddings=256,
        )
    with torch.device(device):
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        made = [AutoModelForCausalLM.from_config(config, dtype=dtype).eval() for _ in range(n_models)]
    width = config.hidden_size
    rows = torch.randn(n_models, width, n_features, device=device) / width**0.5
    # The threshold lets so many features of a random token through as a trained dictionary has active.
    with torch.no_grad():
        ids = torch.randint(1, VOCABULARY, (8, 64))
        x = torch.stack([get_activations(model, ids, layer).to(device).float() for model in made], -2)[:, 8:]
        codes = torch.einsum("bsld,ldf->bsf", x, rows[..., :1024])
        threshold = codes.flatten().sort(descending=True).values[int(codes.numel() * ACTIVE / n_features)]
        norm = rows.norm(dim=1).sum(0).mean()
    with tempfile.TemporaryDirectory() as folder:
        tensors = {
            "encoder.weight": rows,
            "encoder.bias": torch.zeros(n_features),
            "decoder.weight": rows.transpose(1, 2),
            "threshold": threshold * norm,
        }
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, Path(folder) / "model.safetensors")
        return Featurizer(made, load_dictionary(folder, device=device), tokenizer, layer)


def make_run(
    featurizer: Featurizer, corpus: list[str], folder: str, *, batch_size: int = 32, context: int = 128
) -> Run:
    settings = CollectSettings(context=context, batch_size=batch_size, checkpoint_minutes=1e9)
    batches = Batches.of(settings, corpus, featurizer.tokenizer, None)
    return Run(featurizer, batches, Path(folder) / "out", settings)


@torch.no_grad()
def bare(featurizer: Featurizer, batches: list) -> float:
    """Seconds of forward passes to the layer and the full encode, and nothing else."""
    start = time.perf_counter()
    for batch in batches:
        found = [
            get_activations(m, batch.ids, featurizer.layer, attention_mask=batch.attention) for m in featurizer.models
        ]
        x = torch.stack([part.to(featurizer.device, featurizer.dtype) for part in found], -2)
        codes = featurizer.dictionary.encode(x[:, batch.n_prefix :].flatten(0, 1))
    codes.flatten()[0].item()
    return time.perf_counter() - start


def speed(kind: str, featurizer: Featurizer, corpus: list[str], batch_size: int = 32) -> None:
    """Tokens a second of collecting, from texts to the state, over those of `bare` on the same batches, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(featurizer, corpus, folder, batch_size=batch_size)
        batches = list(run.batches.iterate())
        bare(featurizer, batches[:2])
        times = []
        for _ in range(TURNS):
            before = bare(featurizer, batches)
            run = make_run(featurizer, corpus, folder, batch_size=batch_size)
            start = time.perf_counter()
            run.go()
            run.state.total.cpu()
            times.append((time.perf_counter() - start, before))
            active = float(run.state.histogram.sum()) / run.at.n_tokens
        tokens, seconds = run.at.n_seen, median(taken for taken, _ in times)
        ratios = sorted(before / taken for taken, before in times)
        what = f"{kind}, {featurizer.count_features():,} features, {featurizer.device}, {tokens:,} tokens"
        print(
            f"{what}, {active:.0f} active: "
            f"{tokens / seconds:,.0f} tokens/s, {median(ratios):.2f} of the bare forward pass and encode, median of "
            f"{TURNS} turns from {ratios[0]:.2f} to {ratios[-1]:.2f} (limit {LIMITS[kind]})",
            flush=True,
        )


MEMORY = """
import json, sys, tempfile, time, torch
from pathlib import Path
from benchmarks.collecting import documents, make_featurizer, make_run
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
torch.set_num_threads(1)
featurizer = make_featurizer("tiny", int(sys.argv[1]), "cpu")
corpus = documents(int(sys.argv[2]))
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = peak()
with tempfile.TemporaryDirectory() as folder:
    run = make_run(featurizer, corpus, folder, context=64, batch_size=16)
    start = time.perf_counter()
    run.go()
    print(json.dumps([peak() - before, run.state.n_bytes, run.at.n_seen / (time.perf_counter() - start)]))
"""


def memory(n_features: int, n_tokens: int) -> tuple[float, float, float]:
    """Bytes at the peak beyond models and dictionary, bytes of the state, tokens a second; in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(n_features), str(n_tokens)], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: tuple[float, float, float] = tuple(json.loads(done.stdout))
    return found


def run() -> None:
    """Print all of it."""
    speed("demo", make_featurizer("demo", 2048, "cpu"), documents(60_000))
    if CACHED.exists():
        speed("SmolLM2", *real(6_000))
    else:
        print("SmolLM2 is not here (scripts/real_model fetches it): not measured")
    if torch.cuda.is_available():
        speed("gemma", make_featurizer("gemma", 65_536, "cuda"), documents(600_000), batch_size=64)
    else:
        print("no GPU here: the limit for Gemma-2-2B's shape (at least 0.7) is not measured")
    sizes, rates = (16_384, 65_536, 131_072), []
    for n_features in sizes:
        peak, state, rate = memory(n_features, 3_000)
        rates.append(rate)
        print(
            f"{n_features:,} features: the state is {state / 2**20:,.0f} MiB, the peak {peak / state:.2f} of it; "
            f"{rate:,.0f} tokens/s, for each feature {rate * n_features / (rates[0] * sizes[0]):.2f} of the work a "
            f"second that {sizes[0]:,} get (1: linear)",
            flush=True,
        )
    longer = memory(sizes[0], 12_000)[2]
    print(f"four times the tokens: {longer / rates[0]:.2f} of the tokens a second (1: linear)")

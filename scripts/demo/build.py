"""Make the embedded demo: tokenizer, base and chat model, crosscoder, examples, card.

    python -m scripts.demo.build [--out DIR] [--work DIR] [--stage NAME ...]

Runs on two CPU cores, with a fixed seed and budgets counted in tokens. A stage whose result is there is skipped;
name it with --stage to run it again. The corpus is Python's own standard library and documentation packages of
Debian, fetched with `apt-get download` and unpacked into the work folder (no root needed).
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import hashlib
import json
import platform
import random
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from bs4 import BeautifulSoup, NavigableString
from tqdm import tqdm

from scripts.demo.conversations import conversation
from scripts.demo.train_crosscoder import LAYER, train_crosscoder
from tiny_dashboard.demo import FOLDER

SEED = 0
VOCAB, CONTEXT = 4096, 256
BASE_TOKENS = 5_000_000
CHAT_CONVERSATIONS = 14_000
SPECIALS = ["<|bos|>", "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]

# package: (licence, languages, where its pages lie under usr/share; {l} is "de", {L} is "de-DE")
DOCS = {
    "debian-handbook": ("GPL-2+ or CC-BY-SA-3.0", "en de fr es it", "doc/debian-handbook/html/{L}/*.html"),
    "debian-reference-{l}": ("GPL-2+", "en de fr es it", "debian-reference/*.{l}.html"),
    "installation-guide-amd64": ("GPL-2", "en de fr es it", "doc/installation-guide-amd64/{l}/*.html"),
    "harden-doc": ("GPL-2+", "en fr es it", "doc/harden-doc/html/{L}/*.html"),
    "aptitude-doc-{l}": ("GPL-2+", "en es fr it", "doc/aptitude/html/{l}/*.html"),
    "debian-faq": ("copyleft of its own", "en", "doc/debian/FAQ/*.en.html"),
    "debian-faq-{l}": ("copyleft of its own", "de fr it", "doc/debian/FAQ/*.{l}.html"),
    "developers-reference": ("GPL-2+", "en", "developers-reference/*.html"),
    "developers-reference-{l}": ("GPL-2+", "de fr", "developers-reference/{l}/*.html"),
    "debian-policy": ("GPL-2+", "en", "doc/debian-policy/policy.html/*.html"),
    "jargon-text": ("public domain", "en", "doc/jargon-text/jargon.txt.gz"),
}
LOCALES = {"en": "en-US", "de": "de-DE", "fr": "fr-FR", "es": "es-ES", "it": "it-IT"}
# characters of training text for each group: 40 % code, a quarter English, the rest in four languages
CHARS = {"python": 7_500_000, "en": 4_000_000, "de": 1_900_000, "fr": 1_900_000, "es": 1_900_000, "it": 1_900_000}


# --- corpus -----------------------------------------------------------------------------------------------------------


SKIPPED = ["head", "script", "style", "nav", "footer"]
BLOCKS = ["p", "div", "li", "dt", "dd", "tr", "pre", "h1", "h2", "h3", "h4", "table", "ul", "ol", "dl", "br"]


def page_text(markup: str) -> str:
    """The text of a page, one block to a line; navigation, scripts and the head are left out."""
    soup = BeautifulSoup(markup, "html.parser")
    for node in soup.find_all(SKIPPED):
        node.decompose()
    for text in soup.find_all(string=lambda string: type(string) is NavigableString):  # no comment, no doctype
        if not text.find_parent("pre"):
            text.replace_with(re.sub(r"\s+", " ", text))
    for block in soup.find_all(BLOCKS):
        block.insert_before("\n")
        block.insert_after("\n")
    return re.sub(r"[ \t]*\n\s*\n*", "\n", soup.get_text()).strip()


def fetch_docs(work: Path, names: list[str] | None = None) -> Path:
    """Download and unpack packages, else those of the documentation; returns their usr/share."""
    if names is None:
        names = [package.format(l=lang) for package, (_, langs, _) in DOCS.items() for lang in langs.split()]
    names = sorted(set(names))
    debs = work / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    missing = [name for name in names if not list(debs.glob(f"{name}_*.deb"))]
    if missing:
        done = subprocess.run(["apt-get", "download", *missing], cwd=debs, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"The corpus needs the Debian packages {' '.join(missing)}. `apt-get download` failed:\n{done.stderr}"
                f"Run `apt-get update`, or put their .deb files into {debs}, and start again."
            )
    if not (work / "docs").exists():
        for deb in sorted(debs.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", deb, work / "docs"], check=True)
    return work / "docs" / "usr" / "share"


def read_documents(share: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (group, chapter, text); a chapter has the same name in every language, so it is held out in all."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for path in stdlib.rglob("*.py"):
        inner = path.relative_to(stdlib)
        skipped = {"site-packages", "test", "tests", "idlelib", "encodings", "pydoc_data", "lib2to3", "turtledemo"}
        if not skipped & set(inner.parts) and 500 < path.stat().st_size < 250_000:
            yield "python", str(inner), path.read_text("utf-8", "replace")
    for name, text in topics.items():
        yield "en", f"topic {name}", text
    for package, (_, langs, pattern) in DOCS.items():
        for lang in langs.split():
            for path in sorted(share.glob(pattern.format(l=lang, L=LOCALES[lang]))):
                chapter = f"{package} {path.name.split('.')[0]}"
                raw = path.read_bytes()
                if path.suffix == ".gz":  # one long text: cut it into parts
                    text = gzip.decompress(raw).decode("utf-8", "replace")
                    for i in range(0, len(text), 20_000):
                        yield lang, f"{chapter} {i}", text[i : i + 20_000]
                    continue
                yield lang, chapter, page_text(raw.decode("utf-8", "replace"))


def build_corpus(work: Path, out: Path) -> None:
    """Write work/corpus.json: {"train" | "valid": {group: [text]}}, held out by chapter, no paragraph twice."""
    documents = sorted(read_documents(fetch_docs(work)), key=lambda d: hashlib.sha256(repr(d[:2]).encode()).digest())
    heldout = {d[1] for d in documents if hashlib.sha256(d[1].encode()).digest()[0] < 14}  # 5.5 % of the chapters
    corpus: dict = {"train": {g: [] for g in CHARS}, "valid": {g: [] for g in CHARS}}
    seen: set[str] = set()
    for split in ("train", "valid"):  # training first: what it holds is dropped from the held-out text
        for group, chapter, text in documents:
            if (chapter in heldout) != (split == "valid"):
                continue
            room = CHARS[group] * (1 if split == "train" else 0.05) - sum(map(len, corpus[split][group]))
            if group != "python":  # manuals repeat themselves, and untranslated passages stand in several languages
                lines = [x for x in text.split("\n") if len(x) < 60 or x not in seen]
                seen.update(lines)
                text = "\n".join(lines)
            if room > 0 and len(text) > 300:
                corpus[split][group].append(text)
    for split, groups in corpus.items():
        print(split, {g: f"{len(t)} texts, {sum(map(len, t)):,} chars" for g, t in groups.items()})
    (work / "corpus.json").write_text(json.dumps(corpus))


# --- tokenizer --------------------------------------------------------------------------------------------------------

CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}\
{{ raise_exception('This model knows the roles user and assistant only.') }}{% endif %}\
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""


def build_tokenizer(work: Path, out: Path) -> None:
    """Byte-level BPE; digits are single tokens (arithmetic); the tokenizer adds <|bos|> by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    corpus = json.loads((work / "corpus.json").read_text())["train"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator((text for texts in corpus.values() for text in texts), trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]),
        ]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIALS[3:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(out / "tokenizer")
    path = out / "tokenizer" / "tokenizer.json"  # it is written with a line for each token and merge
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")


# --- base model -------------------------------------------------------------------------------------------------------


def chunks_of(texts: list[str], tokenizer) -> np.ndarray:
    """Cut each text into windows of CONTEXT ids that start with BOS; ends that do not fill a window are dropped.

    Returns:
        uint16 array [windows, CONTEXT].
    """
    rows = []
    for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
        body = np.array(ids, dtype=np.uint16)
        body = body[: len(body) // (CONTEXT - 1) * (CONTEXT - 1)].reshape(-1, CONTEXT - 1)
        rows.append(np.pad(body, ((0, 0), (1, 0)), constant_values=tokenizer.bos_token_id))
    return np.concatenate(rows)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by Newton-Schulz steps (Jordan 2024, kellerjordan.github.io/posts/muon).

    In float32: torch.optim.Muon computes in bfloat16, which a CPU without bf16 arithmetic does 18 times slower.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix; takes no closure."""
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                x = p.grad.lerp(buffer, group["momentum"])
                x = x.T if p.shape[0] > p.shape[1] else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (2.0315 * a @ a - 4.7750 * a) @ x
                x = x.T if p.shape[0] > p.shape[1] else x
                p.add_(x, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def train_model(model, batches: Callable[[int], tuple], steps: int, lr: float, name: str) -> None:
    """Train in place; batches(step) gives ids [batch, seq] and labels [batch, seq] (-100: no loss)."""
    is_matrix = {n: p.ndim == 2 and "embed" not in n for n, p in model.named_parameters()}
    optimizers = [
        Muon([p for n, p in model.named_parameters() if is_matrix[n]], lr),
        torch.optim.AdamW([p for n, p in model.named_parameters() if not is_matrix[n]], lr, (0.9, 0.98)),
    ]
    model.train()
    bar, smooth = tqdm(range(steps), desc=name, mininterval=5), None
    for step in bar:
        scale = min(1.0, (step + 1) / 50, max(0.02, (steps - step) / (0.4 * steps)))  # warm up, hold, decay linearly
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * scale
        ids, labels = batches(step)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        bar.set_postfix(loss=f"{smooth:.3f}")
        if step % 200 == 0:
            print(f"\n{name} step {step}/{steps} loss {smooth:.3f} cpu {time.process_time():.0f} s", flush=True)
    model.eval()


def save_half(model, path: Path) -> None:
    """Store float16, to be loaded as float32: processors without float16 arithmetic are slow in it."""
    model.half().save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def build_base(work: Path, out: Path) -> None:
    """Train the base model from random weights on the corpus."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(out)
    corpus = json.loads((work / "corpus.json").read_text())["train"]
    windows = np.concatenate([chunks_of(texts, tokenizer) for texts in corpus.values()])
    rng = np.random.default_rng(SEED)
    steps = BASE_TOKENS // (16 * CONTEXT)
    order = np.concatenate([rng.permutation(len(windows)) for _ in range(steps * 16 // len(windows) + 1)])
    print(f"{windows.size:,} training tokens, {BASE_TOKENS / windows.size:.2f} epochs, {steps} steps")

    def batches(step: int):
        ids = torch.from_numpy(windows[order[step * 16 : step * 16 + 16]].astype(np.int64))
        return ids, ids

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    train_model(model, batches, steps, 4e-3, "base")
    save_half(model, out / "base")


def load_tokenizer(out: Path):
    """The bundle's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(out / "tokenizer")


# --- chat model -------------------------------------------------------------------------------------------------------


def chat_ids(seed: int, count: int, tokenizer) -> tuple[list[list[int]], list[list[int]]]:
    """Generated conversations as ids and labels: only what the assistant says, and its <|end|>, has a loss."""
    rng = random.Random(seed)
    start, end = tokenizer.convert_tokens_to_ids(["<|assistant|>", "<|end|>"])
    texts = [tokenizer.apply_chat_template(conversation(rng), tokenize=False) for _ in range(count)]
    rows, labels = tokenizer(texts, add_special_tokens=False)["input_ids"], []
    for ids in rows:
        speaking, label = -1, []
        for i, token in enumerate(ids):
            speaking = i if token == start else speaking
            label.append(token if 0 <= speaking < i - 1 else -100)  # i - 1: the newline after the role
            speaking = -1 if token == end else speaking
        labels.append(label)
    return rows, labels


def build_chat(work: Path, out: Path) -> None:
    """Fine-tune the base model on conversations, with one batch of plain text in six against forgetting."""
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(out)
    corpus = json.loads((work / "corpus.json").read_text())["train"]
    plain = np.concatenate([chunks_of(texts[:30], tokenizer) for texts in corpus.values()])
    rows, labels = chat_ids(SEED, CHAT_CONVERSATIONS, tokenizer)
    rng = np.random.default_rng(SEED)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # like lengths share a batch: little padding
    chat = [order[i : i + 48] for i in range(0, len(order), 48)]
    rng.shuffle(chat)

    def batches(step: int):
        if step % 6 == 5:
            ids = torch.from_numpy(plain[rng.integers(len(plain), size=16)].astype(np.int64))
            return ids, ids
        picked = chat[step - step // 6]
        pad = lambda lists, value: torch.nn.utils.rnn.pad_sequence(  # noqa: E731
            [torch.tensor(lists[i]) for i in picked], batch_first=True, padding_value=value
        )
        return pad(rows, tokenizer.pad_token_id), pad(labels, -100)

    model = AutoModelForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
    train_model(model, batches, len(chat) * 6 // 5, 2e-3, "chat")
    save_half(model, out / "chat")


# --- crosscoder and examples ------------------------------------------------------------------------------------------


def mixed_ids(work: Path, out: Path, split: str, windows: int, chat_share: float = 0.4) -> list[list[int]]:
    """So many windows of the corpus, all groups alike, and conversations that have `chat_share` of all tokens."""
    tokenizer = load_tokenizer(out)
    rng = np.random.default_rng(SEED + 1)
    parts = [chunks_of(texts, tokenizer) for texts in json.loads((work / "corpus.json").read_text())[split].values()]
    rows = [ids for part in parts for ids in part[rng.permutation(len(part))[: windows // len(parts)]].tolist()]
    chats, _ = chat_ids(SEED + 1 + (split == "valid"), len(rows) * 4, tokenizer)
    budget = len(rows) * CONTEXT * chat_share / (1 - chat_share)
    rows += [ids for ids, used in zip(chats, np.cumsum([len(c) for c in chats]), strict=True) if used <= budget]
    return [rows[i] for i in rng.permutation(len(rows))]


def build_crosscoder(work: Path, out: Path) -> None:
    """Train the crosscoder on corpus and conversations."""
    train_crosscoder(out, mixed_ids(work, out, "train", 1_600), out / "crosscoder", SEED)


def build_examples(work: Path, out: Path) -> None:
    """Collect the examples and statistics of all features over corpus and conversations, as any user would."""
    from transformers import AutoModelForCausalLM

    from tiny_dashboard.collect import collect_examples
    from tiny_dashboard.dictionaries import load_dictionary

    corpus = json.loads((work / "corpus.json").read_text())
    rng = random.Random(SEED + 3)
    texts: list = [text for split in corpus.values() for group in split.values() for text in group]
    pieces = [text[i : i + 2000] for text in texts for i in range(0, len(text) - 500, 2000)]
    documents = rng.sample(pieces, 560) + [conversation(rng) for _ in range(2_000)]
    rng.shuffle(documents)
    shutil.rmtree(out / "examples", ignore_errors=True)
    collect_examples(
        [AutoModelForCausalLM.from_pretrained(out / name) for name in ("base", "chat")],
        load_dictionary(out / "crosscoder", device="cpu"),
        documents,
        out / "examples",
        tokenizer=load_tokenizer(out),
        layer=LAYER,
        hook_point="resid_post",
        top_k=9,
        samples=4,
        context=96,
        mask_special=False,  # chat-template tokens are where the chat model differs most
        metadata={"models": ["base", "chat"], "dictionary": "crosscoder", "tokenizer": "../tokenizer"},
    )


# --- the whole build --------------------------------------------------------------------------------------------------

# stage: (function, what it leaves)
STAGES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "corpus": (build_corpus, "{work}/corpus.json"),
    "tokenizer": (build_tokenizer, "{out}/tokenizer"),
    "base": (build_base, "{out}/base"),
    "chat": (build_chat, "{out}/chat"),
    "crosscoder": (build_crosscoder, "{out}/crosscoder"),
    "examples": (build_examples, "{out}/examples"),
}


def folders(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """With where the bundle lies, and where it is made."""
    parser.add_argument("--out", type=Path, default=FOLDER, help="the bundle (default: the package's)")
    parser.add_argument("--work", type=Path, default=Path("demo-work"), help="downloads and corpus")
    return parser


def keep_memory() -> None:
    """Keep freed memory: handing it back at every step made training seven times slower."""
    if platform.system() == "Linux":
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def run_stages(stages: Mapping[str, tuple[Callable[[Path, Path], Any], str]], description: str, **usual: Path) -> None:
    """The command line of a build: run the stages whose results are missing, and those that are named.

    Args:
        stages: by name, what to call with the work and the output folder, and the result that it leaves.
        description: of the command.
        usual: `out` and `work` where they are not those of `folders`.
    """
    parser = folders(argparse.ArgumentParser(description=description))
    parser.set_defaults(**usual)
    parser.add_argument("--stage", action="append", default=[], choices=stages, help="run this one, though it is there")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    keep_memory()
    times = args.work / "times.json"
    for name, (build, result) in stages.items():
        if name in args.stage or (not args.stage and not Path(result.format(work=args.work, out=args.out)).exists()):
            wall, cpu = time.time(), time.process_time()
            build(args.work, args.out)
            took = {name: {"wall_s": round(time.time() - wall), "cpu_s": round(time.process_time() - cpu)}}
            times.write_text(json.dumps((json.loads(times.read_text()) if times.exists() else {}) | took))
            print(name, took[name], flush=True)


if __name__ == "__main__":
    run_stages(STAGES, "Make the embedded demo.")

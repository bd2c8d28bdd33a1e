"""A tiny model pair, tokenizer, crosscoder and corpus for the tests of collection."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_dashboard.collect import collect_examples
from tiny_dashboard.dictionaries import load_dictionary

WIDTH, N, LAYER, CONTEXT = 16, 24, 1, 12
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<bos>", "<end>", "<user>", "<assistant>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["the cat and the dog and the bird in the house"] * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<bos>",
        eos_token="<end>",
        additional_special_tokens=special[2:],
        chat_template=template,
    )


def make_pair(vocabulary: int) -> list[LlamaForCausalLM]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return [LlamaForCausalLM(config).eval() for _ in range(2)]


def make_dictionary(folder: Path, n_models: int = 2):
    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": torch.randn(n_models, WIDTH, N),
        "encoder.bias": torch.randn(N) * 0.01 - 0.1,
        "decoder.weight": torch.randn(n_models, N, WIDTH),
        "decoder.bias": torch.zeros(n_models, WIDTH),
    }
    save_file(tensors, folder / "model.safetensors")
    return load_dictionary(folder, device="cpu", layer=LAYER)


def make_corpus(n: int = 40) -> list:
    words = ["the", "cat", "and", "dog", "bird", "in", "house", "run", "ran", "über", "鳥", "()", "\n", "12", "def"]
    chooser = random.Random(0)
    documents: list = []
    for i in range(n):
        text = " ".join(chooser.choices(words, k=chooser.randint(2, 30)))
        if i % 5 == 4:
            documents.append([{"role": "user", "content": text}, {"role": "assistant", "content": "the dog"}])
        elif i % 7 == 6:
            documents.append(documents[i - 6])  # the same again
        else:
            documents.append(text)
    return documents


def make_all(folder: Path):
    tokenizer = make_tokenizer()
    return make_pair(len(tokenizer)), make_dictionary(folder / "dictionary"), tokenizer


OPTIONS = {"context": CONTEXT, "top_k": 4, "samples": 3, "batch_size": 3, "block_size": 7, "outlier_norm": None}


def collect(setup, corpus, out, **options):
    pair, dictionary, tokenizer = setup
    return collect_examples(pair, dictionary, corpus, out, tokenizer=tokenizer, **(OPTIONS | options))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

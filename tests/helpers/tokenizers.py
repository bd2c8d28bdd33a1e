"""Tokenizers of every scheme, trained here on a few words."""

from __future__ import annotations

import functools
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

CORPUS = [
    "the quick brown fox jumps over the lazy dog.",
    "Ça été über straße naïve café 日本語 мир мира\n\tif x == 1:",
] * 4
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The shape of Llama 2's: BOS in the template, contents stripped, roles checked.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] | trim }} [/INST]"
    "{% else %} {{ m['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def with_bos(backend: Tokenizer) -> Tokenizer:
    bos = backend.token_to_id("<s>")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return backend


@functools.cache
def byte_level(bos: bool = False, add_prefix_space: bool = False, in_sequence: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.Sequence([decoders.ByteLevel()]) if in_sequence else decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<é▁>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    names = {"bos_token": "<s>"} if bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=with_bos(backend) if bos else backend, eos_token="</s>", chat_template=CHATML, **names
    )


@functools.cache
def sentencepiece(style: str) -> PreTrainedTokenizerFast:
    """Byte-fallback vocabularies as Llama ("prepend", or "always" and "first" of Metaspace) and Gemma ("never") do."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=150, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *BYTES, "▁▁", *model["vocab"]]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("▁", "▁"), *map(tuple, model["merges"])]
    if style == "unigram":
        scores = [(piece, 0.0 if piece in ("<unk>", "<s>", "</s>") else -len(vocab) / len(piece)) for piece in vocab]
        backend = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    else:
        backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if style == "never":
        backend.normalizer = normalizers.Replace(" ", "▁")
    elif style == "prepend":
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        scheme = "first" if style == "first" else "always"
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(chain if style == "never" else [*chain, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    if style == "never":
        backend.add_tokens([AddedToken("▁▁", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=with_bos(backend), bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=INST
    )


@functools.cache
def wordpiece() -> PreTrainedTokenizerFast:
    words = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "hello", ",", "##", "é"]
    backend = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")


class SlowByteLevel(PreTrainedTokenizer):
    """A pure Python byte-level vocabulary of single bytes, as GPT-2's was."""

    def __init__(self, **kwargs):
        alphabet = byte_level().convert_ids_to_tokens
        tokens = alphabet(byte_level()("".join(map(chr, range(128))) + "é日🙂").input_ids)
        self.byte_chars = sorted(set(pre_tokenizers.ByteLevel.alphabet()) | set("".join(tokens)))
        self.ids = {char: number for number, char in enumerate(self.byte_chars)}
        super().__init__(**kwargs)

    @property
    def vocab_size(self):
        return len(self.ids)

    def get_vocab(self):
        return self.ids | self.added_tokens_encoder

    def _tokenize(self, text, **kwargs):
        splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [char for piece, _ in splitter.pre_tokenize_str(text) for char in piece]

    def _convert_token_to_id(self, token):
        return self.ids[token]

    def _convert_id_to_token(self, index):
        return self.byte_chars[index]


class SlowChars(SlowByteLevel):
    """A pure Python tokenizer without any scheme: one token for each character it knows."""

    def _tokenize(self, text, **kwargs):
        return [char for char in text if char in self.ids]

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


def slow_byte_level() -> SlowByteLevel:
    return SlowByteLevel(bos_token="<s>", eos_token="</s>", chat_template=CHATML)

"""Exact token texts, prompts and feature numbers."""

from __future__ import annotations

import codecs
import functools
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from tests.helpers.tokenizers import (
    CHATML,
    INST,
    SlowChars,
    byte_level,
    sentencepiece,
    slow_byte_level,
    wordpiece,
)
from tiny_dashboard.core.prompts import EncodedText, encode_text
from tiny_dashboard.core.text import TokenReader, parse_features, token_texts

TEXT = st.text() | st.text(alphabet="aé日🙂 \n\tĠx▁<0A>👩‍👩‍👧", max_size=20)


EXACT = {
    "byte-level": byte_level,
    "byte-level with BOS": functools.partial(byte_level, bos=True),
    "byte-level in a Sequence": functools.partial(byte_level, in_sequence=True),
    "byte-level with prefix space": functools.partial(byte_level, bos=True, add_prefix_space=True),
    "prepend": functools.partial(sentencepiece, "prepend"),
    "always": functools.partial(sentencepiece, "always"),
    "first": functools.partial(sentencepiece, "first"),
    "never": functools.partial(sentencepiece, "never"),
    "unigram": functools.partial(sentencepiece, "unigram"),
    "slow byte-level": functools.cache(slow_byte_level),
    "slow bytes (ByT5)": functools.cache(lambda: ByT5Tokenizer(extra_ids=0)),
}
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<é▁>"]


@functools.cache
def reader(name: str) -> TokenReader:
    return TokenReader(EXACT[name]())


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=150, deadline=None)
@given(text=TEXT)
def test_joined_texts_are_the_text(name, text):
    tokenizer = EXACT[name]()
    assume(not any(special in text for special in SPECIAL))
    if name in ("prepend", "always", "first", "never", "unigram"):
        assume("▁" not in text)  # lost by nature: it is this vocabulary's space
    if name in ("always", "first", "unigram", "byte-level with prefix space"):
        assume(not text.startswith(" "))  # takes the place of the space that the tokenizer adds
    if name == "unigram":
        assume(not re.search("<0x[0-9A-F]{2}>", text))  # its vocabulary has one token for these words and for the byte
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    read = reader(name).read(ids)
    assert "".join(read.texts) == text
    assert len(read.texts) == len(ids)
    assert reader(name).read(tokenizer.convert_ids_to_tokens(ids)) == read
    if tokenizer.bos_token and tokenizer.is_fast:
        assert (
            "".join(reader(name).read(tokenizer(text)["input_ids"]).texts)
            == tokenizer.bos_token * bool(len(tokenizer(text)["input_ids"]) > len(ids)) + text
        )


def characters(data: bytes) -> list[tuple[str, int, int]]:
    """Each character of `data.decode("utf-8", "replace")` with the bytes it was made of, by Python's own decoder."""
    bad: list[tuple[int, int]] = []
    codecs.register_error("test-record", lambda error: (bad.append((error.start, error.end)), ("", error.end))[1])
    data.decode("utf-8", "test-record")
    found = [("\ufffd", start, end) for start, end in bad]
    edges = [0, *(edge for span in bad for edge in span), len(data)]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        for char in data[start:end].decode():
            found.append((char, start, start := start + len(char.encode())))
    return sorted(found, key=lambda item: item[1])


@settings(max_examples=400, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from([b"\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"\x99\x82", b"\xed", b"\xa0", b"\xff", b"\xc3"])
        | st.sampled_from(["a", "é", "日"]).map(str.encode)
        | st.binary(min_size=1, max_size=4),
        max_size=12,
    )
)
def test_bytes_against_a_plain_oracle(pieces):
    marks = dict(zip(range(256), sorted(_alphabet(), key=_alphabet().get), strict=True))
    data = b"".join(pieces)
    edges = np.cumsum([0, *map(len, pieces)])
    chars = characters(data)
    texts, chips = [], {}
    for i, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        texts.append("".join(char for char, _, last in chars if start < last <= end))
        split = [(a, b) for char, a, b in chars if data[a:b] != char.encode() or b > end]
        held = b"".join(data[max(a, start) : min(b, end)] for a, b in split if max(a, start) < min(b, end))
        if held:
            chips[i] = held.hex(" ").upper()
    # "Ċ" marks the list as byte-level.
    read = token_texts(["Ċ", *("".join(marks[byte] for byte in piece) for piece in pieces)])
    assert read.texts == ["\n", *texts]
    assert read.chips == {i + 1: chip for i, chip in chips.items()}
    assert "".join(read.texts) == "\n" + data.decode("utf-8", "replace")


@functools.cache
def _alphabet() -> dict[str, int]:
    """Character -> byte of the byte-level alphabet, asked of the tokenizers library."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    known = {}
    for code in [*range(0x80), *range(0xA0, 0x800, 0x20), *range(0x80, 0xC0), *range(0x800, 0x110000, 0x800)]:
        if not 0xD800 <= code < 0xE000:
            spelled = splitter.pre_tokenize_str(chr(code))[0][0]
            known |= dict(zip(spelled, chr(code).encode(), strict=True))
    # Bytes that no valid text holds stand for themselves (they are visible Latin-1).
    return known | {chr(byte): byte for byte in [0xC0, 0xC1, *range(0xF5, 0x100)]}


def test_a_split_character_stands_where_it_is_complete():
    euro = token_texts(["<0xE2>", "<0x82>", "<0xAC>", "▁x"])
    assert euro.texts == ["", "", "€", " x"]
    assert euro.chips == {0: "E2", 1: "82"}
    broken = token_texts(["<0xE2>", "<0x82>", "▁x", "<0xFF>"])
    assert broken.texts == ["", "\ufffd", " x", "\ufffd"]
    assert broken.chips == {0: "E2", 1: "82", 3: "FF"}
    # One token ends a character and begins the next.
    shared = token_texts(["Ġ", "Ã", "©Ã", "©"])
    assert shared.texts == [" ", "", "é", "é"]
    assert shared.chips == {1: "C3", 2: "C3"}
    assert token_texts(["Ġ", "Ã", "", "©"]).texts == [" ", "", "", "é"]


def test_without_a_tokenizer_the_marks_tell():
    assert token_texts(["The", "ĠcafÃ©", "Ċ", "ĉ"]).texts == ["The", " café", "\n", "\t"]
    assert token_texts(["<s>", "▁Hi", "<0x0A>", "é"]).texts == ["<s>", " Hi", "\n", "é"]
    assert token_texts(["Hi", "<0x0A>"]).texts == ["Hi", "\n"]
    for plain in (["The", " café", "\n"], ["é", "Ã"], [" Ġ", "é"], ["##", "[CLS]"], []):
        assert token_texts(plain) == (plain, {})
    assert token_texts(["<|a b|>", "Ġx"]).texts == ["<|a b|>", " x"]


def test_readable_texts_and_foreign_pieces_beside_a_tokenizer():
    stored = [" The", " café", " from", "\n", "é"]
    for tokenizer in (byte_level(), sentencepiece("prepend"), wordpiece(), EXACT["slow byte-level"]()):
        assert token_texts(stored, tokenizer).texts == stored
    assert token_texts(["▁foreign", "<0x0A>"], byte_level()).texts == [" foreign", "\n"]
    assert token_texts(["Ġforeign", "Ċ"], sentencepiece("never")).texts == [" foreign", "\n"]


def test_added_tokens_are_literal():
    ids = byte_level()("a<é▁><|im_end|>é").input_ids
    assert [t for t in token_texts(ids, byte_level()).texts if t] == ["a", "<é▁>", "<|im_end|>", "é"]
    # Gemma's runs of spaces are added tokens too, and no literal ▁.
    gemma = sentencepiece("never")
    assert "▁▁" in gemma.get_added_vocab()
    assert "".join(token_texts(gemma("a   b", add_special_tokens=False).input_ids, gemma).texts) == "a   b"


@pytest.mark.parametrize("style", ["prepend", "always", "first"])
def test_the_space_that_a_tokenizer_adds_is_not_text(style):
    tokenizer = sentencepiece(style)
    for text in ("Hi</s>the fox", "<s>the", "the", "日 x"):
        for special in (False, True):
            ids = tokenizer(text, add_special_tokens=special).input_ids
            assert "".join(token_texts(ids, tokenizer).texts) == "<s>" * special + text


def test_the_space_behind_an_unknown_character_is_text():
    """Unigram without byte fallback, as T5 and XLM-R have it."""
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *((p, -1.0) for p in ("▁", "a", "b", "▁a", "▁b"))], 0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    ids = tokenizer("a İ b").input_ids
    assert "".join(token_texts(ids, tokenizer).texts) == tokenizer.decode(ids) == "a <unk> b"


def test_wordpiece_and_slow_tokenizers_join_as_they_do_themselves(tmp_path):
    tokenizer = wordpiece()
    ids = tokenizer("unaffable hello, hello é").input_ids
    assert token_texts(ids, tokenizer).texts == ["un", "aff", "able", " hello", ",", " hello", " é"]
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##able", "hello"]))
    slow = BertTokenizerLegacy(str(vocab))
    assert token_texts(slow("unable hello").input_ids, slow).texts == ["[CLS]", " un", "able", " hello", " [SEP]"]
    chars = SlowChars()
    assert token_texts(chars("a-b").input_ids, chars).texts == ["a", "-", "b"]
    chars.ids = {"x": 0, "a@@": 1, "b": 2}  # the marks of subword-nmt
    chars.byte_chars = list(chars.ids)
    chars.convert_tokens_to_string = lambda tokens: " ".join(tokens).replace("@@ ", "")
    assert token_texts([0, 1, 2], chars).texts == ["x", " a@@", "b"]


@pytest.mark.parametrize(
    "tokens", [np.array([5, 70, 71]), torch.tensor([5, 70, 71]), [np.int64(5), 70, np.int32(71)], (5, 70, 71)]
)
def test_ids_of_every_kind(tokens):
    assert token_texts(tokens, byte_level()) == token_texts([5, 70, 71], byte_level())


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("bad", [-1, 5_000, 2**31, 2**70])
def test_an_id_outside_the_vocabulary_is_named(name, bad):
    tokenizer = EXACT[name]()
    with pytest.raises(ValueError, match=rf"token id {bad} is outside .* {len(tokenizer)} tokens"):
        token_texts([3, bad], tokenizer)


def test_a_vocabulary_with_holes():
    backend = Tokenizer(models.WordLevel({"a": 0, "x": 70, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert token_texts([70, 0], tokenizer).texts == ["x", " a"]
    with pytest.raises(ValueError, match="token id 69 is outside"):
        token_texts([69], tokenizer)


@pytest.mark.parametrize("tokens", ["text", 5, [1, "a"], [[1, 2]], [1.5], [None], torch.tensor([[1, 2]])])
def test_tokens_that_are_no_sequence_of_tokens(tokens):
    with pytest.raises(TypeError, match=r"tokens are (a list|all ids)"):
        token_texts(tokens, byte_level())


def test_ids_without_a_tokenizer():
    with pytest.raises(ValueError, match="pass tokenizer="):
        token_texts([1, 2])


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.text(st.characters(), max_size=5) | st.sampled_from(["\ud800", "\0", "<0xE2>", "Ġ\ud800"])))
@pytest.mark.parametrize("name", [None, "byte-level", "prepend", "slow byte-level"])
def test_any_pieces_at_all(name, pieces):
    read = token_texts(pieces) if name is None else reader(name).read(pieces)
    assert len(read.texts) == len(pieces)
    if not any(mark in piece for piece in pieces for mark in ("Ġ", "Ċ", "▁", "<0x")) and name is None:
        assert read == (pieces, {})


def test_speed_of_thirty_long_examples():
    rng = np.random.default_rng(0)
    for name in ("byte-level", "prepend"):
        examples = rng.integers(3, len(EXACT[name]()), size=(30, 1024)).tolist()
        pieces = [EXACT[name]().convert_ids_to_tokens(row) for row in examples]
        for rows in (examples, pieces):
            tokens = TokenReader(EXACT[name]())
            start = time.perf_counter()
            for row in rows:
                tokens.read(row)
            assert time.perf_counter() - start < 1  # a bound for a busy machine; it takes a tenth of that


# Prompts


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("text", ["the fox", "日🙂 x", "\n", "a\0b", "<|im_end|> and <eot>"])
def test_a_plain_text_is_what_the_tokenizer_makes_of_it(name, text):
    tokenizer = EXACT[name]()
    encoded = encode_text(text, tokenizer)
    assert encoded.text == text
    assert encoded.ids == list(tokenizer(text)["input_ids"])
    expected = [token in set(tokenizer.all_special_ids) | added_special(tokenizer) for token in encoded.ids]
    assert encoded.special == expected
    assert encoded.special[0] == (encoded.ids[0] == tokenizer.bos_token_id or text.startswith("<|") and expected[0])


def added_special(tokenizer) -> set[int]:
    return {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


@pytest.mark.parametrize("name", ["byte-level", "byte-level with BOS", "slow byte-level", "first"])
@pytest.mark.parametrize("chat", [False, True])
def test_bos_as_asked_for(name, chat):
    tokenizer = EXACT[name]()
    usual = encode_text("Hello é", tokenizer, chat=chat)
    with_bos, without = (encode_text("Hello é", tokenizer, chat=chat, bos=bos) for bos in (True, False))
    bos = tokenizer.bos_token_id
    if bos is None or chat:  # what a template writes is never edited
        assert with_bos == without == usual
        return
    assert with_bos.ids == [bos, *without.ids] and without.ids[0] != bos and usual in (with_bos, without)
    assert with_bos.special == [True, *without.special]
    assert with_bos.text in (without.text, tokenizer.bos_token + without.text)
    assert encode_text(tokenizer.bos_token, tokenizer, bos=False).ids == [bos]  # there is nothing else to read


def test_bos_is_never_doubled():
    for tokenizer in (byte_level(bos=True), sentencepiece("prepend"), sentencepiece("first")):
        once = encode_text("the fox", tokenizer)
        assert once.ids.count(tokenizer.bos_token_id) == 1
        assert once.special == [True] + [False] * (len(once.ids) - 1)
        assert encode_text("<s>the fox", tokenizer) == once


def test_an_unknown_word_is_text():
    encoded = encode_text("hello zzz", wordpiece())
    assert encoded.ids == [6, 0]
    assert encoded.special == [False, False]
    one_for_all = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")  # as GPT-2 has it
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level().backend_tokenizer, **one_for_all)
    assert sum(encode_text("a<|endoftext|>b", tokenizer).special) == 1


def turns_shown(encoded: EncodedText, tokenizer) -> str:
    """The text of the tokens that are not special, with | for each run of special ones."""
    texts = token_texts(encoded.ids, tokenizer).texts
    shown = "".join("\0" if special else text for text, special in zip(texts, encoded.special, strict=True))
    return "|".join(part for part in shown.split("\0") if part)


@pytest.mark.parametrize("name", ["byte-level", "slow byte-level"])
def test_chat_turns(name):
    tokenizer = EXACT[name]()
    if not tokenizer.is_fast:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    one = encode_text("user: 日🙂 user", tokenizer, chat=True)
    assert one.text == "<|im_start|>user\nuser: 日🙂 user<|im_end|>\n"
    assert turns_shown(one, tokenizer) == "user: 日🙂 user"
    prompt = encode_text("user", tokenizer, chat=True, generation_prompt=True)
    assert prompt.text == "<|im_start|>user\nuser<|im_end|>\n<|im_start|>assistant\n"
    assert turns_shown(prompt, tokenizer) == "user"
    for generation_prompt in (False, True):
        open_turn = encode_text(
            "a<eot>assistant <eot>b<eot>c ", tokenizer, chat=True, generation_prompt=generation_prompt
        )
        assert open_turn.text.endswith("<|im_start|>assistant\nc ")
        assert turns_shown(open_turn, tokenizer) == "a|assistant |b|c "
    for encoded in (one, prompt, open_turn):
        assert encoded.ids == list(tokenizer(encoded.text)["input_ids"])
        assert len(encoded.special) == len(encoded.ids)


@pytest.mark.parametrize("name", ["prepend", "always", "first", "byte-level with BOS"])
def test_chat_with_bos_in_the_template(name):
    tokenizer = EXACT[name]()
    template, tokenizer.chat_template = tokenizer.chat_template, INST
    encoded = encode_text(" the fox <eot>a dog<eot>over", tokenizer, chat=True)
    tokenizer.chat_template = template
    formatted = "<s>[INST] the fox [/INST] a dog</s>[INST] over [/INST]"
    assert encoded.ids == list(tokenizer(formatted, add_special_tokens=False)["input_ids"])
    assert encoded.ids.count(tokenizer.bos_token_id) == 1
    assert encoded.special[0]
    # The text of the contract: a user's own `tokenizer(text)` gives these ids, where the tokenizer can at all.
    assert encoded.text in (formatted, formatted.removeprefix("<s>"))
    if name != "first":  # "first" adds its space only where there is no BOS in the text
        assert list(tokenizer(encoded.text)["input_ids"]) == encoded.ids
    assert [part.strip() for part in turns_shown(encoded, tokenizer).split("|")] == ["the fox", "a dog", "over"]


@settings(max_examples=100, deadline=None)
@given(
    turns=st.lists(
        st.text(alphabet="auser日🙂 \n{}%<|im_end>'\"\ue000", min_size=1, max_size=12), min_size=1, max_size=4
    )
)
def test_any_chat_keeps_its_turns(turns):
    assume(all(turn.strip() for turn in turns) and "<eot>" not in "".join(turns))
    tokenizer = byte_level()
    encoded = encode_text("<eot>".join(turns), tokenizer, chat=True)
    texts = token_texts(encoded.ids, tokenizer).texts
    assert "".join(texts) == encoded.text
    if not any(special in "".join(turns) for special in SPECIAL):
        shown = "".join(text for text, special in zip(texts, encoded.special, strict=True) if not special)
        # A token may hold characters of a turn and of the template beside it: it counts as the turn's.
        assert len(shown) <= len("".join(turns)) + len(turns) * 8
        assert all(turn in shown for turn in turns)


def test_a_template_that_rewrites_a_turn_still_marks_special_tokens():
    tokenizer = byte_level()
    template, tokenizer.chat_template = (
        tokenizer.chat_template,
        CHATML.replace("['content']", "['content'] | upper | replace('A', 'b')"),
    )
    encoded = encode_text("abc", tokenizer, chat=True)
    tokenizer.chat_template = template
    assert encoded.text == "<|im_start|>user\nbBC<|im_end|>\n"
    assert any(encoded.special)
    assert not all(encoded.special)


@pytest.mark.parametrize(
    ("text", "tokenizer", "chat", "says"),
    [
        ("", byte_level, False, "empty"),
        ("", byte_level, True, "empty"),
        ("a<eot><eot>b", byte_level, True, "turn 2 of 3 is empty"),
        ("a<eot> <eot>", byte_level, True, "turn 2 of 2 is empty"),
        ("<eot>a", byte_level, True, "turn 1 of 2 is empty"),
        ("a\ud800b", byte_level, False, "character 1 is a lone surrogate"),
        ("hello", wordpiece, True, "no chat template"),
        (" ", wordpiece, False, "makes no token"),
    ],
)
def test_prompts_that_cannot_be(text, tokenizer, chat, says):
    with pytest.raises(ValueError, match=says):
        encode_text(text, tokenizer(), chat=chat)


def test_a_template_that_refuses():
    tokenizer = byte_level()
    template, tokenizer.chat_template = (
        tokenizer.chat_template,
        "{{ raise_exception('only poems: ' + messages[0]['content']) }}",
    )
    with pytest.raises(ValueError, match="does not take this conversation: only poems: hi"):
        encode_text("hi", tokenizer, chat=True)
    tokenizer.chat_template = template
    with pytest.raises(TypeError, match="the text is a str, or a list of messages, not None"):
        encode_text(None, tokenizer)


# Feature numbers


@pytest.mark.parametrize(
    ("value", "features"),
    [
        ("1, 2, 3", [1, 2, 3]),
        ("1 2", [1, 2]),
        ("3,1 ,2\n1", [3, 1, 2]),
        ("5-9", [5, 6, 7, 8, 9]),
        ("5 – 7, 6, 0007", [5, 6, 7]),
        ("0" * 30 + "5", [5]),
        ("0", [0]),
        ("[1, 2]", [1, 2]),
        ("[]", []),
        (" ", []),
        ("", []),
        (None, []),
        (7, [7]),
        (np.int64(7), [7]),
        ([1, np.int32(2), "3", " 4-5 "], [1, 2, 3, 4, 5]),
        ((2, 2), [2]),
        (np.array([3, 1]), [3, 1]),
        (torch.tensor([3, 1]), [3, 1]),
        (torch.tensor(4), [4]),
        ([torch.tensor(4)], [4]),
        (range(3), [0, 1, 2]),
        ("0-9999", list(range(10_000))),
        (range(20_000), list(range(20_000))),
    ],
)
def test_features(value, features):
    assert parse_features(value) == features
    assert parse_features(value, n_features=20_000) == features


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1,,2", r"'1,,2' has a comma with no number"),
        ("1,", "comma"),
        ([1, "x"], r"'x' is not a feature number: write whole numbers"),
        ("[1, 'x']", "is not a feature number"),
        (1.5, "1.5 is not a feature number"),
        ("1.5", "'1.5' is not a feature number"),
        ([2.0], "2.0 is not a feature number"),
        ([np.float64(2)], "2.0 is not a feature number"),
        ([[1, 2], 3], r"\[1, 2\] is not a feature number"),
        ("[[1], 2]", r"'\[1\]' is not a feature number"),
        (np.ones((2, 2), int), r"\[1, 1\] is not a feature number"),
        (-1, "feature -1 does not exist: .* from 0 to 99"),
        ("-1", "'-1' is not a feature number"),
        (100, "feature 100 does not exist: this dictionary has 100 features, from 0 to 99"),
        ("98-100", "'98-100' does not exist"),
        ("9" * 400, r"9\.\.\. does not exist"),
        ("9" * 9000, r"9\.\.\. does not exist"),
        (10**400, r"0\.\.\. does not exist"),
        ([10**9000], "int with thousands of digits does not exist"),
        ("9-5", "ends before it begins: write 5-9"),
        (True, "True is not a feature number"),
        ([np.bool_(True)], "True is not a feature number"),
        ({"a": 1}, "not a feature number"),
        (b"12", "not a feature number"),
        ("٣", "not a feature number"),
    ],
)
def test_not_features(value, says):
    with pytest.raises(ValueError, match=says) as error:
        parse_features(value, n_features=100)
    assert len(str(error.value)) < 200


def test_too_many_or_too_large_features():
    for value in ("0-10000", "0-6000, 7000-13000", "0-2147483647"):
        with pytest.raises(ValueError, match="at most 10,000 at once"):
            parse_features(value)
    with pytest.raises(ValueError, match="feature numbers go from 0 to 2147483647"):
        parse_features(2**31)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789 ,-–[]x.\n") | st.text())
def test_any_typed_text_is_features_or_a_clear_error(text):
    try:
        features = parse_features(text, n_features=500)
    except ValueError:
        return
    assert len(set(features)) == len(features)
    assert all(0 <= feature < 500 for feature in features)


def test_long_typed_text_is_refused_at_once():
    start = time.perf_counter()
    for text in ("0" * 100_000 + "x", "1" + " " * 100_000 + "x", "1-" * 50_000, "[" * 100_000, "," * 100_000):
        with pytest.raises(ValueError):
            parse_features(text)
    assert time.perf_counter() - start < 5


def test_importing_it_loads_nothing_heavy():
    code = (
        "import sys, tiny_dashboard.core.text\n"
        "heavy = {'torch', 'numpy', 'transformers', 'tokenizers', 'gradio', 'datasets', 'jinja2'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

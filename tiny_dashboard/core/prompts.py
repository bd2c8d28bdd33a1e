"""A text or a conversation -> the ids a model gets, and which of them are no text of a person's.

One way for what is typed, collected, and stored. What a chat template writes is never edited: whether a BOS stands
first is a question for plain text only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from tiny_dashboard.core.examples import Example
from tiny_dashboard.core.text import prefix_ids, show_value, token_texts

Message = Mapping[str, Any]


class EncodedText(NamedTuple):
    """A prompt as the model gets it.

    Attributes:
        text: the text behind the ids. `tokenizer(text)` gives these ids again, except where the chat template and
            what the tokenizer adds by itself disagree (a template without the tokenizer's BOS, say).
        ids: vocabulary ids, `[seq_len]`, with BOS where the tokenizer or the chat template puts one.
        special: `[seq_len]`, True at BOS, other special tokens and what the chat template wrote around the turns.
    """

    text: str
    ids: list[int]
    special: list[bool]


def encode_text(
    text: str | list[Message],
    tokenizer: Any,
    *,
    chat: bool = False,
    generation_prompt: bool = False,
    bos: bool | None = None,
) -> EncodedText:
    """Tokenise a prompt once, with BOS as the tokenizer adds it by itself, and never twice.

    Args:
        text: the prompt. With `chat`, "<eot>" separates turns, the user's first; or a list of messages, each with
            `role` and `content`. A last assistant turn is left open.
        tokenizer: a Hugging Face tokenizer, fast or slow.
        chat: format the turns with the tokenizer's chat template.
        generation_prompt: with `chat`, end with the header of the assistant's turn, where the last turn is the user's.
        bos: whether a BOS stands first in a plain text, whatever the tokenizer does: a dictionary is read as it was
            trained. A tokenizer that has no BOS adds none.

    Raises:
        ValueError: the text is empty, has an empty turn or a lone surrogate, or the chat template is missing or fails.
    """
    if isinstance(text, list | tuple):
        return encode_chat(text, tokenizer, generation_prompt=generation_prompt, leave_open=True)
    if not isinstance(text, str):
        raise TypeError(f"the text is a str, or a list of messages, not {show_value(text)}")
    if not text:
        raise ValueError("the text is empty: write some")
    _check_characters(text)
    if chat:
        turns = text.split("<eot>")
        for number, turn in enumerate(turns, 1):
            if not turn.strip():
                raise ValueError(f"turn {number} of {len(turns)} is empty: write text on both sides of each <eot>")
        messages = [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]
        return encode_chat(messages, tokenizer, generation_prompt=generation_prompt, leave_open=True)
    plain = text.removeprefix(_prefix(tokenizer))  # a BOS that was typed is the one that the tokenizer adds
    # Not verbose: that a text is longer than the model reads is said, or handled, where the model is.
    ids = list(tokenizer(plain, verbose=False)["input_ids"])
    if not ids:
        raise ValueError(f"the tokenizer makes no token of {show_value(text)}: write more")
    maskable = special_ids(tokenizer)
    return _with_bos(EncodedText(plain, ids, [token in maskable for token in ids]), tokenizer, bos)


def encode_chat(
    messages: Sequence[Message], tokenizer: Any, *, generation_prompt: bool = False, leave_open: bool = False
) -> EncodedText:
    """Tokenise a conversation in the tokenizer's chat template, to just the ids that the template gives.

    What of a turn arrives in the prompt is text, wherever the template puts it and whatever it leaves out; all other
    characters are the template's.

    Args:
        messages: each with `role` and `content`.
        tokenizer: a Hugging Face tokenizer, fast or slow.
        generation_prompt: end with the header of the assistant's turn, where the last turn is not the assistant's.
        leave_open: a last turn of the assistant's goes on: it is not ended.

    Raises:
        ValueError: there is no chat template, it fails, or nothing of a turn arrives.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template: turn chat formatting off, or take the chat model's tokenizer"
        )
    for message in messages:
        _check_characters(message["content"])
    text, of_turn = _format_chat(messages, tokenizer, generation_prompt, leave_open)
    how = {"return_offsets_mapping": tokenizer.is_fast, "verbose": False}
    encoding = tokenizer(text, add_special_tokens=False, **how)
    ids = list(encoding["input_ids"])
    if tokenizer.is_fast:
        spans = encoding["offset_mapping"]
    else:
        spans = pairwise(accumulate(map(len, token_texts(ids, tokenizer).texts), initial=0))
    maskable = special_ids(tokenizer)
    special = [
        token in maskable or not any(of_turn[start : max(end, start + 1)])
        for token, (start, end) in zip(ids, spans, strict=True)
    ]
    plain = text.removeprefix(_prefix(tokenizer))
    same = list(tokenizer(plain, verbose=False)["input_ids"]) == ids
    return EncodedText(plain if same else text, ids, special)


def stored_ids(example: Example, tokenizer: Any, *, bos: bool = False) -> list[int]:
    """The vocabulary ids of a stored example, as a model reads them.

    Args:
        example: with ids, with token pieces, or with readable tokens that the tokenizer makes of their text.
        tokenizer: the model's.
        bos: a BOS stood before its window and is not stored: it is put back.

    Raises:
        ValueError: the ids are not stored, and the tokenizer does not know the pieces.
    """
    if example.token_ids is not None:
        ids: list[Any] = list(map(int, example.token_ids))
    else:
        pieces = list(example.tokens)
        ids = [None] * len(pieces) if tokenizer is None else tokenizer.convert_tokens_to_ids(pieces)
        unknown = (None, getattr(tokenizer, "unk_token_id", None))
        own_name = getattr(tokenizer, "unk_token", None)
        if any(i in unknown and piece != own_name for i, piece in zip(ids, pieces, strict=True)):
            ids = [] if tokenizer is None else tokenizer("".join(pieces), add_special_tokens=False)["input_ids"]
            if not pieces or tokenizer is None or token_texts(ids, tokenizer).texts != pieces:
                raise ValueError(
                    "this example's tokens are not in the tokenizer's vocabulary, so a model cannot read them"
                )
    first = getattr(tokenizer, "bos_token_id", None)
    return [first, *ids] if bos and first is not None else list(ids)


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the tokens that are no text: BOS, EOS, what marks the turns of a chat, …

    An unknown word is text, unless one token serves as BOS and EOS too (GPT-2's).
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special.update(tokenizer.all_special_ids)
    return special - ({tokenizer.unk_token_id} - {tokenizer.bos_token_id, tokenizer.eos_token_id})


def _check_characters(text: str) -> None:
    if surrogate := re.search("[\ud800-\udfff]", text):
        raise ValueError(
            f"character {surrogate.start()} is a lone surrogate ({surrogate[0]!r}), which no tokenizer takes: remove it"
        )


def _prefix(tokenizer: Any) -> str:
    return "".join(tokenizer.convert_ids_to_tokens(prefix_ids(tokenizer)))


def _with_bos(encoded: EncodedText, tokenizer: Any, bos: bool | None) -> EncodedText:
    text, ids, special = encoded
    token = tokenizer.bos_token_id
    if bos is None or token is None or (ids[0] == token) == bos or ids == [token]:
        return encoded
    if bos:
        return EncodedText(tokenizer.bos_token + text, [token, *ids], [True, *special])
    return EncodedText(text, ids[1:], special[1:])


def _format_chat(
    messages: Sequence[Message], tokenizer: Any, generation_prompt: bool, leave_open: bool
) -> tuple[str, bytearray]:
    """The formatted conversation and, for each of its characters, 1 in a turn and 0 in what the template wrote."""
    from jinja2 import TemplateError

    answered = leave_open and messages[-1]["role"] == "assistant"
    turns = [message["content"] for message in messages]

    def render(contents: Sequence[str], as_parts: bool = False) -> str:
        parts = [[{"type": "text", "text": content}] if as_parts else content for content in contents]
        return tokenizer.apply_chat_template(
            [{**message, "content": part} for message, part in zip(messages, parts, strict=True)],
            tokenize=False,
            add_generation_prompt=generation_prompt and not answered,
        )

    lost: int | None = None
    for as_parts in (False, True):  # some templates read only lists of parts
        try:
            text = render(turns, as_parts)
            mark = next(char for char in map(chr, range(0xE000, 0xF900)) if char not in text)
            marked = [render([*turns[:n], mark, *turns[n + 1 :]], as_parts) for n in range(len(turns))]
        except (TemplateError, TypeError, ValueError) as error:
            if lost is not None:
                break
            raise ValueError(f"the chat template does not take this conversation: {error}") from error
        lost = next((number for number, one in enumerate(marked, 1) if mark not in one), 0)
        if not lost:
            spans = [_difference(text, one) for one in marked]
            of_turn = bytearray(len(text))
            for start, end in spans:
                of_turn[start:end] = b"\1" * (end - start)
            open_end = spans[-1][1] if answered else None  # where the template would end an answer that goes on
            return text[:open_end], of_turn[:open_end]
    raise ValueError(f"the chat template leaves out turn {lost} of {len(turns)}: nothing of its text arrives")


def _difference(text: str, other: str) -> tuple[int, int]:
    """Where `text` begins and ends to differ from `other`."""
    start = _n_shared(text, other)
    return start, len(text) - _n_shared(text[start:][::-1], other[start:][::-1])


def _n_shared(text: str, other: str) -> int:
    """How many characters two texts share from their beginning."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(text), len(other)))

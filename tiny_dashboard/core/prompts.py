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

# Who speaks, as ShareGPT's `from` says it.
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "observation": "tool"}


class EncodedText(NamedTuple):
    """A prompt as the model gets it.

    Attributes:
        text: the text behind the ids. `tokenizer(text)` gives these ids again, except where the chat template and
            what the tokenizer adds by itself disagree (a template without the tokenizer's BOS, say).
        ids: vocabulary ids, `[seq_len]`, with BOS where the tokenizer or the chat template puts one.
        special: `[seq_len]`, True at BOS, other special tokens and what the chat template wrote around the turns.
        lost: what the chat template left out or rewrote, a phrase for each such turn.
    """

    text: str
    ids: list[int]
    special: list[bool]
    lost: Sequence[str] = ()


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
            `role` and `content`, see `as_messages`. A last assistant turn is left open, unless an "<eot>" ends it.
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
        if ended := len(turns) > 1 and not turns[-1].strip():
            turns.pop()
        for number, turn in enumerate(turns, 1):
            if not turn.strip():
                raise ValueError(f"turn {number} of {len(turns)} is empty: write text on both sides of each <eot>")
        messages = [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]
        return encode_chat(messages, tokenizer, generation_prompt=generation_prompt, leave_open=not ended)
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

    What of a turn arrives in the prompt is text, wherever the template puts it and whatever it leaves out, and so is a
    call of a tool; all other characters are the template's. `lost` says what does not arrive.

    Args:
        messages: see `as_messages`.
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
    messages = as_messages(messages)
    for message in messages:
        _check_characters(message["content"])
    text, of_turn, lost = _format_chat(messages, tokenizer, generation_prompt, leave_open)
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
    return EncodedText(plain if same else text, ids, special, lost)


def as_messages(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation in any of its usual forms, as messages whose `content` is a text.

    Args:
        turns: each with `role` and `content`: a text, a list of parts `{"type": "text", "text": …}`, or None beside
            `tool_calls`; or as ShareGPT has it, with `from` and `value`.

    Raises:
        ValueError: there is none, a turn has another form, or a part is no text.
    """
    if not turns:
        raise ValueError("the conversation has no turn")
    return [_message(turn, number, len(turns)) for number, turn in enumerate(turns, 1)]


def _message(turn: Message, number: int, n_turns: int) -> dict[str, Any]:
    where = f"turn {number} of {n_turns}"
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} is no message with role and content: {show_value(turn)}")
    role, content = (turn.get(a, turn.get(b)) for a, b in (("role", "from"), ("content", "value")))
    if not isinstance(role, str):
        raise ValueError(f"{where} says not whose it is (role, or from): {show_value(turn)}")
    if isinstance(content, list | tuple):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else dict(part) for part in content]
        if other := next((part for part in parts if not isinstance(part.get("text"), str)), None):
            raise ValueError(f"{where} has a part that is no text, and only texts are read: {show_value(other)}")
        content = "".join(part["text"] for part in parts)
    more = {k: v for k, v in turn.items() if v is not None and k not in ("role", "from", "content", "value")}
    content = "" if content is None else content
    if not isinstance(content, str):
        raise ValueError(f"{where} has content that is neither a text nor a list of parts: {show_value(content)}")
    calls = more.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise ValueError(f"{where} has tool_calls that are no list of calls: {show_value(calls)}")
    return {"role": ROLES.get(role, role), "content": content, **more}


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
    text, ids, special, _ = encoded
    token = tokenizer.bos_token_id
    if bos is None or token is None or (ids[0] == token) == bos or ids == [token]:
        return encoded
    if bos:
        return EncodedText(tokenizer.bos_token + text, [token, *ids], [True, *special])
    return EncodedText(text, ids[1:], special[1:])


def _format_chat(
    messages: Sequence[Message], tokenizer: Any, generation_prompt: bool, leave_open: bool
) -> tuple[str, bytearray, list[str]]:
    """The formatted conversation, for each character 1 in a turn and 0 in what the template wrote, and what is lost."""
    from jinja2 import TemplateError

    answered = leave_open and messages[-1]["role"] == "assistant"
    slots = [slot for number, message in enumerate(messages) for slot in _slots(number, message)]

    def render(conversation: Sequence[Message], as_parts: bool) -> str:
        parts = [[{"type": "text", "text": m["content"]}] if as_parts else m["content"] for m in conversation]
        return tokenizer.apply_chat_template(
            [{**message, "content": part} for message, part in zip(conversation, parts, strict=True)],
            tokenize=False,
            add_generation_prompt=generation_prompt and not answered,
        )

    error: Exception | None = None
    missing = ""
    for as_parts in (False, True):  # some templates read only lists of parts
        try:
            text = render(messages, as_parts)
            mark = next(char for char in map(chr, range(0xE000, 0xF900)) if char not in text)
            marked = [render(_marked(messages, slot, mark), as_parts) for slot in slots]
        except (TemplateError, TypeError, ValueError) as failed:
            error = error or failed
            continue
        missing = missing or next((slot.name for slot, one in zip(slots, marked, strict=True) if mark not in one), "")
        if all(mark in one for one in marked):
            return _parted(text, [_difference(text, one) for one in marked], messages, slots, answered)
    if missing:
        raise ValueError(f"the chat template leaves out {missing} of {len(messages)}: nothing of its text arrives")
    raise ValueError(f"the chat template does not take this conversation: {error}") from error


class _Slot(NamedTuple):
    """A place in a conversation where a person or a model wrote: the content of a turn, or one call of a tool."""

    name: str
    turn: int
    call: int | None = None


def _slots(number: int, message: Message) -> list[_Slot]:
    n_calls = len(message.get("tool_calls", ()))
    content = [_Slot(f"turn {number + 1}", number)] if message["content"] or not n_calls else []
    return content + [_Slot(f"call {call + 1} in turn {number + 1}", number, call) for call in range(n_calls)]


def _marked(messages: Sequence[Message], slot: _Slot, mark: str) -> list[Message]:
    """The conversation with a mark at one place."""
    message = {**messages[slot.turn]}
    if slot.call is None:
        message["content"] = mark
    else:
        calls = list(message["tool_calls"])
        call = calls[slot.call]
        bare = {**call.get("function", call), "name": mark, "arguments": {}}
        calls[slot.call] = {**call, "function": bare} if "function" in call else bare
        message["tool_calls"] = calls
    return [*messages[: slot.turn], message, *messages[slot.turn + 1 :]]


def _parted(
    text: str, spans: list[tuple[int, int]], messages: Sequence[Message], slots: Sequence[_Slot], answered: bool
) -> tuple[str, bytearray, list[str]]:
    """What `_format_chat` gives, from where the slots of a conversation differ from the marked ones."""
    of_turn = bytearray(len(text))
    lost = []
    for slot, (start, end) in zip(slots, spans, strict=True):
        if slot.call is None:
            content = messages[slot.turn]["content"]
            found = _arrival(text, start, end, content.strip())
            if found is None:
                lost.append(
                    f"{slot.name}: the template makes {end - start:,} characters of its {len(content.strip()):,}"
                )
            start = start if found is None else found
        of_turn[start:end] = b"\1" * (end - start)
    open_end = spans[-1][1] if answered else None  # where the template would end an answer that goes on
    return text[:open_end], of_turn[:open_end], lost


def _arrival(text: str, start: int, end: int, content: str) -> int | None:
    """Where a turn begins that ends at `end`; None where not all of it is there, white space aside.

    It differs from a mark from `start` on; a template may write of itself what it begins with (`<think>`).
    """
    if text[start:end].strip() == content:
        return start
    at = end
    for char in reversed("".join(content.split())):
        while at and text[at - 1].isspace():
            at -= 1
        if not at or text[at - 1] != char:
            return None
        at -= 1
    return min(at, start)


def _difference(text: str, other: str) -> tuple[int, int]:
    """Where `text` begins and ends to differ from `other`."""
    start = _n_shared(text, other)
    return start, len(text) - _n_shared(text[start:][::-1], other[start:][::-1])


def _n_shared(text: str, other: str) -> int:
    """How many characters two texts share from their beginning."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(text), len(other)))

"""A conversation -> ids and mask: the same for collecting and online, and never edited."""

from __future__ import annotations

import pytest

from tests.helpers.bundle import make_tokenizer
from tiny_dashboard.core.prompts import encode_chat, encode_text

HEADERS = (
    "{% if messages[0].role != 'system' %}<|user|>system\nYou are a helpful assistant.</s>\n{% endif %}"
    "{% for m in messages %}<|user|>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)
THINKING = HEADERS.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1].strip() }}")
PARTS = HEADERS.replace(
    "{{ m.content }}", "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
)


def chat_of(*turns):
    return [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]


def text_of(encoded, tokenizer):
    """What counts as text, turn by turn."""
    kept = [i if not special else tokenizer.eos_token_id for i, special in zip(encoded.ids, encoded.special)]
    return [part for part in tokenizer.decode(kept).split("</s>") if part.strip()]


@pytest.mark.parametrize("turns", [["user", "assistant"], ["help", "I am"], ["You", "You are"], ["a", "b", "a", "b"]])
@pytest.mark.parametrize("template", [HEADERS, THINKING, PARTS])
def test_words_that_turns_and_template_share(template, turns):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    encoded = encode_chat(chat_of(*turns), tokenizer)
    assert text_of(encoded, tokenizer) == turns
    opened = encode_text("<eot>".join(turns), tokenizer, chat=True)
    n = len(opened.ids)
    assert encoded.ids[:n] == opened.ids and encoded.special[:n] == opened.special


def test_what_a_template_leaves_out():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = THINKING
    encoded = encode_chat(chat_of("why?", "<think>hm, why</think> Because."), tokenizer)
    assert text_of(encoded, tokenizer) == ["why?", "Because."]
    tokenizer.chat_template = "{{ messages[-1].content }}"
    with pytest.raises(ValueError, match="leaves out turn 1 of 2: nothing of its text arrives"):
        encode_chat(chat_of("first", "second"), tokenizer)


@pytest.mark.parametrize("bos", [None, True, False])
@pytest.mark.parametrize("bos_token", ["<s>", "<|user|>"])  # in ChatML the token that opens a turn is called BOS
def test_ids_are_those_of_the_template(bos, bos_token):
    tokenizer = make_tokenizer()
    tokenizer.bos_token = bos_token
    for template in (HEADERS, "{{ bos_token }}" + HEADERS):
        tokenizer.chat_template = template
        for messages in (
            chat_of("hi"),
            chat_of("hi", "there", "you"),
            [{"role": "system", "content": "s"}, *chat_of("x")],
        ):
            true = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)["input_ids"]
            assert encode_text(messages, tokenizer, generation_prompt=True, bos=bos).ids == true

"""A conversation -> ids and mask: the same for collecting and online, and never edited."""

from __future__ import annotations

import pytest

from tests.helpers.bundle import make_tokenizer
from tiny_dashboard import OnlineFeatureCentricDashboard
from tiny_dashboard.app.api import Endpoints
from tiny_dashboard.app.loading import Loading
from tiny_dashboard.app.views import Views
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
    assert encode_text("<eot>".join([*turns, "\n"]), tokenizer, chat=True) == encoded, "it ends at its last <eot>"


def test_what_a_template_leaves_out():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = THINKING
    encoded = encode_chat(chat_of("why?", "<think>hm, why</think> Because."), tokenizer)
    assert text_of(encoded, tokenizer) == ["why?", "Because."]
    assert encoded.lost == ["turn 2: the template makes 8 characters of its 31"]
    assert not encode_chat(chat_of("why?", " Because.\n"), tokenizer).lost
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


# The shape of Qwen 3's, which writes thinking anew; and one that writes calls of tools.
REWRITES = HEADERS.replace(
    "{{ m.content }}",
    "{% if '</think>' in m.content %}<think>\n{{ m.content.split('</think>')[0].split('<think>')[-1].strip() }}\n"
    "</think>\n\n{{ m.content.split('</think>')[-1].lstrip() }}{% elif m.role == 'assistant' %}<think>\n\n</think>\n\n"
    "{{ m.content }}{% else %}{{ m.content }}{% endif %}",
)
CALLS = HEADERS.replace(
    "{{ m.content }}",
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>{{ c.function.name }} "
    "{{ c.function.arguments | tojson }}</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}",
)


@pytest.mark.parametrize("template", [HEADERS, THINKING, REWRITES])
@pytest.mark.parametrize("answer", ["<think>hm, why</think> Because", "<think>hm, wh"])
def test_an_answer_with_thinking_goes_on(template, answer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    encoded = encode_text(f"why?<eot>{answer}", tokenizer, chat=True)
    whole = "".join(answer.split())
    written = "".join(tokenizer.decode(encoded.ids).split())
    text = "".join("".join(text_of(encoded, tokenizer)).split())
    if encoded.lost:
        assert template == THINKING and written.endswith("Because") and text == "why?Because"
    else:
        assert written.endswith(whole) and text == "why?" + whole


def test_conversations_in_every_form():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = HEADERS
    expected = encode_chat(chat_of("the cat", "a dog"), tokenizer)
    parts = [{"type": "text", "text": "the "}, "cat"]
    assert encode_chat([{"role": "user", "content": parts}, chat_of("", "a dog")[1]], tokenizer) == expected
    shared = [{"from": "human", "value": "the cat"}, {"from": "gpt", "value": "a dog", "weight": None}]
    assert encode_chat(shared, tokenizer) == expected
    for turns, message in (
        ([], "no turn"),
        (["hi"], "turn 1 of 1 is no message with role and content: 'hi'"),
        ([{"content": "hi"}], "says not whose it is"),
        ([{"role": "user", "content": 3}], "neither a text nor a list of parts: 3"),
        ([{"role": "user", "content": [{"type": "image"}]}], "part that is no text, .*'image'"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_chat(turns, tokenizer)


def test_calls_of_tools_are_text():
    tokenizer = make_tokenizer()
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages = [*chat_of("Rain?"), asked, {"role": "tool", "content": "no"}, *chat_of("", "No.")[1:]]
    tokenizer.chat_template = CALLS
    encoded = encode_chat(messages, tokenizer)
    assert text_of(encoded, tokenizer) == ["Rain?", 'weather {"city": "Bern"', "no", "No."] and not encoded.lost
    tokenizer.chat_template = HEADERS  # it would write "None"
    with pytest.raises(ValueError, match="leaves out call 1 in turn 2 of 4"):
        encode_chat(messages, tokenizer)
    del asked["tool_calls"]
    assert "None" not in encode_chat(messages, tokenizer).text


def test_what_a_template_leaves_out_is_said_online():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = THINKING

    def activation(text, features):
        return [[1.0] * len(features) for _ in tokenizer(text, add_special_tokens=False)["input_ids"]]

    online = OnlineFeatureCentricDashboard(activation, tokenizer)
    said = "turn 2: the template makes 5 characters of its 23"
    conversation = "why?<eot><think>hm</think> Well.<eot>and?"
    assert online.analyze(conversation, 1, chat=True).lost == [said]
    assert Endpoints(Views.one(None, Loading.of(online))).analyze(conversation, "1", chat=True)["lost"] == [said]

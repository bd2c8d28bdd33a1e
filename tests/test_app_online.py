"""The online tab in a real browser: a text, what fires there, answers."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.helpers.app_page import (
    ANALYSIS,
    EXAMPLES,
    TOP,
    analyze,
    feature_box,
    rows,
    tokens,
    wait_for_query,
)
from tests.helpers.bundle import N_FEATURES, PWN
from tiny_dashboard import (
    OfflineFeatureCentricDashboard,
)


def test_analyze_shows_where_features_fire(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>" + text)
    ids = bundle.tokenizer(text)["input_ids"]
    top = bundle.featurizer.read(ids).top(20, ignore=[True] + [False] * (len(ids) - 1))
    listed = page.locator(f"{TOP} .td-f button:first-child")
    expect(listed).to_have_text([str(f) for f in top.features])
    # Empty takes the one that fires most.
    expect(page.locator("#td-highlight textarea")).to_have_value(str(top.features[0]))
    active = [i for i, v in enumerate(bundle.featurizer.read(ids).values(top.features[:1])[:, 0].tolist()) if v]
    styled = tokens(page).evaluate_all("all => all.flatMap((t, i) => t.hasAttribute('style') ? [i] : [])")
    assert styled == active
    expect(tokens(page).first).to_have_class("td-s")


def test_two_features_and_a_tooltip_with_more(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    ids = bundle.tokenizer(text)["input_ids"]
    a, b, c, *_ = bundle.featurizer.read(ids).top(20, ignore=[True] + [False] * (len(ids) - 1)).features
    page.locator("#td-highlight textarea").fill(f"{b}, {a}")
    page.get_by_label("Tooltip").fill(str(c))
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-legend > span")).to_have_count(2)
    expect(page.locator(f"{ANALYSIS} i[style*='linear-gradient']").first).to_be_visible()
    values = bundle.featurizer.read(ids).values([b, a, c])
    at = int(values[1:, 0].argmax()) + 1
    tokens(page).nth(at).hover()
    expect(page.locator(".td-tip div span")).to_have_text(
        [f"feature {f}" for f, v in zip((b, a, c), values[at].tolist(), strict=True) if v]
    )
    # Another highlight redraws the same text, without pressing Analyze.
    page.locator("#td-highlight textarea").fill(str(c))
    page.locator("#td-highlight textarea").press("Enter")
    expect(page.locator(f"{ANALYSIS} .td-legend > span")).to_have_count(1)
    page.get_by_label("Max act").fill("0.25")
    page.get_by_label("Max act").press("Enter")
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text("0.25, clamped")


def test_what_cannot_be_analysed_is_said_and_can_be_mended(visit):
    page = visit("?tab=online")
    error = page.locator(f"{ANALYSIS} .td-error")
    for fields, says in (
        ({"Text": ""}, "the text is empty: write some"),
        ({"Text": "fox " * 1200}, "tokens and the context of LlamaForCausalLM is 1024; shorten the text"),
        ({"Text": "x" * 5001}, "the text has 5001 characters; at most 5000 are analysed at once"),
        ({"Text": "a<eot><eot>b", "chat": True}, "turn 2 of 3 is empty"),
        ({"Highlight": "1,,2"}, "'1,,2' has a comma with no number beside it"),
        ({"Highlight": "1, 2, 3"}, "3 features to highlight; choose one or two"),
        ({"Highlight": "99999"}, "feature '99999' does not exist: this dictionary has 64 features"),
        ({"Tooltip": PWN}, "is not a feature number"),
        ({"Max act": "0"}, "the scale is '0'; give a number above 0"),
        ({"Max act": "-2"}, "the scale is '-2'; give a number above 0"),
        ({"Max act": "loud"}, "the scale is 'loud'; give a number above 0"),
    ):
        page.get_by_label("chat formatting").set_checked("chat" in fields)
        for name in ("Highlight", "Tooltip", "Max act"):
            page.get_by_label(name, exact=False).first.fill(fields.get(name, ""))
        analyze(page, fields.get("Text", "fox"))
        expect(error).to_contain_text(says)
        expect(error).to_have_attribute("role", "alert")
    page.get_by_label("Max act").fill("")
    analyze(page, "The quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()


def test_a_token_lists_what_fires_there_and_a_feature_opens_its_examples(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    ids = bundle.tokenizer(text)["input_ids"]
    top = bundle.featurizer.read(ids).top(20)
    at = len(ids) - 1
    tokens(page).nth(at).click()
    here = [f for f, v in zip(top.token_features[at].tolist(), top.token_values[at].tolist(), strict=True) if v > 0]
    listed = page.locator(f"{TOP} .td-f button:first-child")
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text(f"at token {at}")
    expect(listed).to_have_text([str(f) for f in here])
    other = here[-1]
    page.locator(f"{TOP} .td-f", has_text=f"label {other}").last.get_by_role("button", name="highlight").click()
    expect(page.locator("#td-highlight textarea")).to_have_value(str(other))
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>" + text)
    wait_for_query(page, tab="online", highlight=other)
    opened = page.locator(f"{TOP} .td-f button:first-child").first
    feature = opened.text_content()
    opened.click()
    expect(page.get_by_role("tab", name="Offline")).to_have_attribute("aria-selected", "true")
    expect(feature_box(page)).to_have_value(feature)
    expect(page.locator(f"{EXAMPLES} .td-x, {EXAMPLES} .td-note").first).to_be_visible()
    wait_for_query(page, tab="offline", feature=feature)


@pytest.mark.parametrize("mask", [False, True])
def test_an_example_is_tried_online_beside_what_is_stored(visit, app_client, bundle, mask):
    # One whose order changes when special tokens are left out.
    ask = OfflineFeatureCentricDashboard.open(bundle.root / "examples")
    order = lambda f, m: [e.doc for e, _ in ask.read(f, mask_special=m)]  # noqa: E731
    feature = next((f for f in range(N_FEATURES) if order(f, True) != order(f, False)), 12)
    page = visit(f"?feature={feature}" + ("&mask=true" if mask else ""), wait=f"{EXAMPLES} .td-x")
    row = rows(page).last
    text = row.locator(".td-p").text_content()
    row.hover()
    row.locator(".td-try").click()
    expect(page.get_by_role("tab", name="Online")).to_have_attribute("aria-selected", "true")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(text)
    expect(page.locator(f"{ANALYSIS} h3")).to_have_text(f"feature {feature}, live and stored")
    expect(page.locator("#td-highlight textarea")).to_have_value(str(feature))
    said = page.locator(f"{ANALYSIS} .td-note").text_content()
    assert "largest difference between stored and live activations" in said
    assert float(said.rsplit(":", 1)[1]) < 0.02, "stored values are rounded, and otherwise the same"
    expect(page.locator(f"{TOP} .td-f").first).to_be_visible()


def test_models_shares_as_two_bands(visit, bundle):
    page = visit("?tab=online")
    at_bos = int(bundle.values[0][0].argmax())
    page.locator("#td-highlight textarea").fill(str(at_bos))
    analyze(page, "The quick brown fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_label("Split a crosscoder's feature by model").check()
    expect(page.locator(f"{ANALYSIS} .td-legend > span").first).to_contain_text("base")
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text("chat")
    expect(page.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(1)
    page.get_by_label("Leave out special tokens").last.check()
    expect(page.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    page.locator("#td-highlight textarea").fill("1, 2")
    page.locator("#td-highlight textarea").press("Enter")
    expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text("a split needs one highlighted feature")


def test_masks_and_colours_redraw_the_text(visit):
    page = visit("?tab=online")
    analyze(page, "The quick brown fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_label("Leave out special tokens").last.check()
    expect(page.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    page.get_by_role("button", name="Colour 1").click()
    page.locator(".color-picker input").fill("#00aa00")
    page.locator(".color-picker input").press("Enter")
    expect(page.locator(f"{ANALYSIS} i[style]").first).to_have_attribute("style", re.compile("#00aa00"))


def test_an_answer_streams_and_can_be_stopped(visit):
    page = visit("?tab=online")
    page.locator("#td-text textarea").fill("The quick")
    page.get_by_role("button", name="Generate").click()
    response = page.get_by_label("Response", exact=True)
    expect(response).to_be_visible()
    expect(response).not_to_have_value("")
    before = response.input_value()
    page.wait_for_function(
        "before => document.querySelector('[data-testid=textbox][disabled]')?.value.length > before + 5",
        arg=len(before),
    )
    page.get_by_role("button", name="Stop").click()
    # What there is by then is analysed.
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    shown = page.locator(f"{ANALYSIS} .td-p").text_content()
    assert shown.startswith("<s>The quick") and len(shown) > len("<s>The quick")
    assert tokens(page).count() < 850, "stopped before it was done"
    # The next question does not wait for the stopped one.
    analyze(page, "The quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The quick fox")


def test_an_answer_is_analysed_when_it_is_done(visit, bundle):
    page = visit("?tab=online")
    page.get_by_role("button", name="More").click()
    page.get_by_label("number input for New tokens").fill("6")
    page.get_by_label("number input for New tokens").press("Tab")
    page.get_by_label("chat formatting").check()
    page.locator("#td-text textarea").fill("hello")
    page.get_by_role("button", name="Generate").click()
    prompt = "<|user|>hello</s><|assistant|>"
    ids = bundle.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = list(bundle.featurizer.generate(ids, 6))
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(prompt + bundle.tokenizer.decode(answer))
    expect(tokens(page)).to_have_count(len(ids) + 6)

"""The online tab in a real browser: a text, what fires there, answers."""

from __future__ import annotations

import re
from threading import Event

import numpy as np
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
    unfold_steering,
    wait_for_query,
)
from tests.helpers.bundle import BARE_FEATURE, N_FEATURES, PWN
from tiny_dashboard import (
    OfflineFeatureCentricDashboard,
)
from tiny_dashboard.models.featurizer import Featurizer

FEATURES = f"{TOP} .td-n"


def test_analyze_shows_where_features_fire(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>" + text)
    ids = bundle.tokenizer(text)["input_ids"]
    top = bundle.featurizer.read(ids).top(N_FEATURES, ignore=[True] + [False] * (len(ids) - 1))
    # Ranked by share of the feature's own maximum, with the token where it peaks; or by activation.
    most = bundle.most
    by_share = sorted(
        top.features, key=lambda f: -top.values[top.features.index(f)] / most[f] if f != BARE_FEATURE else 0
    )
    expect(page.locator(FEATURES)).to_have_text([str(f) for f in by_share[:20]])
    peak = bundle.tokenizer.decode(ids[top.positions[top.features.index(by_share[0])]]).replace(" ", "␣")
    expect(page.locator(f"{TOP} .td-peak").first).to_have_text(re.compile(re.escape(peak) + "$"))
    expect(page.locator(f"{TOP} .td-dot[aria-pressed=true] + button")).to_have_text([str(by_share[0])])
    # Empty is automatic, and stays so for the next text.
    expect(page.locator("#td-highlight textarea")).to_have_value("")
    expect(page.locator("#td-highlight textarea")).to_have_attribute("placeholder", f"auto: {by_share[0]}")
    page.locator(f"{TOP} .td-rank button", has_text="activation").click()
    expect(page.locator(FEATURES)).to_have_text([str(f) for f in top.features[:20]])
    wait_for_query(page, highlight=None, raw="true")
    active = [i for i, v in enumerate(bundle.featurizer.read(ids).values(by_share[:1])[:, 0].tolist()) if v]
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
    shown = [f for f, v in zip((b, a, c), values[at].tolist(), strict=True) if v]
    strongest = fires_at(bundle, ids, at)[:3]
    others = [f"{f} label {f}" for f in strongest if f not in (a, b, c)]
    expect(page.locator(".td-tip div span")).to_have_text([*(f"feature {f}" for f in shown), *others])
    # Another highlight redraws the same text, without pressing Analyze.
    page.locator("#td-highlight textarea").fill(str(c))
    page.locator("#td-highlight textarea").press("Enter")
    expect(page.locator(f"{ANALYSIS} .td-legend > span")).to_have_count(1)
    page.get_by_label("Max act").fill("0.25")
    page.get_by_label("Max act").press("Enter")
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text("0.25, clamped")


def test_what_cannot_be_analysed_is_said_and_can_be_mended(visit):
    page = visit("?tab=online&text=fox")
    error = page.locator(".td-wrong")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>fox")
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
        page.locator("#td-text textarea").fill("fox")
        page.get_by_label("chat formatting").set_checked("chat" in fields)
        for name in ("Highlight", "Tooltip", "Max act"):
            page.get_by_label(name, exact=False).first.fill(fields.get(name, ""))
        analyze(page, fields.get("Text", "foxes"))
        expect(error).to_contain_text(says)
        expect(error).to_have_attribute("role", "alert")
        # It stands at its field, and the last good view stays.
        place = page.locator(".block", has=error).last
        expect(place.locator("textarea")).to_have_attribute("aria-invalid", "true")
        expect(place).to_contain_text(next(iter({k: v for k, v in fields.items() if k != "chat"})))
        expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<|user|>fox</s>" if "chat" in fields else "<s>fox")
    page.get_by_label("Max act").fill("")
    analyze(page, "")
    expect(error).to_contain_text("the text is empty: write some")
    for scale in ("0.25", "0.5"):  # draws the last good view anew, and that is no other text
        page.get_by_label("Max act").fill(scale)
        page.get_by_label("Max act").press("Enter")
        expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text(scale)
    expect(error).to_contain_text("the text is empty: write some")
    analyze(page, "The quick fox")
    expect(error).to_have_count(0)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()


def fires_at(bundle, ids, token):
    """The features that fire at a token, by share of their own maximum."""
    values = bundle.featurizer.read(ids).values(range(N_FEATURES))[token].double().numpy()
    shares = values / np.max([stored.numpy().max(0) for stored in bundle.values], 0)
    return [int(f) for f in np.argsort(-shares, kind="stable") if values[f] > 0]


def test_a_token_lists_what_fires_there_and_a_feature_opens_its_examples(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    ids = bundle.tokenizer(text)["input_ids"]
    at = len(ids) - 1
    tokens(page).nth(at).click()
    here = fires_at(bundle, ids, at)
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text(f"over the text › token {at} x")
    expect(page.locator(FEATURES)).to_have_text([str(f) for f in here[:20]])
    expect(tokens(page).nth(at)).to_have_class("td-chosen")
    wait_for_query(page, tab="online", token=at)
    # A dot highlights alone, a plus highlights too, and the token stays chosen.
    auto = page.locator("#td-highlight textarea").get_attribute("placeholder")
    other, third = [f for f in here if auto != f"auto: {f}"][:2]
    row = lambda f: page.locator(f"{TOP} .td-f", has=page.locator(f"[data-value='{f}']")).last  # noqa: E731
    row(other).get_by_role("button", name=f"highlight {other}", exact=True).click()
    expect(page.locator("#td-highlight textarea")).to_have_value(str(other))
    expect(row(other).locator(".td-dot")).to_have_attribute("aria-pressed", "true")
    row(third).get_by_role("button", name=f"highlight {third}, too").click()
    expect(page.locator("#td-highlight textarea")).to_have_value(f"{other}, {third}")
    expect(tokens(page).nth(at)).to_have_class("td-chosen")
    row(third).locator(".td-dot").click()
    expect(page.locator("#td-highlight textarea")).to_have_value(str(other))
    wait_for_query(page, tab="online", highlight=other, token=at)
    # Escape goes back to the text.
    page.locator("h1").click()
    page.keyboard.press("Escape")
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text("What fires over the text")
    expect(page.locator(f"{ANALYSIS} .td-chosen")).to_have_count(0)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>" + text)
    wait_for_query(page, highlight=other, token=None)
    feature = page.locator(FEATURES).first.text_content()
    page.locator(f"{TOP} .td-f > span").first.click()  # the whole row opens
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
    # The link shows the same, the stored values too.
    wait_for_query(page, tab="online", text=text)
    assert pixels(visit(page.url)) == pixels(page)


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
    page.get_by_role("checkbox", name="Leave out special tokens").check()
    expect(page.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    page.locator("#td-highlight textarea").fill("1, 2")
    page.locator("#td-highlight textarea").press("Enter")
    expect(page.locator("#td-split .td-wrong")).to_contain_text("a split needs one highlighted feature")


def test_masks_and_colours_redraw_the_text(visit):
    page = visit("?tab=online")
    analyze(page, "The quick brown fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("checkbox", name="Leave out special tokens").check()
    expect(page.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    page.get_by_role("button", name="Colour 1").click()
    page.locator(".color-picker input").fill("#00aa00")
    page.locator(".color-picker input").press("Enter")
    expect(page.locator(f"{ANALYSIS} i[style]").first).to_have_attribute("style", re.compile("#00aa00"))


def test_an_answer_streams_and_can_be_stopped(visit, slow_model):
    page = visit("?tab=online")
    page.locator("#td-text textarea").fill("The quick")
    generate, stop = (page.get_by_role("button", name=name, exact=True) for name in ("Generate", "Stop"))
    expect(stop).to_be_hidden()
    place = generate.bounding_box()
    generate.click()
    # Stop takes its place, and the focus with it; the answer grows where it stands, and nothing else moves.
    expect(stop).to_be_focused()
    assert stop.bounding_box() == place
    expect(generate).to_be_hidden()
    page.wait_for_function(f"document.querySelectorAll('{ANALYSIS} .td-answer').length > 5")
    top = page.locator(ANALYSIS).bounding_box()["y"]
    edges = "n => [n.borderTopWidth, n.animationName].join()"
    assert page.locator(ANALYSIS).evaluate(f"e => ({edges})(getComputedStyle(e))") in ("0px,none", "1px,none")
    stop.click()
    # What there is by then is analysed.
    expect(page.locator(f"{TOP} .td-f").first).to_be_visible()
    expect(stop).to_be_hidden()
    expect(generate).to_be_focused()
    assert page.locator(ANALYSIS).bounding_box()["y"] == top
    shown = page.locator(f"{ANALYSIS} .td-p").text_content()
    assert shown.startswith("<s>The quick") and len(shown) > len("<s>The quick")
    assert tokens(page).count() < 60, "stopped before it was done"
    # The next question waits for no answer.
    generate.click()
    page.wait_for_function(f"document.querySelectorAll('{ANALYSIS} .td-answer').length")
    analyze(page, "The quick fox")
    expect(stop).to_be_hidden()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The quick fox")
    expect(page.locator(f"{ANALYSIS} .td-answer")).to_have_count(0)
    # What was wrong before is not said of the answer under way.
    wait_for_query(page, text="The quick fox")
    answer_with(page, "The quick fox", **{"number input for New tokens": "128", "Steer with": "none"})
    expect(page.locator(".td-wrong")).to_contain_text("'none' is not a feature number")
    page.get_by_label("Steer with").fill("")
    generate.click()
    page.wait_for_function(f"document.querySelectorAll('{ANALYSIS} .td-answer').length")
    expect(page.locator(".td-wrong")).to_have_count(0)
    # A step back in the browser's history waits for no answer, either.
    page.go_back()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(shown)
    expect(stop).to_be_hidden()
    # The examples of a feature wait for none, and it goes on meanwhile.
    generate.click()
    page.wait_for_function(f"document.querySelectorAll('{ANALYSIS} .td-answer').length")
    page.locator(FEATURES).first.click()
    expect(page.locator(EXAMPLES).locator(".td-p").first).to_be_visible()
    page.get_by_role("tab", name="Online").click()
    expect(stop).to_be_visible()


def answer_with(page, text, **fields):
    unfold_steering(page)
    fields = {"number input for New tokens": "6"} | fields
    for label, value in fields.items():
        page.get_by_label(label).fill(value)
        page.get_by_label(label).press("Tab")
    page.locator("#td-text textarea").fill(text)
    page.get_by_role("button", name="Generate").click()


def test_an_answer_is_analysed_when_it_is_done(visit, bundle):
    page = visit("?tab=online")
    page.get_by_label("chat formatting").check()
    answer_with(page, "hello")
    prompt = "<|user|>hello</s><|assistant|>"
    ids = bundle.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = list(bundle.featurizer.generate(ids, 6))
    whole = prompt + bundle.tokenizer.decode(answer)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(whole)
    expect(tokens(page)).to_have_count(len(ids) + 6)
    expect(page.locator(f"{ANALYSIS} .td-answer")).to_have_count(6)
    # Its link has it, too.
    wait_for_query(page, text="hello", chat="true", answer=".".join(map(str, answer)))
    other = visit(page.url)
    expect(other.locator(f"{ANALYSIS} .td-p")).to_have_text(whole)
    expect(other.locator(f"{ANALYSIS} .td-answer")).to_have_count(6)
    assert pixels(other) == pixels(page)


def pixels(page):
    """What the tab shows, by its elements: the same in two browsers where the link says all."""
    expect(page.locator(f"{TOP} .td-f, {TOP} .td-note").first).to_be_visible()
    return page.evaluate(
        f"['{ANALYSIS}', '#td-unsteered', '{TOP}'].map(place => "
        "[...document.querySelectorAll(`${place} .td`)].map(root => root.outerHTML))"
    )


def test_steered_beside_unsteered_in_one_colour_scale(visit, bundle):
    page = visit("?tab=online")
    answer_with(
        page, "The quick", **{"Steer with features, added as it answers": "3, 5", "number input for Strength": "2"}
    )
    ids = bundle.tokenizer("The quick")["input_ids"]
    steer = [(f, 2 * bundle.most[f]) for f in (3, 5)]
    with_, without = (list(bundle.featurizer.generate(ids, 6, steer=s)) for s in (steer, ()))
    for place, answer in ((ANALYSIS, with_), ("#td-unsteered", without)):
        expect(page.locator(f"{place} .td-p")).to_have_text("<s>The quick" + bundle.tokenizer.decode(answer))
    expect(page.locator("#td-unsteered h3")).to_have_text("without")
    expect(page.locator(f"{ANALYSIS} h3")).to_contain_text("with feature 3 at ")
    # Both are coloured by what was steered, on one scale.
    expect(page.locator("#td-highlight textarea")).to_have_attribute("placeholder", "auto: 3, 5")
    left, right = page.locator(ANALYSIS).bounding_box(), page.locator("#td-unsteered").bounding_box()
    assert left["y"] == right["y"] and abs(left["width"] - right["width"]) <= 1
    wait_for_query(page, steer="3, 5", strength="2", answer=".".join(map(str, with_)))
    assert pixels(visit(page.url)) == pixels(page)
    # Another strength: the view is out of date, and says so; the next text has one column again, and no steering.
    page.get_by_label("number input for Strength").fill("1")
    expect(page.locator(".td-says")).to_have_text("steering changed: Generate answers anew")
    analyze(page, "<s>")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>")
    expect(page.locator("#td-unsteered .td-p")).to_have_count(0)
    expect(page.locator(".td-says")).to_have_count(0)
    wait_for_query(page, answer=None, unsteered=None, steer=None)


def test_every_control_acts_or_the_view_says_that_it_is_out_of_date(visit, monkeypatch):
    page = visit("?tab=online&text=The+quick+fox")
    text, says = page.locator("#td-text textarea"), page.locator(".td-says")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The quick fox")
    text.fill("The slow fox")
    expect(says).to_have_text("changed: Ctrl ⏎ reads it")
    expect(page.locator(f"{ANALYSIS} .td-mount")).to_have_css("opacity", "0.45")
    # Leaving a field applies it, to what is shown; the view still waits for its text.
    page.locator("#td-highlight textarea").fill("5")
    page.locator("#td-highlight textarea").press("Tab")
    expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text("feature 5")
    expect(says).to_be_visible()
    text.press("Control+Enter")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The slow fox")
    expect(says).to_have_count(0)
    wait_for_query(page, text="The slow fox", highlight="5")
    page.get_by_label("chat formatting").check()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>The slow fox")
    wait_for_query(page, chat="true")
    # Back walks through the texts: fields and view.
    page.go_back()
    expect(text).to_have_value("The quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The quick fox")
    expect(page.get_by_label("chat formatting")).not_to_be_checked()
    page.go_forward()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>The slow fox")
    expect(page.locator("#td-highlight textarea")).to_have_value("5")
    # Who asks for another text while one is read is not forgotten.
    read, asked, there = Featurizer.read, Event(), Event()

    def slowly(self, ids):
        asked.set()
        assert there.wait(10)
        return read(self, ids)

    monkeypatch.setattr(Featurizer, "read", slowly)
    analyze(page, "A fox")
    assert asked.wait(10)
    analyze(page, "Another fox")
    there.set()
    wait_for_query(page, text="Another fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>Another fox")
    expect(says).to_have_count(0)

"""The offline tab in a real browser: a feature, its examples, search, settings, address."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.helpers.app_page import (
    ANALYSIS,
    EXAMPLES,
    TOP,
    analyze,
    feature_box,
    peaks,
    rows,
    show_feature,
    wait_for_query,
)
from tests.helpers.bundle import CORPUS, DEAD, N_FEATURES, PWN
from tiny_dashboard.core.highlight import COLORS


def test_the_first_feature_is_shown(visit, app_client):
    page = visit()
    examples = app_client.predict(feature=0, api_name="/examples")["examples"]
    expect(rows(page)).to_have_count(len(examples))
    expect(page.locator("#td-card h2").first).to_have_text("label 0")
    assert rows(page).locator(".td-p").all_text_contents() == ["".join(e["tokens"]) for e in examples]
    expect(page.locator("h1")).to_have_text("Tiny <b>pair</b> & co")
    expect(page.locator(".td-head p").first).to_contain_text("{{7*7}} ${7*7} · base ↔ chat · layer 1")
    expect(page).to_have_title("0 · Tiny <b>pair</b> & co")
    near = page.locator("#td-card .td-near button")
    expect(near).to_have_text("1 label 1 0.50")
    near.click()
    expect(page.locator("#td-card h2").first).to_have_text("label 1")


def test_no_number_is_the_first_feature(visit):
    page = visit("?feature=9", wait=f"{EXAMPLES} .td-x")
    show_feature(page, "")
    expect(feature_box(page)).to_have_value("0")
    expect(page.locator("#td-card h2").first).to_have_text("label 0")


def test_next_previous_random_and_the_number(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    page.locator("#td-next").click()
    expect(page.locator("#td-card h2").first).to_have_text("label 1")
    expect(feature_box(page)).to_have_value("1")
    page.locator("#td-previous").click()
    expect(page.locator("#td-card h2").first).to_have_text("label 0")
    page.locator("#td-previous").click()
    expect(feature_box(page)).to_have_value(str(N_FEATURES - 1))
    page.locator("#td-next").click()
    expect(feature_box(page)).to_have_value("0")
    show_feature(page, 17)
    expect(page.locator("#td-card h2").first).to_have_text("label 17")
    wait_for_query(page, tab="offline", feature=17)
    for _ in range(20):
        page.locator("#td-random").click()
        expect(rows(page).or_(page.locator(f"{EXAMPLES} .td-note")).first).to_be_visible()
        if feature_box(page).input_value() != "17":
            break
    assert 0 <= int(feature_box(page).input_value()) < N_FEATURES != 17


def test_keys_for_what_is_always_in_reach(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    page.locator("h1").click()
    page.keyboard.press("n")
    expect(page.locator("#td-card h2").first).to_have_text("label 1")
    page.keyboard.press("p")
    expect(page.locator("#td-card h2").first).to_have_text("label 0")
    page.keyboard.press("/")
    expect(page.locator("#td-search")).to_be_focused()
    page.keyboard.type("np")
    expect(page.locator("#td-search")).to_have_value("np")
    expect(feature_box(page)).to_have_value("0")


def test_a_feature_that_is_not_there_is_said_and_left_again(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    for typed, says in {
        "9999": "feature 9999 has no examples here; of the 64 features that have, the nearest are 61, 62, 63",
        "-3": "feature -3 is negative; features are counted from 0",
        "1.5": "feature is '1.5'; give a whole number",
        PWN: f"feature is '{PWN}'; give a whole number",
        "9" * 300: "has no examples here",
        str(DEAD): f"feature {DEAD} has no examples: it never fired on the corpus that was searched",
    }.items():
        wait_for_query(page, feature=feature_box(page).input_value())
        shown = feature_box(page).input_value()
        show_feature(page, typed)
        expect(page.locator(f"{EXAMPLES} .td-note")).to_contain_text(says)
        if typed != str(DEAD):  # which is there
            expect(feature_box(page)).to_have_attribute("aria-invalid", "true")
            wait_for_query(page, feature=shown)  # a link keeps the last that was
        else:
            wait_for_query(page, feature=DEAD)
        expect(rows(page)).to_have_count(0)
        page.locator("#td-next").click()
        expect(rows(page).first).to_be_visible()


def test_the_list_beside_the_detail(visit, bundle):
    page = visit("?feature=9", wait=f"{EXAMPLES} .td-x")
    table, search = page.locator("#td-table"), page.locator("#td-search")
    count, lines = table.locator(".td-bar span"), table.locator("tbody tr:not(.td-space)")
    expect(count).to_have_text(f"{N_FEATURES} features")
    expect(table.locator("tr[aria-current]")).to_contain_text("label 9")
    assert table.bounding_box()["x"] < page.locator(EXAMPLES).bounding_box()["x"]
    search.fill("label 1")
    expect(count).to_have_text("11 found")
    lines.filter(has_text="label 15").click()
    expect(page.locator("#td-card h2").first).to_have_text("label 15")
    wait_for_query(page, feature=15)
    expect(table.locator("tr[aria-current]")).to_contain_text("label 15")
    page.locator("h1").click()
    page.keyboard.press("j")
    expect(page.locator("#td-card h2").first).to_have_text("label 16")
    page.keyboard.press("k")
    expect(page.locator("#td-card h2").first).to_have_text("label 15")
    wait_for_query(page, feature=15)
    page.go_back()
    expect(page.locator("#td-card h2").first).to_have_text("label 16")
    expect(table.locator("tr[aria-current]")).to_contain_text("label 16")
    search.fill("quick")
    expect(count).to_have_text(re.compile(r"^\d+ found by their examples$"))  # nothing is called so
    search.fill("nothing like this")
    expect(count).to_have_text("nothing found")
    search.fill("33")
    search.press("Enter")  # a number opens its feature
    expect(page.locator("#td-card h2").first).to_have_text("label 33")
    search.fill("loudness>1")
    expect(table.locator("[role=alert]")).to_contain_text("'loudness' in 'loudness>1' is no column; there are feature")
    search.press("Escape")
    expect(count).to_have_text(f"{N_FEATURES} features")
    head = table.get_by_role("button", name="max", exact=True)
    head.focus()
    head.press("Enter")
    expect(table.get_by_role("columnheader", name="max")).to_have_attribute("aria-sort", "descending")
    expect(head).to_be_focused()
    first = str(max(range(N_FEATURES), key=bundle.most.__getitem__))
    expect(lines.first.locator("td").first).to_have_text(first)  # the largest are seen at once
    values = [float(t) for t in table.locator("tbody td:nth-child(4)").all_text_contents() if t]
    assert len(values) > 10 and values == sorted(values, reverse=True)
    search.fill("loudness>1")  # such an error leaves the order as it is
    expect(table.locator("[role=alert]")).to_be_visible()
    search.fill("label 1")
    wait_for_query(page, sort="-max_activation", find="label 1")
    other = visit(page.url)
    expect(other.locator("#td-search")).to_have_value("label 1")
    expect(other.get_by_role("columnheader", name="max")).to_have_attribute("aria-sort", "descending")
    expect(other.locator("#td-table .td-bar span")).to_have_text("11 found")
    other.goto(f"{visit.origin}?sort=-nonsense&find=label+1")  # there is no such column
    expect(other.locator("#td-table .td-bar span")).to_have_text("11 found")
    wait_for_query(other, sort=None, find="label 1")
    search.fill("")
    wait_for_query(page, find=None)
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    expect(table).not_to_be_visible()
    page.keyboard.press("t")
    expect(table).to_be_visible()
    page.set_viewport_size({"width": 400, "height": 800})
    show_feature(page, 60)
    page.locator("#td-list-button").click()
    expect(table.locator("tr[aria-current]")).to_contain_text("label 60")
    expect(table.locator("tr[aria-current]")).to_be_in_viewport()


def test_back_goes_to_where_one_was_and_a_link_says_what_its_tab_shows(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    wait_for_query(page, feature=0)
    page.locator("#td-next").click()
    wait_for_query(page, feature=1)
    page.get_by_role("tab", name="Online").click()
    wait_for_query(page, tab="online", feature=None)
    analyze(page, "The quick fox")
    wait_for_query(page, text="The quick fox")
    page.locator(f"{TOP} .td-n").first.click()
    wait_for_query(page, tab="offline", text=None)
    opened = feature_box(page).input_value()
    wait_for_query(page, feature=opened)
    # Each of these is one step.
    page.go_back()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    wait_for_query(page, tab="online", text="The quick fox", feature=None)
    page.go_back()
    expect(feature_box(page)).to_have_value("1")
    wait_for_query(page, tab="offline", feature=1, text=None)
    page.wait_for_timeout(300)  # nothing is written when all has answered
    page.go_forward()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.wait_for_timeout(300)
    page.go_forward()
    expect(feature_box(page)).to_have_value(opened)
    wait_for_query(page, tab="offline", feature=opened)


def test_settings_change_the_view(visit, rich, app_client):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    bar = page.locator(f"{EXAMPLES} .td-bar > span").first
    n = len(app_client.predict(feature=rich, api_name="/examples")["examples"])
    expect(bar).to_have_text(f"{n} examples · window 50")
    window = page.get_by_label("Window", exact=True)
    window.fill("3")
    window.press("Tab")
    expect(bar).to_have_text(f"{n} examples · window 3")
    expect(page.locator(f"{EXAMPLES} details").first).to_be_attached()
    number = page.get_by_label("Examples", exact=True)
    number.fill("1")
    number.press("Tab")
    expect(bar).to_have_text("1 example · window 3")
    wait_for_query(page, feature=rich, window=3, examples=1)
    number.fill("30")
    number.press("Tab")
    expect(rows(page)).to_have_count(n)
    legend = page.locator(f"{EXAMPLES} .td-legend")
    scale = page.get_by_label("Scale")
    scale.click()
    page.get_by_role("option", name="each example").click()
    expect(legend).to_contain_text("each example's own maximum")
    wait_for_query(page, scale="example")
    scale.fill("0.5")
    scale.press("Enter")
    expect(legend).to_contain_text("0.50, clamped")
    scale.fill("loud")
    scale.press("Enter")
    # It is said beside the field, and the last view stays.
    expect(page.locator("#td-said .td-error")).to_contain_text("the scale is 'loud'; give a number above 0")
    expect(scale).to_have_attribute("aria-invalid", "true")
    expect(rows(page)).to_have_count(n)
    wait_for_query(page, scale="0.5")  # the last one that was good
    scale.fill("")
    scale.click()
    page.get_by_role("option", name="this feature").click()
    expect(rows(page)).to_have_count(n)
    wait_for_query(page, scale=None)
    expect(scale).not_to_have_attribute("aria-invalid", "true")
    page.get_by_label("Leave out special tokens").check()
    wait_for_query(page, mask="true")
    expect(rows(page)).to_have_count(n)


def test_the_colour_of_the_highlights(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    page.get_by_role("button", name="Colour").click()
    box = page.locator(".color-picker input")
    box.fill("#0000ff")
    box.press("Enter")
    expect(page.locator(f"{EXAMPLES} i[style]").first).to_have_attribute("style", re.compile("#0000ff|0, 0, 255"))
    wait_for_query(page, color="#0000ff")
    other = visit(page.url, wait=f"{EXAMPLES} .td-x")
    expect(other.locator(f"{EXAMPLES} i[style]").first).to_have_attribute("style", re.compile("#0000ff|0, 0, 255"))
    # A click into the field of colours gives another notation of a colour.
    page.locator(".color-gradient").click(position={"x": 20, "y": 20})
    expect(page.locator(f"{EXAMPLES} i[style]").first).not_to_have_attribute("style", re.compile("#0000ff"))
    expect(rows(page).first).to_be_visible()
    expect(page.locator(f"{EXAMPLES} .td-error")).to_have_count(0)
    before = page.url
    box.fill("nonsense")
    box.press("Enter")
    expect(page.locator("#td-said")).to_contain_text("color 'nonsense' is neither '#rrggbb' nor")
    expect(rows(page).first).to_be_visible()
    assert page.url == before, "what is wrong is in no link"


def test_the_concordance_unfolds(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    lefts = page.evaluate(
        "[...document.querySelectorAll('#td-examples .td-p > span:last-child')].map(e => Math.round(e.getBoundingClientRect().left))"
    )
    assert len(lefts) >= 3 and len(set(lefts)) == 1, "the peaks stand under each other"
    assert all(peaks(page))
    first = rows(page).first
    folded = first.bounding_box()["height"]
    first.locator(".td-v").click()
    expect(first).to_have_class(re.compile("td-open"))
    first.locator(".td-v").click()
    expect(first).not_to_have_class(re.compile("td-open"))
    first.locator(".td-p > span:last-child > i").first.click()
    expect(first).to_have_class(re.compile("td-open"))
    page.get_by_role("button", name="paragraphs").click()
    expect(page.locator(f"{EXAMPLES} .td")).to_have_attribute("data-view", "paragraphs")
    expect(first).not_to_have_class(re.compile("td-open"))
    assert first.bounding_box()["height"] >= folded
    page.get_by_role("button", name="lines").click()
    expect(page.locator(f"{EXAMPLES} .td")).to_have_attribute("data-view", "lines")


def test_the_keyboard_is_enough(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    rows(page).first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows(page).nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(rows(page).first).to_be_focused()
    assert rows(page).evaluate_all("rows => rows.map(r => r.tabIndex)")[:2] == [0, -1]
    page.keyboard.press("Enter")
    expect(rows(page).first).to_have_class(re.compile("td-open"))
    tip = page.locator(".td-tip")
    page.keyboard.press("ArrowRight")
    expect(tip).to_be_visible()
    peak = rows(page).first.locator(".td-p > span:last-child > i").first
    expect(peak).to_have_class(re.compile("td-at"))
    page.keyboard.press("ArrowLeft")
    before = rows(page).first.locator(".td-p > span:first-child > span > i").last
    expect(before).to_have_class(re.compile("td-at"))
    page.keyboard.press("Escape")
    expect(tip).to_have_count(0)
    expect(rows(page).first).to_have_class(re.compile("td-open"))
    page.keyboard.press("Escape")
    expect(rows(page).first).not_to_have_class(re.compile("td-open"))
    # In the online tab Enter chooses the token.
    page.get_by_role("tab", name="Online").click()
    analyze(page, "The quick fox")
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text("over the text")
    page.locator(f"{ANALYSIS} .td-p").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tip.locator("small")).to_contain_text("token 1")
    page.keyboard.press("Enter")
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text("over the text › token 1")


def test_the_tooltip_says_what_is_known(visit, app_client, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    example = app_client.predict(feature=rich, api_name="/examples")["examples"][0]
    at = int(np.argmax(example["activations"]))
    peak = rows(page).first.locator(".td-p > span:last-child > i").first
    peak.hover()
    tip = page.locator(".td-tip")
    expect(tip.locator("small")).to_have_text(f"token {at} · id {example['token_ids'][at]}")
    expect(tip.locator("div span")).to_have_text(f"feature {rich}")
    assert float(tip.locator("strong").text_content()) == pytest.approx(example["activations"][at], rel=1e-3)
    shown = tip.locator("code").text_content()
    assert shown.startswith(example["tokens"][at].replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")[:5])
    expect(tip).to_have_attribute("role", "tooltip")
    assert peak.get_attribute("title") == "", "the browser's own would cover it"
    quiet = next(i for i in range(at + 1, len(example["tokens"])) if not example["activations"][i])
    rows(page).first.locator(".td-v").click()
    rows(page).first.locator("i").nth(quiet).hover()
    expect(tip.locator("small")).to_have_text(f"token {quiet} · id {example['token_ids'][quiet]}")
    expect(tip.locator("strong")).to_have_count(0)
    page.locator("h1").hover()
    expect(tip).to_have_count(0)
    assert peak.get_attribute("title")


def test_copying_gives_the_exact_text(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x", permissions=["clipboard-read", "clipboard-write"])
    n = rows(page).count()
    copied = []
    for i in range(n):
        rows(page).nth(i).hover()
        button = rows(page).nth(i).locator(".td-copy")
        button.click()
        expect(button).to_have_text("copied")
        copied.append(page.evaluate("navigator.clipboard.readText()"))
    assert set(copied) <= {"<s>" + text for text in CORPUS} and len(set(copied)) == n
    page.get_by_role("tab", name="Online").click()
    text = "a\ttab, a\nline, e\u0301 and \u202e end"
    analyze(page, text)
    page.locator(f"{ANALYSIS} .td-copy").click()
    expect(page.locator(f"{ANALYSIS} .td-copy")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == "<s>" + text


def test_the_address_carries_what_is_shown(visit, rich):
    page = visit(f"?tab=offline&feature={rich}&window=7&examples=2&scale=example&mask=true", wait=f"{EXAMPLES} .td-x")
    expect(page.locator(f"{EXAMPLES} .td-bar > span").first).to_have_text("2 examples · window 7")
    expect(page.locator(f"{EXAMPLES} .td-legend")).to_contain_text("each example's own maximum")
    expect(page.get_by_label("Window", exact=True)).to_have_value("7")
    expect(page.get_by_label("Examples", exact=True)).to_have_value("2")
    expect(page.get_by_label("Leave out special tokens")).to_be_checked()
    page.locator("#td-next").click()
    expect(feature_box(page)).to_have_value(str(rich + 1))
    wait_for_query(page, tab="offline", feature=rich + 1, window=7, examples=2, scale="example", mask="true")
    page.reload()
    expect(feature_box(page)).to_have_value(str(rich + 1))
    expect(page.locator(f"{EXAMPLES} .td-bar > span").first).to_contain_text("window 7")
    other = visit(page.url)
    expect(feature_box(other)).to_have_value(str(rich + 1))


def test_the_address_of_an_analysis(visit):
    page = visit("?tab=online")
    expect(page.get_by_role("tab", name="Online")).to_have_attribute("aria-selected", "true")
    page.get_by_label("chat formatting").check()
    page.get_by_label("Tooltip").fill("3, 5-7")
    page.get_by_label("Max act").fill("auto")
    page.get_by_role("button", name="More").click()
    page.get_by_role("checkbox", name="Leave out special tokens").check()
    page.get_by_label("Split a crosscoder's feature by model").check()
    page.get_by_role("button", name="Colour 1").click()
    page.locator(".color-picker input").fill("#00aa00")
    page.locator(".color-picker input").press("Enter")
    analyze(page, 'hello<eot>hi & "you" #1 +2')
    expect(page.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>hello")
    highlight = page.locator("#td-highlight textarea").get_attribute("placeholder").removeprefix("auto: ")
    wait_for_query(page, tab="online", chat="true", tooltip="3, 5-7", max_act="auto", highlight=None)
    wait_for_query(page, leave_out="true", split="true", color1="#00aa00", color2=None, mask=None)
    other = visit(page.url)
    expect(other.locator(f"{ANALYSIS} .td-p")).to_have_text('<|user|>hello</s><|assistant|>hi & "you" #1 +2')
    expect(other.locator("#td-text textarea")).to_have_value('hello<eot>hi & "you" #1 +2')
    expect(other.locator("#td-highlight textarea")).to_have_attribute("placeholder", f"auto: {highlight}")
    expect(other.locator(f"{ANALYSIS} .td-legend")).to_contain_text(f"feature {highlight}, chat")
    expect(other.locator(f"{ANALYSIS} .td-ramp").first).to_have_attribute("style", re.compile("#00aa00"))
    expect(other.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    assert other.evaluate("history.length") == 2, "a link is one step, and an empty page before it"
    other.get_by_role("button", name="More").click()
    other.reload()
    expect(other.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>hello")
    # A picker would fetch what a colour in its style names.
    stranger = visit(page.url.replace("%2300aa00", "url(//x.test/a)"))
    expect(stranger.locator(f"{ANALYSIS} .td-ramp").first).to_have_attribute("style", re.compile(COLORS[0]))
    # The tab is a part of it, too.
    other.get_by_role("tab", name="Offline").click()
    wait_for_query(other, tab="offline")


def test_a_nonsense_address_is_said_or_left_out(visit):
    page = visit()
    for query in (
        f"tab=nonsense&feature={PWN}&window=y&examples=z&scale=<b>&mask=1",
        "feature=3&feature=%00&window=99999999&examples=0&scale=nan",
        "tab=online&max_act=x&text=a&highlight=x&feature=1e9",
    ):
        page.goto(f"{visit.origin}?{query}")
        tab = "Online" if "tab=online" in query else "Offline"
        expect(page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
        shown = f"{EXAMPLES} .td-x, {EXAMPLES} .td-note, .td-wrong"
        expect(page.locator(shown).locator("visible=true").first).to_be_visible()
        page.get_by_role("tab", name="Offline").click()
        show_feature(page, 1)
        expect(page.locator("#td-card h2").first).to_have_text("label 1")
        expect(rows(page).first).to_be_visible()


def test_two_features_stand_side_by_side(visit, rich):
    page = visit(f"?feature={rich}&with=9#other-1", wait="#td-other-examples .td-x")
    expect(page.locator("#td-other-examples .td-x").nth(1)).to_have_class(re.compile("td-open"))  # as its link says
    expect(page.locator(".td-open")).to_have_count(1)
    expect(page.locator("#td-other-card h2")).to_have_text("label 9")
    lines = [page.locator(place).bounding_box() for place in (EXAMPLES, "#td-other-examples")]
    assert lines[0]["y"] == lines[1]["y"] and lines[0]["x"] + lines[0]["width"] < lines[1]["x"]
    page.locator("#td-next").click()
    expect(page.locator("#td-card h2")).to_have_text(f"label {rich + 1}")
    wait_for_query(page, feature=rich + 1, **{"with": 9})
    other = page.get_by_label("Compare with feature")
    other.fill("9999")
    other.press("Enter")
    expect(page.locator("#td-other-examples .td-error")).to_contain_text("feature 9999 has no examples here")
    expect(rows(page).first).to_be_visible()
    other.fill("")
    other.press("Enter")
    expect(page.locator("#td-other-examples")).to_be_hidden()
    wait_for_query(page, **{"with": None})


def test_stars_are_kept_in_the_browser(visit, rich):
    page = visit("?feature=9", wait=f"{EXAMPLES} .td-x", permissions=["clipboard-read", "clipboard-write"])
    star = page.get_by_role("button", name="star this feature")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    show_feature(page, rich)
    expect(star).to_have_attribute("aria-pressed", "false")
    page.locator("h1").click()
    page.keyboard.press("s")
    expect(star).to_have_attribute("aria-pressed", "true")
    page.locator("#td-table").get_by_role("button", name="copy").click()
    expect(page.locator("#td-table").get_by_role("button", name="copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"--features 9,{rich}"
    page.get_by_role("button", name="★ 2").click()
    expect(page.locator("#td-table .td-bar span")).to_have_text("2 found")
    page.reload()
    expect(star).to_have_attribute("aria-pressed", "true")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "false")


def test_the_reader_keeps_paragraphs_from_feature_to_feature(visit, rich):
    page = visit(f"?feature={rich}&with=9", wait="#td-other-examples .td-x")
    page.get_by_role("button", name="paragraphs").first.click()
    expect(page.locator("#td-other-examples .td")).to_have_attribute("data-view", "paragraphs")
    # They come over several frames, all of them.
    page.wait_for_function("[...document.querySelectorAll('.td-x')].every((row) => !row.style.contentVisibility)")
    page.locator("#td-next").click()
    expect(page.locator("#td-card h2")).to_have_text(f"label {rich + 1}")
    expect(page.locator(f"{EXAMPLES} .td")).to_have_attribute("data-view", "paragraphs")
    wait_for_query(page, **{"feature": rich + 1, "as": "paragraphs"})
    other = visit(page.url, wait=f"{EXAMPLES} .td-x")
    expect(other.locator(f"{EXAMPLES} .td")).to_have_attribute("data-view", "paragraphs")
    other.get_by_role("button", name="lines").first.click()
    wait_for_query(other, **{"feature": rich + 1, "as": None})

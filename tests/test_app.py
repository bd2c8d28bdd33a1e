"""The running app: its named endpoints through gradio_client, and both tabs in a real browser."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.helpers.bundle import CORPUS, DEAD, HOSTILE_FEATURE, HOSTILE_LABEL, N_FEATURES, PWN
from tests.helpers.colors import contrast_on, luminance
from tests.helpers.hostile import HOSTILE
from tiny_dashboard import (
    CrosscoderOnlineFeatureDashboard,
    OfflineFeatureCentricDashboard,
    OnlineFeatureCentricDashboard,
    build_app,
)
from tiny_dashboard.app.launch import launch
from tiny_dashboard.core.highlight import COLORS

expect.set_options(timeout=10_000)
EXAMPLES, ANALYSIS, TOP = "#td-examples", "#td-analysis", "#td-top"


@pytest.fixture(scope="module")
def client(app_url):
    from gradio_client import Client

    return Client(app_url, verbose=False)


@pytest.fixture(scope="module")
def rich(bundle):
    """A feature with three examples or more, the hostile text not the strongest of them."""
    counts = [sum(bool((v[:, f] > 0).any()) for v in bundle.values) for f in range(N_FEATURES)]
    return next(f for f in range(10, N_FEATURES) if counts[f] >= 3)


def rows(page):
    return page.locator(f"{EXAMPLES} .td-x")


def feature_box(page):
    return page.locator("#td-feature textarea")


def show_feature(page, feature):
    feature_box(page).fill(str(feature))
    feature_box(page).press("Enter")


def peaks(page):
    return rows(page).locator(".td-p > span:last-child > i:first-child").all_text_contents()


def analyze(page, text):
    page.locator("#td-text textarea").fill(text)
    page.get_by_role("button", name="Analyze").click()


def tokens(page, place=ANALYSIS):
    return page.locator(f"{place} .td-p i")


def query_of(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query, keep_blank_values=True).items()}


def wait_for_query(page, **wanted):
    page.wait_for_function(
        "wanted => { const q = new URLSearchParams(location.search);"
        " return Object.entries(wanted).every(([k, v]) => v === null ? !q.has(k) : q.get(k) === v) }",
        arg={k: None if v is None else str(v) for k, v in wanted.items()},
    )


# --- named endpoints -------------------------------------------------------------------------------------------------


def test_the_named_endpoints_and_no_others(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(named) == ["/analyze", "/examples", "/features", "/top_features"]
    parameters = {name: [p["parameter_name"] for p in api["parameters"]] for name, api in named.items()}
    assert parameters == {
        "/examples": ["feature", "max_examples", "scale"],
        "/features": ["query", "sort", "page", "descending"],
        "/analyze": ["text", "highlight_features", "tooltip_features", "chat", "generate", "max_act"],
        "/top_features": ["text", "k", "chat"],
    }


def test_endpoints_answer_data(client, bundle, rich):
    examples = client.predict(feature=rich, max_examples=2, api_name="/examples")
    assert len(examples["examples"]) == 2 and examples["stats"]["label"] == f"label {rich}"
    found = client.predict(query=f"label {rich}", api_name="/features")
    assert [r["feature"] for r in found["features"]] == [rich]
    text = "The quick fox"
    analysis = client.predict(text=text, highlight_features=f"{rich}", api_name="/analyze")
    ids = bundle.tokenizer(text)["input_ids"]
    assert analysis["token_ids"] == ids
    np.testing.assert_allclose(analysis["activations"], bundle.featurizer.features(ids, [rich]), atol=1e-5)
    top = client.predict(text=text, k=3, api_name="/top_features")["features"]
    assert len(top) == 3 and top[0]["activation"] >= top[1]["activation"] >= top[2]["activation"]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("/examples", {"feature": 9999}, "feature 9999 has no examples here; of the 64 features that have"),
        ("/examples", {"feature": -1}, "feature -1 is negative; features are counted from 0"),
        ("/examples", {"feature": "<img src=x onerror=alert(1)>"}, "&lt;img src=x onerror=alert(1)&gt;"),
        ("/examples", {"feature": 1, "max_examples": 10**9}, "max_examples is 1000000000; it must be from 1 to 200"),
        ("/features", {"sort": "no"}, "sort is &#x27;no&#x27;; it is one of feature, label"),
        ("/analyze", {"text": ""}, "the text is empty"),
        ("/analyze", {"text": "x" * 5001}, "the text has 5001 characters; at most 5000 are analysed at once"),
        ("/analyze", {"text": "x", "highlight_features": "1,,2"}, "has a comma with no number beside it"),
        ("/top_features", {"text": "x", "k": 0}, "k is 0; it must be from 1 to 200"),
        ("/top_features", {"text": None}, "the text is NoneType, not a string"),
    ],
)
def test_endpoints_say_what_is_wrong(client, name, arguments, says):
    with pytest.raises(Exception) as error:
        client.predict(**arguments, api_name=name)
    assert says in str(error.value)
    assert "Traceback" not in str(error.value)


# --- offline ---------------------------------------------------------------------------------------------------------


def test_the_first_feature_is_shown(visit, client):
    page = visit()
    examples = client.predict(feature=0, api_name="/examples")["examples"]
    expect(rows(page)).to_have_count(len(examples))
    expect(page.locator("#td-card strong").first).to_have_text("label 0")
    assert rows(page).locator(".td-p").all_text_contents() == ["".join(e["tokens"]) for e in examples]
    expect(page.locator("h1")).to_have_text("Tiny <b>pair</b> & co")
    expect(page.locator(".td-head p")).to_contain_text("{{7*7}} ${7*7} · base ↔ chat · layer 1")
    assert page.title() == "Tiny <b>pair</b> & co"


def test_no_number_is_the_first_feature(visit):
    page = visit("?feature=9", wait=f"{EXAMPLES} .td-x")
    show_feature(page, "")
    expect(feature_box(page)).to_have_value("0")
    expect(page.locator("#td-card strong").first).to_have_text("label 0")


def test_next_previous_random_and_the_number(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    page.locator("#td-next").click()
    expect(page.locator("#td-card strong").first).to_have_text("label 1")
    expect(feature_box(page)).to_have_value("1")
    page.locator("#td-previous").click()
    expect(page.locator("#td-card strong").first).to_have_text("label 0")
    page.locator("#td-previous").click()
    expect(feature_box(page)).to_have_value(str(N_FEATURES - 1))
    page.locator("#td-next").click()
    expect(feature_box(page)).to_have_value("0")
    show_feature(page, 17)
    expect(page.locator("#td-card strong").first).to_have_text("label 17")
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
    expect(page.locator("#td-card strong").first).to_have_text("label 1")
    page.keyboard.press("p")
    expect(page.locator("#td-card strong").first).to_have_text("label 0")
    page.keyboard.press("/")
    expect(page.locator("#td-search textarea")).to_be_focused()
    page.keyboard.type("np")
    expect(page.locator("#td-search textarea")).to_have_value("np")
    expect(feature_box(page)).to_have_value("0")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("9999", "feature 9999 has no examples here; of the 64 features that have, the nearest are 61, 62, 63"),
        ("-3", "feature -3 is negative; features are counted from 0"),
        ("1.5", "feature is '1.5'; give a whole number"),
        (PWN, f"feature is '{PWN}'; give a whole number"),
        ("9" * 300, "has no examples here"),
        (str(DEAD), f"feature {DEAD} has no examples: it never fired on the corpus that was searched"),
    ],
)
def test_a_feature_that_is_not_there_is_said_and_left_again(visit, typed, says):
    page = visit(wait=f"{EXAMPLES} .td-x")
    show_feature(page, typed)
    expect(page.locator(f"{EXAMPLES} .td-note")).to_contain_text(says)
    expect(rows(page)).to_have_count(0)
    page.locator("#td-next").click()
    expect(rows(page).first).to_be_visible()


def test_search_and_table(visit):
    page = visit(wait=f"{EXAMPLES} .td-x")
    table = page.locator("#td-table")
    search = page.locator("#td-search textarea")
    search.fill("label 1")
    search.press("Enter")
    expect(table.locator(".td-bar span")).to_have_text("11 features, page 1 of 1")
    expect(table.locator("tbody tr")).to_have_count(11)
    table.locator("tbody tr", has_text="label 15").click()
    expect(page.locator("#td-card strong").first).to_have_text("label 15")
    wait_for_query(page, feature=15)
    expect(table.locator("tbody tr")).to_have_count(11)
    search.fill("nothing like this")
    search.press("Enter")
    expect(table.locator(".td-bar span")).to_have_text("0 features, page 1 of 1")
    expect(page.locator("#td-card strong").first).to_have_text("label 15")
    # A number opens its feature.
    search.fill("33")
    search.press("Enter")
    expect(page.locator("#td-card strong").first).to_have_text("label 33")
    search.fill("")
    search.press("Enter")
    expect(table.locator(".td-bar span")).to_have_text(f"{N_FEATURES} features, page 1 of 3")
    numbers = lambda: [int(t) for t in table.locator("tbody td:first-child").all_text_contents()]  # noqa: E731
    assert numbers() == list(range(25))
    table.get_by_role("button", name="more ›").click()
    expect(table.locator(".td-bar span")).to_have_text(f"{N_FEATURES} features, page 2 of 3")
    assert numbers() == list(range(25, 50))
    table.get_by_role("button", name="‹ back").click()
    expect(table.locator(".td-bar span")).to_have_text(f"{N_FEATURES} features, page 1 of 3")
    table.get_by_role("button", name="maximum").click()
    expect(table.get_by_role("button", name="maximum ↓")).to_be_visible()
    values = [float(t) for t in table.locator("tbody td:nth-child(4)").all_text_contents()]
    assert values == sorted(values, reverse=True)
    table.get_by_role("button", name="maximum ↓").click()
    expect(table.get_by_role("button", name="maximum ↑")).to_be_visible()
    page.get_by_role("button", name="table").click()
    expect(table.locator("table")).not_to_be_visible()
    page.get_by_role("button", name="table").click()
    expect(table.locator("table")).to_be_visible()


def test_settings_change_the_view(visit, rich, client):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    bar = page.locator(f"{EXAMPLES} .td-bar > span").first
    n = len(client.predict(feature=rich, api_name="/examples")["examples"])
    expect(bar).to_have_text(f"{n} examples · window 50")
    page.get_by_role("button", name="Display").click()
    page.wait_for_timeout(500)  # Gradio's controls listen a moment after they are shown; nobody types that fast
    window = page.get_by_label("number input for Window")
    window.fill("3")
    window.press("Tab")
    expect(bar).to_have_text(f"{n} examples · window 3")
    expect(page.locator(f"{EXAMPLES} details").first).to_be_attached()
    number = page.get_by_label("number input for Examples")
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
    expect(page.locator(f"{EXAMPLES} .td-error")).to_contain_text("the scale is 'loud'; give a number above 0")
    scale.fill("")
    scale.click()
    page.get_by_role("option", name="this feature").click()
    expect(rows(page)).to_have_count(n)
    wait_for_query(page, scale="feature")
    page.get_by_label("Leave out special tokens").check()
    wait_for_query(page, mask="true")
    expect(rows(page)).to_have_count(n)


def test_the_colour_of_the_highlights(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    page.get_by_role("button", name="Display").click()
    page.get_by_role("button", name="Colour").click()
    box = page.locator(".color-picker input")
    box.fill("#0000ff")
    box.press("Enter")
    expect(page.locator(f"{EXAMPLES} i[style]").first).to_have_attribute("style", re.compile("#0000ff|0, 0, 255"))
    # A click into the field of colours gives another notation of a colour.
    page.locator(".color-gradient").click(position={"x": 20, "y": 20})
    expect(page.locator(f"{EXAMPLES} i[style]").first).not_to_have_attribute("style", re.compile("#0000ff"))
    expect(rows(page).first).to_be_visible()
    expect(page.locator(f"{EXAMPLES} .td-error")).to_have_count(0)


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
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text("at token 1")


def test_the_tooltip_says_what_is_known(visit, client, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    example = client.predict(feature=rich, api_name="/examples")["examples"][0]
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
    page.get_by_role("button", name="Display").click()
    expect(page.get_by_label("number input for Window")).to_have_value("7")
    expect(page.get_by_label("number input for Examples")).to_have_value("2")
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
    page.get_by_label("Compute").fill("9")
    page.get_by_label("Leave out special tokens").last.check()
    page.get_by_label("Split a crosscoder's feature by model").check()
    page.get_by_role("button", name="Colour 1").click()
    page.locator(".color-picker input").fill("#00aa00")
    page.locator(".color-picker input").press("Enter")
    analyze(page, 'hello<eot>hi & "you" #1 +2')
    expect(page.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>hello")
    highlight = page.locator("#td-highlight textarea").input_value()
    assert highlight
    wait_for_query(page, tab="online", chat="true", tooltip="3, 5-7", max_act="auto", highlight=highlight)
    wait_for_query(page, compute="9", leave_out="true", split="true", color1="#00aa00", color2=None, mask=None)
    other = visit(page.url)
    expect(other.locator(f"{ANALYSIS} .td-p")).to_have_text('<|user|>hello</s><|assistant|>hi & "you" #1 +2')
    expect(other.locator("#td-text textarea")).to_have_value('hello<eot>hi & "you" #1 +2')
    expect(other.locator("#td-highlight textarea")).to_have_value(highlight)
    expect(other.locator(f"{ANALYSIS} .td-legend")).to_contain_text(f"feature {highlight}, chat")
    expect(other.locator(f"{ANALYSIS} .td-legend s").first).to_have_attribute("style", re.compile("#00aa00"))
    expect(other.locator(f"{ANALYSIS} i.td-s[style]")).to_have_count(0)
    other.get_by_role("button", name="More").click()
    expect(other.get_by_label("Compute")).to_have_value("9")
    other.reload()
    expect(other.locator(f"{ANALYSIS} .td-p")).to_contain_text("<|user|>hello")
    # A picker would fetch what a colour in its style names.
    stranger = visit(page.url.replace("%2300aa00", "url(//x.test/a)"))
    expect(stranger.locator(f"{ANALYSIS} .td-legend s").first).to_have_attribute("style", re.compile(COLORS[0]))
    # The tab is a part of it, too.
    other.get_by_role("tab", name="Offline").click()
    wait_for_query(other, tab="offline")


@pytest.mark.parametrize(
    "query",
    ["feature=x&window=y&examples=z&scale=<b>&mask=1", "feature=-1", "feature=1e9", "window=99999999", "examples=0",
     "tab=nonsense&feature=3", f"feature={PWN}", "feature=3&feature=4", "scale=nan", "feature=%00", "tab=online&max_act=x&text=a&highlight=x"],
)  # fmt: skip
def test_a_nonsense_address_is_said_or_left_out(visit, query):
    page = visit("?" + query)
    shown = f"{EXAMPLES} .td-x, {EXAMPLES} .td-note, {ANALYSIS} .td-note"
    expect(page.locator(shown).locator("visible=true").first).to_be_visible()
    page.get_by_role("tab", name="Offline").click()
    show_feature(page, 1)
    page.get_by_role("button", name="Display").click()
    page.get_by_label("number input for Window").fill("5")
    page.get_by_label("number input for Window").press("Tab")
    page.get_by_label("number input for Examples").fill("5")
    page.get_by_label("number input for Examples").press("Tab")
    page.get_by_label("Scale").fill("")
    page.get_by_label("Scale").click()
    page.get_by_role("option", name="this feature").click()
    expect(rows(page).first).to_be_visible()


# --- online ----------------------------------------------------------------------------------------------------------


def test_analyze_shows_where_features_fire(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>" + text)
    ids = bundle.tokenizer(text)["input_ids"]
    top = bundle.featurizer.top(ids, 20, ignore=[True] + [False] * (len(ids) - 1))
    listed = page.locator(f"{TOP} .td-f button:first-child")
    expect(listed).to_have_text([str(f) for f in top.features])
    # Empty takes the one that fires most.
    expect(page.locator("#td-highlight textarea")).to_have_value(str(top.features[0]))
    active = [i for i, v in enumerate(bundle.featurizer.features(ids, top.features[:1])[:, 0].tolist()) if v]
    styled = tokens(page).evaluate_all("all => all.flatMap((t, i) => t.hasAttribute('style') ? [i] : [])")
    assert styled == active
    expect(tokens(page).first).to_have_class("td-s")


def test_two_features_and_a_tooltip_with_more(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    ids = bundle.tokenizer(text)["input_ids"]
    a, b, c, *_ = bundle.featurizer.top(ids, 20, ignore=[True] + [False] * (len(ids) - 1)).features
    page.locator("#td-highlight textarea").fill(f"{b}, {a}")
    page.get_by_label("Tooltip").fill(str(c))
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-legend > span")).to_have_count(2)
    expect(page.locator(f"{ANALYSIS} i[style*='linear-gradient']").first).to_be_visible()
    values = bundle.featurizer.features(ids, [b, a, c])
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


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"Text": ""}, "the text is empty: write some"),
        ({"Text": "fox " * 1200}, "tokens and the context of LlamaForCausalLM is 1024; shorten the text"),
        ({"Text": "x" * 5001}, "the text has 5001 characters; at most 5000 are analysed at once"),
        ({"Text": "a<eot><eot>b", "chat": "on"}, "turn 2 of 3 is empty"),
        ({"Text": "fox", "Highlight": "1,,2"}, "'1,,2' has a comma with no number beside it"),
        ({"Text": "fox", "Highlight": "1, 2, 3"}, "3 features to highlight; choose one or two"),
        ({"Text": "fox", "Highlight": "99999"}, "feature '99999' does not exist: this dictionary has 64 features"),
        ({"Text": "fox", "Tooltip": PWN}, "is not a feature number"),
        ({"Text": "fox", "Max act": "0"}, "the scale is '0'; give a number above 0"),
        ({"Text": "fox", "Max act": "-2"}, "the scale is '-2'; give a number above 0"),
        ({"Text": "fox", "Max act": "loud"}, "the scale is 'loud'; give a number above 0"),
    ],
)
def test_what_cannot_be_analysed_is_said_and_can_be_mended(visit, fields, says):
    page = visit("?tab=online")
    for name, value in fields.items():
        if name == "chat":
            page.get_by_label("chat formatting").check()
        elif name == "Text":
            page.locator("#td-text textarea").fill(value)
        else:
            page.get_by_label(name, exact=False).first.fill(value)
    page.get_by_role("button", name="Analyze").click()
    expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text(says)
    expect(page.locator(f"{ANALYSIS} .td-error")).to_have_attribute("role", "alert")
    for name in ("Highlight", "Tooltip", "Max act"):
        page.get_by_label(name, exact=False).first.fill("")
    analyze(page, "The quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()


def test_a_token_lists_what_fires_there_and_a_feature_opens_its_examples(visit, bundle):
    page = visit("?tab=online")
    text = "The quick brown fox"
    analyze(page, text)
    ids = bundle.tokenizer(text)["input_ids"]
    top = bundle.featurizer.top(ids, 20)
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
def test_an_example_is_tried_online_beside_what_is_stored(visit, client, bundle, mask):
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


# --- saving ----------------------------------------------------------------------------------------------------------


def saved(page, button):
    with page.expect_download() as download:
        button.click()
    return download.value


def test_save_html_gives_a_page_that_stands_alone(visit, visits, rich, tmp_path):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    texts = rows(page).locator(".td-p").all_text_contents()
    page.get_by_role("button", name="Display").click()
    offline = saved(page, page.get_by_role("button", name="Save HTML"))
    assert offline.suggested_filename == f"feature-{rich}.html"
    offline.save_as(tmp_path / "offline.html")
    page.get_by_role("tab", name="Online").click()
    analyze(page, f"The quick {PWN}")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    highlight = page.locator("#td-highlight textarea").input_value()
    online = saved(page, page.get_by_role("button", name="Save HTML").locator("visible=true"))
    assert online.suggested_filename == f"text-{highlight}.html"
    online.save_as(tmp_path / "online.html")

    alone = visits((tmp_path / "offline.html").as_uri())
    assert alone.locator(".td-p").all_text_contents() == texts
    expect(alone.locator("#td-card, .td-card strong").first).to_contain_text(f"label {rich}")
    alone.locator(".td-x").first.locator(".td-p > span:last-child > i").first.hover()
    expect(alone.locator(".td-tip")).to_be_visible()
    alone.locator(".td-x").first.click()
    expect(alone.locator(".td-x").first).to_have_class(re.compile("td-open"))
    assert alone.evaluate("getComputedStyle(document.querySelector('.td-x')).display") == "grid"
    alone.goto((tmp_path / "online.html").as_uri())
    expect(alone.locator(".td-p")).to_have_text(f"<s>The quick {PWN}")
    # Only our own script may run there.
    alone.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.late=1\">')")
    alone.wait_for_timeout(100)
    assert alone.evaluate("window.late") is None
    for name in ("offline", "online"):
        text = (tmp_path / f"{name}.html").read_text()
        assert "http://" not in text and "https://" not in text


# --- the look --------------------------------------------------------------------------------------------------------

CONTRASTS = """() => {
  const mix = (over, under) => over.slice(0, 3).map((c, i) => c * over[3] + under[i] * (1 - over[3]));
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = (color) => {  // any notation, by way of a pixel
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const ground = (node) => {
    const chain = []; for (let n = node; n; n = n.parentElement) chain.unshift(parse(getComputedStyle(n).backgroundColor));
    return chain.reduce((under, over) => mix(over, under), [255, 255, 255]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, parent = node.parentElement;
    if (!node.data.trim() || !parent.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (parent.closest('script, style, [disabled]') || !parent.closest('.td, button, label, h1, textarea')) continue;
    const under = ground(parent), ink = mix(parse(getComputedStyle(parent).color), under);
    found.push([node.data.trim().slice(0, 30), parent.className || parent.tagName, ink, under]);
  }
  return found;
}"""


def low_contrasts(page, limit=4.5):
    found = []
    for text, place, ink, ground in page.evaluate(CONTRASTS):
        light, dark = sorted([luminance(ink), luminance(ground)], reverse=True)
        if (ratio := (light + 0.05) / (dark + 0.05)) < limit:
            found.append((text, place, round(ratio, 2)))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit, rich, scheme):
    page = visit(f"?feature={rich}&__theme={scheme}", wait=f"{EXAMPLES} .td-x", color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance([int(c) for c in re.findall(r"\d+", ground)[:3]]) < 0.1) == (scheme == "dark")
    page.get_by_role("button", name="Display").click()
    page.get_by_role("button", name="table").click()
    expect(page.locator("#td-table table")).to_be_visible()
    assert low_contrasts(page) == []
    page.get_by_role("tab", name="Online").click()
    analyze(page, "The quick brown fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Steer").click()
    expect(page.get_by_label("Strength")).to_be_visible()
    tokens(page).nth(2).hover()
    expect(page.locator(".td-tip")).to_be_visible()
    assert low_contrasts(page) == []


@pytest.mark.parametrize("tab", ["offline", "online"])
def test_a_phone_needs_no_sideways_scrolling(visit, tab, rich):
    page = visit(
        f"?tab={tab}&feature={rich}&text=The+quick+brown+fox+" + "and+so+on+" * 40,
        viewport={"width": 400, "height": 800},
    )
    expect(page.locator(f"{EXAMPLES if tab == 'offline' else ANALYSIS} .td-p").first).to_be_visible()
    wide = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    if tab == "offline":
        page.get_by_role("button", name="table").click()
        expect(page.locator("#td-table table")).to_be_visible()
        page.get_by_role("button", name="Display").click()
        page.get_by_role("button", name="paragraphs").click()
    else:
        page.get_by_role("button", name="More").click()
        page.get_by_role("button", name="Steer").click()
    assert page.evaluate(wide) <= 0
    hidden = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, select')].filter(e => e.checkVisibility())"
        ".filter(e => !e.closest('.td-table'))"  # wide, and scrolls by itself
        ".map(e => [e.textContent || e.ariaLabel, e.getBoundingClientRect()])"
        ".filter(([, r]) => r.width && (r.right > innerWidth + 1 || r.left < -1)).map(([t]) => t)"
    )
    assert hidden == [], "controls stand off the screen"


@pytest.mark.parametrize("width", [1120, 400])
def test_what_belongs_together_stands_in_line(visit, width):
    page = visit("?tab=online&text=fox", viewport={"width": width, "height": 800})
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Steer").click()
    box = lambda place: place.bounding_box()  # noqa: E731
    middle = lambda place: box(place)["y"] + box(place)["height"] / 2  # noqa: E731
    buttons = [page.get_by_role("button", name=name) for name in ("Analyze", "Generate", "Stop")]
    assert len({(box(b)["y"], box(b)["height"]) for b in buttons}) == 1
    feature = page.get_by_role("textbox", name="Feature added while generating")
    pairs = [(feature, page.get_by_label("Strength")), (page.get_by_label("Tooltip"), page.get_by_label("Max act"))]
    if width > 400:  # else they stand below each other
        chat = page.get_by_role("checkbox", name="chat formatting").locator("xpath=..")
        assert abs(middle(chat) - middle(buttons[0])) <= 2
        pairs += [tuple(page.get_by_label(f"range slider for {name}") for name in ("New tokens", "Temperature"))]
    for one, other in pairs:
        assert box(one)["y"] == box(other)["y"] and box(one)["height"] == box(other)["height"]
    assert page.locator("footer").inner_text().strip(" \n") == ("Use via API" if width > 400 else "")
    page.get_by_role("tab", name="Offline").click()
    search = page.locator("#td-search textarea")
    assert search.evaluate("e => { e.value = e.placeholder; return e.scrollHeight <= e.clientHeight + 1 }")


def test_nothing_moves_when_the_feature_changes(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    # The bar above the examples stays where it is from feature to feature with the same card.
    top = page.locator(EXAMPLES).bounding_box()["y"]
    page.locator("#td-next").click()
    expect(feature_box(page)).to_have_value(str(rich + 1))
    expect(page.locator("#td-card strong").first).to_have_text(f"label {rich + 1}")
    assert abs(page.locator(EXAMPLES).bounding_box()["y"] - top) <= 1


# --- two people ------------------------------------------------------------------------------------------------------


def test_two_people_never_see_each_others_state(visit):
    one, two = visit("?tab=online"), visit("?tab=online")
    analyze(one, "The quick fox")
    expect(one.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>The quick fox")
    analyze(two, "If the value is")
    expect(two.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>If the value is")
    # What is drawn again, and what a token lists, is each one's own.
    for page, text in ((one, "<s>The quick fox"), (two, "<s>If the value is")):
        page.locator("#td-highlight textarea").fill("2")
        page.locator("#td-highlight textarea").press("Enter")
        expect(page.locator(f"{ANALYSIS} .td-legend")).to_be_visible()
        expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text(text)
        last = tokens(page).count() - 1
        word = tokens(page).last.text_content().strip()
        tokens(page).last.click()
        expect(page.locator(f"{TOP} .td-bar, {TOP} .td-note").first).to_contain_text(f"at token {last} “{word}”")
    one.get_by_role("tab", name="Offline").click()
    two.get_by_role("tab", name="Offline").click()
    show_feature(one, 7)
    show_feature(two, 9)
    expect(one.locator("#td-card strong").first).to_have_text("label 7")
    expect(two.locator("#td-card strong").first).to_have_text("label 9")
    one.get_by_role("button", name="table").click()
    expect(one.locator("#td-table table")).to_be_visible()
    two.locator("#td-next").click()
    expect(two.locator("#td-card strong").first).to_have_text("label 10")
    expect(feature_box(one)).to_have_value("7")
    assert not two.locator("#td-table table").is_visible()


# --- hostile text ----------------------------------------------------------------------------------------------------


def test_hostile_text_is_inert_in_the_bundle(visit):
    page = visit(f"?feature={HOSTILE_FEATURE}")
    expect(page.locator("#td-card strong").first).to_have_text(HOSTILE_LABEL)
    expect(page.locator("#td-card code", has_text="onerror")).to_be_visible()
    search = page.locator("#td-search textarea")
    search.fill("onerror")
    search.press("Enter")
    expect(page.locator("#td-table tbody tr")).to_have_count(1)
    expect(page.locator("#td-table tbody td:nth-child(2)")).to_have_text(HOSTILE_LABEL)
    for feature in range(0, N_FEATURES, 9):
        show_feature(page, feature)
        expect(page.locator("#td-card strong").first).to_contain_text("label" if feature != HOSTILE_FEATURE else "img")
        row = rows(page).filter(has_text="onerror").first
        if row.count():
            row.locator(".td-v").click()
            row.locator("i", has_text="onerror").first.hover()
            expect(page.locator(".td-tip code")).to_contain_text("<img")
            break
    page.get_by_role("tab", name="Online").click()
    text = " ".join(t for t in HOSTILE if not re.search("[\ud800-\udfff\x00\r]", t)) + PWN
    analyze(page, text)
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    assert page.locator(f"{ANALYSIS} .td-p").text_content() == "<s>" + text
    tokens(page).last.hover()
    expect(page.locator(".td-tip code")).to_have_text(PWN.replace(" ", "␣"))
    tokens(page).last.click()
    expect(page.locator(f"{TOP} .td-bar, {TOP} .td-note").first).to_contain_text("<img src=x onerror")


@pytest.fixture(scope="module")
def hostile_url():
    """An app over plain data and plain functions: whole tokens, names, titles and groups are hostile."""
    from tests.helpers.tokenizers import byte_level

    tokens_ = [t for t in HOSTILE if t] + ["x" * 100_000]
    values = np.arange(1.0, len(tokens_) + 1)
    rows_ = [(float(len(tokens_)), tokens_, values), (1.0, tokens_[::-1], np.full(len(tokens_), np.nan))]
    offline = OfflineFeatureCentricDashboard(
        {3: rows_, 7: [(1.0, ["a"], [1.0, 2.0])], 9: [(np.inf, ["a"], [np.inf])]}, None
    )

    def mean(text, features):
        if "raise" in text:
            raise RuntimeError(f"no {PWN}")
        return np.ones((len(byte_level()(text)["input_ids"]) + ("short" in text), len(features)))

    online = OnlineFeatureCentricDashboard(mean, byte_level(), lambda text: text + PWN)
    title = "".join(t for t in HOSTILE if not re.search("[\ud800-\udfff\x00]", t))
    app = build_app(offline, online, title=title, description=title)
    app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield app.local_url.rstrip("/")
    app.close()


@pytest.fixture
def visit_hostile(browser, hostile_url):
    from tests.helpers.browser import Visits

    made = Visits(browser, hostile_url)
    yield made
    made.check_and_close()


def test_hostile_tokens_titles_and_names_are_inert(visit_hostile):
    page = visit_hostile(wait=f"{EXAMPLES} .td-x", permissions=["clipboard-read", "clipboard-write"])
    expect(rows(page)).to_have_count(2)
    expect(page.locator("h1")).to_contain_text("<script>window.__pwned=1</script>")
    whole = [t for t in HOSTILE if t] + ["x" * 100_000]
    seen = [re.sub("[\x00\ud800-\udfff]", "\ufffd", t) for t in whole]
    assert rows(page).first.locator("i").all_text_contents() == seen
    page.get_by_role("button", name="paragraphs").click()
    for i in range(0, len(whole) - 1, 3):
        rows(page).first.locator("i").nth(i).hover()
        expect(page.locator(".td-tip small")).to_have_text(f"token {i}")
    rows(page).first.locator(".td-copy").click()
    expect(rows(page).first.locator(".td-copy")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert len(copied) > 100_000 and "window.__pwned=1" in copied
    # A broken feature says so, and the others go on.
    show_feature(page, 7)
    expect(page.locator(f"{EXAMPLES} .td-error")).to_contain_text(
        "example 0 of feature 7 has 1 tokens and 2 activations"
    )
    show_feature(page, 9)
    expect(page.locator(f"{EXAMPLES} .td-error")).to_contain_text("is inf at token 0; clip it")
    show_feature(page, 3)
    expect(rows(page)).to_have_count(2)


def test_a_dashboard_of_functions_in_the_app(visit_hostile):
    page = visit_hostile("?tab=online")
    expect(page.locator(".td-note", has_text="computes chosen features")).to_be_visible()
    analyze(page, "the quick fox")
    expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text("no feature is named")
    page.locator("#td-highlight textarea").fill("3")
    analyze(page, "the quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("the quick fox")
    analyze(page, "raise it")
    expect(page.locator(f"{ANALYSIS} .td-error")).to_have_text(f"RuntimeError: no {PWN}")
    analyze(page, "too short")
    expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text("rows for")
    tokens_click = page.locator(f"{ANALYSIS} .td-p i")
    analyze(page, "the quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    tokens_click.first.click()
    expect(page.locator(f"{TOP} .td-note")).to_contain_text("only chosen features are computed here")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("the quick fox" + PWN)
    # A function generates in its own way: what it would not heed is not offered.
    page.get_by_role("button", name="More").click()
    expect(page.get_by_label("Compute")).to_be_visible()
    expect(page.get_by_label("number input for Temperature")).to_be_hidden()
    expect(page.get_by_role("button", name="Steer")).to_be_hidden()
    page.get_by_role("tab", name="Offline").click()
    rows(page).first.hover()
    rows(page).first.locator(".td-try").click()
    expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text("not in the tokenizer's vocabulary")


def test_hostile_examples_through_the_api(hostile_url):
    from gradio_client import Client

    answer = Client(hostile_url, verbose=False).predict(feature=3, api_name="/examples")
    assert "<img src=x onerror=window.__pwned=1>" in answer["examples"][0]["tokens"]
    assert json.loads(json.dumps(answer)) == answer


# --- missing parts ---------------------------------------------------------------------------------------------------


def test_missing_parts_are_said(browser):
    from tests.helpers.browser import Visits

    app = launch(OfflineFeatureCentricDashboard({}, None), prevent_thread_lock=True, quiet=True)
    try:
        visit = Visits(browser, app.local_url.rstrip("/"))
        page = visit()
        expect(page.locator(".td-note", has_text="the examples are there, and hold no feature")).to_be_visible()
        page.get_by_role("tab", name="Online").click()
        expect(page.locator(".td-note", has_text="no model is configured: start with --model")).to_be_visible()
        visit.check_and_close()
    finally:
        app.close()


def test_an_online_tab_without_examples(browser, bundle):
    from tests.helpers.browser import Visits

    online = CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, 1, tokenizer=bundle.tokenizer)
    app = launch(online, prevent_thread_lock=True, quiet=True)
    try:
        visit = Visits(browser, app.local_url.rstrip("/"))
        page = visit("?text=The+quick+brown+fox")
        listed = page.locator(f"{TOP} .td-f")
        # There is nothing to open: a feature's number highlights it too.
        for row, button in ((listed.nth(3), "highlight"), (listed.nth(2), re.compile(r"^\d+$"))):
            feature = row.locator("button").first.text_content()
            row.get_by_role("button", name=button).click()
            expect(page.locator("#td-highlight textarea")).to_have_value(feature)
            expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text(f"feature {feature}")
            wait_for_query(page, highlight=feature)
        # Nor is a maximum known, that a strength could be a multiple of.
        page.get_by_role("button", name="More").click()
        page.get_by_label("number input for New tokens").fill("3")
        page.get_by_role("button", name="Steer").click()
        page.get_by_role("textbox", name="Feature added while generating").fill("3")
        page.get_by_label("Strength").fill("5")
        expect(page.locator("label", has_text="Strength")).to_contain_text("an activation: its maximum is not known")
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_label("Response, feature 3 at 5.00")).to_be_visible()
        # Where nothing fires there is still a text.
        page.locator("#td-highlight textarea").fill("")
        analyze(page, "<s>")
        expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>")
        expect(page.locator(f"{TOP} .td-note")).to_have_text("no feature fires over the text")
        visit.check_and_close()
    finally:
        app.close()


def test_only_online_opens_online_and_says_why_models_do_not_load(browser):
    from tests.helpers.browser import Visits

    def load():
        raise OSError(f"no weights in {PWN}")

    app = build_app(None, load)
    app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        visit = Visits(browser, app.local_url.rstrip("/"))
        page = visit()
        expect(page.get_by_role("tab", name="Online")).to_have_attribute("aria-selected", "true")
        expect(page.locator(".td-error")).to_contain_text(f"the models did not load: no weights in {PWN}")
        analyze(page, "fox")
        expect(page.locator(f"{ANALYSIS} .td-error")).to_contain_text("the models did not load")
        page.get_by_role("tab", name="Offline").click()
        expect(page.locator(".td-note", has_text="no examples are configured: start with --examples")).to_be_visible()
        visit.check_and_close()
    finally:
        app.close()


def test_launch_says_what_it_takes():
    with pytest.raises(
        TypeError, match=r"launch takes dashboards, a DashboardConfig or a path of a dashboard.toml, not dict"
    ):
        launch([{}])
    with pytest.raises(FileNotFoundError):
        launch("no/such/dashboard.toml")
    assert contrast_on("#000000", "#ffffff", COLORS[0], 0) == pytest.approx(21)

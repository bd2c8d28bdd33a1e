"""The running app: its named endpoints, its look, several people, hostile text, missing parts."""

from __future__ import annotations

import json
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
    rows,
    show_feature,
    tokens,
    unfold_steering,
    wait_for_query,
)
from tests.helpers.browser import Visits
from tests.helpers.bundle import HOSTILE_FEATURE, HOSTILE_LABEL, N_FEATURES, PWN
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

# --- named endpoints -------------------------------------------------------------------------------------------------


def test_the_named_endpoints_and_no_others(app_client):
    named = app_client.view_api(return_format="dict")["named_endpoints"]
    assert sorted(named) == ["/analyze", "/examples", "/features", "/label", "/top_features"]
    parameters = {name: [p["parameter_name"] for p in api["parameters"]] for name, api in named.items()}
    assert parameters == {
        "/examples": ["feature", "max_examples", "scale", "view"],
        "/features": ["query", "sort", "page", "descending", "view"],
        "/analyze": ["text", "highlight_features", "tooltip_features", "chat", "generate", "max_act", "view"],
        "/label": ["feature", "label", "note", "view"],
        "/top_features": ["text", "k", "chat", "view"],
    }


def test_endpoints_answer_data(app_client, bundle, rich):
    examples = app_client.predict(feature=rich, max_examples=2, api_name="/examples")
    assert len(examples["examples"]) == 2 and examples["stats"]["label"] == f"label {rich}"
    found = app_client.predict(query=f"label {rich}", api_name="/features")
    assert [r["feature"] for r in found["features"]] == [rich]
    text = "The quick fox"
    analysis = app_client.predict(text=text, highlight_features=f"{rich}", api_name="/analyze")
    ids = bundle.tokenizer(text)["input_ids"]
    assert analysis["token_ids"] == ids
    np.testing.assert_allclose(
        analysis["activations"], bundle.featurizer.read(ids).values([rich]), rtol=1e-5, atol=1e-5
    )
    top = app_client.predict(text=text, k=3, api_name="/top_features")["features"]
    assert len(top) == 3 and top[0]["activation"] >= top[1]["activation"] >= top[2]["activation"]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("/examples", {"feature": 9999}, "feature 9999 has no examples here; of the 64 features that have"),
        ("/examples", {"feature": -1}, "feature -1 is negative; features are counted from 0"),
        ("/examples", {"feature": "<img src=x onerror=alert(1)>"}, "'<img src=x onerror=alert(1)>'"),
        ("/examples", {"feature": 1, "max_examples": 10**9}, "max_examples is 1000000000; it must be from 1 to 200"),
        ("/features", {"sort": "no"}, "sort is 'no'; it is one of feature, label"),
        ("/analyze", {"text": ""}, "the text is empty"),
        ("/analyze", {"text": "x" * 5001}, "the text has 5001 characters; at most 5000 are analysed at once"),
        ("/analyze", {"text": "x", "highlight_features": "1,,2"}, "has a comma with no number beside it"),
        ("/top_features", {"text": "x", "k": 0}, "k is 0; it must be from 1 to 200"),
        ("/top_features", {"text": None}, "the text is NoneType, not a string"),
    ],
)
def test_endpoints_say_what_is_wrong(app_client, name, arguments, says):
    with pytest.raises(Exception) as error:
        app_client.predict(**arguments, api_name=name)
    assert says in str(error.value)
    assert "Traceback" not in str(error.value)


# --- saving ----------------------------------------------------------------------------------------------------------


def saved(page, entry):
    """What an entry of the menu downloads."""
    page.get_by_role("button", name="Save", exact=True).locator("visible=true").click()
    with page.expect_download() as download:
        page.locator(".td-menu:popover-open").get_by_role("button", name=entry).click()
    return download.value


def figures(page, name):
    """Saves all but the page: the code that was copied. Each figure says whose it is."""
    for entry, ending in (("SVG", "svg"), ("LaTeX", "tex"), ("PNG", "png")):
        file = saved(page, entry)
        assert file.suggested_filename == f"{name}.{ending}"
        content = file.path().read_bytes()
        assert content.startswith(b"\x89PNG") if entry == "PNG" else "feature" in content.decode()
    page.keyboard.press("Tab")  # a menu of buttons, for the keyboard too
    button = page.get_by_role("button", name="Save", exact=True).locator("visible=true")
    button.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator(".td-menu:popover-open")).to_have_count(0)
    expect(button).to_be_focused()
    button.press("Enter")
    page.locator(".td-menu:popover-open").get_by_role("button", name="copy as code").press("Enter")
    expect(page.locator(".td-menu:popover-open")).to_have_text("copied")
    return page.evaluate("navigator.clipboard.readText()")


def test_what_is_shown_is_saved_as_a_page_as_figures_and_as_code(visit, visits, rich, tmp_path):
    allowed = ["clipboard-read", "clipboard-write"]
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x", permissions=allowed)
    texts = rows(page).locator(".td-p").all_text_contents()
    offline = saved(page, "HTML")
    assert offline.suggested_filename == f"feature-{rich}.html"
    offline.save_as(tmp_path / "offline.html")
    code = figures(page, f"feature-{rich}")
    assert f"dashboard.generate_html({rich}, window_size=50, max_examples=30, scale='feature')" in code
    page.locator("#td-with input, #td-with textarea").fill("0")
    page.keyboard.press("Enter")
    expect(page.locator("#td-other-examples .td-x").first).to_be_visible()
    both = saved(page, "HTML")
    assert both.suggested_filename == f"feature-{rich}-0.html"
    assert f"<h1>feature {rich} and 0</h1>" in both.path().read_text()
    code = figures(page, f"feature-{rich}-0")
    assert f"dashboard.generate_html([{rich}, 0], window_size=50, max_examples=30, scale='feature')" in code
    page.get_by_role("tab", name="Online").click()
    analyze(page, f"The quick {PWN}")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    highlight = page.locator("#td-highlight textarea").get_attribute("placeholder").removeprefix("auto: ")
    online = saved(page, "HTML")
    assert online.suggested_filename == f"text-{highlight}.html"
    online.save_as(tmp_path / "online.html")
    code = figures(page, f"text-{highlight}")
    assert f"dashboard.analyze('The quick {PWN}', [{highlight}])" in code

    alone = visits((tmp_path / "offline.html").as_uri())
    assert alone.locator(".td-p").all_text_contents() == texts
    expect(alone.locator(".td-card h2").first).to_contain_text(f"label {rich}")
    expect(alone).to_have_title(f"feature {rich}")
    expect(alone.locator("h1")).to_have_text(f"feature {rich}")
    expect(alone.locator(".td-head p")).to_contain_text("Tiny <b>pair</b> & co")
    assert alone.locator(".td-card [data-action=open], .td-card [data-action=nearest]").count() == 0, (
        "nothing is there to open"
    )
    alone.locator(".td-x").first.locator(".td-p > span:last-child > i").first.hover()
    expect(alone.locator(".td-tip")).to_be_visible()
    alone.locator(".td-x").first.click()
    expect(alone.locator(".td-x").first).to_have_class(re.compile("td-open"))
    assert alone.evaluate("getComputedStyle(document.querySelector('.td-x')).display") == "grid"
    alone.goto((tmp_path / "online.html").as_uri())
    expect(alone.locator(".td-p")).to_have_text(f"<s>The quick {PWN}")
    assert alone.title() == f"feature {highlight} · The quick {PWN}"
    expect(alone.locator("h3").first).to_have_text(alone.title())
    expect(alone.locator("h3 + p").first).to_contain_text("layer 1")
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
  const painted = (node) => {  // in the dark the strongest shine: an opaque layer that dodges the colour below it
    const style = getComputedStyle(node), base = parse(style.backgroundColor);
    const layer = style.backgroundBlendMode === 'color-dodge' && style.backgroundImage.match(/rgba?\\([^)]*\\)/);
    const over = layer ? parse(layer[0]) : [0, 0, 0, 0];
    if (!over[3]) return base;
    return [0, 1, 2].map(i => (1 - base[3]) * over[i] + base[3] * Math.min(255, base[i] / (1 - over[i] / 255))).concat(1);
  };
  const ground = (node) => {
    const chain = []; for (let n = node; n; n = n.parentElement) chain.unshift(painted(n));
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
        if place == "td-ramp":  # its word is for where styles are stripped
            continue
        if (ratio := (light + 0.05) / (dark + 0.05)) < limit:
            found.append((text, place, round(ratio, 2)))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit, rich, scheme):
    page = visit(f"?feature={rich}&__theme={scheme}", wait=f"{EXAMPLES} .td-x", color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance([int(c) for c in re.findall(r"\d+", ground)[:3]]) < 0.1) == (scheme == "dark")
    expect(page.locator("#td-table table")).to_be_visible()
    assert low_contrasts(page) == []
    page.get_by_role("tab", name="Online").click()
    analyze(page, "The quick brown fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    page.get_by_role("button", name="More").click()
    unfold_steering(page)
    expect(page.get_by_label("number input for Strength")).to_be_visible()
    tokens(page).nth(2).hover()
    expect(page.locator(".td-tip")).to_be_visible()
    assert low_contrasts(page) == []


@pytest.mark.parametrize("tab", ["offline", "online"])
def test_a_phone_needs_no_sideways_scrolling(visit, tab, rich):
    page = visit(
        f"?tab={tab}&feature={rich}&text=The+quick+brown+fox+" + "and+so+on+" * 40,
        viewport={"width": 360, "height": 800},
    )
    expect(page.locator(f"{EXAMPLES if tab == 'offline' else ANALYSIS} .td-p").first).to_be_visible()
    wide = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) <= 0
    if tab == "offline":
        page.get_by_role("button", name="list").click()
        expect(page.locator("#td-table table")).to_be_visible()
        assert page.evaluate(wide) <= 0
        page.keyboard.press("Escape")
        expect(page.locator("#td-table table")).to_be_hidden()
        page.get_by_role("button", name="paragraphs").click()
    else:
        page.get_by_role("button", name="More").click()
        unfold_steering(page)
    assert page.evaluate(wide) <= 0
    expect(page.get_by_role("tab")).to_have_count(2)
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
    unfold_steering(page)
    box = lambda place: place.bounding_box()  # noqa: E731
    middle = lambda place: box(place)["y"] + box(place)["height"] / 2  # noqa: E731
    buttons = [page.get_by_role("button", name=name) for name in ("Analyze", "Generate")]
    assert len({(box(b)["y"], box(b)["height"]) for b in buttons}) == 1
    pairs = [(page.get_by_label("Tooltip"), page.get_by_label("Max act"))]
    if width > 400:  # else they stand below each other
        chat = page.get_by_role("checkbox", name="chat formatting").locator("xpath=..")
        assert abs(middle(chat) - middle(buttons[0])) <= 2
        pairs += [tuple(page.get_by_label(f"range slider for {name}") for name in ("New tokens", "Temperature"))]
    for one, other in pairs:
        assert box(one)["y"] == box(other)["y"] and box(one)["height"] == box(other)["height"]
    assert page.locator("footer").inner_text().strip(" \n") == ("Use via API" if width > 400 else "")
    page.get_by_role("tab", name="Offline").click()
    if width == 400:
        page.get_by_role("button", name="list", exact=True).click()
    assert page.locator("#td-search").evaluate(
        "e => { e.value = e.placeholder; return e.scrollWidth <= e.clientWidth }"
    )


def test_nothing_moves_when_the_feature_changes(visit, rich):
    page = visit(f"?feature={rich}", wait=f"{EXAMPLES} .td-x")
    # The bar above the examples stays where it is from feature to feature with the same card.
    top = page.locator(EXAMPLES).bounding_box()["y"]
    page.locator("#td-next").click()
    expect(feature_box(page)).to_have_value(str(rich + 1))
    expect(page.locator("#td-card h2").first).to_have_text(f"label {rich + 1}")
    assert abs(page.locator(EXAMPLES).bounding_box()["y"] - top) <= 1


# --- two people ------------------------------------------------------------------------------------------------------


def test_two_people_never_see_each_others_state(visit):
    one, two = visit("?tab=online"), visit("?tab=online", another=True)
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
        expect(page.locator(f"{TOP} .td-bar")).to_contain_text(re.compile(f"token {last} ␣?{word}"))
    one.get_by_role("tab", name="Offline").click()
    two.get_by_role("tab", name="Offline").click()
    show_feature(one, 7)
    show_feature(two, 9)
    expect(one.locator("#td-card h2").first).to_have_text("label 7")
    expect(two.locator("#td-card h2").first).to_have_text("label 9")
    one.get_by_role("button", name="list").click()
    expect(one.locator("#td-table table")).not_to_be_visible()
    two.locator("#td-next").click()
    expect(two.locator("#td-card h2").first).to_have_text("label 10")
    expect(feature_box(one)).to_have_value("7")
    assert two.locator("#td-table table").is_visible()


# --- hostile text ----------------------------------------------------------------------------------------------------


def test_hostile_text_is_inert_in_the_bundle(visit):
    page = visit(f"?feature={HOSTILE_FEATURE}")
    expect(page.locator("#td-card h2").first).to_have_text(HOSTILE_LABEL)
    expect(page.locator("#td-card code", has_text="onerror")).to_be_visible()
    page.locator("#td-search").fill(HOSTILE_LABEL)
    expect(page.locator("#td-table tbody tr:not(.td-space)")).to_have_count(1)
    expect(page.locator("#td-table tbody td:nth-child(2)")).to_have_text(HOSTILE_LABEL)
    for feature in range(0, N_FEATURES, 9):
        show_feature(page, feature)
        expect(page.locator("#td-card h2").first).to_contain_text("label" if feature != HOSTILE_FEATURE else "img")
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
    expect(page.locator(f"{TOP} .td-bar")).to_contain_text("<img␣src=x␣onerror")


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
    expect(rows(page).first.locator("i").first).to_have_attribute("title", "left out: its activation is infinite")
    show_feature(page, 3)
    expect(rows(page)).to_have_count(2)


def test_a_dashboard_of_functions_in_the_app(visit_hostile):
    page = visit_hostile("?tab=online")
    expect(page.locator(".td-note", has_text="computes chosen features")).to_be_visible()
    analyze(page, "the quick fox")
    expect(page.locator("#td-highlight .td-wrong")).to_contain_text("no feature is named")
    page.locator("#td-highlight textarea").fill("3")
    page.locator("#td-highlight textarea").press("Tab")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("the quick fox")
    expect(page.locator(".td-wrong")).to_have_count(0)
    analyze(page, "raise it")
    expect(page.locator("#td-text .td-wrong")).to_have_text(f"RuntimeError: no {PWN}")
    analyze(page, "too short")
    expect(page.locator("#td-text .td-wrong")).to_contain_text("rows for")
    tokens_click = page.locator(f"{ANALYSIS} .td-p i")
    analyze(page, "the quick fox")
    expect(page.locator(f"{ANALYSIS} .td-p")).to_be_visible()
    tokens_click.first.click()
    expect(page.locator(f"{TOP} .td-note")).to_contain_text("only chosen features are computed here")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("the quick fox" + PWN)
    # A function generates in its own way: what it would not heed is not offered.
    page.get_by_role("button", name="More").click()
    expect(page.get_by_label("Leave out special tokens").locator("visible=true")).to_be_visible()
    expect(page.get_by_label("number input for Temperature")).to_be_hidden()
    expect(page.get_by_role("button", name="Answer and steer")).to_be_hidden()
    page.get_by_role("tab", name="Offline").click()
    rows(page).first.hover()
    rows(page).first.locator(".td-try").click()
    expect(page.locator("#td-text .td-wrong")).to_contain_text("not in the tokenizer's vocabulary")


def test_hostile_examples_through_the_api(hostile_url):
    from gradio_client import Client

    answer = Client(hostile_url, verbose=False).predict(feature=3, api_name="/examples")
    assert "<img src=x onerror=window.__pwned=1>" in answer["examples"][0]["tokens"]
    assert json.loads(json.dumps(answer)) == answer


# --- missing parts ---------------------------------------------------------------------------------------------------


def test_missing_parts_are_said(browser):
    app = launch(OfflineFeatureCentricDashboard({}, None), prevent_thread_lock=True, quiet=True)
    try:
        visit = Visits(browser, app.local_url.rstrip("/"))
        page = visit()
        expect(page.locator(".td-note", has_text="the examples are there, and hold no feature")).to_be_visible()
        expect(page.get_by_role("tab", name="Offline")).to_be_visible()
        expect(page.get_by_role("tab", name="Online")).to_have_count(0)  # there is nothing that it could do
        visit.check_and_close()
    finally:
        app.close()


def test_an_online_tab_without_examples(browser, bundle):
    online = CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, 1, tokenizer=bundle.tokenizer)
    app = launch(online, prevent_thread_lock=True, quiet=True)
    try:
        visit = Visits(browser, app.local_url.rstrip("/"))
        page = visit("?text=The+quick+brown+fox")
        listed = page.locator(f"{TOP} .td-f")
        # There is nothing to open: a feature's number highlights it too.
        for row, button in ((listed.nth(3), ".td-dot"), (listed.nth(2), ".td-n")):
            feature = row.locator(".td-n").text_content()
            row.locator(button).click()
            expect(page.locator("#td-highlight textarea")).to_have_value(feature)
            expect(page.locator(f"{ANALYSIS} .td-legend")).to_contain_text(f"feature {feature}")
            wait_for_query(page, highlight=feature)
        # Nor is a maximum known, that a strength could be a multiple of.
        unfold_steering(page)
        page.get_by_label("number input for New tokens").fill("3")
        page.get_by_label("Steer with features, added as it answers").fill("3")
        page.get_by_label("Steer with features, added as it answers").press("Tab")
        expect(page.locator("#td-strength")).to_contain_text("an activation: its maximum is not known")
        page.get_by_label("number input for Strength").fill("5")
        page.get_by_role("button", name="Generate").click()
        expect(page.locator(f"{ANALYSIS} h3")).to_have_text("with feature 3 at 5.00")
        # Where nothing fires there is still a text.
        page.locator("#td-highlight textarea").fill("")
        analyze(page, "<s>")
        expect(page.locator(f"{ANALYSIS} .td-p")).to_have_text("<s>")
        expect(page.locator(f"{TOP} .td-note")).to_have_text("no feature fires over the text")
        visit.check_and_close()
    finally:
        app.close()


def test_only_online_opens_online_and_says_why_models_do_not_load(browser):
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
        expect(page.locator("#td-text .td-wrong")).to_contain_text("the models did not load")
        expect(page.get_by_role("tab", name="Offline")).to_have_count(0)
        visit.check_and_close()
    finally:
        app.close()


def test_launch_says_what_it_takes():
    with pytest.raises(
        TypeError,
        match=r"launch takes dashboards, views by name, a DashboardConfig or a path of a dashboard.toml, not list",
    ):
        launch([{}])
    with pytest.raises(FileNotFoundError):
        launch("no/such/dashboard.toml")
    assert contrast_on("#000000", "#ffffff", COLORS[0], 0) == pytest.approx(21)

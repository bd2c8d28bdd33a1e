"""The one style sheet and the one script, on pages that stand alone, in a real browser."""

from __future__ import annotations

import json
import random
import re

import pytest
from playwright.sync_api import expect

from tests.helpers.hostile import HOSTILE
from tiny_dashboard.core.card import Band, CardInfo, card_html
from tiny_dashboard.core.concordance import examples_html
from tiny_dashboard.core.highlight import Passage, Track, passage_html
from tiny_dashboard.core.static import assets, page
from tiny_dashboard.core.statistics import FeatureStats

TOKENS = ["The", " cat", "\tsat\r\n", " down", ""]
VALUES = [0.0, 3.0, -1.0, float("nan"), 0.0]


def passage(tokens=TOKENS, values=VALUES, **how):
    return Passage(tokens, [Track("feature <1>", values)], **how)


@pytest.fixture
def show(visits, tmp_path):
    """Writes a page of fragments to a file, with or without the assets, and opens it."""

    def opened(body, *, title="", style=True, script=True, **options):
        files = assets()
        html = page(body, title=title, css=files["css"] * style, js=files["js"] * script)
        path = tmp_path / f"{random.random()}.html"
        path.write_text(html, encoding="utf-8", newline="")
        return visits(path.as_uri(), **options)

    return opened


def nasty_texts(n, seed=3):
    """Texts of characters that HTML, Unicode or a terminal treat in a way of their own, alone and mixed."""
    rng = random.Random(seed)
    alphabet = [*map(chr, range(0xA0)), *"<>&\"'`{}$/=!-[]", *"\xad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e"]
    alphabet += [*"\u2066\u2069\ufeff\ufff9\ufffc\ufffd\ufffe\uffff", "\U0001f642", "\U0010ffff", "\ud800", "\udc00"]
    alphabet += [
        "e\u0301",
        "\u1112\u1161",
        "</i>",
        "<!--",
        "&amp;",
        "&#0;",
        "\r\n",
        "\n\r",
        "]]>",
        "</script",
        "<!---->",
    ]
    return HOSTILE + alphabet + ["".join(rng.choices(alphabet, k=rng.randrange(1, 12))) for _ in range(n)]


@pytest.mark.parametrize("view", ["text", "lines"])
def test_a_browser_reads_back_the_exact_text(show, view):
    tokens = nasty_texts(400)
    made = passage(tokens, [float(i % 2) for i in range(len(tokens))])
    opened = show(passage_html(made) if view == "text" else examples_html([made]), title="".join(HOSTILE))
    found = opened.locator(".td-p i").evaluate_all("all => all.map(t => [...t.textContent].map(c => c.codePointAt(0)))")
    lost = re.compile("[\x00\ud800-\udfff]")
    assert ["".join(map(chr, codes)) for codes in found] == [lost.sub("\ufffd", t) for t in tokens]
    exact = opened.evaluate(
        "[...document.querySelectorAll('.td-p i')].map((t, i) =>"
        " JSON.parse(document.querySelector('.td > script').textContent).passages[0].x?.[i] ?? t.textContent)"
        ".map(t => Array.from({length: t.length}, (_, i) => t.charCodeAt(i)))"
    )
    assert [b"".join(u.to_bytes(2, "little") for u in units) for units in exact] == [
        t.encode("utf-16-le", "surrogatepass") for t in tokens
    ]
    assert opened.locator("script").count() == 2 and opened.locator("img, svg, b b").count() == 0


def test_hovering_every_hostile_token_runs_nothing(show):
    tokens = [t for t in HOSTILE if t]
    made = Passage(tokens, [Track(t, [1.0] * len(tokens), highlighted=i < 2) for i, t in enumerate(tokens)])
    opened = show(passage_html(made, title="".join(tokens)))
    for i in range(len(tokens)):
        opened.locator(".td-p").focus()
        opened.keyboard.press("ArrowRight")
        expect(opened.locator(".td-tip small")).to_have_text(f"token {i}")
        assert opened.locator(".td-tip div").count() == len(tokens)
    assert opened.locator(".td-tip *").evaluate_all("all => all.map(n => n.tagName)").count("IMG") == 0


def test_without_script_and_style_sheet_it_still_reads(show):
    opened = show(passage_html(passage(), window=2), style=False, script=False, java_script_enabled=False)
    tokens = opened.locator("i")
    assert tokens.all_text_contents() == TOKENS
    assert [t.get_attribute("title") for t in tokens.all()] == [None, "3", "-1", None, None]
    assert "rgb" in tokens.nth(1).evaluate("t => getComputedStyle(t).backgroundColor")
    # Line breaks and tabs are kept without any style sheet.
    assert opened.locator(".td-p").evaluate("p => getComputedStyle(p).whiteSpace").startswith("pre")


def test_folds_open_without_a_script(show):
    values = [0.0] * 60
    values[30] = 1.0
    opened = show(passage_html(passage([f" {i}" for i in range(60)], values), window=3), script=False)
    fold = opened.locator("details").first
    expect(opened.locator("i").nth(5)).not_to_be_visible()
    fold.locator("summary").click()
    expect(opened.locator("i").nth(5)).to_be_visible()
    opened.emulate_media(media="print")
    assert opened.locator("i").nth(5).is_visible()


def test_colours_stay_on_paper_and_in_forced_colours_and_shine_in_the_dark(show):
    card = FeatureStats(1, histogram=[1, 2], decoder_norms=[1.0, 3.0], top_logits=[[("a", 1.0)], [("b", 2.0)]])
    opened = show(examples_html([passage()], window=5) + card_html(card))
    places = [f"{p} >> nth=0" for p in ("i[style]", ".td-ramp", ".td-bars s", ".td-split", ".td-logits code")]
    look = "(n) => { const s = getComputedStyle(n); return [s.printColorAdjust, s.background, s.color]; }"

    def looks():
        return [opened.locator(place).evaluate(look) for place in places]

    seen = looks()
    assert all(adjust == "exact" for adjust, _, _ in seen)
    opened.emulate_media(media="print")
    assert looks() == seen
    opened.emulate_media(media="screen", forced_colors="active")
    assert [background for _, background, _ in looks()] == [background for _, background, _ in seen]
    assert opened.locator(places[0]).evaluate("n => getComputedStyle(n).outlineStyle") == "solid"
    opened.emulate_media(forced_colors="none", color_scheme="dark")
    adjust, background, color = opened.locator(places[0]).evaluate(look)
    assert color == "rgb(22, 23, 24)" and "rgb(102, 102, 102)" in background


@pytest.mark.parametrize(
    "around", ["", "transform: translate(40px, 30px)", "contain: content; height: 120px", "filter: blur(0)"]
)
def test_the_tooltip_stands_at_its_token(show, around):
    opened = show(f'<div style="{around}; margin: 100px 0 0 80px">{passage_html(passage())}</div>')
    token = opened.locator(".td-p i").nth(1)
    token.hover()
    tip, box = opened.locator(".td-tip").bounding_box(), token.bounding_box()
    assert abs(tip["x"] - box["x"]) <= 1
    assert 0 <= tip["y"] - (box["y"] + box["height"]) <= 12
    assert opened.locator(".td-tip").evaluate(
        "t => { t.style.pointerEvents = 'auto'; const r = t.getBoundingClientRect();"
        " return t.contains(document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2)) }"
    ), "it is cut off, or something stands on it"


def test_the_tooltip_stays_in_the_window(show):
    opened = show(
        f'<div style="position:absolute; right:4px; bottom:4px">{passage_html(passage(["abc"], [1.0]))}</div>',
        viewport={"width": 400, "height": 300},
    )
    opened.locator(".td-p i").first.hover()
    tip = opened.locator(".td-tip").bounding_box()
    assert tip["x"] >= 0 and tip["x"] + tip["width"] <= 400 and tip["y"] >= 0 and tip["y"] + tip["height"] <= 300


def test_a_split_character_says_its_bytes(show):
    opened = show(passage_html(passage(["", "€"], [1.0, 0.0], chips={0: "E2 82"})))
    opened.locator(".td-p i").first.hover()
    expect(opened.locator(".td-tip code")).to_have_text("⟨E2 82⟩")
    assert opened.locator("b[data-x]").evaluate("b => getComputedStyle(b, '::before').content") == '"E2 82"'


def test_long_tokens_are_cut_in_the_tooltip_only(show):
    opened = show(passage_html(passage(["x" * 100_000], [1.0])))
    opened.locator(".td-p i").first.hover(position={"x": 20, "y": 10})
    expect(opened.locator(".td-tip code")).to_have_text("x" * 200 + "…")
    assert opened.locator(".td-p i").first.evaluate("t => t.textContent.length") == 100_000
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_token_event_for_whoever_embeds_it(show):
    opened = show(passage_html(passage(ids=[5, 6, 7, 8, 9])))
    opened.evaluate("addEventListener('td-token', (e) => { window.seen = e.detail })")
    opened.locator(".td-p i").nth(1).click()
    assert opened.evaluate("window.seen") == {"passage": 0, "position": 1, "id": 6, "text": " cat"}
    # What is drawn anew while a person presses takes no click along, and none is told of twice.
    opened.evaluate("window.all = []; addEventListener('td-token', (e) => all.push(e.detail.text))")
    for draw in ("html => { document.querySelector('.td').outerHTML = html; tinyDashboard(document) }", "html => 0"):
        opened.locator(".td-p i").first.hover()
        opened.mouse.down()
        opened.evaluate(draw, passage_html(passage(ids=[5, 6, 7, 8, 9])))
        opened.mouse.up()
    assert opened.evaluate("window.all") == ["The", "The"]


def test_it_survives_patching_in_place(show):
    opened = show(examples_html([passage(), passage(["x", " y"], [1.0, 2.0])]))
    other = examples_html([passage(["new", " text"], [1.0, 0.0], ids=[3, 4])])
    opened.evaluate("html => { document.querySelector('.td').outerHTML = html; tinyDashboard(document) }", other)
    opened.evaluate("tinyDashboard(document)")
    assert opened.locator(".td-copy").count() == 1 and opened.locator(".td-view").count() == 1
    opened.locator("i", has_text="new").hover()
    expect(opened.locator(".td-tip small")).to_have_text("token 0 · id 3")
    assert opened.locator(".td-tip").count() == 1
    opened.locator(".td-v").click()
    expect(opened.locator(".td-x")).to_have_class(re.compile("td-open"))
    # The same JSON element with other content is read anew.
    data = '{"names":["n"],"colors":[""],"passages":[{"v":[[[0],[9]]]}]}'
    opened.evaluate("data => { document.querySelector('.td > script').textContent = data }", data)
    opened.locator("h1, body").first.hover(position={"x": 1, "y": 1})
    opened.locator("i", has_text="new").hover()
    expect(opened.locator(".td-tip strong")).to_have_text("9")


def test_a_bar_leads_to_the_examples_of_its_strength(show):
    bands = [Band("strongest · 8.00", 8.0, 8.0), Band("1.00 · drawn at random", 1.0, 1.0)]
    stats = FeatureStats(1, histogram=[5, 0, 0, 1], histogram_edges=[0, 2, 4, 6, 8])
    rows = [passage(["a", "b"], [0.0, 8.0], group=band.heading) for band in bands]
    opened = show(card_html(stats, CardInfo(bands=bands)) + examples_html(rows))
    bars = opened.locator(".td-bars s")
    bars.first.click()
    expect(opened.locator(".td-x").nth(1)).to_be_focused()
    opened.get_by_role("button", name="examples: strongest · 8.00").click()
    expect(opened.locator(".td-x").first).to_be_focused()


def test_an_example_can_be_copied_linked_and_taken_as_data(show):
    opened = show(
        2 * examples_html([passage(), passage(ids=range(5), origin="document 7")]),  # as of two features
        permissions=["clipboard-read", "clipboard-write"],
    )
    row = opened.locator(".td-x").nth(3)
    expect(row.locator(".td-from")).not_to_be_visible()
    row.locator(".td-v").click()
    expect(row.locator(".td-from")).to_have_text("document 7")
    copied = "navigator.clipboard.readText()"
    row.get_by_role("button", name="JSON").click()
    expect(row.get_by_role("button", name="copied")).to_be_visible()
    assert json.loads(opened.evaluate(copied)) == {
        "origin": "document 7", "tokens": TOKENS, "token_ids": [0, 1, 2, 3, 4],
        "activations": {"feature <1>": [0, 3, -1, 0, 0]},
    }  # fmt: skip
    row.get_by_role("button", name="link").click()
    expect(row.locator(".td-link")).to_have_text("copied")
    link = opened.evaluate(copied)
    opened.goto("about:blank")
    opened.goto(link)
    expect(row).to_have_class(re.compile("td-open"))
    expect(opened.locator(".td-open")).to_have_count(1)


def test_two_fragments_on_one_page_keep_their_data_apart(show):
    body = examples_html([passage(ids=range(5))]) + passage_html(
        Passage(["a", "b"], [Track("other", [0.0, 7.0])], ids=[70, 71])
    )
    opened = show(body)
    opened.locator("i", has_text="b").last.hover()
    expect(opened.locator(".td-tip small")).to_have_text("token 1 · id 71")
    expect(opened.locator(".td-tip div")).to_have_text("other7")
    opened.locator("i", has_text="cat").hover()
    expect(opened.locator(".td-tip small")).to_have_text("token 1 · id 1")
    assert opened.locator(".td-tip").count() == 1


def test_selecting_text_neither_folds_nor_chooses(show):
    opened = show(examples_html([passage()]))
    row = opened.locator(".td-x")
    row.locator(".td-v").click()
    opened.evaluate("addEventListener('td-token', () => { window.seen = true })")
    row.locator("i", has_text="The").dblclick()
    assert opened.evaluate("getSelection().toString()").strip() == "The"
    expect(row).to_have_class(re.compile("td-open"))


def test_only_the_pages_own_script_may_run(show):
    opened = show("<p>x</p>")
    opened.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.__late=1\">')")
    opened.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.__late=1'}))")
    opened.wait_for_timeout(100)
    assert opened.evaluate("window.__late") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_follows_light_and_dark(show, scheme):
    opened = show(examples_html([passage()]), color_scheme=scheme)
    opened.locator("i", has_text="cat").hover()
    for place in (".td i", ".td-tip code"):
        ink = opened.locator(place).first.evaluate("n => getComputedStyle(n).color")
        assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 380) == (scheme == "dark")


def test_reduced_motion_and_narrow_windows(show):
    values = [0.0] * 300
    values[150] = 2.0
    rows = [passage([f" word{i}" for i in range(300)], values) for _ in range(5)]
    opened = show(examples_html(rows), viewport={"width": 400, "height": 700}, reduced_motion="reduce")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    opened.get_by_role("button", name="paragraphs").click()
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400

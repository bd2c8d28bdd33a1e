"""The static site, in a real browser: from a server's sub-path, in a frame, and opened from the disk."""

from __future__ import annotations

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import expect

from tests.helpers.bundle import DEAD, HOSTILE_FEATURE, HOSTILE_LABEL, N_FEATURES
from tiny_dashboard.cli import main
from tiny_dashboard.feature_centric_dashboards import OfflineFeatureCentricDashboard
from tiny_dashboard.publish.site import GROUP_FEATURES, export_site

SHOWN = "#td-view .td-x"


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    """The site of the bundle at `/some/where/`, and a page at `/frame.html` that holds it in an iframe."""
    root = tmp_path_factory.mktemp("pages")
    assert main(["export", str(bundle.root / "examples"), "--out", str(root / "some" / "where"), "--site"]) == 0
    (root / "frame.html").write_text('<iframe src="some/where/?feature=9" width="100%" height="700"></iframe>')

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", root / "some" / "where"
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_site(visits, served):
    visits.origin = served[0]
    return lambda query="", wait=SHOWN: visits(f"/some/where/{query}", wait=wait)


def dashboard_of(bundle):
    return OfflineFeatureCentricDashboard.open(bundle.root / "examples", window_size=50)


def test_a_feature_looks_exactly_as_python_makes_it(open_site, bundle):
    """The browser's DOM is the same as that of the fragment itself, scripts' additions aside."""
    dashboard = dashboard_of(bundle)
    page = open_site("?feature=9")
    build = "(html) => { const node = document.createElement('div'); node.innerHTML = html; return bare(node); }"
    bare = """const bare = (node) => {
      for (const added of node.querySelectorAll('.td-actions, .td-view')) added.remove();
      for (const row of node.querySelectorAll('[tabindex]')) row.removeAttribute('tabindex');
      return node.innerHTML;
    };"""
    shown = page.evaluate(f"() => {{ {bare} return bare(document.querySelector('#td-view').cloneNode(true)); }}")
    rows, stats = dashboard.read(9, scale="feature"), dashboard.stats(9)
    card = dashboard.card(stats, dashboard.near(stats.nearest), [example for example, _ in rows])
    html = card + dashboard.draw([passage for _, passage in rows])
    assert shown == page.evaluate(f"(html) => {{ {bare} return ({build})(html); }}", html)
    token = page.locator("#td-view .td-p i[style]").first
    token.hover()
    expect(page.locator(".td-tip")).to_contain_text("feature 9")
    page.locator(".td-near button").click()
    expect(page.locator("#td-view h2").first).to_have_text("label 10")


def test_buttons_keys_and_address(open_site):
    page = open_site()
    expect(page.locator("#td-feature")).to_have_value("0")
    page.keyboard.press("n")
    expect(page).to_have_url(re.compile(r"\?feature=1$"))
    page.locator("#td-previous").click()
    page.locator("#td-previous").click()  # around the end
    expect(page.locator("#td-feature")).to_have_value(str(N_FEATURES - 1))
    page.locator("#td-feature").fill(f"{GROUP_FEATURES}")
    page.locator("#td-feature").press("Enter")
    expect(page.locator(SHOWN).first).to_be_visible()
    expect(page).to_have_title(f"{GROUP_FEATURES} · examples")
    page.keyboard.press("Escape")
    page.locator("#td-feature").blur()
    page.keyboard.press("/")
    expect(page.locator("#td-search")).to_be_focused()


QUERIES = (
    "label 4", "LABEL", "7", "density<60% max>0.5", "norm>=0.5 label", 'feature=3,5,8 "label"', "label!=nothing",
    "max<0.001%", "cos<0", "density<", "a<b", "dense<1", "max>loud", "label>1",
)  # fmt: skip


def test_the_site_filters_as_python_does(open_site, bundle):
    """One language, in Python for the app and in the browser for the site."""
    page = open_site()
    table, rows = dashboard_of(bundle).table, page.locator("#td-table tbody tr:not(.td-space)")
    for query in QUERIES:
        page.locator("#td-search").fill(query)
        page.locator("#td-search").press("Enter")
        try:
            found = [row["feature"] for row in table.find(query, size=10)["features"]]
        except ValueError as error:
            expect(page.locator("#td-table [role=alert]")).to_have_text(str(error))
            continue
        expect(page.locator("#td-table [role=alert]")).to_be_hidden()
        total = table.find(query)["total"]
        said = f"{total} found" if total else "nothing found"
        expect(page.locator("#td-table .td-bar")).to_have_text(said)
        assert [int(text) for text in rows.locator("td:first-child").all_text_contents()[:10]] == found


def test_search_sort_and_steps_back(open_site):
    page = open_site()
    page.get_by_role("button", name="max").click()
    expect(page.get_by_role("columnheader", name="max")).to_have_attribute("aria-sort", "descending")
    values = [float(v) for v in page.locator("#td-table tbody td:nth-child(4)").all_inner_texts() if v]
    assert len(values) > 10 and values == sorted(values, reverse=True)
    page.locator("#td-search").fill("LABEL 4")
    rows = page.locator("#td-table tbody tr")
    expect(rows).to_have_count(11)  # 4, 40 to 49
    first, second = (int(rows.nth(n).locator("td").first.inner_text()) for n in (0, 1))
    rows.first.click()
    expect(page).to_have_url(re.compile(rf"feature={first}\b"))
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(rf"feature={second}\b"))
    expect(page.locator("#td-table tr[aria-current]")).to_contain_text(f"label {second}")
    page.go_back()
    expect(page.locator("#td-feature")).to_have_value(str(first))
    expect(page.locator("#td-table tr[aria-current]")).to_contain_text(f"label {first}")


def test_two_features_stand_side_by_side(open_site):
    page = open_site("?feature=9&with=3")
    for place, feature in (("> div:nth-child(3)", 9), ("> #td-other-examples", 3)):
        told = page.locator(f".td-compare {place} .td > script").text_content()
        assert f'"names":["feature {feature}"]' in told
    boxes = [page.locator(f"#td-view .td-card >> nth={n}").bounding_box() for n in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    page.locator("#td-next").click()
    page.wait_for_function("location.search.includes('feature=10') && location.search.includes('with=3')")
    page.locator("#td-with").fill("")
    page.locator("#td-with").press("Enter")
    expect(page.locator(".td-compare")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("with"))
    page.go_back()
    expect(page.locator("#td-other-examples .td-x").first).to_be_visible()


def test_hostile_text_and_unknown_features_are_inert(open_site):
    page = open_site(f"?feature={HOSTILE_FEATURE}")
    expect(page.locator("#td-view h2").first).to_have_text(HOSTILE_LABEL)
    expect(page.locator("#td-table tr[aria-current] td").nth(1)).to_have_text(HOSTILE_LABEL)
    page = open_site("?feature=<img src=x onerror=window.__pwned=1>", ".td-error")
    expect(page.locator(".td-error")).to_contain_text("give a whole number")
    page = open_site("?feature=70", ".td-error")
    expect(page.locator(".td-error")).to_contain_text("the nearest are 61, 62, 63")
    page = open_site(f"?feature={DEAD}", "#td-view .td-note")
    expect(page.locator("#td-view .td-note")).to_contain_text("never fired on the corpus")


def test_in_a_frame_and_from_the_disk(visits, served):
    origin, folder = served
    visits.origin = origin
    page = visits("/frame.html")
    expect(page.frame_locator("iframe").locator(SHOWN).first).to_be_visible()
    page = visits((folder / "index.html").as_uri() + "?feature=9", wait=SHOWN)
    page.locator("#td-next").click()
    expect(page.locator("#td-feature")).to_have_value("10")


def test_a_data_file_that_does_not_come_is_said_and_asked_again(open_site):
    page = open_site()
    page.route("**/data/00001.js", lambda route: route.abort())
    page.locator("#td-search").fill(str(GROUP_FEATURES))
    page.locator("#td-search").press("Enter")
    expect(page.locator(".td-error")).to_contain_text("data/00001.js cannot be loaded; try again")
    page.unroute("**/data/00001.js")
    page.locator("#td-search").press("Enter")
    expect(page.locator(SHOWN).first).to_be_visible()


def test_the_whole_folder_or_nothing(tmp_path, bundle, monkeypatch):
    dashboard = dashboard_of(bundle)
    calls = []

    def fails(*args, **how):
        calls.append(args)
        if len(calls) == 20:
            raise ConnectionError("the Hub went away")
        return original(*args, **how)

    original = OfflineFeatureCentricDashboard.read
    monkeypatch.setattr(OfflineFeatureCentricDashboard, "read", fails)
    with pytest.raises(ConnectionError):
        export_site(dashboard, tmp_path / "site")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    export_site(dashboard, tmp_path / "site", [3, 40], start=40)
    assert sorted(f.name for f in (tmp_path / "site" / "data").iterdir()) == ["00000.js", "index.js"]
    with pytest.raises(FileExistsError):
        export_site(dashboard, tmp_path / "site")
    with pytest.raises(KeyError, match="feature 5 has no examples here"):
        export_site(dashboard, tmp_path / "other", [3], start=5)


def test_a_broken_feature_is_an_error_in_its_own_place(tmp_path, capsys, visits):
    examples = {
        1: [(1.0, ["a", "b"], [0.0, 1.0])],
        2: [(1.0, ["a", "b"], [0.0])],
        7: [(2.0, ["\ud800", "é"], [2.0, 0.0])],
    }
    folder = export_site(OfflineFeatureCentricDashboard(examples, None), tmp_path / "site")
    assert "1 features cannot be read, 2 is the first" in capsys.readouterr().err
    with pytest.raises(ValueError, match="2 tokens and 1 activations"):  # nothing at all can be shown
        export_site(OfflineFeatureCentricDashboard({2: examples[2]}, None), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    page = visits((folder / "index.html").as_uri() + "?feature=2", wait=".td-error")
    expect(page.locator(".td-error")).to_contain_text("2 tokens and 1 activations")
    page.locator("#td-next").click()
    expect(page.locator(SHOWN)).to_contain_text("é")


def test_several_views_are_folders_of_one_site(visits, served, bundle):
    config = served[1].parents[1] / "dashboard.toml"
    config.write_text(
        f'title = "Both"\nexamples = "{bundle.root}/examples"\n[[view]]\nname = "one & all"\nfeature = 3\n'
        '[[view]]\nname = "again"\ndescription = "the second"'
    )
    out = config.parent / "both"
    assert main(["export", str(config), "--out", str(out), "--site", "--features", "3,5,9"]) == 0
    visits.origin = served[0]
    page = visits("/both/?feature=9", wait=SHOWN)
    picker = page.get_by_label("View", exact=True)
    assert picker.locator("option").all_text_contents() == ["one & all", "again"]
    picker.select_option("again")
    expect(page.locator(".td-head")).to_contain_text("the second")
    expect(page.locator("#td-feature")).to_have_value("9")
    page.get_by_label("View", exact=True).select_option("one & all")
    expect(page).to_have_url(re.compile(r"/both/index\.html\?feature=9$"))

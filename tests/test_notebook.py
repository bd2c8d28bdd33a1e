"""In a notebook: results show themselves, the dashboard is an iframe, and what is saved, untrusted, still reads."""

import re
from pathlib import Path

import pytest

from scripts.demo import smollm
from tests.helpers.hub_client import downloaded
from tests.test_real_model import FOLDER as MODEL
from tiny_dashboard import CrosscoderOnlineFeatureDashboard

nbformat = pytest.importorskip("nbformat")

DEMO = nbformat.read(Path(__file__).parent.parent / "demo.ipynb", 4)

TEXT = ["The", " cat", " <b>sat</b>", "\n", " down"]
CELLS = [
    f"""
import numpy as np
from tiny_dashboard import OfflineFeatureCentricDashboard
from tiny_dashboard import activation_visualization
tokens = {TEXT!r}
dashboard = OfflineFeatureCentricDashboard({{7: [(3.0, tokens, [0.0, 3.0, 1.0, 0.0, -2.0])]}}, None)
dashboard.generate_html(7)
""",
    "activation_visualization(tokens, np.array([0.0, 3.0, 1.0, 0.0, -2.0]), None, title='mine')",
    "dashboard.display()",
    "dashboard.app.close()",
    "dashboard",
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The demo's notebook, where its model is here, and then CELLS, as one kernel has run them."""
    from nbconvert.preprocessors import ExecutePreprocessor

    demo = nbformat.from_dict(DEMO).cells if MODEL.exists() else []
    notebook = nbformat.v4.new_notebook(cells=[*demo, *map(nbformat.v4.new_code_cell, CELLS)])
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in downloaded(folder / "hub", smollm.MODEL, MODEL).items():
            environment.setenv(name, value)
        execute = ExecutePreprocessor(timeout=200, kernel_name="python3")
        execute.preprocess(notebook, {"metadata": {"path": folder}})
    return notebook.cells


@pytest.fixture(scope="module")
def outputs(executed):
    """The outputs of each of CELLS, as an executed notebook holds them."""
    return [cell.outputs for cell in executed[-len(CELLS) :]]


def html_of(cell_outputs) -> str:
    return "".join(output.data.get("text/html", "") for output in cell_outputs if "data" in output)


@pytest.mark.parametrize("cell", [0, 1])
def test_a_result_shows_itself_and_its_tooltip(outputs, visits, cell):
    page = visits("about:blank")
    page.set_content(f"<div>{html_of(outputs[cell])}</div>")
    token = page.locator(".td i", has_text="cat").first
    token.hover()
    assert "3" in page.locator(".td-tip strong").first.inner_text()
    assert page.locator(".td i").count() == len(TEXT)


@pytest.mark.parametrize("cell", [0, 1])
def test_saved_and_untrusted_it_keeps_colours_text_and_titles(outputs, visits, cell):
    html = re.sub(r"<(script|style)\b.*?</\1>", "", html_of(outputs[cell]), flags=re.DOTALL)
    html = re.sub(r' (tabindex|class|id|data-[\w-]+)="[^"]*"', "", html)
    page = visits("about:blank")
    page.set_content(f"<div>{html}</div>")
    tokens = page.locator("i")
    assert "".join(tokens.all_text_contents()) == "".join(TEXT)
    cat, sat = tokens.nth(1), tokens.nth(2)
    assert cat.get_attribute("title") == "3" and sat.get_attribute("title") == "1"
    background = "(node) => getComputedStyle(node).backgroundColor"
    assert cat.evaluate(background) != sat.evaluate(background) != tokens.nth(0).evaluate(background)
    assert page.locator("b", has_text="sat").count() == 0, "a token's text is no markup"


@pytest.mark.parametrize("cell", [0, 1])
def test_a_saved_notebook_holds_the_html_once(outputs, cell):
    (output,) = outputs[cell]
    assert re.fullmatch(r"<[\d,]+ characters of HTML>", output.data["text/plain"])


def test_an_analysis_shows_itself(bundle, visits):
    from IPython.core.formatters import DisplayFormatter

    dashboard = CrosscoderOnlineFeatureDashboard(*bundle.pair, bundle.dictionary, 1, tokenizer=bundle.tokenizer)
    feature = dashboard.top_features("The quick fox").features[0]
    shown, _ = DisplayFormatter().format(dashboard.analyze("The quick fox", feature))
    page = visits("about:blank")
    page.set_content(f"<div>{shown['text/html']}</div>")
    assert page.locator(".td-p").text_content() == "<s>The quick fox"
    page.locator(".td-p i[style]").first.hover()
    assert page.locator(".td-tip span").inner_text() == f"feature {feature}"


def test_display_shows_the_live_dashboard(outputs):
    html = html_of(outputs[2])
    assert re.search(r'<iframe[^>]* src="http://127\.0\.0\.1:\d+/', html), html[:200]
    assert "jpThemeLight" in html, "the frame takes the notebook's theme"


def test_a_dashboard_says_what_it_is(outputs):
    (shown,) = [o.data["text/html"] for o in outputs[4]]
    assert "OfflineFeatureCentricDashboard" in shown and "1 feature with examples" in shown


@pytest.mark.real
@pytest.mark.skipif(not MODEL.exists(), reason="the real model is not here: run scripts/real_model")
def test_the_demo_notebook_runs_and_holds_what_it_shows(executed):
    shown = [[sorted(o.data) for o in cell.outputs] for cell in DEMO.cells if cell.cell_type == "code"]
    assert sum(map(len, shown)) >= 9
    cells = [cell for cell in executed[: -len(CELLS)] if cell.cell_type == "code" and "display()" not in cell.source]
    ran = [[sorted(o.data) for o in cell.outputs if o.output_type == "execute_result"] for cell in cells]
    assert [kinds for kinds in ran if kinds] == [kinds for kinds in shown if kinds]

"""In a notebook: results show themselves, the dashboard is an iframe, and what is saved, untrusted, still reads."""

import re
from pathlib import Path

import pytest

from tiny_dashboard import CrosscoderOnlineFeatureDashboard

nbformat = pytest.importorskip("nbformat")

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
def outputs():
    """The outputs of each cell, as an executed notebook holds them."""
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    ExecutePreprocessor(timeout=120, kernel_name="python3").preprocess(notebook, {})
    return [cell.outputs for cell in notebook.cells]


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
    assert cat.get_attribute("title") == "3.00" and sat.get_attribute("title") == "1.00"
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
    assert "OfflineFeatureCentricDashboard" in shown and "1 features with examples" in shown


def test_the_demo_notebook_runs_and_holds_what_it_shows(tmp_path):
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.read(Path(__file__).parent.parent / "demo.ipynb", 4)
    saved = [[sorted(o.data) for o in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(map(len, saved)) >= 9
    ExecutePreprocessor(timeout=200, kernel_name="python3").preprocess(notebook, {"metadata": {"path": tmp_path}})
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "display()" not in cell.source]
    ran = [[sorted(o.data) for o in cell.outputs if o.output_type == "execute_result"] for cell in cells]
    assert [kinds for kinds in ran if kinds] == [kinds for kinds in saved if kinds]

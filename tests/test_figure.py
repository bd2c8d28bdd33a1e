"""Figures for papers: exact text, colours that can be told, and a snippet that plain pdflatex compiles."""

import ast
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from tests.helpers.hostile import ANY_TEXT, HOSTILE
from tiny_dashboard import OfflineFeatureCentricDashboard
from tiny_dashboard.core.code import call as call_code
from tiny_dashboard.core.code import public_name
from tiny_dashboard.core.figure import figure
from tiny_dashboard.core.highlight import Passage, Track
from tiny_dashboard.demo import FOLDER

NAN = float("nan")
TRACK = "{http://www.w3.org/2000/svg}"
ODD = [
    r"\end{x} 100% $x_1^2$ #a & {b} ~",
    "\n",
    "\tif a<b:",
    " \"q\" 's' `t` -- --- <<",
    " é«ß» — “x”",
    "日本",
    "Привет",
    "😀",
    "\u200b",
]


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{TRACK}text")]


def test_the_peaks_stand_under_each_other_and_the_text_is_exact():
    rows = [
        Passage(["The", " cat", " <sat>"], [Track("f", [0, 2.0, 0.5])]),
        Passage(["A b", " cat"], [Track("f", [0, 1])]),
    ]
    svg = figure(rows, title="feature <7>")
    assert texts(svg)[:5] == ["feature <7>", "2.00", "The cat <sat>", "1.00", "A b cat"]
    starts = re.findall(r'<tspan x="([\d.]+)"[^>]*> cat<', svg)
    assert len(starts) == 2 and len(set(starts)) == 1
    assert "each example's own maximum" in "".join(texts(svg)) and svg._repr_svg_() == svg
    fills = re.findall(r'<rect x="[^>]*height="11.20" fill="(#\w{6})"', svg)
    assert len(fills) == 3 and len(set(fills)) == 2, "one shade for both maxima, a fainter one"


def test_a_text_is_broken_into_lines_of_the_width_and_nothing_is_lost():
    tokens = [f" word{i}" for i in range(80)] + ["\n"] + ["x" * 9] * 30
    svg = figure([Passage(tokens, [Track("a", [1.0] * 111), Track("b", [NAN] + [-2.0] * 110)])], view="text", width=240)
    assert "".join(texts(svg)[:-4]) == "".join(tokens).replace("\n", "↵")
    reach = [float(x) + float(w) for x, w in re.findall(r'<tspan x="([\d.]+)"[^>]*textLength="([\d.]+)"', svg)]
    assert max(reach) <= 240.01
    title = texts(figure([Passage(tokens[:1], [])], title="a long name " * 30, width=240))[0]
    assert title.startswith("a long name a long") and title.endswith("…") and len(title) < 60


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_any_text_is_inert(text):
    for view in ("lines", "text"):
        tree = ElementTree.fromstring(figure([Passage([text, text], [Track(text, [1.0, NAN])])], view=view, title=text))
        assert {node.tag.removeprefix(TRACK) for node in tree.iter()} <= {"svg", "title", "rect", "text", "tspan"}


def test_what_cannot_be_drawn_is_said():
    for wrong in ({"kind": "png"}, {"view": "x"}, {"width": 10}):
        with pytest.raises(ValueError, match="figure"):
            figure([Passage(["a"], [Track("f", [1.0])])], **wrong)


def run(code):
    """What the last line of some code gives."""
    *before, last = ast.parse(code).body
    names = {}
    exec(compile(ast.Module(before, []), "code", "exec"), names)
    return eval(compile(ast.Expression(last.value), "code", "eval"), names)


def test_code_makes_the_same_view_and_tells_no_folder(monkeypatch):
    monkeypatch.chdir(FOLDER)
    demo = OfflineFeatureCentricDashboard.open(FOLDER / "examples", window_size=7)
    how = {"max_examples": 5, "scale": "feature", "mask_special": True, "color": "#aa0000"}
    code = demo.code(656, **how)
    assert str(FOLDER) not in code and max(map(len, code.splitlines())) <= 88
    assert run(code) == demo.generate_html(656, window_size=7, **how) != demo.generate_html(656, **how, window_size=8)
    assert run(demo.code(656)) == demo.generate_html(656, window_size=7)
    assert run(demo.code([378, 469], **how)) == demo.generate_html([378, 469], window_size=7, **how)


def test_a_comparison_is_one_figure_under_two_titles_with_a_legend_each():
    demo = OfflineFeatureCentricDashboard.open(FOLDER / "examples")
    with pytest.raises(ValueError, match="feature '378' is not a whole number"):
        demo.figure("378")
    both, alone = demo.figure([378, 469], max_examples=3), [demo.figure([f], max_examples=3) for f in (378, 469)]
    assert texts(both) == texts(alone[0]) + texts(alone[1])
    assert [t.split(" · ")[0] for t in texts(both) if t.startswith("feature")] == ["feature 378", "feature 469"]
    heights = [float(ElementTree.fromstring(svg).attrib["viewBox"].split()[-1]) for svg in (both, *alone)]
    assert heights[0] == pytest.approx(heights[1] + heights[2] + 8), "a line between them"


@pytest.mark.parametrize(
    "source, name",
    [
        ("owner/name", "owner/name"),
        ("/home/ada/models/gpt2/", "gpt2"),
        (Path("mine/examples"), "examples"),
        ("~/x.db", "x.db"),
        ("/home/ada/.cache/hub/datasets--me--ex/snapshots/0a1b/in/x.json", "me/ex/in/x.json"),
        ("/home/ada/.cache/hub/models--me--m/snapshots/0a1b", "me/m"),
    ],
)
def test_code_names_what_others_have(source, name):
    assert public_name(source) == name


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_one_string_in_code(text):
    call = ast.parse(call_code("f", text, x=text)).body[0].value
    assert [call.args[0].value, call.keywords[0].value.value] == [text, text]


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="there is no pdflatex here (Debian: texlive-latex-recommended)"
)
def test_plain_pdflatex_compiles_it(tmp_path):
    tokens = [*ODD, *HOSTILE]
    values = [float(i % 3) for i in range(len(tokens))]
    tracks = [Track("a_1", values), Track("b", [-v for v in values])]
    mine = [Passage([t, " x"], [Track("f", [1.0, 0.0])]) for t in tokens if len(t) < 40]  # a longer one has no room
    demo = OfflineFeatureCentricDashboard.open(FOLDER / "examples")
    parts = [
        figure(mine, "latex", width=345, title="50% of {all}"),
        figure([Passage(tokens, tracks, {3: "E2 96"})], "latex", view="text", width=345),
        demo.figure(656, "latex", max_examples=12, width=345),
        demo.figure([378, 469], "latex", max_examples=9, width=345),
    ]
    document = "\n\n\\medskip\n".join(parts)
    (tmp_path / "a.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{xcolor}}\\begin{{document}}\n{document}\\end{{document}}\n", "utf-8"
    )
    done = subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-1500:]
    assert b"Overfull" not in done.stdout
    if not shutil.which("pdftotext"):
        pytest.skip("the text of the PDF was not read: there is no pdftotext (Debian: poppler-utils)")

    def read(*options):
        command = ["pdftotext", *options, "a.pdf", "-"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True).stdout

    words = [node for node in ElementTree.fromstring(read("-bbox")).iter() if node.tag.endswith("}word")]
    reach = [float(word.attrib[side]) for word in words for side in ("xMin", "xMax")]
    assert max(reach) - min(reach) <= 345
    found = unicodedata.normalize("NFC", "".join(read("-layout").split())).replace("←-", "↵").replace("7→", "⇥")
    for title in ("feature378", "feature469"):
        assert title in found
    for token in tokens:  # letters beyond Latin stand as their codes
        drawn = "".join(texts(figure([Passage([token], [])], view="text")))
        drawn = "".join(c if c < "\u0250" and c not in "«»" or c in "↵⇥—“”␍" else f"{ord(c):04X}" for c in drawn)
        assert drawn.replace("␍", "CR").replace(" ", "") in found

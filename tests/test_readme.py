"""README and docs are true: their examples run as written, and they name what there is."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiny_dashboard import open_examples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    page.relative_to(ROOT): page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}
BLOCKS = re.findall(r"```python\n(.*?)```", "".join(PAGES.values()), re.DOTALL)


def run(block: str) -> dict:
    """The names that a block leaves behind."""
    names: dict = {}
    exec(block, names)
    return names


def test_offline_example_runs_as_written(tmp_path, monkeypatch):
    (block,) = [b for b in BLOCKS if "OfflineFeatureCentricDashboard(examples" in b]
    monkeypatch.chdir(tmp_path)
    run(block)
    page = (tmp_path / "cats.html").read_text(encoding="utf-8")
    assert " sat</i>" in page
    assert page.count("<i") >= 6


def test_a_feature_is_named_as_written(tmp_path, monkeypatch):
    (block,) = [b for b in BLOCKS if "dashboard.label(" in b]
    monkeypatch.chdir(tmp_path)
    assert run(block)["dashboard"].table.find("begins")["features"][0]["feature"] == 656
    assert (tmp_path / "labels.jsonl").is_file()


def test_figures_are_written_as_written(tmp_path, monkeypatch):
    (block,) = [b for b in BLOCKS if "feature.tex" in b]
    monkeypatch.chdir(tmp_path)
    run(block)
    assert (tmp_path / "feature.svg").read_text("utf-8").startswith("<svg ")
    assert "\\tdx{" in (tmp_path / "feature.tex").read_text("utf-8")


def test_online_example_runs_as_written(tmp_path, monkeypatch):
    (block,) = [b for b in BLOCKS if "CrosscoderOnlineFeatureDashboard(" in b]
    monkeypatch.chdir(tmp_path)
    names = run(block)
    assert names["result"].activations.shape == (len(names["result"].tokens), 3) and len(names["top"]) == 3


def test_client_example_runs_as_written(app_url):
    from gradio_client import Client

    (block,) = [b for b in BLOCKS if "gradio_client" in b]
    assert isinstance(run(block.replace("http://127.0.0.1:7860", app_url))["client"], Client)


def test_a_panel_added_as_written_shows():
    (block,) = [b for b in BLOCKS if "where_it_fires" in b]
    assert "<div><small>Fires on " in run(block)["page"]


def test_a_format_added_as_written_reads_its_file(tmp_path):
    (block,) = [b for b in BLOCKS if "class JsonLinesExamples" in b]
    mine = SimpleNamespace(**run(block))
    path = tmp_path / "mine.jsonl"
    path.write_text('{"feature": 4, "tokens": ["a", "b"], "acts": [0.0, 2.0]}\n')
    assert mine.recognises(path)
    for given in (mine, mine.open):
        (example,) = open_examples(path, format=given)[4]
        assert example.max_activation == 2.0 and list(example.tokens) == ["a", "b"]
    with pytest.raises(ValueError, match="there is no format 'JSON'; there are parquet dataset, "):
        open_examples(path, format="JSON")


def test_a_dictionary_family_added_as_written_encodes(tmp_path):
    import torch
    from safetensors.torch import save_file

    from tiny_dashboard.dictionaries import load_dictionary
    from tiny_dashboard.dictionaries.checkpoint import Checkpoint

    (block,) = [b for b in BLOCKS if 'NAME = "My SAE"' in b]
    names = run(block)
    tensors = {"enc": torch.randn(5, 3), "dec": torch.randn(5, 3), "bias": torch.randn(5)}
    save_file(tensors, tmp_path / "model.safetensors")
    family = SimpleNamespace(**names)
    assert family.recognises(Checkpoint(tmp_path / "model.safetensors"))
    dictionary = load_dictionary(tmp_path, family=family, device="cpu")
    x = torch.randn(2, 3)
    expected = torch.relu(x @ tensors["enc"].T + tensors["bias"])
    torch.testing.assert_close(dictionary.encode(x), expected)


def test_every_command_is_named():
    from typer.main import get_command

    from tiny_dashboard.cli import cli

    for name in get_command(cli).commands:
        assert f"tiny-dashboard {name} " in README, name


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_a_page_names_is_there(page):
    """Files in backquotes by their path in the repository, links from where they stand."""
    named = re.findall(r"`((?:tiny_dashboard|scripts|docs)/[\w/.]+)`", PAGES[page])
    linked = re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", PAGES[page])
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert [name for name in linked if not (ROOT / page.parent / name).exists()] == []


def test_every_format_and_family_is_named():
    from tiny_dashboard.dictionaries import FAMILIES
    from tiny_dashboard.sources import known_formats

    for page, names in (("formats", [*known_formats()]), ("families", [module.NAME for module in FAMILIES])):
        rows = re.findall(r"^\| ([\w -]+?) \|", PAGES[Path(f"docs/{page}.md")], re.MULTILINE)
        assert {*names} == {*rows} - {"format", "family"}

"""An agent's tools, driven by the real client of MCP."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from tests.helpers.bundle import HOSTILE_FEATURE
from tiny_dashboard.app.launch import launch
from tiny_dashboard.config import DashboardConfig

# The newer name of its client takes no headers.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:contextlib")
pytest.importorskip("mcp", reason="the extra mcp is not installed")


@pytest.fixture(scope="module")
def app(bundle, tmp_path_factory):
    """The app for agents, over its own copy of the examples."""
    folder = shutil.copytree(bundle.root / "examples", tmp_path_factory.mktemp("agents") / "examples")
    config = DashboardConfig.read(bundle.toml).model_copy(
        update={"examples": str(folder), "labels": str(folder / "labels.jsonl")}
    )
    running = launch(config, prevent_thread_lock=True, quiet=True, mcp_server=True)
    yield running
    running.close()


@asynccontextmanager
async def session(app, **headers):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    url = f"{app.local_url.rstrip('/')}/gradio_api/mcp/"
    async with streamablehttp_client(url, headers=headers) as (read, write, _), ClientSession(read, write) as client:
        await client.initialize()

        async def call(name, **arguments):
            answer = await client.call_tool(name, arguments)
            text = answer.content[0].text
            return SimpleNamespace(failed=answer.isError, text=text, data=None if answer.isError else json.loads(text))

        yield client, call


def test_an_agent_finds_reads_and_labels_a_feature(app):
    async def work():
        async with session(app) as (client, call):
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"search_features", "read_feature", "features_on_text", "label_feature"}
            for tool in tools.values():
                assert len(tool.description) > 60 and "Returns: JSON" in tool.description
                for name, argument in tool.inputSchema["properties"].items():
                    assert argument["description"].endswith(
                        (".", "one", "200", "all", "1", "template", "default", "first")
                    ), name
            assert set(tools["label_feature"].inputSchema["properties"]) == {"feature", "label", "note", "view"}
            assert tools["label_feature"].inputSchema["required"] == ["feature", "label"]
            fires = (await call("features_on_text", text="The quick brown fox", k=5)).data
            assert fires["columns"] == ["feature", "activation", "token", "label"] and len(fires["rows"]) == 5
            feature = fires["rows"][0][0]
            read = (await call("read_feature", feature=feature, n_examples=3)).data
            assert read["label"] == f"label {feature}" and 0 < len(read["examples"]) <= 3
            assert "<<" in read["examples"][0][1] and read["promotes"][0] == "␣fox"
            kept = (await call("label_feature", feature=feature, label="animals", note="not sure")).data
            assert (kept["label"], kept["note"], kept["source"]) == ("animals", "not sure", "person")
            found = (await call("search_features", query="animals")).data
            assert [row[found["columns"].index("feature")] for row in found["rows"]] == [feature]
            assert found["rows"][0][found["columns"].index("note")] == "not sure"
            everything = await call("search_features")
            assert len(everything.text) < 25 * 160
            hostile = await call("read_feature", feature=HOSTILE_FEATURE)
            assert "<img src=x" in hostile.data["label"]
            for name, wrong in [
                ("read_feature", {"feature": 10**6}),
                ("search_features", {"query": "density<x"}),
                ("label_feature", {"feature": 1, "label": "x" * 400}),
            ]:
                assert (await call(name, **wrong)).failed

    asyncio.run(work())


def test_who_is_elsewhere_labels_nothing_by_any_tool(app):
    async def work():
        async with session(app, **{"X-Forwarded-For": "1.2.3.4"}) as (_, call):
            for tool in ("label_feature", "label"):
                refused = await call(tool, feature=2, label="evil")
                assert refused.failed and "labels cannot be written from here" in refused.text

    asyncio.run(work())

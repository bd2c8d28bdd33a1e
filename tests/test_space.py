"""space/app.py: what it shows, and where it listens."""

from __future__ import annotations

import json
import runpy
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from serving import free_port, serving

import tiny_dashboard

APP = Path(__file__).parent.parent / "space" / "app.py"


@pytest.fixture
def launched(monkeypatch):
    calls = []
    monkeypatch.setattr(tiny_dashboard, "launch", lambda *given, **options: calls.append((*given, options)), False)
    monkeypatch.delenv("DASHBOARD_CONFIG", raising=False)
    return calls


def test_what_is_shown(launched, monkeypatch, tmp_path):
    beside = tmp_path / "dashboard.toml"
    app = shutil.copy(APP, tmp_path)
    runpy.run_path(app)
    beside.touch()
    runpy.run_path(app)
    monkeypatch.setenv("DASHBOARD_CONFIG", "other.toml")
    runpy.run_path(app)
    assert launched == [(None, {}), (beside, {}), ("other.toml", {})]


def test_it_serves_where_gradio_says(tmp_path):
    with sqlite3.connect(tmp_path / "examples.db") as db:
        db.execute("create table data_table (key integer primary key, examples text)")
        db.execute("insert into data_table values (4, ?)", [json.dumps([[2.0, ["Ġone", "Ġtwo"], [0.0, 2.0]]])])
    config = tmp_path / "dashboard.toml"
    config.write_text('examples = "examples.db"')
    port = free_port()
    place = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": port}
    with serving([sys.executable, str(APP)], port, DASHBOARD_CONFIG=str(config), **place) as client:
        answer = client.predict(feature=4, max_examples=1, scale="feature", api_name="/examples")
    assert answer["examples"][0]["tokens"] == [" one", " two"]

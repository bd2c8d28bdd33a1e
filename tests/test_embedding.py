"""The app inside another page: a link's feature and tab are what the frame shows."""

from __future__ import annotations

from playwright.sync_api import expect


def test_deep_links_in_a_frame(visits, app_url, tmp_path):
    visits.origin = app_url
    page = tmp_path / "paper.html"
    frame = '<iframe id="{0}" src="{1}/?feature=9&tab={0}" width="100%" height="700"></iframe>'
    page.write_text(frame.format("offline", app_url) + frame.format("online", app_url))
    shown = visits(page.as_uri())
    offline, online = shown.frame_locator("#offline"), shown.frame_locator("#online")
    expect(offline.locator("#td-examples .td-x").first).to_be_visible(timeout=60_000)
    expect(offline.locator("#td-feature input, #td-feature textarea").first).to_have_value("9")
    expect(online.get_by_role("tab", selected=True)).to_contain_text("Online", timeout=60_000)

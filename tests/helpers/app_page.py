"""What a person does on the app's page, and where things stand on it."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

expect.set_options(timeout=10_000)
EXAMPLES, ANALYSIS, TOP = "#td-examples", "#td-analysis", "#td-top"


def rows(page):
    return page.locator(f"{EXAMPLES} .td-x")


def feature_box(page):
    return page.locator("#td-feature input")


def show_feature(page, feature):
    feature_box(page).fill(str(feature))
    feature_box(page).press("Enter")


def peaks(page):
    return rows(page).locator(".td-p > span:last-child > i:first-child").all_text_contents()


def analyze(page, text):
    page.locator("#td-text textarea").fill(text)
    page.get_by_role("button", name="Analyze").click()


def unfold_steering(page):
    page.get_by_role("button", name="Answer and steer").click()
    page.get_by_label("number input for New tokens").wait_for()
    page.wait_for_timeout(200)  # Gradio gives a number its first value once more, some frames after it is there


def tokens(page, place=ANALYSIS):
    return page.locator(f"{place} .td-p i")


def query_of(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query, keep_blank_values=True).items()}


def wait_for_query(page, **wanted):
    page.wait_for_function(
        "wanted => { const q = new URLSearchParams(location.search);"
        " return Object.entries(wanted).every(([k, v]) => v === null ? !q.has(k) : q.get(k) === v) }",
        arg={k: None if v is None else str(v) for k, v in wanted.items()},
    )

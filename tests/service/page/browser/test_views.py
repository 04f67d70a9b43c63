"""The views of the page: what they show, how they are reached, and on which screens."""

import re

import pytest
from playwright.sync_api import expect

from benchmarks.pictures.page import VIEWS
from tests.service.page.browser.browsing import Watched, ask, heading, needs_chromium

pytestmark = needs_chromium


def test_service_without_requests_says_what_is_missing(fresh: str, watched: Watched):
    page = watched.page
    page.goto(fresh)
    expect(heading(page)).to_have_text("Not enough data yet: 0 of 30 requests")
    expect(page.get_by_text("No request in this window yet.")).to_be_visible()
    page.get_by_role("link", name="Layers").click()
    expect(page.locator("a.node")).to_have_count(5)
    expect(page.locator("a.node .state").first).to_have_text(re.compile("no data"))
    expect(page.get_by_text("0 of 30 requests in this window")).to_be_visible()
    page.get_by_role("link", name="Traffic").click()
    expect(page.get_by_text("Requests per second")).to_be_visible()


def test_docs_show_every_operation_and_ask_nobody_else(fresh: str, watched: Watched):
    page = watched.page
    page.goto(f"{fresh}/docs")
    expect(page.get_by_role("heading", name=re.compile("AddNorm"))).to_be_visible()
    expect(page.locator(".opblock-summary-path", has_text="/predict").first).to_be_visible()
    assert page.locator(".opblock").count() > 20


@pytest.mark.parametrize("view", VIEWS)
def test_view_can_be_linked_to_and_read(watched: Watched, busy: str, view: str):
    page = watched.page
    page.goto(f"{busy}/#{view}")
    expect(page.locator("body[data-ready]")).to_be_attached()
    name = view.split("/")[0]
    expect(page.locator(f"#view-{name}")).to_be_visible()
    expect(page.locator("main > section:visible")).to_have_count(1)
    expect(page.locator(".tabs [aria-current=page]")).to_have_attribute("href", f"#{name}")
    if name != "try":
        table = page.locator(f"#view-{name} details").first
        table.locator("summary").click()
        expect(table.locator("tbody tr").first).to_be_visible()  # the chart's numbers, for those who cannot see it
        assert page.locator(f"#view-{name} canvas").count() >= 1


def test_windows_have_verdicts_of_their_own(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/?window=1h")
    expect(heading(page)).to_contain_text("over the last hour")
    page.get_by_label("5 min").check(force=True)
    expect(heading(page)).to_contain_text("over the last 5 minutes")
    assert page.url.endswith("window=5m")
    page.get_by_label("All").check(force=True)
    expect(heading(page)).to_contain_text("since ")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_shows_everything_within_its_width(watched: Watched, busy: str, theme: str):
    page = watched.page
    page.set_viewport_size({"width": 360, "height": 800})
    page.emulate_media(color_scheme=theme)
    for view in VIEWS:
        page.goto(f"{busy}/#{view}")
        expect(page.locator("body[data-ready]")).to_be_attached()
        if view == "try":
            ask(page, "hello")
            expect(page.locator("[data-answer]")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view


def test_theme_is_switched_and_remembered(watched: Watched, busy: str):
    page = watched.page
    page.emulate_media(color_scheme="light")
    page.goto(busy)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(ground) == light


def test_keyboard_reaches_every_view(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/#layers")
    expect(page.locator("a.node").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    reached = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href') ?? document.activeElement.id"))
    assert reached >= {"#verdict", "#try", "#layers", "#traffic", "theme", "#layers/blocks.0.attention.norm"}

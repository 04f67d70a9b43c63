"""The views of the page: what they show, how they are reached, and on which screens."""

import json
import re

import pytest
from playwright.sync_api import expect

from benchmarks.pictures.page import VIEWS, send
from tests.service.page.browser.browsing import (
    USUAL,
    Watched,
    ask,
    first_summary,
    heading,
    needs_chromium,
    wait_for_summaries,
)

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


def test_models_are_chosen_and_compared(both: str, watched: Watched):
    """The twin with BatchNorm: the address names it, it is asked alone, and shows the moments that it uses."""
    page = watched.page
    page.goto(f"{both}/#try")
    choice = page.get_by_role("combobox", name="Model")
    expect(choice.locator("option:checked")).to_have_text("intents, version 1")
    choice.select_option("intents-batchnorm, version 1")
    expect(page).to_have_url(re.compile("model=intents-batchnorm&version=1"))
    ask(page, "\n".join(USUAL))
    expect(page.locator("[data-answer]").first).to_be_visible()
    expect(heading(page)).not_to_contain_text("0 of 30 requests")
    page.get_by_role("link", name="Layers").click()
    expect(page.get_by_text("BatchNorm of 160 features")).to_be_visible()
    running = page.locator("figure", has_text="Mean of each feature over the batch")
    expect(running).to_be_visible()
    running.locator("summary").click()
    expect(running.locator("tbody tr").first.locator("td").first).not_to_have_text("–")
    margin = page.locator("#view-layers p", has_text="Also served").evaluate("each => getComputedStyle(each).marginTop")
    assert float(margin.removesuffix("px")) > 8  # from the last node
    page.get_by_role("button", name="intents, version 1").click()
    expect(page.get_by_text("LayerNorm of 160 features")).to_be_visible()
    expect(running).to_be_hidden()
    expect(heading(page)).to_contain_text("0 of 30 requests")  # each model has its own traffic


def test_model_that_is_not_served_is_said_so(both: str, watched: Watched):
    page = watched.page
    watched.meant = ("404",)
    page.goto(f"{both}/?model=nothing")
    expect(heading(page)).to_have_text("No verdict now")
    expect(page.locator(".detail")).to_contain_text(
        "There is no model 'nothing' here, there is intents, intents-batchnorm"
    )
    page.get_by_role("combobox", name="Model").select_option("intents, version 1")
    expect(page.locator("body[data-ready]")).to_be_attached()


def test_choice_of_a_model_stays_until_it_answers(both: str, watched: Watched):
    page, choice = watched.page, watched.page.get_by_role("combobox", name="Model")
    watched.meant = ("503",)
    page.goto(both)
    expect(choice.locator("option:checked")).to_have_text("intents, version 1")
    busy = {"error": "It is busy.", "code": "busy"}
    page.route("**/model?*", lambda route: route.fulfill(status=503, json=busy))
    choice.select_option("intents-batchnorm, version 1")
    expect(page.locator(".detail")).to_have_text("It is busy.")
    expect(choice.locator("option:checked")).to_have_text("intents-batchnorm, version 1")
    page.route("**/traffic", lambda route: route.fulfill(json={"models": [{"model": "intents", "version": "1"}]}))
    expect(choice.locator("option")).to_have_count(1)
    expect(choice).to_have_value("")  # what was chosen is not served
    choice.select_option("intents, version 1")
    page.unroute("**/model?*")
    expect(choice).to_be_hidden()


def test_page_says_who_counts_and_what_is_wrong(member: str, watched: Watched):
    page = watched.page
    page.goto(member)
    expect(page.locator(".detail")).to_contain_text("Counted by this replica, which hears of no other.")
    expect(page.locator(".detail")).to_contain_text("http://127.0.0.1:1 cannot be reached")


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


def test_skip_link_keeps_the_view_and_odd_addresses_are_read(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/?window=constructor#try")
    expect(page.locator("body[data-ready]")).to_be_attached()
    page.get_by_text("Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("#view-try")).to_be_visible()
    for address, view in (("layers/100%", "layers"), ("constructor", "verdict")):
        page.goto(f"{busy}/#{address}")
        expect(page.locator(f"#view-{view}")).to_be_visible()


def test_new_numbers_leave_what_is_used(watched: Watched, busy: str):
    """The nodes stay: so do focus, selection, scrolling, and a click that is held."""
    page = watched.page
    page.goto(f"{busy}/?window=all#layers")
    node = page.locator("a.node").nth(2)
    node.focus()
    page.locator("#view-layers summary").first.click()
    expect(page.locator("#view-layers .scroll tbody tr").first).to_be_visible()
    page.evaluate(
        """() => {
          const parts = ["h1", ".advice", "a.node", "a.node .score", "#view-layers .scroll", "#view-layers tbody tr"];
          window.kept = parts.map((part) => document.querySelector(part));
          kept.push(...kept.slice(0, 3).map((each) => each.firstChild));
          document.querySelector("#view-layers .scroll").scrollTop = 40;
        }"""
    )
    node.focus()
    before = page.locator("a.node .score").all_inner_texts(), heading(page).inner_text()
    send(busy, USUAL)
    wait_for_summaries(page, 4)  # and the layer is read again
    assert (page.locator("a.node .score").all_inner_texts(), heading(page).inner_text()) != before
    expect(node).to_be_focused()
    assert page.evaluate("kept.every((each) => each.isConnected)")
    assert page.locator("#view-layers .scroll").first.evaluate("each => each.scrollTop") == 40


def test_model_that_cannot_be_judged_is_said_so(watched: Watched, busy: str):
    """And what moved most is said of which layer: the summaries are made up."""
    page, told = watched.page, first_summary(busy)
    moved = {"feature": 3, "baseline": 0.1, "live": 0.4, "shift": 2.0}
    told["verdict"] |= {"state": "drift", "first_layer": "blocks.0.attention.norm", "features": [moved]}
    told |= {"asked": "auto"}
    page.route("**/events?*", lambda route: route.fulfill(body=f"data: {json.dumps(told)}\n\n"))
    page.goto(busy)
    expect(page.get_by_text("The features that moved most at blocks.0.attention.norm")).to_be_visible()
    for name in ("input", "output", "all_layers", "unlikeness"):
        told.pop(name, None)
    for layer in told["layers"]:
        layer |= {"score": None, "threshold": None, "state": "insufficient_data"}
    expect(page.locator("#view-verdict").get_by_text("This model's baseline cannot judge its traffic.")).to_be_visible()


def test_banner_is_readable_at_every_width(watched: Watched, busy: str):
    page = watched.page
    page.goto(busy)
    expect(page.locator("body[data-ready]")).to_be_attached()
    wide = "document.querySelector('h1').clientWidth"
    bullets = "getComputedStyle(document.querySelector('#view-verdict ul.facts')).listStyleType"
    assert page.evaluate(bullets) == "disc"
    page.set_viewport_size({"width": 800, "height": 800})
    assert page.evaluate(wide) > 600
    page.set_viewport_size({"width": 375, "height": 800})
    heights = page.locator("#windows span").evaluate_all("each => each.map((one) => one.clientHeight)")
    assert len(set(heights)) == 1

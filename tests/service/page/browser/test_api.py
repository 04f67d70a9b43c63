"""What the page does when the service is away, or asks for a key."""

from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, Route, expect

from benchmarks.pictures.page import serving
from tests.service.page.browser.browsing import Watched, ask, heading, needs_chromium

pytestmark = needs_chromium
WRONG = {"error": "This API key is not known.", "code": "invalid_api_key"}


def test_page_outlives_a_restart_and_keeps_what_was_typed(watched: Watched):
    watched.meant = ("Failed to load resource", "ERR_")  # every refused connection
    page = watched.page
    with serving() as url:
        page.goto(f"{url}/#try")
        expect(page.locator("#pulse")).to_have_text("live")
        page.get_by_label("Text").fill("half a thou")
    expect(page.locator("#pulse")).to_have_text("the service does not answer, trying again")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    with serving(port=urlsplit(url).port or 0):
        expect(page.locator("#pulse")).to_have_text("live")
        assert page.get_by_label("Text").input_value() == "half a thou"
        expect(page.locator("#view-try .error")).to_be_hidden()  # what was wrong is mended
        ask(page, "hello")
        expect(page.locator("[data-answer=greeting]")).to_be_visible()


def test_key_is_asked_for_where_one_is_needed(watched: Watched):
    watched.meant = ("Failed to load resource", "ERR_")  # an answer of status 401
    page = watched.page
    with serving("--api-keys", "schlüssel", "--api-key-for", "reads,inference,metrics") as url:
        page.goto(url)
        field = page_key(page)
        expect(page.locator("#pulse")).to_have_text("waiting for an API key")
        expect(page.get_by_role("alert")).to_have_count(0)
        page.get_by_role("link", name="Metrics").click()
        expect(field).to_be_visible()  # and no bare JSON in its place
        for wrong in ("schlusse", "ключ"):
            field.fill(wrong)
            page.get_by_role("button", name="Use this key").click()
            expect(page.get_by_role("alert")).to_have_text("This key is not accepted.")
            expect(field).to_be_focused()
            expect(field).to_have_value("")
        field.fill("  schlüssel ")
        page.get_by_role("button", name="Use this key").click()
        expect(heading(page)).to_have_text("Not enough data yet: 0 of 30 requests")
        expect(page.locator("#key")).to_be_hidden()
        with page.expect_download() as numbers:
            page.get_by_role("link", name="Metrics").click()
        assert "addnorm_requests_total" in numbers.value.path().read_text()
        page.get_by_role("link", name="Try it").click()
        ask(page, "hello")
        expect(page.locator("[data-answer=greeting]")).to_be_visible()
        assert page.evaluate("Object.keys(localStorage)") == []


def test_a_key_that_is_withdrawn_dims_what_is_old_and_takes_no_focus(watched: Watched):
    watched.meant = ("Failed to load resource",)  # answers of status 401
    page, key = watched.page, page_key(watched.page)
    with serving("--api-keys", "a-key", "--api-key-for", "reads,inference,metrics") as url:
        page.goto(f"{url}/#try")
        held = list[Route]()
        page.route("**/metrics", lambda route: held.append(route))
        page.get_by_role("link", name="Metrics").click()
        key.fill("a-key")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#pulse")).to_have_text("live")
        assert opacities(page) == ["1", "1"]
        with page.expect_response("**/metrics"):
            held[0].fulfill(status=401, json=WRONG)  # to what was asked before the key was given
        page.wait_for_timeout(200)
        expect(key).to_be_hidden()
        page.route("**/predict", lambda route: route.fulfill(status=401, json=WRONG))
        ask(page, "hello")
        expect(page.locator("#key-wrong")).to_have_text("This key is not accepted.")
        expect(key).not_to_be_focused()
        page.route("**/events?*", lambda route: route.fulfill(status=401, json=WRONG))
        page.get_by_label("5 min").check(force=True)
        expect(page.locator("#pulse")).to_have_text("waiting for an API key")
        assert opacities(page) == ["0.6", "0.6"]


def page_key(page: Page) -> Locator:
    return page.get_by_label("This service asks for an API key")


def opacities(page: Page) -> list[str]:
    return page.locator(".banner, main").evaluate_all("each => each.map((one) => getComputedStyle(one).opacity)")


def test_what_the_service_refuses_is_said_in_the_banner(busy: str, watched: Watched):
    watched.meant = ("Failed to load resource",)  # an answer of status 503
    page = watched.page
    full = {"error": "64 pages follow this service already.", "code": "too_many_followers"}
    page.route("**/events?*", lambda route: route.fulfill(status=503, json=full))
    page.goto(busy)
    expect(heading(page)).to_have_text("No verdict now")
    expect(page.locator(".detail")).to_have_text("64 pages follow this service already.")
    page.unroute("**/events?*")
    expect(heading(page)).to_contain_text("requests")

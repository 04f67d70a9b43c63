"""What the page shows when another model is served, or chosen, than a moment ago."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from benchmarks.pictures.page import ROOT, serving
from tests.service.page.browser.browsing import Watched, ask, heading, needs_chromium, wait_for_summaries

pytestmark = needs_chromium
TWIN = "intents-batchnorm"


@pytest.fixture
def repository() -> Iterator[str]:
    """A service of the embedded model and its twin, which may be unloaded."""
    with serving("--models", str(ROOT / "models"), "--model-control", "explicit", model=None) as url:
        yield url


def change(url: str, what: str) -> None:
    httpx.post(f"{url}/v2/repository/models/{TWIN}/{what}", json={}, trust_env=False).raise_for_status()


def test_models_come_and_go_while_the_page_is_open(repository: str, watched: Watched):
    page, watched.meant = watched.page, ("status of 404",)  # where the page asks for the model while it is not there
    page.goto(f"{repository}/?model={TWIN}")
    expect(page.locator("#pulse")).to_have_text("live")
    change(repository, "unload")
    expect(heading(page)).to_have_text("No verdict now")
    expect(page.locator(".detail")).to_have_text(f"There is no model '{TWIN}' here, there is intents.")
    expect(page.locator("#pulse")).to_have_text("the service refuses, trying again")
    expect(page.locator("#models")).to_be_visible()  # the one that is left can be chosen
    change(repository, "load")
    expect(page.locator("#pulse")).to_have_text("live")
    expect(heading(page)).to_contain_text("0 of 30 requests")
    expect(page.locator("#models option")).to_have_count(2)
    change(repository, "unload")
    page.goto(repository)
    expect(page.locator("#pulse")).to_have_text("live")
    expect(page.locator("#models")).to_be_hidden()
    change(repository, "load")
    page.evaluate("const now = Date.now; Date.now = () => now() + 31_000")  # half a minute passes
    expect(page.locator("#models option")).to_have_count(2)


def test_swapped_model_is_read_anew(busy: str, watched: Watched):
    """The model of before is made up: the summaries are of version 1 already."""
    page = watched.page
    model = httpx.get(f"{busy}/model", trust_env=False).json()
    page.route("**/model", lambda route: route.fulfill(json=model | {"version": "0"}))
    page.goto(busy)
    expect(page.locator("#served")).to_contain_text("intents, version 0, 5 norms")
    expect(page.locator("#pulse")).to_have_text("live")
    wait_for_summaries(page, 1)
    page.unroute("**/model")
    expect(page.locator("#served")).to_contain_text("intents, version 1, 5 norms")


def test_what_is_shown_is_of_the_model_that_was_chosen_last(both: str, watched: Watched):
    page = watched.page
    page.goto(f"{both}/#try")
    choice = page.get_by_role("combobox", name="Model")
    ask(page, "hello")
    expect(page.locator("[data-answer]")).to_be_visible()
    held = list[Route]()
    page.route(f"**/model?name={TWIN}*", lambda route: held.append(route))
    with page.expect_request(f"**/model?name={TWIN}*"):
        choice.select_option(f"{TWIN}, version 1")
    with page.expect_request("**/model?name=intents&*") as asked:
        choice.select_option("intents, version 1")
    asked.value.response()  # it is there before the twin's
    for route in held:
        route.continue_()
    page.unroute(f"**/model?name={TWIN}*")
    wait_for_summaries(page, 1)
    expect(choice.locator("option:checked")).to_have_text("intents, version 1")
    assert held and "intents-" not in str(now(page))
    expect(page.locator("[data-answer]")).to_be_visible()  # it is this model's
    choice.select_option(f"{TWIN}, version 1")
    expect(page.get_by_text("Ask something, or choose an example.")).to_be_visible()
    assert page.get_by_label("Text").input_value() == "hello"


def now(page: Page) -> Any:
    return page.evaluate("import('/page/store.js').then(({ store }) => store.get('model').model)")

"""Texts and drawings that are typed into the page, and what it says of the answers."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Route, expect

from benchmarks.pictures.page import serving
from runtime.artifact import Artifact
from tests.service.page.browser.browsing import USUAL, Watched, ask, heading, needs_chromium

pytestmark = needs_chromium
ODD = ["der schnelle braune fuchs springt", "я не понимаю ничего", "buy buy buy buy buy", "qqq zzz xxx vvv"]
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def sequences(feature_artifact: Artifact) -> Iterator[str]:
    """A service that reads sequences, and has answered nothing yet."""
    with serving(model=feature_artifact.path) as url:
        yield url


def test_answer_comes_with_classes_timing_and_layers(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/#try")
    page.get_by_role("button", name="how much money do i have in my account").click()
    expect(page.locator("[data-answer=balance]")).to_be_visible()
    expect(page.get_by_text("As usual: at no layer")).to_be_visible()
    for chart in page.locator("#view-try details").all():
        chart.locator("summary").click()
    expect(page.locator("#view-try tbody tr", has_text="infer")).to_contain_text(re.compile("µs|ms"))
    expect(page.locator("#view-try tbody tr", has_text="blocks.1.feed_forward.norm")).to_be_visible()
    ask(page, "я не понимаю")
    expect(page.get_by_text("Looks odd, first at embeddings.norm")).to_be_visible()


def test_odd_texts_that_are_typed_become_a_drift(fresh: str, watched: Watched):
    page = watched.page
    page.goto(f"{fresh}/#try")
    ask(page, "\n".join(USUAL))
    expect(heading(page)).to_have_text(re.compile("^Ok lately, 36 requests$"))
    ask(page, "\n".join(f"{text}{' indeed' * times}" for text in ODD for times in range(25)))
    expect(heading(page)).to_have_text(re.compile(r"^Drift .*, first at "))
    expect(page.locator("#spoken")).to_contain_text("Drift")
    page.get_by_role("link", name="Layers").first.click()
    expect(page.locator("a.node[data-state=drift]").first).to_contain_text("drifting")
    page.get_by_role("link", name="Verdict").click()
    page.locator("#view-verdict details").first.locator("summary").click()
    # the usual texts may lie in a slice of their own before
    expect(page.locator("#view-verdict tbody tr", has_text="drifting").first).to_be_visible()


def test_what_cannot_be_asked_is_explained_and_stays(watched: Watched, busy: str):
    watched.meant = ("Failed to load resource",)  # an answer of status 400
    page = watched.page
    page.goto(f"{busy}/#try")
    ask(page, "   ")
    expect(page.get_by_role("alert")).to_contain_text("expected a text with at least one word")
    ask(page, "\n".join(["many"] * 129))
    expect(page.get_by_role("alert")).to_contain_text("expected at most 128")
    assert page.get_by_label("Text").input_value().count("many") == 129
    ask(page, "money " * 20_000)
    expect(page.get_by_text("the rest was cut off")).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    ask(page, "x" * (1 << 20))
    expect(page.get_by_role("alert")).to_contain_text("larger than the 1048576 bytes")


def test_typed_markup_is_shown_as_text(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/#try")
    ask(page, f"{MARKUP}\nhello")
    expect(page.locator(".answers .given").first).to_have_text(MARKUP)
    assert page.locator("main script, main img").count() == 0
    assert page.title() == "Try it – AddNorm"
    assert page.evaluate("Object.keys(localStorage)") == []  # nothing typed is kept


def test_drawing_is_read_by_a_model_of_sequences(sequences: str, watched: Watched):
    page = watched.page
    page.goto(f"{sequences}/#try")
    grid = page.locator(".draw")
    grid.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    typed = page.get_by_label("Steps, as JSON")
    assert typed.input_value().startswith("[[0.35,0,0,0],[1,0.35,0,0],[0.35,")
    typed.fill("[[0, 0.5], [7]]")
    inked = grid.locator("span").evaluate_all("all => all.map((each) => each.style.getPropertyValue('--value'))")
    assert inked[:6] == ["0", "0.5", "0", "0", "1", "0"]
    grid.focus()
    page.keyboard.press("ArrowDown")
    assert typed.input_value() == "[[0, 0.5], [7]]"
    grid.click(position={"x": 20, "y": 100})
    expect(page.locator("[data-answer]")).to_be_visible()
    expect(page.get_by_text("12 tokens read")).to_be_visible()
    page.get_by_label("Steps, as JSON").fill("[[1, 2")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("That is not JSON")
    assert httpx.get(f"{sequences}/norm-stats", trust_env=False).json()["requests"] == 1


def test_requests_are_asked_one_after_another(watched: Watched, busy: str):
    page, held = watched.page, list[Route]()
    page.goto(f"{busy}/#try")

    def hold_first(route: Route) -> None:
        held.append(route)
        if len(held) > 1:
            route.continue_()

    page.route("**/predict", hold_first)
    ask(page, "tell me a joke")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()
    page.get_by_label("Text").press("Control+Enter")
    page.get_by_role("button", name="how much money do i have in my account").click()
    with page.expect_response("**/predict"):
        held[0].continue_()
    expect(page.locator("[data-answer=balance]")).to_be_visible()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_enabled()
    asked = [route.request.post_data_json["inputs"] for route in held]
    assert asked == [["tell me a joke"], ["how much money do i have in my account"]]


def test_long_labels_leave_room_and_a_choice_keeps_its_focus(watched: Watched, busy: str):
    """The answers are made up."""
    page = watched.page
    layer = {"name": "1", "mean": 0, "variance": 1, "mean_z": 0.5, "variance_z": 4}
    best = {"label": "a_label_that_is_long " * 12, "score": 0.9}
    prediction = best | {"tokens": 9, "truncated": False, "top": [best], "norm_stats": [layer], "percentile": 99.9}
    page.route("**/predict", lambda route: route.fulfill(json={"predictions": [prediction] * 2}))
    page.goto(f"{busy}/#try")
    ask(page, "hello\nwhat is the weather like")
    expect(page.get_by_text("Looks odd, first at norm 1")).to_be_visible()
    expect(page.get_by_text("The model is unusually unsure: it is surer of 100")).to_be_visible()
    second = page.locator(".answers button").nth(1)
    assert second.locator(".given").evaluate("each => each.clientWidth") > 150
    expect(second.locator(".got")).to_have_attribute("title", best["label"])
    second.focus()
    page.keyboard.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(second).to_be_focused()


@pytest.mark.parametrize(("log", "kept"), [("scores", "log the scores"), ("texts", "log it, with what you type")])
def test_help_says_what_the_service_keeps(watched: Watched, busy: str, log: str, kept: str):
    page = watched.page
    model = httpx.get(f"{busy}/model", trust_env=False).json()
    page.route("**/model", lambda route: route.fulfill(json=model | {"input_log": log}))
    page.goto(f"{busy}/#try")
    expect(page.locator("#ask-help")).to_contain_text(kept)

"""Texts and drawings that are typed into the page, and what it says of the answers."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

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
    assert page.get_by_label("Steps, as JSON").input_value().startswith("[[0.35,0,0,0],[1,0.35,0,0],[0.35,")
    grid.click(position={"x": 20, "y": 100})
    expect(page.locator("[data-answer]")).to_be_visible()
    expect(page.get_by_text("12 tokens read")).to_be_visible()
    page.get_by_label("Steps, as JSON").fill("[[1, 2")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("That is not JSON")
    assert httpx.get(f"{sequences}/norm-stats", trust_env=False).json()["requests"] == 1

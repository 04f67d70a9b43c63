"""The page in a real Chromium, over the embedded model served by a process of its own."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.page import CHROMIUM, FLAGS, VIEWS, send, serving
from runtime.artifact import Artifact

pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists(), reason=f"there is no Chromium at {CHROMIUM}; name one with CHROMIUM="
)
USUAL = """\
how much money do i have in my checking account
can you wake me up at half past six tomorrow morning
what is the weather going to be like in paris this weekend
please put a block on my savings account right away
i need to book a flight from boston to denver for friday
what are the ingredients that i need to make lasagna
tell me a joke about cats
how do you say thank you in spanish
could you transfer two hundred dollars from checking to savings
when is my next car payment due
how many calories are in a slice of cheese pizza
what time is it in tokyo right now
remind me to call my mother on sunday afternoon
is there a lot of traffic on the way to work today
i would like to order more checks for my account
what is the exchange rate between dollars and euros
my card was declined at the grocery store and i do not know why
how long should i boil an egg
please add milk and bread to my shopping list
what is the spending limit on my visa card
do i need a visa to travel to brazil
how many vacation days do i have left this year
find me a good mexican restaurant near the airport
what song is playing at the moment
can you change the volume to five
when should i change the oil in my car
roll a six sided die for me
what is on my calendar for next tuesday
how do i set up direct deposit for my paycheck
i lost my luggage on the flight from chicago
what plug do i need for an outlet in england
schedule a meeting with sarah for three in the afternoon
how far is it from here to the nearest gas station
please turn off the lights in the living room
what is my credit score these days
tell me what the word serendipity means""".splitlines()
ODD = ["der schnelle braune fuchs springt", "я не понимаю ничего", "buy buy buy buy buy", "qqq zzz xxx vvv"]
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


class Watched:
    """A page that remembers what went wrong in it, and whom it asked."""

    def __init__(self, browser: Browser, width: int = 1280) -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
        self.page, self.troubles, self.hosts = context.new_page(), list[str](), set[str]()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: self.troubles.append(dialog.message))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.troubles.append(text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def quiet() -> Iterator[str]:
    """A service that has answered nothing yet."""
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def busy() -> Iterator[str]:
    """A service that has seen usual requests."""
    with serving() as url:
        send(url, USUAL)
        yield url


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A page in which nothing may go wrong."""
    watched = Watched(browser)
    yield watched
    watched.page.context.close()
    assert watched.troubles == []
    assert watched.hosts == {"127.0.0.1"}


def heading(page: Page):
    return page.get_by_role("heading", level=1)


def ask(page: Page, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Ask", exact=True).click()


def test_service_without_requests_says_what_is_missing(watched: Watched, quiet: str):
    page = watched.page
    page.goto(quiet)
    expect(heading(page)).to_have_text("Not enough data yet: 0 of 30 requests")
    expect(page.get_by_text("No request in this window yet.")).to_be_visible()
    page.get_by_role("link", name="Layers").click()
    expect(page.locator("a.node")).to_have_count(5)
    expect(page.locator("a.node .state").first).to_have_text(re.compile("no data"))
    expect(page.get_by_text("0 of 30 requests in this window")).to_be_visible()
    page.get_by_role("link", name="Traffic").click()
    expect(page.get_by_text("Requests per second")).to_be_visible()


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


def test_odd_texts_that_are_typed_become_a_drift(watched: Watched):
    with serving() as url:
        page = watched.page
        page.goto(f"{url}/#try")
        ask(page, "\n".join(USUAL))
        expect(heading(page)).to_have_text(re.compile("^Ok since .*, 36 requests$"))
        ask(page, "\n".join(ODD * 25))
        expect(heading(page)).to_have_text(re.compile(r"^Drift .*, first at "))
        expect(page.locator("#spoken")).to_contain_text("Drift")
        page.get_by_role("link", name="Layers").first.click()
        expect(page.locator("a.node[data-state=drift]").first).to_contain_text("drifting")
        page.get_by_role("link", name="Verdict").click()
        page.locator("#view-verdict details").first.locator("summary").click()
        # the usual texts may lie in a slice of their own before
        expect(page.locator("#view-verdict tbody tr", has_text="drifting").first).to_be_visible()


def test_what_cannot_be_asked_is_explained_and_stays(browser: Browser, busy: str):
    watched = Watched(browser)  # the browser itself logs an answer of status 400
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
    assert all("Failed to load resource" in trouble for trouble in watched.troubles)
    page.context.close()


def test_typed_markup_is_shown_as_text(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/#try")
    ask(page, f"{MARKUP}\nhello")
    expect(page.locator(".answers .given").first).to_have_text(MARKUP)
    assert page.locator("main script, main img").count() == 0
    assert page.title() == "Try it – AddNorm"
    assert page.evaluate("Object.keys(localStorage)") == []  # nothing typed is kept


def test_windows_have_verdicts_of_their_own(watched: Watched, busy: str):
    page = watched.page
    page.goto(f"{busy}/?window=1h")
    expect(heading(page)).to_contain_text("over the last hour")
    page.get_by_label("5 min").check(force=True)
    expect(heading(page)).to_contain_text("over the last 5 minutes")
    assert page.url.endswith("window=5m")
    page.get_by_label("All").check(force=True)
    expect(heading(page)).to_contain_text("since ")


def test_page_outlives_a_restart_and_keeps_what_was_typed(browser: Browser):
    watched = Watched(browser)  # the browser itself logs every refused connection
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
        ask(page, "hello")
        expect(page.locator("[data-answer=greeting]")).to_be_visible()
    assert all("Failed to load resource" in trouble or "ERR_" in trouble for trouble in watched.troubles)
    page.context.close()


def test_key_is_asked_for_where_one_is_needed(browser: Browser):
    watched = Watched(browser)  # the browser itself logs an answer of status 401
    page = watched.page
    with serving("--api-keys", "sesame", "--api-key-for", "reads,inference") as url:
        page.goto(url)
        page.get_by_label("This service asks for an API key").fill("sesam")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_label("This service asks for an API key")).to_have_value("")
        page.get_by_label("This service asks for an API key").fill("sesame")
        page.get_by_role("button", name="Use this key").click()
        expect(heading(page)).to_have_text("Not enough data yet: 0 of 30 requests")
        expect(page.locator("#key")).to_be_hidden()
        page.get_by_role("link", name="Try it").click()
        ask(page, "hello")
        expect(page.locator("[data-answer=greeting]")).to_be_visible()
        assert page.evaluate("Object.keys(localStorage)") == []
    assert all("Failed to load resource" in trouble or "ERR_" in trouble for trouble in watched.troubles)
    page.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_phone_shows_everything_within_its_width(browser: Browser, busy: str, theme: str):
    watched = Watched(browser, width=360)
    page = watched.page
    page.emulate_media(color_scheme=theme)
    for view in VIEWS:
        page.goto(f"{busy}/#{view}")
        expect(page.locator("body[data-ready]")).to_be_attached()
        if view == "try":
            ask(page, "hello")
            expect(page.locator("[data-answer]")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
    assert watched.troubles == []
    page.context.close()


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


def test_drawing_is_read_by_a_model_of_sequences(watched: Watched, feature_artifact: Artifact):
    with serving(model=feature_artifact.path) as url:
        page = watched.page
        page.goto(f"{url}/#try")
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
        assert httpx.get(f"{url}/norm-stats", trust_env=False).json()["requests"] == 1

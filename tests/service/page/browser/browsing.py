"""A page in a real Chromium that is watched while a test uses it."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page

from benchmarks.pictures.page import CHROMIUM

needs_chromium = pytest.mark.skipif(
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


class Watched:
    """A page that remembers what went wrong in it, and whom it asked.

    Attributes:
        meant: words of what the browser itself logs, where a test makes something go wrong.
    """

    def __init__(self, browser: Browser) -> None:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        self.meant = tuple[str, ...]()
        self.page, self.troubles, self.hosts = context.new_page(), list[str](), set[str]()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.note(message.type, message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: self.troubles.append(dialog.message))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))

    def note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.troubles.append(text)

    def close(self) -> None:
        self.page.context.close()
        found = [trouble for trouble in self.troubles if not any(words in trouble for words in self.meant)]
        assert not found, found
        assert self.hosts == {"127.0.0.1"}


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def ask(page: Page, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Ask", exact=True).click()


def first_summary(url: str) -> dict[str, Any]:
    """What the service tells pages now."""
    with httpx.stream("GET", f"{url}/events", trust_env=False) as stream:
        told = next(line for line in stream.iter_lines() if line.startswith("data: "))
        return dict(json.loads(told.removeprefix("data: ")))


def wait_for_summaries(page: Page, number: int) -> None:
    page.evaluate(
        """number => import("/page/store.js").then(({ store }) => new Promise((done, fail) => {
          let heard = 0;
          const late = setTimeout(() => fail(new Error(`${heard} of ${number} summaries came in 20 s`)), 20_000);
          store.on("summary", () => { heard += 1; if (heard === number) { clearTimeout(late); done(); } });
        }))""",
        number,
    )

"""One browser, and services of the embedded model in processes of their own, for all tests of the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from benchmarks.pictures.page import CHROMIUM, FLAGS, send, serving
from tests.service.page.browser.browsing import USUAL, Watched


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def busy() -> Iterator[str]:
    """A service that has seen usual requests."""
    with serving() as url:
        send(url, USUAL)
        yield url


@pytest.fixture
def fresh() -> Iterator[str]:
    """A service that has answered nothing yet."""
    with serving() as url:
        yield url


@pytest.fixture
def both() -> Iterator[str]:
    """A service of what is served by default: the embedded model and its twin."""
    with serving(model=None) as url:
        yield url


@pytest.fixture
def member() -> Iterator[str]:
    """A service that knows of another one, which does not answer."""
    with serving("--peers", "127.0.0.1:1") as url:
        yield url


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """A page in which nothing may go wrong but what is meant.

    A test names it after the service that it opens: the page is closed first, and does not find the service gone.
    """
    watched = Watched(browser)
    yield watched
    watched.close()

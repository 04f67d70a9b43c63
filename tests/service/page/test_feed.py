import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from runtime.errors import Unavailable
from service.page.feed import DEFECT, Feed, Subscription, TooManyFollowers


async def take(subscription: Subscription, events: int) -> list[bytes]:
    found = []
    async for event in subscription.events():
        found.append(event)
        if len(found) == events:
            break
    return found


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 10))


class Computed:
    """Counts what is computed, by window, and where."""

    def __init__(self, error: Exception | None = None) -> None:
        self.windows: list[str] = []
        self.threads: set[str] = set()
        self.error = error

    def __call__(self, window: str) -> bytes:
        self.windows.append(window)
        self.threads.add(threading.current_thread().name)
        if self.error:
            raise self.error
        return b"%s %d" % (window.encode(), len(self.windows))


def test_everybody_gets_what_was_computed_once_in_a_thread():
    async def main() -> None:
        feed, followers = Feed(compute, interval=0.05), []
        followers = [feed.join("1h") for _ in range(5)]
        answers = await asyncio.gather(*(take(each, 3) for each in followers))
        for each in followers:
            each.close()
        assert answers == [[b"data: 1h 1\n\n", b"data: 1h 2\n\n", b"data: 1h 3\n\n"]] * 5

    run_main, compute = run, Computed()
    run_main(main)
    assert len(compute.windows) == 3
    assert threading.main_thread().name not in compute.threads


def test_late_follower_gets_the_newest_event_at_once():
    async def main() -> None:
        feed = Feed(compute, interval=60)
        first = await take(feed.join("all"), 1)
        assert await take(feed.join("all"), 1) == first
        feed.close()

    compute = Computed()
    run(main)
    assert compute.windows == ["all"]


def test_windows_have_events_of_their_own():
    async def main() -> None:
        feed = Feed(Computed(), interval=60)
        hour, everything = feed.join("1h"), feed.join("all")
        assert [event[:8] for event in await take(hour, 1) + await take(everything, 1)] == [b"data: 1h", b"data: al"]
        feed.close()

    run(main)


def test_nothing_is_computed_when_nobody_follows():
    async def main() -> None:
        feed = Feed(compute, interval=0.02)
        follower = feed.join("all")
        await take(follower, 1)
        follower.close()
        follower.close()  # a second time does no harm
        before = len(compute.windows)
        await asyncio.sleep(0.1)
        assert len(compute.windows) == before
        assert not feed.tasks and not feed.subscribers and not feed.newest

    compute = Computed()
    run(main)


def test_slow_follower_skips_to_the_newest_event():
    async def main() -> None:
        feed = Feed(Computed(), interval=0.01)
        slow = feed.join("all")
        await asyncio.sleep(0.2)
        (event,) = await take(slow, 1)
        assert int(event.split()[2]) > 3
        feed.close()

    run(main)


def test_close_ends_every_stream_and_lets_nobody_in():
    async def main() -> None:
        feed = Feed(Computed(), interval=60)
        followers = [feed.join(window) for window in ("5m", "1h", "all")]
        streams = [asyncio.create_task(take(each, 99)) for each in followers]
        await asyncio.sleep(0.1)
        feed.close()
        assert [len(events) for events in await asyncio.gather(*streams)] == [1, 1, 1]
        assert await take(feed.join("all"), 1) == []
        assert not feed.tasks

    run(main)


TROUBLES = [(Unavailable("gone"), "gone"), (RuntimeError("defect"), DEFECT)]


@pytest.mark.parametrize(("error", "said"), TROUBLES)
def test_failed_summary_is_told_to_pages_and_logged_once_until_it_mends(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
):
    compute = Computed(error)

    async def main() -> None:
        feed = Feed(compute, interval=0.01)
        follower = feed.join("all")
        assert await take(follower, 3) == [f'event: trouble\ndata: {{"error": "{said}"}}\n\n'.encode()] * 3
        compute.error = None
        while (await take(follower, 1))[0].startswith(b"event: trouble"):
            pass
        compute.error = error
        while (await take(follower, 1))[0].startswith(b"data: "):
            pass
        feed.close()

    run(main)
    assert [record.name for record in caplog.records if "page" in record.getMessage()] == ["addnorm.service"] * 2


def test_feed_is_full_at_its_most():
    async def main() -> None:
        feed = Feed(Computed(), interval=60, most=2)
        first = feed.join("all")
        assert not feed.full
        feed.join("1h")
        assert feed.full
        with pytest.raises(TooManyFollowers, match="2 pages follow this service already"):
            feed.join("1h")
        first.close()
        assert not feed.full
        feed.close()

    run(main)

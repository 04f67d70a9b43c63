"""Live summaries for any number of pages: computed once per window and tick, beside the event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from runtime.errors import AddNormError

logger = logging.getLogger("addnorm.service")

INTERVAL = 2.0  # seconds between two summaries
MOST = 64  # subscribers of one process; each holds a connection open

Compute = Callable[[str], bytes]


class Subscription:
    """What one page follows; to be closed when it leaves.

    It holds the newest event only: a page that reads slowly skips some, and keeps nobody else waiting.
    """

    def __init__(self, feed: "Feed", window: str) -> None:
        self.feed, self.window = feed, window
        self.newest: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    def offer(self, event: bytes | None) -> None:
        """Puts an event in the place of the one that was not read yet; None ends the stream."""
        if self.newest.full():
            self.newest.get_nowait()
        self.newest.put_nowait(event)

    async def events(self) -> AsyncIterator[bytes]:
        while (event := await self.newest.get()) is not None:
            yield event

    def close(self) -> None:
        self.feed.leave(self)


class Feed:
    """Gives every subscriber of a window the same events, as text/event-stream has them.

    Args:
        compute: the JSON of one summary of a window; it may block, and is run in a thread.
        interval: seconds between two.
        most: subscribers at a time.
    """

    def __init__(self, compute: Compute, interval: float = INTERVAL, most: int = MOST) -> None:
        self.compute, self.interval, self.most = compute, interval, most
        self.subscribers: dict[str, set[Subscription]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.newest: dict[str, bytes] = {}
        self.closed = False

    @property
    def full(self) -> bool:
        return sum(map(len, self.subscribers.values())) >= self.most

    def join(self, window: str) -> Subscription:
        """A new subscription; it begins with the newest event, where others follow that window already."""
        subscription = Subscription(self, window)
        if self.closed:
            subscription.offer(None)
            return subscription
        self.subscribers.setdefault(window, set()).add(subscription)
        if window not in self.tasks:
            self.tasks[window] = asyncio.get_running_loop().create_task(self._tick(window))
        elif window in self.newest:
            subscription.offer(self.newest[window])
        return subscription

    def leave(self, subscription: Subscription) -> None:
        there = self.subscribers.get(subscription.window, set())
        there.discard(subscription)
        if not there:
            self._forget(subscription.window)

    def close(self) -> None:
        """Ends every stream, so that none keeps the service from stopping."""
        self.closed = True
        for window, there in list(self.subscribers.items()):
            self._forget(window)
            for subscription in there:
                subscription.offer(None)

    def _forget(self, window: str) -> None:
        """Computes it no longer."""
        if (task := self.tasks.pop(window, None)) is not None:
            task.cancel()
        self.newest.pop(window, None)
        self.subscribers.pop(window, None)

    async def _tick(self, window: str) -> None:
        while True:
            self.newest[window] = event = await self._event(window)
            for subscription in self.subscribers[window]:
                subscription.offer(event)
            await asyncio.sleep(self.interval)

    async def _event(self, window: str) -> bytes:
        """A summary; a comment, which keeps the connection alive, where there is none now."""
        try:
            return b"data: %b\n\n" % await asyncio.to_thread(self.compute, window)
        except AddNormError as error:
            logger.warning("no summary for the page: %s", error)
        except Exception:
            logger.exception("defect while summing up for the page")
        return b": no summary now\n\n"

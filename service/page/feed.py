"""Live summaries for any number of pages: computed once per topic and tick, beside the event loop."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Generic, TypeVar

from runtime.errors import AddNormError, Overloaded

logger = logging.getLogger("addnorm.service")

INTERVAL = 2.0  # seconds between two summaries
MOST = 64  # subscribers of one process; each holds a connection open
DEFECT = "The statistics cannot be summed up: the log of the service says why."
RETRY = 10  # seconds after which a page that was not let in may ask again

Topic = TypeVar("Topic", bound=Hashable)  # what a summary is about


class TooManyFollowers(Overloaded):
    code = "too_many_followers"


class Subscription(Generic[Topic]):
    """What one page follows; to be closed when it leaves.

    It holds the newest event only: a page that reads slowly skips some, and keeps nobody else waiting.
    """

    def __init__(self, feed: "Feed[Topic]", topic: Topic) -> None:
        self.feed, self.topic = feed, topic
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


class Feed(Generic[Topic]):
    """Gives every subscriber of a topic the same events, as text/event-stream has them.

    Args:
        compute: the JSON of one summary of a topic; it may block, and is run in a thread.
        interval: seconds between two.
        most: subscribers at a time.
    """

    def __init__(self, compute: Callable[[Topic], bytes], interval: float = INTERVAL, most: int = MOST) -> None:
        self.compute, self.interval, self.most = compute, interval, most
        self.subscribers: dict[Topic, set[Subscription[Topic]]] = {}
        self.tasks: dict[Topic, asyncio.Task[None]] = {}
        self.newest: dict[Topic, bytes] = {}
        self.failing: set[Topic] = set()  # topics whose trouble is in the log already
        self.closed = False

    @property
    def full(self) -> bool:
        return sum(map(len, self.subscribers.values())) >= self.most

    def join(self, topic: Topic) -> Subscription[Topic]:
        """A new subscription; it begins with the newest event, where others follow that topic already.

        Raises:
            TooManyFollowers: no more can be let in.
        """
        if self.full:
            raise TooManyFollowers(
                f"{self.most} pages follow this service already: close one, or ask /norm-stats.", RETRY
            )
        subscription = Subscription(self, topic)
        if self.closed:
            subscription.offer(None)
            return subscription
        self.subscribers.setdefault(topic, set()).add(subscription)
        if topic not in self.tasks:
            self.tasks[topic] = asyncio.get_running_loop().create_task(self._tick(topic))
        elif topic in self.newest:
            subscription.offer(self.newest[topic])
        return subscription

    def leave(self, subscription: Subscription[Topic]) -> None:
        there = self.subscribers.get(subscription.topic, set())
        there.discard(subscription)
        if not there:
            self._forget(subscription.topic)

    def close(self) -> None:
        """Ends every stream: an open one would keep the service from stopping."""
        self.closed = True
        for topic, there in list(self.subscribers.items()):
            self._forget(topic)
            for subscription in there:
                subscription.offer(None)

    def _forget(self, topic: Topic) -> None:
        """Computes it no longer."""
        if (task := self.tasks.pop(topic, None)) is not None:
            task.cancel()
        self.newest.pop(topic, None)
        self.failing.discard(topic)
        self.subscribers.pop(topic, None)

    async def _tick(self, topic: Topic) -> None:
        while True:
            self.newest[topic] = event = await self._event(topic)
            for subscription in self.subscribers[topic]:
                subscription.offer(event)
            await asyncio.sleep(self.interval)

    async def _event(self, topic: Topic) -> bytes:
        """A summary; where there is none now, an event that says why."""
        try:
            event = b"data: %b\n\n" % await asyncio.to_thread(self.compute, topic)
        except Exception as error:
            return self._trouble(topic, error)
        self.failing.discard(topic)
        return event

    def _trouble(self, topic: Topic, error: Exception) -> bytes:
        """Logs it once, until a summary is computed again."""
        known = isinstance(error, AddNormError)
        if topic not in self.failing:
            self.failing.add(topic)
            if known:
                logger.warning("no summary for the page: %s", error)
            else:
                logger.error("defect while summing up for the page", exc_info=error)
        return b"event: trouble\ndata: %b\n\n" % json.dumps({"error": str(error) if known else DEFECT}).encode()

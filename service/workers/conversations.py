"""What workers hand in, say and ask: counted and answered in their parent, one after the other."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.workers.channel import PARENT
from service.workers.fork import Selector, Worker

logger = logging.getLogger("addnorm.service")


class Conversations:
    """Follows what every worker writes to its pipes.

    Args:
        heard: who hears what a worker says that has no answer, by its first word.
    """

    def __init__(
        self, catalog: Catalog, collectors: CollectorPool, selector: Selector, heard: Mapping[str, Callable[..., None]]
    ) -> None:
        self.catalog, self.collectors, self.selector, self.heard = catalog, collectors, selector, heard
        self.workers: list[Worker] = []

    def add(self, worker: Worker) -> None:
        self.workers.append(worker)
        self.selector.add(worker.channel.asks.fileno(), partial(self._on_question, worker))
        self.selector.add(worker.channel.inbox.fd, partial(self._on_observations, worker), urgent=False)

    def end(self, worker: Worker, *words: str) -> None:
        """The worker has ended: counts the last that it handed in, and hears of what it said the given words."""
        channel = worker.channel
        channel.hand_in(self.collectors)
        for word, arguments in channel.last_words():  # its end can be noticed before what it ended of
            if word in words:
                self.heard[word](worker, *arguments)
        for fd in (channel.asks.fileno(), channel.inbox.fd):
            self.selector.remove(fd)
        channel.close()
        self.workers.remove(worker)

    def flush(self) -> bool:
        """Hands over orders that pipes had no room for; gives whether those are all."""
        left = [worker for worker in self.workers if not worker.channel.orders.flush()]
        return not left

    def _on_observations(self, worker: Worker) -> None:
        if worker not in self.workers:
            return
        worker.channel.hand_in(self.collectors)
        if worker.channel.inbox.ended:
            self.selector.remove(worker.channel.inbox.fd)

    def _on_question(self, worker: Worker) -> None:
        if worker not in self.workers:
            return
        said = worker.channel.question()
        if said is None:
            self.selector.remove(worker.channel.asks.fileno())
            return
        method, of, arguments = said
        if method in self.heard:
            self.heard[method](worker, *arguments)
        else:
            self._answer(worker, method, of, arguments)

    def _answer(self, worker: Worker, method: str, of: str, arguments: tuple[Any, ...]) -> None:
        for other in self.workers:
            other.channel.hand_in(self.collectors)
        asked = self.catalog if of == PARENT else self.collectors.get(of)
        try:
            worker.channel.answer(asked, method, arguments)
        except OSError as error:
            logger.warning("worker %d does not read its answer (%s) and is ended", worker.process.pid, error)
            self.selector.remove(worker.channel.asks.fileno())
            worker.process.kill()

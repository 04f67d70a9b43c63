"""How all workers come to serve something else together: each prepares, and only when all have does it count.

The parent decides. It reads and verifies what is new, has a collector for it, and tells every worker to prepare; a
worker that starts meanwhile prepares, too. When all have, the change is made: workers that start from then on start
with it. Otherwise nothing has changed. One change is under way at a time.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Mapping
from math import inf

from runtime.errors import AddNormError, Unavailable
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import DROP, PREPARE, SERVE, Change, Operation, Outcomes, Participant, What
from service.repository.loader import defect, log_change, log_failure

logger = logging.getLogger("addnorm.service")

PATIENCE = 120.0  # seconds that all workers have together to prepare, and to confirm


class Rollout:
    """The parent's part in loading and unloading.

    Args:
        watch: seconds between two looks at the repository; None looks at it never.
    """

    def __init__(self, catalog: Catalog, collectors: CollectorPool, watch: float | None = None) -> None:
        self.catalog, self.collectors, self.watch = catalog, collectors, watch
        self.members: set[Participant] = set()  # workers that are not about to end
        self.queue: deque[Operation] = deque()
        self.current: Operation | None = None
        self.outcomes = Outcomes()
        self.next_look = time.monotonic() + watch if watch else inf
        self._numbers = itertools.count(1)

    # What workers ask on behalf of their clients

    def begin_load(self, name: str, version: str | None = None) -> int:
        """Begins to load a model; gives the number under which to ask for its outcome."""
        return self._add("load", name, version, requested=True)

    def begin_unload(self, name: str) -> int:
        """Begins to unload a model, likewise."""
        return self._add("unload", name, requested=True)

    def outcome(self, number: int) -> bool:
        """Whether it is done; raises the error if it was not possible."""
        if number in {operation.number for operation in (*self.queue, self.current) if operation}:
            return False
        self.outcomes.take(number)
        return True

    def index(self, ready: bool) -> list[dict[str, str]]:
        return self.catalog.index(ready)

    # What happens in the parent

    @property
    def due(self) -> float:
        """When there is something to do, on the monotonic clock."""
        if self.current is None and self.queue:
            return 0.0
        return min(self.next_look, self.current.deadline if self.current else inf)

    @property
    def idle(self) -> bool:
        return self.current is None and not self.queue

    def turn(self, now: float) -> None:
        """Does what is due."""
        if now >= self.next_look:
            assert self.watch
            self.next_look = now + self.watch
            for what, name in self.catalog.due():
                self._add(what, name)
        if self.current is not None and now >= self.current.deadline:
            self._give_up(self.current)
        if self.current is None and self.queue:
            self.current = self.queue.popleft()
            self._begin(self.current)

    def reconcile(self, failures: Mapping[str, AddNormError]) -> None:
        """Leaves out what a worker could not load at its start, for what else there is of these models."""
        for artifact in self.catalog.artifacts():
            if (digest := artifact.manifest.digest) in failures and digest not in self.catalog.rejected:
                self.catalog.reject(Change(artifact.manifest.name, {}, [artifact]), failures)
                self._add("mend", artifact.manifest.name)

    def joined(self, worker: Participant) -> None:
        """A worker was started with what is served now."""
        self.members.add(worker)
        if self.current is not None and self.current.change is not None and not self.current.decided:
            self._order_to_prepare(self.current, worker)

    def leaves(self, worker: Participant) -> None:
        """A worker is to end: what it prepares does not matter any more."""
        self.members.discard(worker)
        if self.current is not None and worker in self.current.waiting:
            self.current.waiting.discard(worker)
            self._proceed(self.current)

    def left(self, worker: Participant) -> None:
        """A worker has ended. If nobody told it to, and it was preparing, what it prepared may be why."""
        operation = self.current
        if operation is None or operation.decided or worker not in operation.waiting:
            self.leaves(worker)
            return
        self.members.discard(worker)
        self._fail(operation, Unavailable("A worker ended while it prepared, nothing was changed: see its log."))

    def prepared(self, worker: Participant, number: int, failures: Mapping[str, AddNormError]) -> None:
        """A worker has prepared, but for the failures."""
        if self.current is not None and self.current.round == number and not self.current.decided:
            self.current.failures |= failures
            self.current.waiting.discard(worker)
            self._proceed(self.current)

    def served(self, worker: Participant, number: int) -> None:
        """A worker answers with what was decided."""
        if self.current is not None and self.current.round == number and self.current.decided:
            self.current.waiting.discard(worker)
            self._proceed(self.current)

    # How an operation goes

    def _add(self, what: What, name: str, version: str | None = None, requested: bool = False) -> int:
        operation = Operation(next(self._numbers), what, name, version, requested)
        self.queue.append(operation)
        return operation.number

    def _begin(self, operation: Operation) -> None:
        try:
            operation.change = change = self._plan(operation)
        except AddNormError as error:
            self._end(operation, error)
            return
        except Exception:  # the parent serves all workers
            self._end(operation, defect(operation.name))
            return
        operation.round, operation.failures, operation.waiting = next(self._numbers), {}, set()
        operation.deadline = time.monotonic() + PATIENCE
        if not change.fresh:
            self._decide(operation, change)
        elif not self.members:
            self._fail(operation, Unavailable("No worker answers at present, nothing was changed: try again later."))
        else:
            for worker in self.members:
                self._order_to_prepare(operation, worker)

    def _plan(self, operation: Operation) -> Change:
        while True:
            if operation.what == "load":
                change = self.catalog.load(operation.name, operation.version)
            elif operation.what == "follow":
                change = self.catalog.follow(operation.name)
            elif operation.what == "mend":
                change = self.catalog.reconcile(operation.name)
            else:
                change = self.catalog.unload(operation.name)
            failures = self.collectors.open_all(change.fresh)
            if not failures:
                return change
            self.catalog.reject(change, failures)

    def _order_to_prepare(self, operation: Operation, worker: Participant) -> None:
        assert operation.change is not None
        wanted = [(artifact.path, artifact.manifest.digest) for artifact in operation.change.fresh]
        operation.waiting.add(worker)
        worker.order(PREPARE, operation.round, wanted)

    def _proceed(self, operation: Operation) -> None:
        """Goes on where all workers have done their part."""
        if operation.waiting:
            return
        assert operation.change is not None
        if operation.decided:
            self._end(operation, None)
        elif not operation.failures:
            self._decide(operation, operation.change)
        else:
            try:
                self.catalog.reject(operation.change, operation.failures)
            except AddNormError as error:
                self._fail(operation, error)
            else:
                self._drop(operation)
                self._begin(operation)

    def _decide(self, operation: Operation, change: Change) -> None:
        operation.decided = True
        self.catalog.commit(change)
        self.collectors.retain({artifact.manifest.digest for artifact in self.catalog.artifacts()})
        log_change(change)
        digests = [artifact.manifest.digest for artifact in change.artifacts.values()]
        operation.waiting = set(self.members)
        for worker in self.members:
            worker.order(SERVE, operation.round, change.name, digests, self.catalog.default_name)
        self._proceed(operation)

    def _give_up(self, operation: Operation) -> None:
        pids = ", ".join(str(worker.pid) for worker in operation.waiting)
        if operation.decided:
            logger.warning("worker %s has not confirmed a change of model %s", pids, operation.name)
            self._end(operation, None)
        else:
            message = f"Worker {pids} is not ready after {PATIENCE:g} s, nothing was changed: see its log."
            self._fail(operation, Unavailable(message))

    def _fail(self, operation: Operation, error: AddNormError) -> None:
        self._drop(operation)
        self._end(operation, error)

    def _drop(self, operation: Operation) -> None:
        operation.change = None
        for worker in self.members:
            worker.order(DROP)
        self.collectors.retain({artifact.manifest.digest for artifact in self.catalog.artifacts()})

    def _end(self, operation: Operation, error: AddNormError | None) -> None:
        self.current = None
        if operation.requested:
            self.outcomes.add(operation.number, error)
        elif error is not None:
            log_failure(operation.name, error)

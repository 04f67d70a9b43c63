"""How all that serve come to serve something else together: each prepares, and only when all have does it count.

It is a two-phase commit. The rollout decides: it plans a change (reads and verifies what is new, and has a collector
for it) and tells every participant to prepare; one that joins meanwhile prepares, too. When all have, the change is
made: who joins from then on starts with it. Otherwise nothing has changed. One change is under way at a time.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from math import inf

from runtime.errors import AddNormError, Unavailable
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.repository.change import (
    DONE,
    DROP,
    LOAD,
    PREPARE,
    PREPARED,
    SERVE,
    SERVED,
    UNLOAD,
    Change,
    Operation,
    Participant,
)
from service.repository.loader import Run, run_at_once, suspected
from service.repository.planner import Changes, Planner

logger = logging.getLogger("addnorm.service")

PATIENCE = 120.0  # seconds that all participants have together to prepare, and to confirm
READING = 120.0  # seconds that the disk has to give what a plan reads


class Rollout:
    """Changes what all participants serve.

    Its methods are called in one thread, and none waits where `run` does not.

    Args:
        watch: seconds between two looks at the repository; None looks at it never.
        patience: seconds that all participants have together to prepare, and to confirm.
        run: where statistics are kept and closed: here, or in another thread, one job after the other.
        read: where the repository is read, which may take long: in another thread, or in another process.

    Attributes:
        heard: what participants say, and who hears it.
    """

    heard: dict[str, Callable[..., None]]

    def __init__(
        self,
        catalog: Catalog,
        collectors: CollectorPool,
        watch: float | None = None,
        patience: float = PATIENCE,
        run: Run = run_at_once,
        read: Run = run_at_once,
    ) -> None:
        self.catalog, self.collectors, self.watch, self.patience = catalog, collectors, watch, patience
        self.run, self.planner = run, Planner(catalog, collectors, run, read)
        self.members: set[Participant] = set()  # participants that are not about to end
        self.queue: deque[Operation] = deque()
        self.current: Operation | None = None
        self.next_look = time.monotonic() + watch if watch else inf
        self.heard = {LOAD: self.load, UNLOAD: self.unload, PREPARED: self.prepared, SERVED: self.served}
        self._rounds = itertools.count(1)

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
            self.next_look = inf  # until this look is over
            self.planner.look(self._looked)
        if self.current is not None and now >= self.current.deadline:
            self._give_up(self.current)
        if self.current is None and self.queue:
            self.current = self.queue.popleft()
            self._begin(self.current)

    def reconcile(self, failures: Mapping[str, AddNormError]) -> None:
        """Leaves out what a participant could not load at its start, for what else there is of these models."""
        for artifact in self.catalog.artifacts():
            if (digest := artifact.manifest.digest) in failures and digest not in self.catalog.rejected:
                name = artifact.manifest.name
                self.catalog.reject(Change(name, {}, [artifact]), failures)
                self._add(name, Catalog.reconcile)

    # Who takes part

    def joined(self, participant: Participant) -> None:
        """It was started with what is served now."""
        self.members.add(participant)
        if self.current is not None and self.current.change is not None and not self.current.decided:
            self._order_to_prepare(self.current, self.current.change, participant)

    def leaves(self, participant: Participant) -> None:
        """It is to end: what it prepares does not matter any more."""
        self.members.discard(participant)
        if self.current is not None and participant in self.current.waiting:
            self.current.waiting.discard(participant)
            self._proceed(self.current)

    def left(self, participant: Participant) -> None:
        """The participant has ended. If it ended while it prepared, the operation fails: it may be the cause."""
        operation = self.current
        if operation is None or operation.decided or participant not in operation.waiting:
            self.leaves(participant)
            return
        self.members.discard(participant)
        self._fail(operation, suspected("A worker ended while it prepared, nothing was changed: see its log."))

    # What participants say

    def load(self, participant: Participant, number: int, name: str, version: str | None = None) -> None:
        """A client of the participant asks to load a model. DONE with the same `number` carries the result."""
        plan = partial(Catalog.load, name=name, version=version)
        self.queue.append(Operation(name, plan, partial(participant.order, DONE, number)))

    def unload(self, participant: Participant, number: int, name: str) -> None:
        """A client of the participant asks to unload a model. DONE with the same `number` carries the result."""
        plan = partial(Catalog.unload, name=name)
        self.queue.append(Operation(name, plan, partial(participant.order, DONE, number)))

    def prepared(self, participant: Participant, number: int, failures: Mapping[str, AddNormError]) -> None:
        """It has prepared, but for the failures."""
        if self.current is not None and self.current.round == number and not self.current.decided:
            self.current.failures |= failures
            self.current.waiting.discard(participant)
            self._proceed(self.current)

    def served(self, participant: Participant, number: int) -> None:
        """It answers with what was decided."""
        if self.current is not None and self.current.round == number and self.current.decided:
            self.current.waiting.discard(participant)
            self._proceed(self.current)

    # How an operation goes

    def _looked(self, found: Changes | AddNormError) -> None:
        self.next_look = time.monotonic() + (self.watch or inf)
        if isinstance(found, AddNormError):
            logger.warning("%s What is loaded goes on.", found)
            return
        for plan, name in found:
            self._add(name, plan)

    def _add(self, name: str, plan: Callable[..., Change]) -> None:
        """What nobody asked for."""
        self.queue.append(Operation(name, partial(plan, name=name), partial(self.planner.ended, name, plan)))

    def _begin(self, operation: Operation) -> None:
        operation.round, operation.failures = next(self._rounds), {}
        operation.deadline = time.monotonic() + READING
        self.planner.plan(operation.name, operation.plan, partial(self._planned, operation, operation.round))

    def _planned(self, operation: Operation, number: int, change: Change | AddNormError | None) -> None:
        if operation is not self.current or number != operation.round:
            return  # it was given up
        if change is None:
            self._begin(operation)
            return
        if isinstance(change, AddNormError):
            self._end(operation, change)
            return
        operation.change = change
        operation.deadline = time.monotonic() + self.patience
        if not change.fresh:
            self._decide(operation, change)
        elif not self.members:
            self._fail(operation, Unavailable("No worker answers at present, nothing was changed: try again later."))
        else:
            for participant in self.members:
                self._order_to_prepare(operation, change, participant)

    def _order_to_prepare(self, operation: Operation, change: Change, participant: Participant) -> None:
        operation.waiting.add(participant)
        participant.order(PREPARE, operation.round, change.fresh)

    def _proceed(self, operation: Operation) -> None:
        """Goes on where all participants have done their part."""
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
        self.planner.decided(change)
        digests = [artifact.manifest.digest for artifact in change.artifacts.values()]
        operation.waiting = set(self.members)
        for participant in self.members:
            participant.order(SERVE, operation.round, change.name, digests, self.catalog.default_name)
        self._proceed(operation)

    def _give_up(self, operation: Operation) -> None:
        pids = ", ".join(str(participant.pid) for participant in operation.waiting)
        if operation.change is None:
            message = f"The repository could not be read within {READING:g} s, nothing was changed: look at its disk."
            self._end(operation, Unavailable(message))
        elif operation.decided:
            logger.warning("worker %s has not confirmed a change of model %s", pids, operation.name)
            self._end(operation, None)
        else:
            message = f"Worker {pids} is not ready after {self.patience:g} s, nothing was changed: see its log."
            self._fail(operation, suspected(message))

    def _fail(self, operation: Operation, error: AddNormError) -> None:
        self._drop(operation)
        self._end(operation, error)

    def _drop(self, operation: Operation) -> None:
        operation.change = None
        for participant in self.members:
            participant.order(DROP)

    def _end(self, operation: Operation, error: AddNormError | None) -> None:
        self.current = None
        operation.done(error)
        digests = {artifact.manifest.digest for artifact in self.catalog.artifacts()}
        self.run(partial(self.collectors.retain, digests), lambda _: None)

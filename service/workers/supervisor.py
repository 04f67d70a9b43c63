"""Several worker processes on one port, and the parent that starts them, counts for all of them and looks after them.

The parent has no threads that take part, so that it can fork at any time. It owns the Collectors, decides what is
served, and keeps the listening sockets open: what connects while a worker starts again waits for it. Where workers fall
again and again, clients would wait in vain: until one is ready there, its socket is given no connections.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

from runtime.errors import AddNormError, Unavailable
from runtime.store.sqlite import INTERVAL
from service.inference.engine import Graphs
from service.norm_stats.pool import CollectorPool
from service.process import GRACE
from service.repository.catalog import Catalog
from service.repository.change import FAILED, READY, Failures
from service.repository.rollout import READING, Rollout
from service.settings import Settings
from service.sockets import listen_again, pause
from service.telemetry.aggregator import Aggregator
from service.workers.channel import SupervisorEnd
from service.workers.conversations import Conversations
from service.workers.fleet import FleetProcess
from service.workers.fork import GATHER, Restarts, Selector, Worker, describe_exit, fork, signals_as_bytes
from service.workers.heartbeat import Heartbeat, Watchdog
from service.workers.reader import Reader
from service.workers.worker import Assignment, Placements, work

logger = logging.getLogger("addnorm.service")


class Supervisor:
    """Runs a worker for every listener, until a signal.

    SIGTERM or SIGINT lets them answer what they accepted, once the drain delay is over; another signal ends that delay,
    a further SIGINT everything. SIGHUP puts new workers in the place of the old ones, one after the other.

    Args:
        catalog: what they are to serve.
        announce: called once, when all are ready, with where the models run.
        graphs: of artifacts, by digest, for the workers to run; they are not run here.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        collectors: CollectorPool,
        listeners: list[socket.socket],
        announce: Callable[[Placements], None],
        graphs: dict[str, Graphs],
    ) -> None:
        self.settings, self.catalog, self.collectors, self.graphs = settings, catalog, collectors, graphs
        self.listeners, self.announce, self.aggregator = listeners, announce, Aggregator()
        self.selector, self.restarts, self.watchdog = Selector(), Restarts(), Watchdog()
        self.reader = Reader(self.selector, self._inherited, READING)
        self.fleet = FleetProcess(settings, collectors, self.selector, self._inherited)
        self.rollout = Rollout(catalog, collectors, settings.watch, read=self.reader.run)
        heard: dict[str, Callable[..., None]] = {READY: self._on_ready, FAILED: self._on_failure, **self.rollout.heard}
        self.conversations = Conversations(catalog, collectors, self.selector, heard)
        self.placements, self.workers = Placements(), self.conversations.workers
        self.failure: AddNormError | None = None
        self.announced = self.stopping = False
        self.rolling: list[int] = []  # slots that are to get a new worker
        self.leave_at = self.deadline = float("inf")
        self.next_save = time.monotonic() + INTERVAL
        self.lifeline, self._lifeline_end = os.pipe()  # the workers read the first; the parent's death closes the other

    def run(self) -> None:
        """Returns when a signal has ended the workers, and what they saw is kept.

        Raises:
            AddNormError: a worker could not be made ready at the start.
        """
        with signals_as_bytes() as (alarm, number):
            self.selector.add(alarm, lambda: self._on_signal(number()))
            try:
                for slot in range(len(self.listeners)):
                    if not self.stopping:
                        self._start(slot)
                while self.workers or not self.stopping:
                    self._turn()
                self.fleet.finish()
            finally:
                os.close(self._lifeline_end)  # workers that a defect left behind end
                self.reader.close()
                self.collectors.close()
        if self.failure is not None:
            raise self.failure

    def _turn(self) -> None:
        now = time.monotonic()
        self.watchdog.look(self.workers, now)
        for slot in self.restarts.pop(now):
            self._start(slot)
        if now >= self.next_save:
            self.collectors.keep()
            self.fleet.keep_running()
            self.next_save = time.monotonic() + INTERVAL
        if now >= self.leave_at:
            self._leave()
        if now >= self.deadline:
            self._kill()
        self.reader.turn(now)
        self.rollout.turn(now)
        self._announce_once()
        orders_due = float("inf") if self.conversations.flush() else now + GATHER
        dues = self.next_save, self.leave_at, self.deadline, self.rollout.due, self.reader.due, self.restarts.due
        self.selector.turn(min(*dues, orders_due) - time.monotonic())

    def _inherited(self, slot: int | None = None) -> list[Callable[[], None]]:
        closing: list[Callable[[], None]] = [worker.channel.close for worker in self.workers]
        closing += [listener.close for number, listener in enumerate(self.listeners) if number != slot]
        return [*closing, *self.fleet.closing, partial(os.close, self._lifeline_end)]

    def _start(self, slot: int) -> None:
        try:
            worker = self._fork(slot)
        except OSError as error:  # of processes, memory or files, which may pass
            self._on_loss(slot, f"a worker cannot be started ({error.strerror})")
            return
        self.conversations.add(worker)
        self.selector.add(worker.process.sentinel, partial(self._on_end, worker))
        self.rollout.joined(worker)

    def _fork(self, slot: int) -> Worker:
        share, heartbeat = Assignment.of(self.catalog, self.graphs, whole=self.announced), Heartbeat()
        channel = SupervisorEnd(len(self.listeners), self.aggregator)
        body = partial(work, self.settings, share, channel.worker_end, self.listeners[slot], self.lifeline, heartbeat)
        try:
            process = fork(body, [channel.close, *self._inherited(slot), self.catalog.release_contents])
        except OSError:
            channel.close()
            raise
        finally:
            channel.close_worker_end()
        return Worker(slot, process, channel, heartbeat, time.monotonic())

    def _on_ready(self, worker: Worker, placements: Placements, failures: Failures) -> None:
        worker.ready = True
        if self.stopping:
            return
        if not self.announced:
            self.placements |= placements
            self.rollout.reconcile(failures)
        listen_again(self.listeners[worker.slot])  # it may have been paused since the worker listened
        self._pause_falling()
        for other in self.workers:
            if other.slot == worker.slot and other is not worker:
                other.retiring = True
                self.rollout.leaves(other)
                other.process.terminate()
        if self.rolling and self.rolling[0] == worker.slot:
            self._roll(self.rolling[1:])

    def _announce_once(self) -> None:
        ready = sum(worker.ready for worker in self.workers) == len(self.listeners)
        if ready and self.rollout.idle and not (self.announced or self.stopping):
            self.announced = True
            self.catalog.settle()
            self.announce(self.placements)

    def _on_failure(self, worker: Worker, error: AddNormError) -> None:
        if self.announced:
            logger.error("worker %d cannot start: %s", worker.process.pid, error)
        else:
            self.failure = self.failure or error

    def _on_end(self, worker: Worker) -> None:
        worker.process.join()
        self.selector.remove(worker.process.sentinel)
        self.conversations.end(worker, FAILED)
        worker.heartbeat.close()
        if self.stopping or worker.retiring:
            self.rollout.leaves(worker)
            return
        self.rollout.left(worker)
        how = f"worker {worker.process.pid} ended ({describe_exit(worker.process.exitcode)})"
        self._on_loss(worker.slot, how, worker.ready, worker.steady)

    def _on_loss(self, slot: int, how: str, was_ready: bool = False, was_steady: bool = False) -> None:
        """A slot lost its worker, or another that was to relieve it."""
        if self.stopping:
            return
        if not self.announced:
            self.failure = self.failure or Unavailable(f"The service cannot start, {how}: see its log.")
            self._stop()
            return
        self.restarts.note(slot, fell=not was_steady)
        if any(other.slot == slot and not other.retiring for other in self.workers):  # relieved, or its relief
            if not was_ready:
                logger.error("%s, in the place of an old one: workers that were not replaced by now stay", how)
                self.rolling = []
            return
        seconds = self.restarts.add(slot)
        logger.error("%s: another starts in %g s", how, seconds)
        self._pause_falling()

    def _pause_falling(self) -> None:
        """Leaves connections to others where workers fall again and again; one that answers keeps the port."""
        if any(worker.ready and not worker.retiring for worker in self.workers):
            # where one is starting, it may listen already
            for slot in self.restarts.falling - {worker.slot for worker in self.workers}:
                pause(self.listeners[slot])

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            if self.announced and not self.stopping and not self.rolling:
                logger.info("new workers take the place of the old ones")
                self._roll(list(range(len(self.listeners))))
        elif not self.stopping:
            self._stop(self.settings.drain_delay)
        elif self.leave_at < float("inf"):
            self._leave()
        elif number == signal.SIGINT:
            self._kill()

    def _roll(self, slots: list[int]) -> None:
        self.rolling = slots
        if slots:
            self._start(slots[0])

    def _stop(self, delay: float = 0.0) -> None:
        """Tells whoever asks that the service is not ready any more, and ends it after `delay` seconds."""
        self.stopping = self.aggregator.stopping = True
        self.restarts.clear()
        self.leave_at = time.monotonic() + delay
        if not delay:
            self._leave()

    def _leave(self) -> None:
        self.leave_at, self.deadline = float("inf"), time.monotonic() + GRACE + 3
        for listener in self.listeners:
            listener.close()
        for worker in self.workers:
            worker.process.terminate()

    def _kill(self) -> None:
        self.deadline = float("inf")
        for worker in self.workers:
            logger.warning("worker %d does not end and is killed", worker.process.pid)
            worker.process.kill()

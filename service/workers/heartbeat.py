"""Signs of life: how the supervisor notices a worker that hangs, and ends it."""

import logging
import mmap
import struct
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from typing import Protocol

logger = logging.getLogger("addnorm.service")

BEAT, HUNG = 1.0, 4.0  # seconds between two signs of life, and without any until a worker is taken for hung


class Heartbeat:
    """When a worker last gave a sign of life (monotonic seconds), in memory that it shares with its parent.

    A thread gives it, so that one that computes for long or loads a model is not taken for hung.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 8)
        self.beat()

    def beat(self) -> None:
        self._page[:] = struct.pack("d", time.monotonic())

    @property
    def last(self) -> float:
        return float(struct.unpack("d", self._page[:])[0])

    def close(self) -> None:
        self._page.close()


class Alive(Protocol):
    """A worker."""

    process: BaseProcess
    heartbeat: Heartbeat


class Watchdog:
    """Kills workers that give no sign of life: others take their places, and what waits for them on their ports."""

    def __init__(self) -> None:
        self.last_look = time.monotonic()

    def look(self, workers: Iterable[Alive], now: float) -> None:
        """Looks at all, at `now` on the monotonic clock."""
        paused, self.last_look = now - self.last_look > HUNG / 2, now
        for worker in workers:
            silent = now - worker.heartbeat.last
            if silent <= HUNG:
                continue
            worker.heartbeat.beat()  # until its end is noticed, or until its turn comes
            if not paused:  # this process too, otherwise: nobody had a turn
                logger.error("worker %d gave no sign of life for %.0f s and is killed", worker.process.pid, silent)
                worker.process.kill()

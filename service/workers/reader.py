"""Jobs that read a disk, each in a process of its own: one that hangs holds up nobody, and is ended."""

import logging
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from runtime.errors import Unavailable
from service.workers.fork import Selector, fork

logger = logging.getLogger("addnorm.service")

CHUNK = 1 << 20  # bytes of a result that are read at once, before others have their turn
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Job:
    process: BaseProcess
    fd: int  # where its result comes from
    then: Callable[[Any], None]
    deadline: float
    chunks: list[bytes] = field(default_factory=list)


class Reader:
    """Runs jobs without waiting for them.

    Args:
        selector: tells when a result can be read.
        cleanups: what a forked process closes of its parent's.
        patience: seconds that a job has.
    """

    def __init__(self, selector: Selector, cleanups: Callable[[], list[Callable[[], None]]], patience: float) -> None:
        self.selector, self.cleanups, self.patience = selector, cleanups, patience
        self.jobs: list[Job] = []

    def run(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """Calls `then` with what `job` gives, or with the error that it could not be had."""
        try:
            process, reading = self._start(job)
        except OSError as error:
            then(Unavailable(f"No process to read the disk can be started ({error.strerror}): try again later."))  # type: ignore[arg-type]
            return
        started = Job(process, reading, then, time.monotonic() + self.patience)
        self.jobs.append(started)
        self.selector.add(reading, partial(self._receive, started))

    def _start(self, job: Callable[[], object]) -> tuple[BaseProcess, int]:
        reading, writing = os.pipe()
        try:
            return fork(partial(send_result, job, writing), [*self.cleanups(), partial(os.close, reading)]), reading
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    @property
    def due(self) -> float:
        """When a job has had its time, on the monotonic clock."""
        return min((job.deadline for job in self.jobs), default=inf)

    def turn(self, now: float) -> None:
        """Ends jobs that have had their time."""
        for job in [job for job in self.jobs if now >= job.deadline]:
            job.process.kill()
            self._end(job, Unavailable(f"The disk gave nothing within {self.patience:g} s: nothing was changed."))

    def close(self) -> None:
        for job in self.jobs:
            job.process.kill()

    def _receive(self, job: Job) -> None:
        if chunk := os.read(job.fd, CHUNK):
            job.chunks.append(chunk)
            return
        try:
            result = pickle.loads(b"".join(job.chunks))
        except (EOFError, pickle.UnpicklingError):
            result = Unavailable("The process that read the disk ended before it had: nothing was changed, try again.")
        self._end(job, result)

    def _end(self, job: Job, result: Any) -> None:
        self.jobs.remove(job)
        self.selector.remove(job.fd)
        os.close(job.fd)
        self.selector.add(job.process.sentinel, partial(self._bury, job.process))
        job.then(result)

    def _bury(self, process: BaseProcess) -> None:
        self.selector.remove(process.sentinel)
        process.join()


def send_result(job: Callable[[], object], fd: int) -> None:
    rest = memoryview(pickle.dumps(job(), protocol=5))
    while rest:
        rest = rest[os.write(fd, rest) :]

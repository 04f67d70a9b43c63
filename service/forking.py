"""A worker process as its parent sees it: how it is forked, how it ended, when it may start again."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from service.link import Link
from service.signals import SIGNALS

STEADY = 1.0  # a worker that lives shorter (seconds) falls
LONGEST_PAUSE = 30.0  # seconds


@dataclass(eq=False, slots=True)
class Worker:
    """A worker process, as the parent sees it.

    Attributes:
        slot: which of the listening sockets it accepts from.
        started: seconds of the monotonic clock.
        ready: whether it answers.
        retiring: whether it was told to end, and another takes its place.
    """

    slot: int
    process: BaseProcess
    link: Link
    started: float
    ready: bool = False
    retiring: bool = False


def pause(falls: int) -> float:
    """Seconds to wait before a worker is started that fell (ended too soon) `falls` times in a row: 0, 1, 2, 4 ..."""
    return min(2.0 ** (falls - 1), LONGEST_PAUSE) if falls else 0.0


def fork(body: Callable[[], None], let_go: Sequence[Callable[[], None]]) -> BaseProcess:
    """Starts a process that calls `body`, with the signals that the parent waits for blocked.

    Args:
        let_go: what closes the parent's ends in the new process, so that the parent's death is noticed there, and
            forgets what it has no use for. The files of the statistics are not among them: closing one would tidy it
            up under the parent's hands.
    """

    def run() -> None:
        for close in let_go:
            close()
        body()

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they must not reach the parent's handlers in the new process
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return process


def ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {-exitcode}"
    return f"exit code {exitcode}"

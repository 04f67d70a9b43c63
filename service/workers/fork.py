"""A worker process as its parent sees it: how it is forked, how it ended, when it may start again."""

import multiprocessing
import os
import selectors
import signal
import socket
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from multiprocessing.process import BaseProcess

from service.process import STOPS
from service.workers.channel import SupervisorEnd
from service.workers.heartbeat import Heartbeat

STEADY = 1.0  # a worker that lives shorter (seconds) falls
LONGEST_PAUSE = 30.0  # seconds
SIGNALS = (*STOPS, signal.SIGHUP)

GATHER = 0.01  # seconds in which observations gather in their pipes, to be counted at once


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
    channel: SupervisorEnd
    heartbeat: Heartbeat
    started: float
    ready: bool = False
    retiring: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    @property
    def steady(self) -> bool:
        """Whether it has answered, and for a while: if it ends now, that is no fall."""
        return self.ready and time.monotonic() - self.started >= STEADY

    def order(self, what: str, *arguments: object) -> None:
        """Tells it what is to be served, or how a change ended that it asked for."""
        self.channel.order(what, *arguments)


class Restarts:
    """When workers that ended are started again: at once, but for those that end too soon again and again."""

    def __init__(self) -> None:
        self._falls: defaultdict[int, int] = defaultdict(int)  # in a row, by slot
        self._due: dict[int, float] = {}  # slot -> when, on the monotonic clock

    def note(self, slot: int, fell: bool) -> None:
        """A worker of the slot has ended, too soon or later, or could not be started."""
        self._falls[slot] = self._falls[slot] + 1 if fell else 0

    @property
    def falling(self) -> set[int]:
        """Slots whose workers fell again and again."""
        return {slot for slot, falls in self._falls.items() if falls > 1}

    def add(self, slot: int) -> float:
        """Another is to be started there; gives in how many seconds."""
        seconds = restart_delay(self._falls[slot])
        self._due[slot] = time.monotonic() + seconds
        return seconds

    @property
    def due(self) -> float:
        return min(self._due.values(), default=inf)

    def pop(self, now: float) -> list[int]:
        """The slots in which another is due."""
        slots = [slot for slot, due in self._due.items() if due <= now]
        for slot in slots:
            del self._due[slot]
        return slots

    def clear(self) -> None:
        self._due.clear()


def restart_delay(falls: int) -> float:
    """Seconds to wait before a worker is started that fell (ended too soon) `falls` times in a row: 0, 1, 2, 4 ..."""
    return min(2.0 ** (falls - 1), LONGEST_PAUSE) if falls else 0.0


def fork(body: Callable[[], None], cleanups: Sequence[Callable[[], None]]) -> BaseProcess:
    """Starts a process that calls `body`, with the signals that the parent waits for blocked.

    Args:
        cleanups: close the parent's ends in the new process, so that the parent's death is noticed there, and forget
            what it has no use for. The files of the statistics are not among them: closing one would tidy it up under
            the parent's hands.

    Raises:
        OSError: the system gives no further process, memory or file at present.
    """

    def run() -> None:
        for clean_up in cleanups:
            clean_up()
        body()

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they must not reach the parent's handlers in the new process
    try:
        process.start()
    except OSError as error:
        close_pipes(error)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return process


def close_pipes(error: OSError) -> None:
    """Closes what multiprocessing leaves open where a fork fails: who tries again would run out of files."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_launch":
            for name in frame.f_locals.keys() & {"parent_r", "parent_w", "child_r", "child_w"}:
                os.close(frame.f_locals[name])


def describe_exit(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"signal {-exitcode}"
    return f"exit code {exitcode}"


@contextmanager
def signals_as_bytes() -> Iterator[tuple[int, Callable[[], int]]]:
    """Turns the signals that stop or roll into bytes: what to wait for, and how to read the number of the next."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    signal.set_wakeup_fd(writing.fileno())
    try:
        yield reading.fileno(), lambda: reading.recv(1)[0]
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


class Selector:
    """Urgent ones, and those that can wait until more has gathered."""

    def __init__(self) -> None:
        self._everything, self._urgent = selectors.DefaultSelector(), selectors.DefaultSelector()

    def add(self, fd: int, callback: Callable[[], None], urgent: bool = True) -> None:
        for selector in (self._everything, self._urgent) if urgent else (self._everything,):
            selector.register(fd, selectors.EVENT_READ, callback)

    def remove(self, fd: int) -> None:
        for selector in (self._everything, self._urgent):
            if fd in selector.get_map():
                selector.unregister(fd)

    def turn(self, seconds: float) -> None:
        """Waits for any, no longer than that, and calls back; then gathers, unless an urgent one can be read."""
        for key, _ in self._everything.select(max(0.0, seconds)):
            key.data()
        self._urgent.select(GATHER)

"""Signals as bytes to wait for beside other things, so that no handler runs between two lines of code."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOPS, signal.SIGHUP)


@contextmanager
def woken_by_signals() -> Iterator[tuple[int, Callable[[], int]]]:
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

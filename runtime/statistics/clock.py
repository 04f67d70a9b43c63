"""The time by which traffic is counted: it never goes back, whatever is done to the system's clock."""

import threading
import time
from collections.abc import Callable

JUMP = 2.5  # seconds: a system's clock that is further ahead was set, or the machine was suspended


def steady_clock() -> Callable[[], float]:
    """Unix seconds that go on evenly, and forwards to the system's where that has jumped ahead."""
    offset, lock = time.time() - time.monotonic(), threading.Lock()

    def now() -> float:
        nonlocal offset
        system, passed = time.time(), time.monotonic()  # in this order: a pause between them looks like no jump
        if system - passed > offset + JUMP:
            with lock:
                offset = max(offset, system - passed)
        return offset + passed

    return now

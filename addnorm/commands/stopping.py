"""SIGTERM, by which containers and jobs of clusters are stopped, is to train and score what Ctrl+C is."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl+C does: nothing half is left. Use as a context manager or decorator."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

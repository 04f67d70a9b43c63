"""The file descriptors that a parent waits for, and what it does when one can be read."""

import selectors
from collections.abc import Callable

GATHER = 0.01  # seconds in which observations gather in their pipes, to be counted at once


class Watched:
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

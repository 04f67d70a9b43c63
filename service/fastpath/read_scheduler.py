"""Keeps the rounds of the event loop short, however much comes.

libuv hands out what lies in its sockets for as long as there is more, up to 49,152 times (48 x 1,024 events), and who
is answered meanwhile sends again: under an overload a round took seconds, in which nobody else's connection was set up.
What comes late in a round is therefore only taken from its socket, and read in one of the next, first come, first read.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

ROUND = 0.01  # seconds in which a round reads on; some hundred requests, or a thousand that are refused


class Reader(Protocol):
    """A connection."""

    def read(self, data: bytes) -> None: ...

    def pause_reading(self) -> None:
        """Takes nothing more from its socket."""

    def resume_reading(self) -> None:
        """Goes on."""


class ReadScheduler:
    """What was taken from sockets and is not read yet, first come, first read.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.until: float | None = None  # when reading ends, of the round that runs
        self.waiting: OrderedDict[Reader, list[bytes]] = OrderedDict()  # of which the first is had at once

    def receive(self, reader: Reader, data: bytes) -> None:
        """Lets `reader` read what came, at once or in one of the next rounds."""
        if self.until is None:
            self.until = self.clock() + ROUND
            asyncio.get_running_loop().call_soon(self._next_round)
        if not self.waiting and self.clock() < self.until:
            reader.read(data)
        elif reader in self.waiting:
            self.waiting[reader].append(data)
            reader.pause_reading()  # it is not one that awaits an answer before it goes on
        else:
            self.waiting[reader] = [data]

    def forget(self, reader: Reader) -> None:
        """Its connection is gone."""
        self.waiting.pop(reader, None)

    def _next_round(self) -> None:
        self.until = None
        if not self.waiting:
            return
        until = self.until = self.clock() + ROUND
        asyncio.get_running_loop().call_soon(self._next_round)
        while self.waiting and self.clock() < until:
            reader, chunks = self.waiting.popitem(last=False)
            if len(chunks) > 1:
                reader.resume_reading()
            reader.read(b"".join(chunks))

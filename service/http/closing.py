"""How a connection ends whose client still sends, or does not read."""

import asyncio
import weakref
from typing import Protocol


class Connection(Protocol):
    transport: asyncio.Transport

    def end(self) -> None:
        """Closes the connection, once its client had the time to read."""


class GentleTransport:
    """A connection's transport, as uvicorn's RequestResponseCycle uses it: how it is closed is left to the connection.

    uvicorn closes it at once. With bytes unread that is a reset, and the client never reads the answer.
    """

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: Connection) -> None:
        self._connection = weakref.ref(connection)  # which refers to the cycle
        self.write, self.is_closing = connection.transport.write, connection.transport.is_closing

    def close(self) -> None:
        if (connection := self._connection()) is not None:
            connection.end()


def abandon_unread(transport: asyncio.Transport) -> None:
    """Ends a connection whose client has not read all of an answer.

    What writes it would be cancelled when the time to stop is over, and uvicorn logs that as a defect.
    """
    if transport.get_write_buffer_size():
        transport.abort()

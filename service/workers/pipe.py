"""A one-way pipe between processes that carries whole messages, however their bytes arrive."""

import logging
import os
import pickle
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

logger = logging.getLogger("addnorm.service")

HEADER = struct.Struct("<Q")  # bytes of the message that follows
CAPACITY = 1 << 20  # bytes a pipe holds, as far as the kernel allows; about a quarter second of full load


class Outbox:
    """The end that sends; of one process, whose threads may share it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Hands over a message: it has left this process when this returns. Waits while the pipe is full.

        Raises:
            OSError: nobody is left to receive it.
        """
        rest = memoryview(framed(message))
        with self._lock:
            while rest:
                rest = rest[os.write(self.fd, rest) :]

    def close(self) -> None:
        os.close(self.fd)
        self.fd = -1  # what is sent late must not reach another file of that number


class Backlog:
    """The end that sends and never waits: what the pipe does not take is kept. It is of one thread.

    Two processes that waited for each other's pipes would wait for ever.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)
        self._rest = bytearray()

    def send(self, message: object) -> None:
        """Hands over a message, or what the pipe takes of it; `flush` does the rest."""
        self._rest += framed(message)
        self.flush()

    def flush(self) -> bool:
        """Hands over what the pipe takes by now; gives whether that is all."""
        try:
            while self._rest:
                del self._rest[: os.write(self.fd, self._rest)]
        except BlockingIOError:
            return False
        except OSError:  # nobody is left to receive it, which its end tells
            self._rest.clear()
        return True

    def close(self) -> None:
        os.close(self.fd)
        self.fd = -1


def framed(message: object) -> bytes:
    content = pickle.dumps(message, protocol=5)
    return HEADER.pack(len(content)) + content


class Inbox:
    """The end that receives. It never waits: not for a sender that was stopped or killed halfway either."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)
        self.ended = False
        self._rest = b""

    def receive(self) -> list[Any]:
        """The messages that were handed over by now, in order; the beginning of another waits for its end."""
        content, at, messages = self._rest + b"".join(self._chunks()), 0, []
        while len(content) >= at + HEADER.size:
            (size,) = HEADER.unpack_from(content, at)
            start, end = at + HEADER.size, at + HEADER.size + size
            if end > len(content):
                break
            messages.append(pickle.loads(memoryview(content)[start:end]))
            at = end
        self._rest = content[at:]
        return messages

    def _chunks(self) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while chunk := os.read(self.fd, CAPACITY):
                yield chunk
            self.ended = True

    def close(self) -> None:
        os.close(self.fd)


def open_pipe() -> tuple[Inbox, Outbox]:
    """One that holds CAPACITY where the system can."""
    reading, writing = os.pipe()
    try:
        with suppress(ImportError, AttributeError):  # it may not be Linux
            import fcntl

            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, CAPACITY)
    except OSError as error:
        logger.warning("a worker's pipe holds less than it should (%s): raise fs.pipe-user-pages-soft", error.strerror)
    return Inbox(reading), Outbox(writing)


def open_backlog() -> tuple[Inbox, Backlog]:
    """One whose sender never waits."""
    reading, writing = os.pipe()
    return Inbox(reading), Backlog(writing)

"""Request heads that were parsed before: a client on a kept connection sends the same bytes again and again.

What the parser made of them once, it would make of them again: they need not pass it a second time.
"""

from typing import NamedTuple

from service.telemetry.counters import Headers
from service.telemetry.request_log import REQUEST_ID_HEADER

START = b"POST %s HTTP/1.1\r\n"
END = b"\r\n\r\n"
KNOWN_HEADS = 1024  # then all are forgotten: clients that put something new into each head would fill the memory
HEAD_BYTES = 2048  # longest that is kept


class Head(NamedTuple):
    """What a parser made of a head.

    Attributes:
        length: bytes of the body.
        url: as the client wrote it.
    """

    headers: Headers
    length: int
    url: bytes


class HeadCache:
    """The request heads of plain requests that a process has parsed.

    Attributes:
        known: what the parser made of them, by their bytes.
    """

    def __init__(self) -> None:
        self.known: dict[bytes, Head] = {}

    def learn(self, head: bytes, headers: Headers, url: bytes) -> None:
        """Remembers a head that began a connection's next message, and that the parser took for a plain request's.

        One that names its request is not worth it: the next will have another name.

        Args:
            head: its bytes, up to the empty line, which is one of them.
            headers, url: what the parser found in it, names in lower case.
        """
        lengths = [value for name, value in headers if name == b"content-length"]
        names = {name for name, _ in headers}
        if (
            not head.startswith(START % url)
            or head.find(END) != len(head) - len(END)
            or len(head) > HEAD_BYTES
            or len(lengths) != 1
            or not lengths[0].isdigit()
            or names & {b"transfer-encoding", REQUEST_ID_HEADER}
        ):
            return
        if len(self.known) >= KNOWN_HEADS:
            self.known.clear()
        self.known[head] = Head(headers, int(lengths[0]), url)

"""What those are told who come while the queue is full: written once for all who come in one moment."""

from uvicorn.server import ServerState

from service.answering import failure
from service.batcher import Batcher
from service.exchange import head, lines
from service.traffic import PREDICT


class Refusal:
    """The response to requests that are refused unread, but for their ids."""

    def __init__(self) -> None:
        self.status = 0
        self._head = self._body = b""
        self._written: tuple[Batcher, float] | None = None

    def to(self, request_id: bytes, batcher: Batcher, now: float, state: ServerState) -> bytes:
        """A whole response, as it is sent.

        Args:
            batcher: whose queue is full.
            now: on the event loop's clock; what was written at the same time is told again.
            state: what every response of the server bears.
        """
        if self._written != (batcher, now):
            response = failure(batcher.overloaded(), PREDICT, PREDICT)
            self.status, self._body = response.status_code, bytes(response.body)
            self._head = head(state, self.status, lines(response.raw_headers))
            self._written = batcher, now
        return b"%sx-request-id: %s\r\n\r\n%s" % (self._head, request_id, self._body)

"""What waits to run: the rows of requests, shared out fairly and counted in tokens.

Rows are the unit. A batch takes one row of every waiting request, round robin, until it is full, so that a request of
many rows fills what the others leave and holds up none of them. One that has waited for longer than MAX_AGE goes first,
in up to half of each batch: it comes to its end under any load, and the others still move.

Rows are not sorted by length: packing leaves hardly any padding to save (docs/architecture.md).
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from runtime.errors import DeadlineExceeded
from runtime.graph.batch import EncodedBatch
from runtime.graph.packing import Tokens

MAX_AGE = 0.1  # seconds; the embedded model takes a tenth of it for a request of 128 rows alone


class Answer(NamedTuple):
    """What became of a request.

    Attributes:
        batch: the answers of its rows, in their order.
        queue_seconds: how long it waited, from its submission on, while none of its rows ran.
        run_seconds: how long the runs that held its rows took.
    """

    batch: EncodedBatch
    queue_seconds: float
    run_seconds: float


class Receiver(Protocol):
    """Gets a request's answer, once. An asyncio.Future is one; the fast path needs none."""

    def done(self) -> bool: ...
    def set_result(self, answer: Answer, /) -> None: ...
    def set_exception(self, error: Exception, /) -> None: ...


@dataclass(slots=True, eq=False)
class Request:
    """Rows of one client. [0, start) ran, [start, stop) are in the batch, the rest waits.

    Attributes:
        submitted: when it came, on the batcher's clock (seconds).
        deadline: when it is no longer worth an answer, on the same clock; `timer` sees to it.
        parts: answers of the rows that ran, where it took more than one batch.
    """

    sequences: Sequence[Tokens]
    answer: Receiver
    submitted: float
    deadline: float = math.inf
    start: int = 0
    stop: int = 0
    run_seconds: float = 0.0
    timer: asyncio.TimerHandle | None = None
    parts: list[EncodedBatch] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether there are rows left to run."""
        return self.stop < len(self.sequences)


class RequestQueue:
    """Requests that have rows to run.

    Args:
        token_seconds: about how long a token runs; 0 where that is not known.

    Attributes:
        tokens: tokens of all rows that wait.
        requests: requests with a row that waits.
    """

    def __init__(self, token_seconds: float = 0.0) -> None:
        self.token_seconds = token_seconds
        self.tokens = self.requests = 0
        self._ring: deque[Request] = deque()  # round robin: the first gives the next row
        self._split: deque[Request] = deque()  # those that gave a row and have more, oldest first

    def add(self, request: Request, tokens: int) -> None:
        self.tokens += tokens
        self.requests += 1
        self._ring.append(request)

    def drop(self, request: Request) -> None:
        """Forgets the rows that wait; those in a batch run to their end."""
        if request.timer is not None:
            request.timer.cancel()
        if request.waits:
            self.requests -= 1
            self.tokens -= sum(map(len, request.sequences[request.stop :]))
            request.sequences = request.sequences[: request.stop]

    def expire(self, request: Request) -> None:
        """Answers that a request's time is up, unless it is answered already, and forgets it."""
        if not request.answer.done():
            seconds = request.deadline - request.submitted
            time = f"{seconds:.3g} s" if seconds >= 0.001 else "less than a millisecond"  # rounding makes it 0
            request.answer.set_exception(
                DeadlineExceeded(f"The answer was not ready within {time}: allow more time, or ask again later.")
            )
        self.drop(request)

    def fill(self, max_tokens: int, now: float) -> list[Request]:
        """The requests of the next batch, whose rows [start, stop) are in it; empty when nothing waits.

        Args:
            max_tokens: most tokens of the batch, of which there are fewer where a deadline is near; a longer row gets a
                batch of its own.
            now: requests that were cancelled or have expired by then are dropped instead.
        """
        batch: list[Request] = []
        used = self._take_aged(batch, max_tokens // 2, now)
        most: float = min([max_tokens, *(self._in_time(request, now) for request in batch)])
        ring = self._ring
        while ring:
            request = ring[0]
            if self._is_over(request, now):
                ring.popleft()
                continue
            length = len(request.sequences[request.stop])
            if used + length > most and batch:
                break
            self._take(request, length, batch)
            used += length
            if (tokens := self._in_time(request, now)) >= used:
                most = min(most, tokens)
            ring.popleft()
            if request.waits:
                ring.append(request)
        return batch

    def _take_aged(self, batch: list[Request], max_tokens: int, now: float) -> int:
        """Puts rows of the requests past their age into the batch, oldest first; gives their tokens."""
        taken = 0
        while self._split:
            request = self._split[0]
            if self._is_over(request, now):
                self._split.popleft()
                continue
            length = len(request.sequences[request.stop])
            if now - request.submitted < MAX_AGE or (batch and taken + length > max_tokens):
                break
            self._take(request, length, batch)
            taken += length
        return taken

    def _take(self, request: Request, length: int, batch: list[Request]) -> None:
        if request.start == request.stop:  # its first row in this batch
            batch.append(request)
        if request.stop == 0 and len(request.sequences) > 1:
            self._split.append(request)
        request.stop += 1
        self.tokens -= length
        if not request.waits:
            self.requests -= 1

    def _in_time(self, request: Request, now: float) -> float:
        """Tokens that run until a request's deadline."""
        return (request.deadline - now) / self.token_seconds if self.token_seconds else math.inf

    def _is_over(self, request: Request, now: float) -> bool:
        """Whether nothing of it is left to run; what nobody waits for any more, or runs too long, is dropped."""
        tokens = len(request.sequences[request.stop]) if request.waits else 0
        if request.deadline <= now + tokens * self.token_seconds:
            self.expire(request)
        if request.answer.done():
            self.drop(request)
        return not request.waits

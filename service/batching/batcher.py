"""Continuous batching: requests join the batch that forms while the previous one runs.

Here requests are admitted, refused, and settled; an executor says when a batch runs. A request that fails in a batch
fails alone.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.errors import Overloaded, Unavailable
from runtime.graph.batch import EncodedBatch, join
from runtime.graph.packing import Tokens
from service.batching.executors import Batch, Executor, LoopExecutor, Outcome
from service.batching.queue import Answer, Receiver, Request, RequestQueue
from service.batching.queue_limit import QueueLimit

logger = logging.getLogger("addnorm.service")

Run = Callable[[Sequence[Tokens]], EncodedBatch]

# Tokens, and share of the queue; where fewer may wait, a request is refused before it is read.
SPARE, SPARE_SHARE = 64, 0.25
ROW_BOUNDS = tuple(2**power for power in range(10))  # most rows of the batches that are counted together


@dataclass(slots=True)
class BatchCounters:
    """What a batcher ran since it started.

    Attributes:
        computed_tokens: tokens that ran, and the padding between them.
        batch_rows: batches by their rows: up to each of ROW_BOUNDS, and more.
    """

    rows: int = 0
    tokens: int = 0
    computed_tokens: int = 0
    batch_rows: list[int] = field(default_factory=lambda: [0] * (len(ROW_BOUNDS) + 1))


class Batcher:
    """Runs the rows of concurrent requests together.

    Args:
        run: packs and runs sequences; one call at a time.
        max_batch_tokens: most tokens of a batch.
        max_queue_tokens: most tokens that may wait; a larger request is taken when nothing waits.
        executor: where `run` is called; in the event loop, where none is given.
        token_seconds: about how long a token runs; 0 where that is not known.
        after: what else is done with sequences that were answered, once their answers are on their way.
        clock: seconds.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_tokens: int,
        max_queue_tokens: int,
        executor: Executor | None = None,
        token_seconds: float = 0.0,
        after: Callable[[Sequence[Tokens]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.run, self.after, self.clock = run, after, clock
        self.max_batch_tokens = max_batch_tokens
        self.queue = RequestQueue(token_seconds)
        self.counters = BatchCounters()
        self.closed = False
        self.executor = executor or LoopExecutor()
        self.queue_limit = QueueLimit(max_queue_tokens, max_batch_tokens, clock, token_seconds)

    def admit(self, sequences: Sequence[Tokens], answer: Receiver, timeout: float | None = None) -> Request:
        """Lets R >= 1 sequences wait for their answer, which `answer` gets in the event loop.

        Args:
            timeout: seconds from now on after which no answer is wanted: it gets DeadlineExceeded then.

        Raises:
            Unavailable: the service is stopping.
            Overloaded: too much waits already.
        """
        self.run_overdue()
        if self.closed:
            raise Unavailable("The service is stopping: send the request again later.")
        tokens = sum(map(len, sequences))
        if not self.queue_limit.admits(tokens, self.queue.tokens):
            self.queue_limit.reject()
            raise self.overloaded()
        loop = asyncio.get_running_loop()
        request = Request(sequences, answer, self.clock())
        if timeout is not None:
            request.deadline = request.submitted + timeout
            request.timer = loop.call_later(timeout, self.queue.expire, request)
        self.queue.add(request, tokens)
        self.executor.notify(self)
        return request

    @property
    def full(self) -> bool:
        """Whether another request would be refused, but perhaps a short one: it is not worth reading."""
        spare = min(SPARE, math.ceil(SPARE_SHARE * self.queue_limit.most_tokens))
        return not self.queue_limit.admits(spare, self.queue.tokens)

    @property
    def fill_a_batch(self) -> bool:
        return self.queue.tokens >= self.max_batch_tokens

    def run_overdue(self) -> None:
        """Something came: a batch that is overdue runs before it is looked at."""
        self.executor.run_overdue(self)

    def reject(self) -> None:
        """A request that came while it was `full` is refused; a batch that is overdue runs before."""
        self.run_overdue()
        self.queue_limit.reject()

    def overloaded(self) -> Overloaded:
        """The error for a request that is refused now."""
        waiting, drain_rate = self.queue.tokens, self.queue_limit.drain_rate
        seconds = waiting / drain_rate if drain_rate else 1.0
        return Overloaded(
            f"{waiting:,} tokens wait to run already, and no more than {int(self.queue_limit.tokens):,} may: "
            f"send the request again in {math.ceil(seconds)} s.",
            seconds,
        )

    def abandon(self, request: Request) -> None:
        """Drops what has not run of a request that nobody waits for any more."""
        self.queue.drop(request)

    async def close(self) -> None:
        """Refuses what comes from now on, answers what was accepted, then stops."""
        self.closed = True
        await self.executor.close()

    def begin(self) -> Batch | None:
        """The batch that runs next; None when nothing waits."""
        started = self.clock()
        if not (requests := self.queue.fill(self.max_batch_tokens, started)):
            return None
        return Batch(requests, [request.sequences[request.start : request.stop] for request in requests], started)

    def seconds(self, batch: Batch) -> float:
        """About how long a batch runs."""
        return self.queue.token_seconds * sum(len(sequence) for rows in batch.rows for sequence in rows)

    def end(self, batch: Batch, outcomes: list[Outcome], since: float) -> list[Tokens]:
        """Hands out what came of a batch; gives the sequences that were answered.

        Args:
            since: when the batch before had run, or when the first request came where there was none.
        """
        ended = self.clock()
        self._count(batch.rows, ended - since)
        answered: list[Tokens] = []
        for request, rows, outcome in zip(*batch[:2], outcomes, strict=True):
            try:
                settle(request, outcome, ended - batch.started, ended)
            except Exception:  # the others are to get their answers
                logger.exception("defect while answering a request")
            if not isinstance(outcome, Exception):
                answered += rows
        return answered

    def attempt(self, shares: list[Sequence[Tokens]]) -> list[Outcome]:
        """The outcome of each request. If a batch fails, its requests run one at a time to find the cause."""
        try:
            batch = self.run([sequence for share in shares for sequence in share])
            self.counters.computed_tokens += batch.computed_tokens
            return list(batch.split([len(share) for share in shares]))
        except Exception as error:
            if len(shares) == 1:
                return [error]
            return [outcome for share in shares for outcome in self.attempt([share])]

    def _count(self, shares: list[Sequence[Tokens]], seconds: float) -> None:
        rows = sum(map(len, shares))
        tokens = sum(sum(map(len, share)) for share in shares)
        self.counters.rows += rows
        self.counters.batch_rows[min((rows - 1).bit_length(), len(ROW_BOUNDS))] += 1
        self.counters.tokens += tokens
        self.queue_limit.drain(tokens, seconds)


def settle(request: Request, outcome: Outcome, seconds: float, now: float) -> None:
    """Records what came of a request's rows in a batch of `seconds`, and answers it if these were the last."""
    request.start = request.stop
    request.run_seconds += seconds
    if request.answer.done():  # its client left, or its time was up
        return
    if request.timer is not None and not request.waits:
        request.timer.cancel()
    if isinstance(outcome, Exception):
        request.answer.set_exception(outcome)
        return
    if request.waits or request.parts:
        request.parts.append(outcome)
    if not request.waits:
        batch = join(request.parts) if request.parts else outcome
        queued = now - request.submitted - request.run_seconds
        request.answer.set_result(Answer(batch, queued, request.run_seconds))

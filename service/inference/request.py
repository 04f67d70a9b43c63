"""One inference request, from its body to its answer, counted once, whichever way it came."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.batching.queue import Answer, Receiver
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.results import check_finite
from service.schemas.inference import PredictRequest
from service.telemetry.counters import Phases
from service.telemetry.input_log import InputLog
from service.telemetry.request_log import RequestLog

T = TypeVar("T")

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


@dataclass(frozen=True, slots=True)
class ServingContext:
    """What every way to a prediction needs.

    Attributes:
        max_bytes: largest body.
        request_log: where answers are counted and written down.
    """

    models: ModelRegistry
    max_bytes: int
    request_log: RequestLog


class Inference(ABC, Generic[T]):
    """A request that was understood: it is submitted, and then finished, failed or abandoned, each of which counts it.

    A subclass knows what its client sent and how the answer is written.

    Args:
        started: when its body was there (`time.perf_counter`).
        timeout: seconds after which no answer is wanted; the service's own limit where it is not given.

    Attributes:
        encoded: the inputs, once it is submitted.
        phases: where its time went, once it is finished.
        input_log: where its inputs are kept, if they are in the sample.
    """

    __slots__ = (
        "encoded",
        "engine",
        "input_log",
        "parse",
        "phases",
        "started",
        "timeout",
        "tokenize",
        "waiting",
    )

    def __init__(
        self,
        engine: Engine,
        started: float,
        timeout: float | None,
        input_log: InputLog | None = None,
    ) -> None:
        self.engine, self.started, self.timeout, self.input_log = engine, started, timeout, input_log
        self.parse = time.perf_counter() - started

    @property
    def inputs_name(self) -> str:
        """What its client calls the inputs."""
        return "inputs"

    def sent(self) -> list[Any]:
        """The inputs as its client sent them, where it has an input log."""
        return []

    @abstractmethod
    def encode(self) -> list[EncodedInput]:
        """What its client sent, ready to run."""

    @abstractmethod
    def write(self, batch: EncodedBatch) -> T:
        """The answer, of finite numbers."""

    def submit(self, receiver: Receiver) -> None:
        """Encodes the inputs and submits them to the batcher; `receiver` gets its answer.

        Raises:
            AddNormError: it cannot be answered.
        """
        self.encoded = self.encode()
        self.tokenize = time.perf_counter() - self.started - self.parse
        self.waiting = self.engine.submit(self.encoded, receiver, self.timeout)

    def finish(self, answer: Answer) -> T:
        """What its client reads.

        Raises:
            InvalidInput: an input overflows the model.
        """
        ran = time.perf_counter()
        batch, queue, infer = answer
        check_finite(batch)
        written = self.write(batch)
        if self.input_log is not None:
            self.input_log.note(self.engine.manifest, self.engine.baseline, batch, self.sent())
        ended = time.perf_counter()
        started, parse, tokenize = self.started, self.parse, self.tokenize
        serialize, total = ended - ran, ended - started
        self.phases = Phases(started, parse, tokenize, queue, infer, serialize, total, batch.stats_seconds)
        self.engine.counts.answer(len(self.encoded), total, parse + tokenize, queue, infer, serialize)
        return written

    def fail(self) -> None:
        """Counts the request as failed."""
        self.engine.counts.fail(time.perf_counter() - self.started)

    def abandon(self) -> None:
        """The client left: rows that have not run are dropped."""
        self.fail()
        self.engine.batcher.abandon(self.waiting)


Understand = Callable[[ServingContext, bytes], Inference[bytes]]  # makes a request of its body, or raises why not


class Prediction(Inference[bytes]):
    """A request to /predict, which is answered with JSON.

    Args:
        body: what the client sent.

    Raises:
        ValidationError: the body is not a PredictRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("request",)

    def __init__(self, context: ServingContext, body: bytes) -> None:
        started = time.perf_counter()
        self.request = request = PredictRequest.model_validate_json(body)
        named = request.model is not None or request.version is not None
        engine = context.models.find(request.model, request.version) if named else context.models.default
        engine.require("classification")
        super().__init__(engine, started, request.timeout, context.request_log.inputs)

    def sent(self) -> list[Any]:
        return self.engine.as_list(self.request.inputs)

    def encode(self) -> list[EncodedInput]:
        return self.engine.encode(self.request.inputs)

    def write(self, batch: EncodedBatch) -> bytes:
        return self.engine.writer.write(self.encoded, batch, self.request)


async def run(inference: Inference[T], receive: Receive | None = None) -> T:
    """Gives a request its answer.

    Args:
        receive: tells when the client leaves; nothing is run for it then. Without it, the task is cancelled.

    Raises: what `Inference.submit` and `finish` raise; DeadlineExceeded; ClientDisconnect.
    """
    waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    try:
        inference.submit(waiting)
        if receive is None:
            answer = await waiting
        else:
            async with CancelOnDisconnect(receive):
                answer = await waiting
        return inference.finish(answer)
    except (ClientDisconnect, asyncio.CancelledError):
        inference.abandon()
        raise
    except Exception as error:
        inference.fail()
        if isinstance(error, InvalidInput):
            raise error.about(inference.inputs_name) from None
        raise


class CancelOnDisconnect:
    """Cancels what runs inside when the client leaves, and raises ClientDisconnect then.

    Most answers are there before watching would begin, and cost no task.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive, self.left = receive, False
        self.watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_later(WATCH_AFTER, self.begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.timer.cancel()
        if self.watcher is not None:
            self.watcher.cancel()
        if self.left and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def begin(self) -> None:
        self.watcher = self.loop.create_task(self.watch())

    async def watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        assert self.task is not None
        self.task.cancel()

"""One inference request, from its body to its answer, counted once, whichever way it came."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.batching.queue import Answer, Receiver
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.results import predictions
from service.schemas.inference import PredictRequest
from service.telemetry.counters import Phases
from service.telemetry.request_log import RequestLog

T = TypeVar("T")

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


class Content(NamedTuple):
    """A prediction's answer: JSON, and where its time went."""

    body: bytes
    phases: Phases


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


class Prediction:
    """A request that waits for its rows to run.

    Args:
        body: what the client sent.
        receiver: gets the batcher's answer; `content` makes the client's of it.

    Raises:
        ValidationError: the body is not a PredictRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("context", "encoded", "engine", "parse", "request", "started", "tokenize", "waiting")

    def __init__(self, context: ServingContext, body: bytes, receiver: Receiver) -> None:
        self.context, self.started = context, time.perf_counter()
        self.request = request = PredictRequest.model_validate_json(body)
        named = request.model is not None or request.version is not None
        self.engine: Engine = context.models.find(request.model, request.version) if named else context.models.default
        parsed = time.perf_counter()
        self.parse = parsed - self.started
        try:
            self.encoded = self.engine.encode(request.inputs)
            self.tokenize = time.perf_counter() - parsed
            self.waiting = self.engine.submit(self.encoded, receiver, request.timeout)
        except Exception:
            self.fail()
            raise

    def content(self, answer: Answer) -> Content:
        """Raises InvalidInput where an input overflows the model."""
        ran = time.perf_counter()
        engine = self.engine
        rows = predictions(engine.manifest, engine.baseline, self.encoded, answer.batch, self.request)
        body = to_json(engine.identity | {"predictions": rows})
        ended = time.perf_counter()
        parse, tokenize, serialize, total = self.parse, self.tokenize, ended - ran, ended - self.started
        _, queue, infer = answer
        self.context.request_log.traffic.answered(parse, tokenize, queue, infer, serialize, total)
        engine.counts.answer(len(rows), total, parse + tokenize, queue, infer, serialize)
        return Content(body, Phases(self.started, parse, tokenize, queue, infer, serialize, answer.batch.stats_seconds))

    def fail(self) -> None:
        """Counts that it was understood, and is not answered."""
        self.engine.counts.fail(time.perf_counter() - self.started)

    def abandon(self) -> None:
        """Drops what has not run: the client left."""
        self.fail()
        self.engine.batcher.abandon(self.waiting)


async def run_counted(
    engine: Engine,
    name: str,
    started: float,
    encode: Callable[[], list[EncodedInput]],
    write: Callable[[list[EncodedInput], EncodedBatch], T],
    receive: Receive,
    timeout: float | None = None,
) -> T:
    """Encodes, runs and writes one request, and counts it.

    Args:
        name: what its client calls the inputs.
        started: when its body was there (`time.perf_counter`).
        receive: tells when the client leaves; nothing is run for it then.
        timeout: seconds; the service's own limit where it is not given.

    Raises: what `encode`, `Engine.infer` and `write` raise; ClientDisconnect.
    """
    clock = time.perf_counter
    try:
        encoded = encode()
        read = clock() - started
        async with CancelOnDisconnect(receive):
            answer = await engine.infer(encoded, timeout)
        ran = clock()
        written = write(encoded, answer.batch)
    except BaseException as error:
        engine.counts.fail(clock() - started)
        if isinstance(error, InvalidInput):
            raise error.about(name) from None
        raise
    ended = clock()
    engine.counts.answer(len(encoded), ended - started, read, answer.queue_seconds, answer.run_seconds, ended - ran)
    return written


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

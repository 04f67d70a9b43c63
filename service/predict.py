"""POST /predict: from a body to an answer, whichever way the body came (service/protocol.py, service/routes)."""

import asyncio
import time
from types import TracebackType
from typing import NamedTuple, Self

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from runtime.errors import AddNormError
from runtime.inputs import EncodedInput
from service.backlog import Answer, Receiver, Request
from service.engine import Engine
from service.errors import defect_response, domain_response, invalid_request
from service.limits import TooLarge, read_body
from service.models import Models
from service.schemas import PredictRequest

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


class Content(NamedTuple):
    """A prediction's answer: JSON, and the value of its Server-Timing header."""

    body: bytes
    timing: str


class Prediction:
    """A request that waits for its rows to run.

    Args:
        body: what the client sent.
        receiver: gets the batcher's answer; `content` makes the client's of it.

    Raises:
        ValidationError: the body is not a PredictRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("encoded", "engine", "parse", "request", "tokenize", "waiting")

    def __init__(self, models: Models, body: bytes, receiver: Receiver) -> None:
        started = time.perf_counter()
        self.request = PredictRequest.model_validate_json(body)
        self.engine: Engine = models.default
        parsed = time.perf_counter()
        self.encoded: list[EncodedInput] = self.engine.encode(self.request.inputs)
        self.parse, self.tokenize = parsed - started, time.perf_counter() - parsed
        self.waiting: Request = self.engine.submit(self.encoded, receiver, self.request.timeout)

    def content(self, answer: Answer) -> Content:
        """Raises InvalidInput where an input overflows the model."""
        started = time.perf_counter()
        predictions = self.engine.predictions(self.encoded, answer.batch, self.request)
        body = to_json(self.engine.identity | {"predictions": predictions})
        serialize = time.perf_counter() - started
        return Content(body, server_timing(self.parse, self.tokenize, answer, serialize))

    def abandon(self) -> None:
        """Drops what has not run: the client left."""
        self.engine.batcher.abandon(self.waiting)


async def respond(models: Models, receive: Receive, max_bytes: int) -> Content | Response:
    """The answer to the request whose body `receive` gives, or the response that says why there is none.

    Raises:
        ClientDisconnect: the client left before.
    """
    try:
        body = await read_body(receive, max_bytes)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        prediction = Prediction(models, body, answer)
        try:
            async with Watched(receive):
                return prediction.content(await answer)
        except BaseException:
            prediction.abandon()
            raise
    except ClientDisconnect:
        raise
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> Response:
    """The response that says why there is no prediction."""
    if isinstance(error, TooLarge):
        return error.response()
    if isinstance(error, ValidationError):
        return domain_response(invalid_request(error))
    if isinstance(error, AddNormError):
        return domain_response(error)
    return defect_response("POST", "/predict", error)


class Watched:
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


def server_timing(parse: float, tokenize: float, answer: Answer, serialize: float) -> str:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    return (
        f"parse;dur={1e3 * parse:.3f}, tokenize;dur={1e3 * tokenize:.3f}, queue;dur={1e3 * answer.queue_seconds:.3f}, "
        f"infer;dur={1e3 * answer.run_seconds:.3f}, serialize;dur={1e3 * serialize:.3f}"
    )

"""POST /predict: from a body to an answer, whichever way the body came (service/protocol.py, service/routes)."""

import asyncio
import time
from typing import NamedTuple

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from service.answering import Watched, answered
from service.backlog import Answer, Receiver
from service.engine import Engine
from service.limits import read_body
from service.models import Models
from service.schemas import PredictRequest

PREDICT = "/predict"


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

    __slots__ = ("encoded", "engine", "parse", "request", "started", "tokenize", "waiting")

    def __init__(self, models: Models, body: bytes, receiver: Receiver) -> None:
        self.started = time.perf_counter()
        self.request = request = PredictRequest.model_validate_json(body)
        named = request.model is not None or request.version is not None
        self.engine: Engine = models.find(request.model, request.version) if named else models.default
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
        predictions = self.engine.predictions(self.encoded, answer.batch, self.request)
        body = to_json(self.engine.identity | {"predictions": predictions})
        ended = time.perf_counter()
        total, read, queue, infer, serialize = (
            ended - self.started,
            self.parse + self.tokenize,
            answer.queue_seconds,
            answer.run_seconds,
            ended - ran,
        )
        self.engine.counts.answer(len(predictions), total, read, queue, infer, serialize)
        return Content(body, server_timing(self.parse, self.tokenize, answer, serialize))

    def fail(self) -> None:
        """Counts that it was understood, and is not answered."""
        self.engine.counts.fail(time.perf_counter() - self.started)

    def abandon(self) -> None:
        """Drops what has not run: the client left."""
        self.fail()
        self.engine.batcher.abandon(self.waiting)


async def respond(models: Models, receive: Receive, max_bytes: int) -> Content | Response:
    """The answer to the request whose body `receive` gives, or the response that says why there is none.

    Raises:
        ClientDisconnect: the client left before.
    """
    return await answered(_content(models, receive, max_bytes), PREDICT)


async def _content(models: Models, receive: Receive, max_bytes: int) -> Content:
    body = await read_body(receive, max_bytes)
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    prediction = Prediction(models, body, answer)
    try:
        async with Watched(receive):
            return prediction.content(await answer)
    except (ClientDisconnect, asyncio.CancelledError):
        prediction.abandon()
        raise
    except Exception:
        prediction.fail()
        raise


def server_timing(parse: float, tokenize: float, answer: Answer, serialize: float) -> str:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    return (
        f"parse;dur={1e3 * parse:.3f}, tokenize;dur={1e3 * tokenize:.3f}, queue;dur={1e3 * answer.queue_seconds:.3f}, "
        f"infer;dur={1e3 * answer.run_seconds:.3f}, serialize;dur={1e3 * serialize:.3f}"
    )

"""POST /predict: from a body to an answer, whichever way the body came (service/protocol.py, service/routes)."""

import asyncio
import time
from dataclasses import dataclass
from typing import NamedTuple

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from service.admission import Admission
from service.answering import Watched, answered
from service.backlog import Answer, Receiver
from service.engine import Engine
from service.journal import Journal
from service.keys import ApiKeys
from service.limits import read_body
from service.models import Models
from service.schemas import PredictRequest
from service.settings import Settings
from service.traffic import PREDICT


class Phases(NamedTuple):
    """When an answered request began (`time.perf_counter`), and how long its phases took: seconds.

    `stats` is within `infer`.
    """

    started: float
    parse: float
    tokenize: float
    queue: float
    infer: float
    serialize: float
    stats: float


class Content(NamedTuple):
    """A prediction's answer: JSON, and where its time went."""

    body: bytes
    phases: Phases


@dataclass(frozen=True, slots=True)
class Desk:
    """What every way to a prediction needs.

    Attributes:
        max_bytes: largest body.
        journal: where answers are noted.
        admission: who is let in; None where all are.
    """

    models: Models
    max_bytes: int
    journal: Journal
    admission: Admission | None

    @classmethod
    def of(cls, settings: Settings, models: Models, journal: Journal) -> "Desk":
        admission = Admission.of(settings, ApiKeys.of(settings), journal.traffic)
        return cls(models, settings.max_body_bytes, journal, admission)


class Prediction:
    """A request that waits for its rows to run.

    Args:
        body: what the client sent.
        receiver: gets the batcher's answer; `content` makes the client's of it.

    Raises:
        ValidationError: the body is not a PredictRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("desk", "encoded", "engine", "parse", "request", "started", "tokenize", "waiting")

    def __init__(self, desk: Desk, body: bytes, receiver: Receiver) -> None:
        self.desk, self.started = desk, time.perf_counter()
        self.request = request = PredictRequest.model_validate_json(body)
        named = request.model is not None or request.version is not None
        self.engine: Engine = desk.models.find(request.model, request.version) if named else desk.models.default
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
        parse, tokenize, serialize, total = self.parse, self.tokenize, ended - ran, ended - self.started
        _, queue, infer = answer
        self.desk.journal.traffic.answered(parse, tokenize, queue, infer, serialize, total)
        self.engine.counts.answer(len(predictions), total, parse + tokenize, queue, infer, serialize)
        return Content(body, Phases(self.started, parse, tokenize, queue, infer, serialize, answer.batch.stats_seconds))

    def fail(self) -> None:
        """Counts that it was understood, and is not answered."""
        self.engine.counts.fail(time.perf_counter() - self.started)

    def abandon(self) -> None:
        """Drops what has not run: the client left."""
        self.fail()
        self.engine.batcher.abandon(self.waiting)


async def respond(desk: Desk, receive: Receive) -> Content | Response:
    """The answer to the request whose body `receive` gives, or the response that says why there is none.

    Raises:
        ClientDisconnect: the client left before.
    """
    return await answered(_content(desk, receive), PREDICT, PREDICT)


async def _content(desk: Desk, receive: Receive) -> Content:
    body = await read_body(receive, desk.max_bytes)
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    prediction = Prediction(desk, body, answer)
    try:
        async with Watched(receive):
            return prediction.content(await answer)
    except (ClientDisconnect, asyncio.CancelledError):
        prediction.abandon()
        raise
    except Exception:
        prediction.fail()
        raise


def server_timing(phases: Phases) -> str:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    _, parse, tokenize, queue, infer, serialize, _ = phases
    return (
        f"parse;dur={1e3 * parse:.3f}, tokenize;dur={1e3 * tokenize:.3f}, queue;dur={1e3 * queue:.3f}, "
        f"infer;dur={1e3 * infer:.3f}, serialize;dur={1e3 * serialize:.3f}"
    )

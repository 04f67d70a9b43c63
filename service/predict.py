"""POST /predict, as lean as it gets: an ASGI callable in front of the web framework.

The framework has the route too, for its documents, and answers through this same code. Going around it halves what a
request costs beside the graph (docs/benchmarks.md).
"""

import asyncio
import time
from types import TracebackType
from typing import NamedTuple, Self

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import AddNormError
from service.admission import Admission
from service.engine import Phases
from service.errors import defect_response, domain_response, invalid_request
from service.journal import REQUEST_ID_HEADER, Journal
from service.limits import TooLarge, read_body
from service.models import Models
from service.schemas import PredictRequest
from service.traffic import LEFT, PREDICT

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


class Answer(NamedTuple):
    """A prediction's answer: JSON, and the value of its Server-Timing header.

    Attributes:
        started: when its body was there (seconds of `time.perf_counter`).
        parse, serialize: how long these phases took, beside those of the engine.
    """

    content: bytes
    timing: str
    started: float
    parse: float
    phases: Phases
    serialize: float


class PredictRoute:
    """Answers predictions itself, and hands everything else on.

    Args:
        app: the application that has all other routes.
        max_bytes: largest body.
        journal: where answers are noted.
        admission: who is let in; None where all are.
    """

    def __init__(
        self, app: ASGIApp, models: Models, max_bytes: int, journal: Journal, admission: Admission | None = None
    ) -> None:
        self.app, self.models, self.max_bytes, self.journal = app, models, max_bytes, journal
        self.admission = admission
        self.traffic = journal.traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PREDICT or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        request_id = self.journal.identify(scope["headers"])
        answer = await self.noted(scope, receive)
        if answer is None:
            return
        if isinstance(answer, Response):
            answer.headers["X-Request-ID"] = request_id.decode()
            await answer(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer.content)),
            (b"server-timing", answer.timing.encode()),
            (REQUEST_ID_HEADER, request_id),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

    async def noted(self, scope: Scope, receive: Receive) -> Answer | Response | None:
        """The answer, or the response that says why there is none, counted; None where nobody is left to take it."""
        traffic, started, status = self.traffic, time.perf_counter(), LEFT
        answer: Answer | Response | None = None
        traffic.in_flight += 1
        try:
            if self.admission is not None:
                answer = self.admission.refusal("inference", scope["headers"])
            answer = answer or await self.respond(receive)
            status = answer.status_code if isinstance(answer, Response) else 200
        except ClientDisconnect:
            pass
        finally:
            traffic.in_flight -= 1
            traffic.requests[PREDICT, status] += 1
            if self.journal.writes:
                seconds = time.perf_counter() - started
                self.journal.write(scope, PREDICT, status, seconds, answer if isinstance(answer, Answer) else None)
        return answer

    async def respond(self, receive: Receive) -> Answer | Response:
        """The answer to the request whose body `receive` gives, or the response that says why there is none.

        Raises:
            ClientDisconnect: the client left before.
        """
        try:
            return await self.answer(await read_body(receive, self.max_bytes), receive)
        except TooLarge as error:
            return error.response()
        except ValidationError as error:
            return domain_response(invalid_request(error))
        except AddNormError as error:
            return domain_response(error)
        except ClientDisconnect:
            raise
        except Exception as error:
            return defect_response("POST", "/predict", error)

    async def answer(self, body: bytes, receive: Receive) -> Answer:
        started = time.perf_counter()
        request = PredictRequest.model_validate_json(body)
        engine = self.models.default
        parsed = time.perf_counter()
        async with Watched(receive):
            predictions, phases = await engine.predict(request)
        answered = time.perf_counter()
        content = to_json(engine.identity | {"predictions": predictions})
        ended = time.perf_counter()
        parse, serialize = parsed - started, ended - answered
        self.traffic.answered(parse, phases.tokenize, phases.queue, phases.infer, serialize, ended - started)
        return Answer(content, server_timing(parse, phases, serialize), started, parse, phases, serialize)


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


def server_timing(parse: float, phases: Phases, serialize: float) -> str:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    return (
        f"parse;dur={1e3 * parse:.3f}, tokenize;dur={1e3 * phases.tokenize:.3f}, queue;dur={1e3 * phases.queue:.3f}, "
        f"infer;dur={1e3 * phases.infer:.3f}, serialize;dur={1e3 * serialize:.3f}"
    )

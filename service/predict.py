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
from service.engine import Phases
from service.errors import defect_response, domain_response, invalid_request
from service.limits import TooLarge, read_body
from service.models import Models
from service.schemas import PredictRequest
from service.traffic import LEFT, PREDICT, Traffic

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


class Answer(NamedTuple):
    """A prediction's answer: JSON, and the value of its Server-Timing header."""

    content: bytes
    timing: str


class PredictRoute:
    """Answers predictions itself, and hands everything else on.

    Args:
        app: the application that has all other routes.
        max_bytes: largest body.
        traffic: where answers are counted.
    """

    def __init__(self, app: ASGIApp, models: Models, max_bytes: int, traffic: Traffic) -> None:
        self.app, self.models, self.max_bytes, self.traffic = app, models, max_bytes, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PREDICT or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        traffic, status = self.traffic, LEFT
        traffic.in_flight += 1
        try:
            answer = await self.respond(receive)
            status = answer.status_code if isinstance(answer, Response) else 200
        except ClientDisconnect:
            return  # nobody is left to answer
        finally:
            traffic.in_flight -= 1
            traffic.requests[PREDICT, status] += 1
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(answer.content)),
            (b"server-timing", answer.timing.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

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
        return Answer(content, server_timing(parse, phases, serialize))


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

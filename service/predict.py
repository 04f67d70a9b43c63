"""POST /predict, as lean as it gets: an ASGI callable in front of the web framework.

The framework has the route too, for its documents, and answers through this same code. Going around it halves what a
request costs beside the graph (docs/benchmarks.md).
"""

import time
from typing import NamedTuple

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.answering import Watched, answered
from service.engine import Phases
from service.limits import read_body
from service.models import Models
from service.schemas import PredictRequest


class Answer(NamedTuple):
    """A prediction's answer: JSON, and the value of its Server-Timing header."""

    content: bytes
    timing: str


class PredictRoute:
    """Answers predictions itself, and hands everything else on.

    Args:
        app: the application that has all other routes.
        max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, models: Models, max_bytes: int) -> None:
        self.app, self.models, self.max_bytes = app, models, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            answer = await self.respond(receive)
        except ClientDisconnect:
            return  # nobody is left to answer
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
        return await answered(self.answer(receive), "/predict")

    async def answer(self, receive: Receive) -> Answer:
        body = await read_body(receive, self.max_bytes)
        started = time.perf_counter()
        request = PredictRequest.model_validate_json(body)
        named = request.model is not None or request.version is not None
        engine = self.models.find(request.model, request.version) if named else self.models.default
        parsed = time.perf_counter()
        try:
            async with Watched(receive):
                predictions, phases = await engine.predict(request)
            ran = time.perf_counter()
            content = to_json(engine.identity | {"predictions": predictions})
        except BaseException:
            engine.counts.fail(time.perf_counter() - started)
            raise
        ended = time.perf_counter()
        read = parsed - started + phases.tokenize
        engine.counts.answer(len(predictions), ended - started, read, phases.queue, phases.infer, ended - ran)
        return Answer(content, server_timing(parsed - started, phases, ended - ran))


def server_timing(parse: float, phases: Phases, serialize: float) -> str:
    """The header that says where an answer's time went: milliseconds, to the microsecond (W3C Server Timing)."""
    return (
        f"parse;dur={1e3 * parse:.3f}, tokenize;dur={1e3 * phases.tokenize:.3f}, queue;dur={1e3 * phases.queue:.3f}, "
        f"infer;dur={1e3 * phases.infer:.3f}, serialize;dur={1e3 * serialize:.3f}"
    )

"""POST .../infer, like POST /predict in front of the web framework, which documents it."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.api.v2.inputs import encode, main_input
from service.api.v2.outputs import Wanted, wanted, written
from service.api.v2.request import COMPRESS, HEADER, WORTH_IT, Call, chosen, read_call
from service.http.bodies import read_body
from service.http.errors import result_or_error
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import Inference, run
from service.telemetry.counters import Headers, server_timing
from service.telemetry.request_log import PHASES


class Target(NamedTuple):
    """The model that a path names; its highest version where it names none."""

    name: str
    version: str | None


class Reply(NamedTuple):
    content: bytes
    headers: Headers


class NamedRoute(NamedTuple):
    """What counts and logs call the requests that are answered here."""

    path: str


ROUTE = NamedRoute("/v2/models/{model}/infer")


class InferMiddleware:
    """ASGI middleware: answers inference requests, and passes all others on.

    Args:
        app: the application that has all other routes.
        max_bytes: most bytes that a body may inflate to.
    """

    def __init__(self, app: ASGIApp, models: ModelRegistry, max_bytes: int) -> None:
        self.app, self.models, self.max_bytes = app, models, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        target = target_of(scope["path"]) if is_post else None
        if target is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = ROUTE
        try:
            reply = await self.respond(target, scope, receive)
        except ClientDisconnect:
            return  # nobody is left to answer
        if isinstance(reply, Response):
            await reply(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.content})

    async def respond(self, target: Target, scope: Scope, receive: Receive) -> Reply | Response:
        """The answer, or the response that says why there is none.

        Raises:
            ClientDisconnect: the client left before.
        """
        return await result_or_error(self.answer(target, scope, receive), scope["path"], ROUTE.path)

    async def answer(self, target: Target, scope: Scope, receive: Receive) -> Reply:
        engine = self.models.find(*target)
        inference = OIPInference(engine, await read_body(receive), dict(scope["headers"]), self.max_bytes)
        reply = await run(inference, receive)
        scope[PHASES] = inference.phases
        return Reply(reply.content, [*reply.headers, (b"server-timing", server_timing(inference.phases))])


class OIPInference(Inference[Reply]):
    """An inference request of the Open Inference Protocol.

    Args:
        headers: its HTTP headers, names in small letters.
        max_bytes: most bytes that its body may inflate to.

    Raises:
        AddNormError, ValidationError: it cannot be understood, or asks for what there is not.
    """

    __slots__ = ("call", "headers", "outputs")

    def __init__(self, engine: Engine, body: bytes, headers: Mapping[bytes, bytes], max_bytes: int) -> None:
        started = time.perf_counter()
        self.headers = headers
        self.call = read_call(engine, body, headers, max_bytes)
        self.outputs = wanted(self.call.request, engine.manifest)
        super().__init__(engine, started, self.call.timeout)

    @property
    def inputs_name(self) -> str:
        return main_input(self.engine)

    def encode(self) -> list[EncodedInput]:
        return encode(self.engine, self.call.request.inputs, self.call.binary)

    def write(self, batch: EncodedBatch) -> Reply:
        return packed(*answer_of(self.engine, self.call, self.outputs, self.encoded, batch), self.headers)


def target_of(path: str) -> Target | None:
    """The model that an inference path names; None of another path."""
    match path.split("/"):
        case ["", "v2", "models", name, "infer"] if name:
            return Target(name, None)
        case ["", "v2", "models", name, "versions", version, "infer"] if name:
            return Target(name, version)
    return None


def answer_of(
    engine: Engine, call: Call, outputs: list[Wanted], encoded: list[EncodedInput], batch: EncodedBatch
) -> tuple[bytes, list[bytes]]:
    """The answer's JSON, and the binary tensors behind it."""
    tensors, behind = written(engine, batch, outputs)
    manifest = engine.manifest
    answer: dict[str, Any] = {"model_name": manifest.name, "model_version": manifest.version}
    if call.request.id is not None:
        answer["id"] = call.request.id
    if truncated := sum([item.truncated for item in encoded]):
        answer["parameters"] = {"truncated": truncated}
    answer["outputs"] = tensors
    return to_json(answer, inf_nan_mode="null"), behind


def packed(answer: bytes, behind: list[bytes], headers: Mapping[bytes, bytes]) -> Reply:
    """The reply, compressed as the request accepts it."""
    content = b"".join([answer, *behind]) if behind else answer
    fields: Headers = [(b"content-type", b"application/octet-stream" if behind else b"application/json")]
    if behind:
        fields.append((HEADER, b"%d" % len(answer)))
    accept = headers.get(b"accept-encoding")
    if accept is not None and len(content) >= WORTH_IT and (coding := chosen(accept.decode("latin-1"))):
        content = COMPRESS[coding](content)
        fields += [(b"content-encoding", coding.encode()), (b"vary", b"Accept-Encoding")]
    fields.append((b"content-length", b"%d" % len(content)))
    return Reply(content, fields)

"""What every call has in common: admission, counts and logs, and a status for every error."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from pydantic import ValidationError

from runtime.errors import AddNormError, DeadlineExceeded, InvalidInput, Overloaded, TooLarge, Unavailable
from service.api.v2.grpc.messages import StreamResponse
from service.http.admission import Admission, Subject
from service.http.errors import invalid_request, status_of
from service.telemetry.counters import CLIENT_CLOSED_REQUEST, Headers
from service.telemetry.request_log import RequestLog

logger = logging.getLogger("addnorm.service")

METHOD = "GRPC"  # what logs and traces have in the place of an HTTP method
NO_DEADLINE = 1e7  # seconds from which on what grpc tells is none
STOPPING = "The service is stopping: ask another one."
DEFECT = "The service has a defect; its log has the details."
CODES = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Context = Any  # grpc.aio.ServicerContext
Respond = Callable[[Any, "Caller"], Awaitable[Message]]


class Caller:
    """Who asks, as far as an answer depends on it.

    Attributes:
        headers: the call's metadata, as HTTP headers are told.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.headers: Headers = [
            (key.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for key, value in context.invocation_metadata() or ()
        ]

    def timeout(self, asked: float | None = None) -> float | None:
        """Seconds until no answer is wanted any more; None where nobody says it.

        Raises:
            DeadlineExceeded: it is so by now.
        """
        left: float | None = self.context.time_remaining()
        if left is None or left > NO_DEADLINE:
            return asked
        if left <= 0:
            raise DeadlineExceeded("The call's deadline is over: give it more time.")
        return left if asked is None else min(left, asked)


class Calls:
    """Makes the handlers of methods.

    Args:
        request_log: where calls are counted and written down.

    Attributes:
        stopping: set once calls are refused; those that grpc has read and not handed on when it stops, it cancels.
    """

    def __init__(self, admission: Admission, request_log: RequestLog) -> None:
        self.admission, self.request_log, self.stopping = admission, request_log, asyncio.Event()

    async def answer(self, method: "Method", content: bytes, caller: Caller) -> Message:
        """The answer to one request.

        Raises:
            Exception: what `respond` raises, once it is counted.
        """
        started, log = time.perf_counter(), self.request_log
        status: int = CLIENT_CLOSED_REQUEST  # unless it ends by itself
        request_id = log.begin(caller.headers)
        try:
            if self.stopping.is_set() and method.subject != "health":
                raise Unavailable(STOPPING)
            self.admission.check(method.subject, caller.headers)
            answered = await method.respond(read(method.kind, content), caller)
            status = HTTPStatus.OK
            return answered
        except asyncio.CancelledError:
            left = caller.context.time_remaining()
            status = HTTPStatus.GATEWAY_TIMEOUT if left is not None and left <= 0 else CLIENT_CLOSED_REQUEST
            raise
        except Exception as error:
            status = http_status(error)
            raise
        finally:
            log.end(request_id, METHOD, caller.headers, method.route, status, started)

    def unary(self, method: "Method") -> Callable[[bytes, Context], Awaitable[Message]]:
        """The handler of a method with one request and one answer."""

        async def handle(content: bytes, context: Context) -> Message:
            try:
                return await self.answer(method, content, Caller(context))
            except Exception as error:
                await abort(context, method.route, error)
                raise

        return handle

    def stream(self, method: "Method") -> Callable[[AsyncIterator[bytes], Context], AsyncIterator[Message]]:
        """The handler of a method that answers each request of a stream, in their order; an error ends no stream."""

        async def handle(contents: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
            caller, coming = Caller(context), contents.__aiter__()
            while (content := await self.next_of(coming, context)) is not None:
                try:
                    yield StreamResponse(infer_response=await self.answer(method, content, caller))
                except Exception as error:
                    told = StreamResponse(error_message=sentence(error, method.route))
                    with suppress(InvalidInput):
                        told.infer_response.id = read(method.kind, content).id
                    yield told

        return handle

    async def next_of(self, contents: AsyncIterator[bytes], context: Context) -> bytes | None:
        """The next request of a stream, None at its end; the stream is ended where the service stops before."""
        coming = asyncio.ensure_future(anext(contents, None))
        stopping = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait((coming, stopping), return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
            await context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)
        finally:
            coming.cancel()
            stopping.cancel()
        return None


class Method(NamedTuple):
    """How a method is answered.

    Attributes:
        kind: the class of its requests.
    """

    route: str
    subject: Subject
    kind: type[Message]
    respond: Respond


def read(kind: type[Message], content: bytes) -> Any:
    """A message of this kind; grpc itself would answer what is none as a defect of the service."""
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidInput("invalid_message", f"The message is no {kind.DESCRIPTOR.name} ({error}).") from None


def http_status(error: Exception) -> int:
    """The status that HTTP would answer with, by which calls are counted, too."""
    if isinstance(error, ValidationError):
        return HTTPStatus.BAD_REQUEST
    return status_of(error) if isinstance(error, AddNormError) else HTTPStatus.INTERNAL_SERVER_ERROR


def sentence(error: Exception, route: str) -> str:
    """What a client is told; a defect is logged."""
    if isinstance(error, ValidationError):
        return str(invalid_request(error))
    if isinstance(error, AddNormError):
        return str(error)
    logger.exception("defect while answering %s", route, exc_info=error)
    return DEFECT


async def abort(context: Context, route: str, error: Exception) -> None:
    """Ends a call with an error; raises what tells grpc so."""
    code = CODES.get(HTTPStatus(http_status(error)), grpc.StatusCode.INTERNAL)
    if isinstance(error, TooLarge):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing: list[tuple[str, str | bytes]] = []
    if isinstance(error, Overloaded):
        seconds = max(1, math.ceil(error.retry_after))
        trailing = [("retry-after", str(seconds)), ("grpc-status-details-bin", retry_details(str(error), seconds))]
    await context.abort(code, sentence(error, route), tuple(trailing))


def retry_details(message: str, seconds: int) -> bytes:
    """A google.rpc.Status with a RetryInfo, which clients that retry by themselves read."""
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info = RetryInfo()
    info.retry_delay.seconds = seconds
    status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=message)
    status.details.add().Pack(info)
    content: bytes = status.SerializeToString()
    return content

"""What a client is told of an error: a status, one sentence, and when to ask again."""

import logging
import math
from http import HTTPStatus
from itertools import accumulate
from typing import Any, NoReturn

import grpc
from pydantic import ValidationError

from runtime.errors import AddNormError, Overloaded, TooLarge
from runtime.words import encodable
from service.http.errors import invalid_request, status_of

logger = logging.getLogger("addnorm.service")

DEFECT = "The service has a defect; its log has the details."
LEFT = "The client has left."
MOST_BYTES = 2000  # of a sentence in trailers, percent-encoded: beyond 8 KiB of trailers clients read none of it
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

Context = Any  # grpc.ServicerContext


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


def abort(context: Context, route: str, error: Exception) -> NoReturn:
    """Ends a call with an error; raises what tells grpc so."""
    code = CODES.get(HTTPStatus(http_status(error)), grpc.StatusCode.INTERNAL)
    if isinstance(error, TooLarge):
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
    told = fitting(sentence(error, route))
    if isinstance(error, Overloaded):
        seconds = max(1, math.ceil(error.retry_after))
        details = retry_details(told, seconds)
        context.set_trailing_metadata((("retry-after", str(seconds)), ("grpc-status-details-bin", details)))
    context.abort(code, told)
    raise AssertionError("grpc ends the call by an error of its own")


def fitting(told: str) -> str:
    """As much of a sentence as MOST_BYTES hold."""
    content = encodable(told).encode()
    sizes = accumulate(1 if 0x20 <= byte <= 0x7E and byte != ord("%") else 3 for byte in content)
    end = next((at for at, size in enumerate(sizes) if size > MOST_BYTES), None)
    return content.decode() if end is None else content[:end].decode(errors="ignore") + "…"


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

"""From what went wrong to what the client reads: the one place that maps errors to HTTP statuses.

Every error body is {"error": one sentence, "code": machine-readable reason}; below /v1 it is {"error": {"message",
"type", "param", "code"}}, as OpenAI's clients read it.
"""

import logging
import math
from collections.abc import Awaitable
from http import HTTPStatus
from typing import TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import (
    AddNormError,
    ArtifactError,
    DeadlineExceeded,
    DeviceError,
    Forbidden,
    InvalidInput,
    Overloaded,
    SettingError,
    StateError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownLayer,
    UnknownModel,
    Unsupported,
)
from runtime.words import encodable, shortened
from service.telemetry.counters import route_of

logger = logging.getLogger("addnorm.service")

STATUS: dict[type[AddNormError], HTTPStatus] = {
    InvalidInput: HTTPStatus.BAD_REQUEST,
    UnknownLayer: HTTPStatus.NOT_FOUND,
    UnknownModel: HTTPStatus.NOT_FOUND,
    ArtifactError: HTTPStatus.CONFLICT,
    DeviceError: HTTPStatus.CONFLICT,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    StateError: HTTPStatus.NOT_FOUND,
    SettingError: HTTPStatus.SERVICE_UNAVAILABLE,
    Unsupported: HTTPStatus.NOT_IMPLEMENTED,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
STATUS_BY_CODE = {
    "no_live_baseline": HTTPStatus.CONFLICT,
    "too_many_followers": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_rows": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}

MOST_COMPLAINTS = 1000
OPENAI_PATHS = "/v1/"
OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}

T = TypeVar("T")


class ErrorBody(BaseModel):
    """What every error looks like."""

    model_config = ConfigDict(defer_build=True)  # for documents only

    error: str
    """One sentence: what was wrong, what is allowed."""
    code: str
    """Machine-readable reason."""


class OpenAIError(BaseModel):
    model_config = ConfigDict(defer_build=True)

    message: str
    """One sentence: what was wrong, what is allowed."""
    type: str
    param: str | None
    code: str
    """Machine-readable reason."""


class OpenAIErrorBody(BaseModel):
    """What every error below /v1 looks like."""

    model_config = ConfigDict(defer_build=True)

    error: OpenAIError


def error_response(status: int, message: str, code: str, path: str = "") -> JSONResponse:
    """The answer to a request to `path`."""
    message = encodable(message)
    if not path.startswith(OPENAI_PATHS):
        return JSONResponse({"error": message, "code": code}, status_code=status)
    kind = OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status_code=status)


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error of `app`, its framework's own included, answer with an ErrorBody."""
    app.add_exception_handler(AddNormError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(InternalErrorMiddleware)


class InternalErrorMiddleware:
    """ASGI middleware: answers with an error if the application fails.

    The framework's own handler raises the error again, upon which the server closes the connection: a client that kept
    it would fail with its next request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await defect_response(scope["method"], route_of(scope), error, scope["path"])(scope, receive, send)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidInput:
    """The first complaint of pydantic, in one sentence."""
    if isinstance(error, ValidationError) and error.error_count() > MOST_COMPLAINTS:  # to list them takes half a second
        return InvalidInput(
            "invalid_request", f"The body has {error.error_count():,} mistakes: send what /docs says and nothing else."
        )
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return InvalidInput(
            "invalid_json", f"The body is not valid JSON ({first['ctx']['error']}), expected an object."
        )
    where = shortened(".".join(str(part) for part in first["loc"])) or "the body"
    message = first["msg"][0].lower() + first["msg"][1:]
    return InvalidInput("invalid_request", f"{where} is not usable: {message}.")


def status_of(error: AddNormError) -> HTTPStatus:
    """The status that tells of a domain error."""
    return STATUS_BY_CODE.get(error.code) or STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def domain_response(error: AddNormError, path: str = "") -> JSONResponse:
    """The answer to a request to `path` that met a domain error."""
    status = status_of(error)
    response = error_response(status, str(error), error.code, path)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Overloaded):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return response


def defect_response(method: str, route: str, error: Exception, path: str = "") -> JSONResponse:
    """The answer to a request that met a defect of the service, which is logged."""
    logger.exception("defect while answering %s %s", method, route, exc_info=error)
    return error_response(500, "The service has a defect; its log has the details.", "internal_error", path)


async def _on_domain_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AddNormError)
    return domain_response(error, request.url.path)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return domain_response(invalid_request(error), request.url.path)


def allowed_methods(request: Request) -> str:
    """What a path takes by all of its routes, of which the framework names one; empty of what is no route of ours."""
    template = route_of(request.scope)
    routes = (route for route in request.app.routes if isinstance(route, APIRoute) and route.path == template)
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        return error_response(404, f"There is no {shortened(path)}; /docs lists what there is.", "not_found", path)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = allowed_methods(request) or (error.headers or {}).get("Allow", "another method")
        response = error_response(
            405, f"{shortened(path)} does not take {shortened(method)}, it takes {allowed}.", "method_not_allowed", path
        )
        response.headers["Allow"] = allowed
        return response
    return error_response(error.status_code, str(error.detail), "http_error", path)


async def result_or_error(work: Awaitable[T], path: str, route: str) -> T | Response:
    """What `work` gives, or the response to a request to `path` that says why there is nothing.

    Raises:
        ClientDisconnect: the client left before.
    """
    try:
        return await work
    except ClientDisconnect:
        raise
    except Exception as error:
        return response_to(error, path, route)


def response_to(error: Exception, path: str, route: str) -> Response:
    """The answer to a request to `path` that met any error; logs call the path by its route."""
    if isinstance(error, ValidationError):
        return domain_response(invalid_request(error), path)
    if isinstance(error, AddNormError):
        return domain_response(error, path)
    return defect_response("POST", route, error, path)

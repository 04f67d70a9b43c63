"""The served OpenAPI document: what the framework makes of the routes, and what every request can meet before them.

Left out are 405 and the 404 of a path that there is not, which are answers of no operation, and what is answered to
bytes that are no request; docs/api.md has them.
"""

from functools import cache
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, WithJsonSchema
from pydantic_core import to_json

from service.http.admission import subject_of
from service.http.bodies import JSONBytes
from service.http.errors import OPENAI_PATHS, ErrorBody, OpenAIErrorBody

Json = dict[str, Any]

FRAMEWORKS = ("HTTPValidationError", "ValidationError")  # its 422, which is 400 here (service/http/errors.py)
ON_EVERY_OPERATION = {
    401: "An API key is needed; of all but changes of state, only where the service's settings say so",
    413: "The body is larger than is allowed",
    500: "A defect of the service; its log has the details",
}
ON_INFERENCE = {429: "Too many requests are being answered already; Retry-After says how long to wait"}
KEYS: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of ADDNORM_API_KEYS"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, for whom it suits"},
}
HEADERS: Json = {
    "X-Request-ID": {
        "description": "The client's own, or a new one; log lines have it too",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "Retry-After": {
        "description": "Seconds after which to send it again",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}},
}
HEADERS_OF = {"401": ["WWW-Authenticate"], "429": ["Retry-After"]}

Responses = dict[int | str, dict[str, Any]]
SERVER_TIMING: Responses = {
    200: {"headers": {"Server-Timing": {"description": "Where the time went", "schema": {"type": "string"}}}}
}


def error(status: int, description: str) -> Responses:
    """An error answer, for the documents."""
    return {status: {"content": refers_to(ErrorBody), "description": description}}


def refers_to(model: type[BaseModel]) -> Json:
    """The content of an answer. As a `model` of the framework's, each answer of each route has a validator."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


INVALID = error(400, "The request cannot be answered")
LATE = error(504, "The answer was not ready in time")
OVERLOADED = error(429, "Too much waits already; Retry-After says how long to wait")
STOPPING = error(503, "The service is stopping, or the default model is not loaded")
TOO_LARGE = error(413, "Too many inputs, or too large a body")
INFERENCE = INVALID | TOO_LARGE | OVERLOADED | STOPPING | LATE

TEXT = WithJsonSchema({"type": "string"})  # a query has no null
ModelName = Annotated[
    str | None, TEXT, Query(description="A model that is loaded; the default model where it is missing")
]
ModelVersion = Annotated[str | None, TEXT, Query(description="One of its versions; the highest where it is missing")]


def describe_truly(app: FastAPI) -> None:
    """Makes `app`, which has no `openapi_url`, serve the whole document; it is made and written once."""
    generated = app.openapi

    @cache
    def openapi() -> Json:
        for route in app.routes:
            if isinstance(route, APIRoute) and route.openapi_extra is not None:
                route.openapi_extra = inlined(route.openapi_extra, {})
        return completed(generated())

    @cache
    def content() -> bytes:
        return to_json(openapi())

    @app.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        return JSONBytes(content())

    app.openapi = openapi  # type: ignore[method-assign]


def completed(document: Json) -> Json:
    """The framework's document, with what it does not know and without what is never answered."""
    components = document["components"]
    for name in FRAMEWORKS:
        components["schemas"].pop(name, None)
    components["schemas"].setdefault(ErrorBody.__name__, ErrorBody.model_json_schema())
    components |= {"securitySchemes": KEYS, "headers": HEADERS}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            complete(operation, method.upper(), path)
    return document


def complete(operation: Json, method: str, path: str) -> None:
    responses: Json = operation["responses"]
    responses.pop("422", None)
    body = OpenAIErrorBody if path.startswith(OPENAI_PATHS) else ErrorBody
    met = ON_EVERY_OPERATION | (ON_INFERENCE if subject_of(method, path) == "inference" else {})
    for met_status, description in met.items():
        responses.setdefault(str(met_status), {"description": description, "content": refers_to(body)})
    for status, response in responses.items():
        names = ["X-Request-ID", *HEADERS_OF.get(status, ())]
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = headers | response.get("headers", {})
    operation["responses"] = dict(sorted(responses.items()))
    operation["security"] = [{"bearer": []}, {"apiKey": []}, {}]  # the last: without any key set, none is needed


UNKNOWN_MODEL = error(404, "No such model or version")
GUARDED = error(401, "An API key is needed, where the service has any") | error(
    403, "The key, or the web page that asks, may not change state; or loading over HTTP is switched off"
)
NOT_LOADED = error(503, "The default model is not loaded")
STOPPING = error(503, "The service is stopping")
GONE = error(503, "The service is stopping: what keeps the statistics is gone")
NOT_LOADED_OR_GONE = error(503, "The default model is not loaded, or the service is stopping")


def json_body(model: type[BaseModel], *media_types: str, required: bool = True, example: Any = None) -> dict[str, Any]:
    """The body of a request that is read as it comes, for the documents; beside JSON, it may have other types."""
    content: dict[str, Any] = {"application/json": {"schema": model}}  # its schema once the document is asked for
    if example is not None:
        content["application/json"]["example"] = example
    content |= {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}
    return {"requestBody": {"required": required, "content": content}}


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema with every reference, and every model, replaced by what it means."""
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    if isinstance(schema, type):
        own = schema.model_json_schema()  # type: ignore[attr-defined]
        return inlined(own, own.pop("$defs", {}))
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: inlined(value, definitions) for name, value in schema.items()}


def header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A header that a request may have and a route reads by hand, for the documents."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}

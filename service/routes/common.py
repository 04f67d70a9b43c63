"""What routes share: answers that are JSON already, error answers for the documents, who is being asked."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel, WithJsonSchema

from service.engine import Engine
from service.errors import ErrorBody

Responses = dict[int | str, dict[str, Any]]


def error(status: int, description: str) -> Responses:
    """An error answer, for the documents."""
    return {status: {"model": ErrorBody, "description": description}}


INVALID = error(400, "The request cannot be answered")
UNKNOWN_MODEL = error(404, "No such model or version")
GUARDED = error(401, "An API key is needed, where the service has any")
TOO_LARGE = error(413, "Too many inputs, or too large a body")
OVERLOADED = error(429, "Too much waits already; Retry-After says how long to wait")
STOPPING = error(503, "The service is stopping, or the default model is not loaded")
NOT_LOADED = error(503, "The default model is not loaded")
GONE = error(503, "The service is stopping: what keeps the statistics is gone")
NOT_LOADED_OR_GONE = error(503, "The default model is not loaded, or the service is stopping")
SERVER_TIMING: Responses = {
    200: {"headers": {"Server-Timing": {"description": "Where the time went", "schema": {"type": "string"}}}}
}
LATE = error(504, "The answer was not ready in time")
INFERENCE = INVALID | TOO_LARGE | OVERLOADED | STOPPING | LATE


TEXT = WithJsonSchema({"type": "string"})  # a query has no null
ModelName = Annotated[
    str | None, TEXT, Query(description="A model that is loaded; the default model where it is missing")
]
ModelVersion = Annotated[str | None, TEXT, Query(description="One of its versions; the highest where it is missing")]


def json_body(model: type[BaseModel], *media_types: str, required: bool = True, example: Any = None) -> dict[str, Any]:
    """The body of a request that is read as it comes, for the documents; beside JSON, it may have other types."""
    schema = model.model_json_schema()
    content: dict[str, Any] = {"application/json": {"schema": inlined(schema, schema.pop("$defs", {}))}}
    if example is not None:
        content["application/json"]["example"] = example
    content |= {name: {"schema": {"type": "string", "format": "binary"}} for name in media_types}
    return {"requestBody": {"required": required, "content": content}}


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema with every reference replaced by what it means."""
    if isinstance(schema, list):
        return [inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: inlined(value, definitions) for name, value in schema.items()}


def header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A header that a request may have and a route reads by hand, for the documents."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


class JSONBytes(Response):
    """JSON that is written already."""

    media_type = "application/json"


def identity(engine: Engine) -> dict[str, str]:
    placement = engine.placement
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "provider": placement.provider,
        "device": placement.device,
        "requested_device": placement.requested,
        "fallback_reason": placement.reason,
    }

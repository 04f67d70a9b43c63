"""The served OpenAPI document: what the framework makes of the routes, and what every request can meet before them.

Left out are 405 and the 404 of a path that there is not, which are answers of no operation, and what uvicorn answers to
bytes that are not HTTP; docs/api.md has them.
"""

from typing import Any

from fastapi import FastAPI

from service.admission import subject_of
from service.errors import OPENAI_PATHS, ErrorBody, OpenAIErrorBody

Json = dict[str, Any]

FRAMEWORKS = ("HTTPValidationError", "ValidationError")  # its 422, which is 400 here (service/errors.py)
EVERYWHERE = {
    401: "An API key is needed; of all but changes of state, only where the service's settings say so",
    413: "The body is larger than is allowed",
    500: "A defect of the service; its log has the details",
}
INFERENCE = {429: "Too many requests are being answered already; Retry-After says how long to wait"}
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


def describe_truly(app: FastAPI) -> None:
    """Makes `app` serve the whole document."""
    generated = app.openapi
    document: Json = {}

    def openapi() -> Json:
        if not document:
            document.update(completed(generated()))
        return document

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
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}}
    met = EVERYWHERE | (INFERENCE if subject_of(method, path) == "inference" else {})
    for met_status, description in met.items():
        responses.setdefault(str(met_status), {"description": description, "content": content})
    for status, response in responses.items():
        names = ["X-Request-ID", *HEADERS_OF.get(status, ())]
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = headers | response.get("headers", {})
    operation["responses"] = dict(sorted(responses.items()))
    operation["security"] = [{"bearer": []}, {"apiKey": []}, {}]  # the last: without any key set, none is needed

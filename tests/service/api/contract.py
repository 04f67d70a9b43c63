"""The promised API, as tests/service/api/openapi.json has it, and how a client that knows it alone would try it out.

Checks of Schemathesis that are left out, and why:
- positive_data_acceptance: what fits the document can still be refused for what no document can say (a text without a
  word, more rows than this service takes, a tensor that the model has not). `understood` is in its place: it must not
  be refused as malformed.
- use_after_free, ensure_resource_availability: they follow what was created and deleted, and nothing here is.
- ignored_auth, object_level_authorization: keys are the operator's choice, and the service under test has none;
  tests/service/http/test_openapi.py asks one that has. max_response_time: tests measure no time.
"""

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

SNAPSHOT = Path(__file__).with_name("openapi.json")
DOCUMENT: dict[str, Any] = json.loads(SNAPSHOT.read_text())
KNOWN = {"model": "texts", "name": "texts", "version": "1", "layer": "embeddings.norm"}
RERANKER = {"model": "order", "version": "1"}  # tests/adopted.py
JUDGED = {"model": "intents", "version": "1", "window": "all"}
SIZE, ENCODING = "Inference-Header-Content-Length", "Content-Encoding"
BINARY = "application/octet-stream"
MALFORMED = {"invalid_json", "invalid_request"}
REFUSALS = (400, 401, 403, 404, 405, 406, 413, 422, 428)  # 413: what does not fit may be too many rows before
OURS = {501, 503, 504}  # above 499, and meant: not offered, not loaded, too late

FUZZ = int(os.environ.get("FUZZ", "0"))  # examples of an operation; 0: a few, always the same
BOUNDED = hypothesis.settings(max_examples=FUZZ or 15, derandomize=not FUZZ, deadline=None, database=None)


def understood(_: CheckContext, response: Response, case: Case) -> None:
    """What fits the document is never refused as malformed; bytes are, where no header says what they are."""
    if response.status_code == 400 and fits(case) and (case.media_type != BINARY or SIZE in case.headers):
        error = response.json()
        code = error["code"] if "code" in error else error["error"]["code"]
        assert code not in MALFORMED or has_whole_float(case.body), f"refused what fits the document: {error}"


def has_whole_float(value: object) -> bool:
    """Whether 1.0 or the like is in it: an integer to JSON Schema, and none to this service."""
    if isinstance(value, dict | list):
        return any(map(has_whole_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


def refused_if_wrong(context: CheckContext, response: Response, case: Case) -> None:
    """What violates the document is refused, unless that is lost on the way: as a header, [0] is sent as "0"."""
    violated = case.meta.phase.data.parameter if case.meta is not None else None
    if violated != SIZE or not str(case.headers.get(SIZE, "")).isdigit():
        checks.negative_data_rejection(context, response, case)


def is_another_operation(case: Case) -> bool:
    """Whether its model's name makes it the path of all models' statistics."""
    return case.operation.label == "GET /v2/models/{model}" and case.path_parameters.get("model") == "stats"


CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    refused_if_wrong,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
    understood,
]


def load() -> schemathesis.BaseSchema:
    config = schemathesis.Config.from_dict(
        {
            "checks": {
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", *sorted(OURS)]},
                "negative_data_rejection": {"expected-statuses": [*REFUSALS, "5xx"]},
            },
            "generation": {"deterministic": not FUZZ},
        }
    )
    return schemathesis.openapi.from_dict(deepcopy(DOCUMENT), config=config)  # it changes what it is given


def fits(case: Case) -> bool:
    """Whether it fits the document."""
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


def aim(case: Case) -> None:
    """Names models, versions and layers that there are, in the place of what was made up."""
    parts = (case.path_parameters, case.query, case.body) if fits(case) else (case.path_parameters,)
    for part in parts:
        if isinstance(part, dict):
            known = KNOWN | (RERANKER if case.operation.path == "/rerank" else {})
            part.update({name: value for name, value in known.items() if name in part})
            if case.operation.path == "/rerank" and fits(case):
                part |= RERANKER  # the default model does not rerank
            if case.operation.path == "/norm-stats/baseline" and part is case.query and fits(case):
                part |= JUDGED  # the default model has too small a baseline
                part.pop("from", None), part.pop("to", None)
    case.headers.pop(ENCODING, None)  # no generator compresses its body, or knows its size
    case.headers.pop(SIZE, None)
    if case.media_type == BINARY:
        case.headers[SIZE] = "0"

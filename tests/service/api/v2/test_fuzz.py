"""Whatever is sent, the answer is a result or one sentence, never a defect."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.api.v2.asking import HEADER

NAMES = st.sampled_from(["text", "input_ids", "attention_mask", "features", "lengths", "x"])
SIZES = st.one_of(st.integers(0, 5), st.sampled_from([-1, 4, 2**31, 2**64, True, None, "2", 1.0]))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 9), st.floats(width=32), st.text(max_size=4)
)
DATA = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
PARAMETERS = st.dictionaries(
    st.sampled_from(["binary_data_size", "binary_data", "classification", "timeout", "binary_data_output", "priority"]),
    st.one_of(st.integers(-1, 40), st.booleans(), st.none(), st.text(max_size=2)),
    max_size=2,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "shape": st.lists(SIZES, max_size=4),
        "datatype": st.sampled_from(["BYTES", "INT64", "INT32", "FP32", "FP16", ""]),
    },
    optional={"data": DATA, "parameters": PARAMETERS},
)
OUTPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["label", "logits", "norm_statistics", "y"])}, optional={"parameters": PARAMETERS}
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.one_of(st.lists(TENSORS, max_size=3), DATA)},
    optional={"outputs": st.lists(OUTPUTS, max_size=3), "parameters": PARAMETERS, "id": SCALARS},
)


@pytest.fixture(scope="module")
def front(text_artifact: Artifact, feature_artifact: Artifact) -> Iterator[TestClient]:
    chosen = settings_for(text_artifact)
    engines = [Engine(chosen), Engine(chosen.model_copy(update={"model": feature_artifact.path}))]
    with TestClient(make_app(chosen, ModelRegistry(*engines))) as client:
        yield client


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=st.sampled_from(["texts", "signals"]), request=REQUESTS, tail=st.binary(max_size=40), header=st.booleans())
def test_any_request_is_answered_or_refused(front: TestClient, model: str, request: Any, tail: bytes, header: bool):
    head = json.dumps(request).encode()
    headers = {HEADER: str(len(head))} if header else {}
    response = front.post(f"/v2/models/{model}/infer", content=head + (tail if header else b""), headers=headers)
    assert response.status_code in (200, 400, 413, 501, 504), response.text
    if response.status_code != 200:
        assert response.json().keys() == {"error", "code"}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), header=st.one_of(st.none(), st.integers(0, 200)))
def test_any_bytes_are_answered_or_refused(front: TestClient, content: bytes, header: int | None):
    headers = {} if header is None else {HEADER: str(header)}
    for model in ("texts", "signals"):
        response = front.post(f"/v2/models/{model}/infer", content=content, headers=headers)
        assert response.status_code in (200, 400), response.text


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_input=DATA, more=st.dictionaries(st.sampled_from(["dimensions", "encoding_format", "user"]), SCALARS))
def test_any_embedding_request_is_answered_or_refused(front: TestClient, given_input: Any, more: Any):
    body = json.dumps({"model": "texts", "input": given_input} | more)
    response = front.post("/v1/embeddings", content=body)
    assert response.status_code in (200, 400, 413), response.text
    embed = front.post("/embed", content=json.dumps({"inputs": given_input, "model": "signals"}))
    assert embed.status_code in (200, 400, 413), embed.text

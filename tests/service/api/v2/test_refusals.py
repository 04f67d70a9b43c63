"""What is wrong with a request is said in one sentence, and the service goes on answering."""

import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.service.api.v2.asking import FEATURES, HEADER, INFER, ask, ask_binary, binary, elements, tensor, text
from tests.service.http.test_errors import assert_error

IDS = [1, 2, 3]


def ids(*shape: int, data: Any = None, datatype: str = "INT64") -> dict[str, Any]:
    return tensor("input_ids", list(shape), datatype, data=IDS if data is None else data)


def features(*shape: int, data: Any = None, datatype: str = "FP32") -> dict[str, Any]:
    return tensor("features", list(shape), datatype, data=[0.5] * int(np.prod(shape)) if data is None else data)


@pytest.mark.parametrize(
    ("inputs", "status", "code", "words"),
    [
        ([], 400, "invalid_tensor", ["missing", "text", "input_ids"]),
        ([tensor("words", [1], "BYTES", data=["hi"])], 400, "unknown_input", ["'words'", "text"]),
        ([features(1, 1, 4)], 400, "unknown_input", ["'features'"]),
        ([text("hi"), text("hi")], 400, "invalid_tensor", ["text", "twice"]),
        ([text("hi"), ids(1, 3)], 400, "invalid_tensor", ["text", "input_ids"]),
        ([tensor("text", [1], "FP32", data=[1.0])], 400, "invalid_datatype", ["'FP32'", "BYTES"]),
        ([tensor("text", [1], "BYTES")], 400, "invalid_tensor", ["text", "null", "list"]),
        ([tensor("text", [1], "BYTES", data="hi")], 400, "invalid_tensor", ["a text", "list"]),
        ([tensor("text", [1], "BYTES", data=[1])], 400, "invalid_tensor", ["a number", "BYTES"]),
        ([tensor("text", [2], "BYTES", data=["hi"])], 400, "invalid_tensor", ["[2]", "1 elements"]),
        ([tensor("text", [1, 2], "BYTES", data=["hi", "ho"])], 400, "invalid_tensor", ["[1, 2]", "[rows]"]),
        ([tensor("text", [], "BYTES", data=["hi"])], 400, "invalid_tensor", ["[]", "[rows]"]),
        ([tensor("text", [1, 1], "BYTES", data=[["hi", "ho"]])], 400, "invalid_tensor", ["nested"]),
        ([text()], 400, "no_inputs", ["text is empty", "8"]),
        ([text("hi", " ")], 400, "empty_text", ["text[1]"]),
        ([text(*["hi"] * 9)], 413, "too_many_rows", ["text has 9 rows", "8"]),
        ([tensor("text", [10**30], "BYTES", data=["hi"])], 413, "too_many_rows", ["8"]),
        ([ids(3)], 400, "invalid_tensor", ["[3]", "[rows, tokens]"]),
        ([ids(1, 0, data=[])], 400, "empty_text", ["input_ids[0]", "0 tokens"]),
        ([ids(1, 13, data=[1] * 13)], 400, "too_many_tokens", ["input_ids[0]", "13", "12"]),
        ([ids(1, 3, data=[1, -1, 2])], 400, "unknown_token", ["input_ids[0]", "-1"]),
        ([ids(3, 1, data=[1, 2, 10**6])], 400, "unknown_token", ["input_ids[2]", "1000000"]),
        ([ids(1, 3, data=[1, 2.5, 3])], 400, "invalid_tensor", ["a number", "INT64"]),
        ([ids(1, 3, data=[1, True, 3])], 400, "invalid_tensor", ["a boolean", "INT64"]),
        ([ids(1, 3, data=[1, None, 3])], 400, "invalid_tensor", ["null", "INT64"]),
        ([ids(1, 3, data=[[1, 2], [3]])], 400, "invalid_tensor", ["nested"]),
        ([ids(1, 3, data=[[1], 2, 3])], 400, "invalid_tensor", ["nested"]),
        ([ids(1, 3, data=[1, 2, 2**63])], 400, "invalid_tensor", ["no INT64 holds"]),
        ([ids(1, 3, datatype="FP32")], 400, "invalid_datatype", ["input_ids", "INT64 or INT32"]),
        ([tensor("attention_mask", [1, 1], "INT64", data=[1])], 400, "invalid_tensor", ["missing"]),
        (
            [ids(1, 3), tensor("attention_mask", [1, 2], "INT64", data=[1, 1])],
            400,
            "invalid_tensor",
            ["[1, 2]", "[1, 3]"],
        ),
        ([ids(1, 3), tensor("attention_mask", [1, 3], "INT64", data=[1, 2, 0])], 400, "invalid_tensor", ["0 and 1"]),
        ([ids(1, 3), tensor("attention_mask", [1, 3], "INT64", data=[0, 0, 0])], 400, "empty_text", ["input_ids[0]"]),
        ([binary("text", [1], "BYTES", 6)], 400, "invalid_binary", ["6 bytes", "0 are left"]),
        (
            [text("hi") | {"parameters": {"shared_memory_region": "mine"}}],
            501,
            "unsupported",
            ["shared memory", "body"],
        ),
        ([text("hi") | {"shape": ["1"]}], 400, "invalid_request", ["inputs.0.shape.0"]),
        ([text("hi") | {"shape": [-1]}], 400, "invalid_request", ["inputs.0.shape.0"]),
        ([text("hi") | {"shape": [True]}], 400, "invalid_request", ["inputs.0.shape.0"]),
        ([{"name": "text"}], 400, "invalid_request", ["inputs.0.shape"]),
        (["text"], 400, "invalid_request", ["inputs.0"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_text_tensors_are_refused(client: TestClient, inputs: Any, status: int, code: str, words: list[str]):
    assert_error(ask(client, INFER, *inputs), status, code, *words)
    assert ask(client, INFER, text("hi")).status_code == 200


LENGTHS = {"name": "lengths", "shape": [2], "datatype": "INT64"}


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        ([], "invalid_tensor", ["missing", "features"]),
        ([text("hi")], "unknown_input", ["'text'", "features"]),
        ([features(1, 2, 4, datatype="FP64")], "invalid_datatype", ["'FP64'", "FP32"]),
        ([features(2, 4)], "invalid_tensor", ["[2, 4]", "[rows, steps, 4]"]),
        ([features(1, 2, 3)], "invalid_tensor", ["[1, 2, 3]", "[rows, steps, 4]"]),
        ([features(1, 0, 4)], "invalid_tensor", ["[1, 0, 4]", "1 step"]),
        ([features(0, 1, 4)], "no_inputs", ["features is empty"]),
        ([features(1, 1, 4, data=[1, 2, 3])], "invalid_tensor", ["3 elements"]),
        ([features(1, 1, 4, data=[1, 2, 3, "4"])], "invalid_tensor", ["a text", "FP32"]),
        ([features(1, 1, 4, data=[1, 2, 3, 1e39])], "not_finite", ["features[0]"]),
        ([features(1, 1, 4, data=[1, 2, 3, 10**400])], "invalid_tensor", ["no FP32 holds"]),
        ([features(1, 1, 4, data=[3e38] * 4)], "not_finite", ["features[0] overflows"]),
        ([features(2, 1, 4), LENGTHS | {"data": [1, 2]}], "invalid_tensor", ["lengths", "1 to 1"]),
        ([features(2, 1, 4), LENGTHS | {"data": [1, 0]}], "invalid_tensor", ["lengths", "1 to 1"]),
        ([features(3, 1, 4), LENGTHS | {"data": [1, 1]}], "invalid_tensor", ["lengths", "[3]"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_bad_feature_tensors_are_refused(feature_client: TestClient, inputs: Any, code: str, words: list[str]):
    assert_error(ask(feature_client, FEATURES, *inputs), 400, code, *words)
    assert ask(feature_client, FEATURES, features(1, 1, 4)).status_code == 200


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(feature_client: TestClient, number: str):
    body = json.dumps({"inputs": [features(1, 1, 4, data=[1, 2, 3, "?"])]}).replace('"?"', number)
    response = feature_client.post(FEATURES, content=body)
    assert_error(response, 400, "not_finite", "features[0]")
    raw = np.array([1, 2, 3, float(number)], dtype=np.float32).tobytes()
    response = ask_binary(feature_client, FEATURES, raw, binary("features", [1, 1, 4], "FP32", 16))
    assert_error(response, 400, "not_finite", "features[0]")


@pytest.mark.parametrize(
    ("tail", "shape", "size", "code", "words"),
    [
        (elements(b"hi")[:-1], [1], 6, "invalid_binary", ["6 bytes", "5 are left"]),
        (elements(b"hi") + b"x", [1], 6, "invalid_binary", ["1 bytes follow"]),
        (b"\xff\xff\xff\xff", [1], 4, "invalid_binary", ["text[0]", "longer"]),
        (b"\x01\x00", [1], 2, "invalid_binary", ["text[0]", "longer"]),
        (elements(b"hi"), [2], 6, "invalid_tensor", ["[2]", "1 elements"]),
        (elements(b"hi", b"ho"), [1], 12, "invalid_tensor", ["[1]", "6 bytes more"]),
        (elements(b"hi", b"caf\xe9"), [2], 14, "invalid_text", ["text[1]", "UTF-8"]),
        (elements(b""), [1], 4, "empty_text", ["text[0]"]),
    ],
)
def test_bad_binary_texts_are_refused(
    client: TestClient, tail: bytes, shape: list[int], size: int, code: str, words: list[str]
):
    assert_error(ask_binary(client, INFER, tail, binary("text", shape, "BYTES", size)), 400, code, *words)
    assert ask_binary(client, INFER, elements(b"hi"), binary("text", [1], "BYTES", 6)).status_code == 200


def test_binary_numbers_must_fill_their_shape(feature_client: TestClient):
    response = ask_binary(feature_client, FEATURES, b"\0" * 12, binary("features", [1, 1, 4], "FP32", 12))
    assert_error(response, 400, "invalid_tensor", "[1, 1, 4]", "12 bytes")


def test_data_and_binary_at_once_are_refused(client: TestClient):
    both = text("hi") | {"parameters": {"binary_data_size": 6}}
    assert_error(ask_binary(client, INFER, elements(b"hi"), both), 400, "invalid_tensor", "one of them")


@pytest.mark.parametrize("length", ["-1", "9999", "x", "1.5", "", "1e3", "9" * 5000, "٣"])
def test_header_that_is_no_size_of_the_json_is_refused(client: TestClient, length: str):
    content = json.dumps({"inputs": [text("hi")]}).encode()
    response = client.post(INFER, content=content, headers={HEADER: length.encode()})
    assert_error(response, 400, "invalid_binary", "Inference-Header-Content-Length", str(len(content)))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 5000, b'{"inputs": NaN'])
def test_broken_json_is_refused(client: TestClient, content: bytes):
    assert_error(client.post(INFER, content=content), 400, "invalid_json", "not valid JSON")


@pytest.mark.parametrize(
    ("more", "status", "code", "words"),
    [
        ({"outputs": [{"name": "nope"}]}, 400, "unknown_output", ["'nope'", "logits"]),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, 400, "invalid_tensor", ["label", "twice"]),
        ({"outputs": [{"name": "label", "parameters": {"classification": 2}}]}, 400, "invalid_tensor", ["logits"]),
        ({"outputs": [{"name": "label", "parameters": {"shared_memory_region": "a"}}]}, 501, "unsupported", ["label"]),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, 400, "invalid_request", ["binary_data"]),
        ({"parameters": {"sequence_id": 5}}, 501, "unsupported", ["sequence_id"]),
        ({"parameters": {"sequence_id": "a"}}, 501, "unsupported", ["sequence_id"]),
        ({"parameters": {"sequence_start": True}}, 501, "unsupported", ["sequence_id"]),
        ({"parameters": {"sequence_end": True}}, 501, "unsupported", ["sequence_id"]),
        ({"parameters": {"priority": 1}}, 501, "unsupported", ["priority"]),
        ({"parameters": {"timeout": -1}}, 400, "invalid_request", ["timeout"]),
        ({"parameters": {"timeout": 1.5}}, 400, "invalid_request", ["timeout"]),
        ({"parameters": {"timeout": 1, "custom": "x"}}, 504, "deadline_exceeded", []),
        ({"parameters": {"binary_data_output": "yes"}}, 400, "invalid_request", ["binary_data_output"]),
        ({"id": 7}, 400, "invalid_request", ["id"]),
    ],
    ids=str,
)
def test_what_there_is_not_is_refused(client: TestClient, more: Any, status: int, code: str, words: list[str]):
    assert_error(ask(client, INFER, text("hi"), **more), status, code, *words)
    assert ask(client, INFER, text("hi")).status_code == 200


def post_encoded(client: TestClient, content: bytes, coding: str, **headers: str) -> Any:
    return client.post(INFER, content=content, headers={"Content-Encoding": coding, **headers})


def test_bombs_are_refused_while_they_inflate(client: TestClient):
    for coding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = pack(b" " * 10_000_000)
        assert len(bomb) < 20_000
        assert_error(post_encoded(client, bomb, coding), 413, "body_too_large", "20000")
    assert ask(client, INFER, text("hi")).status_code == 200


def test_broken_and_unknown_encodings_are_refused(client: TestClient):
    whole = gzip.compress(json.dumps({"inputs": [text("hi")]}).encode())
    assert post_encoded(client, whole, "GZIP").status_code == 200
    assert_error(post_encoded(client, whole[:-3], "gzip"), 400, "invalid_encoding", "ends early")
    assert_error(post_encoded(client, whole + b"x", "gzip"), 400, "invalid_encoding", "behind its end")
    assert_error(post_encoded(client, whole, "deflate"), 400, "invalid_encoding", "not deflate")
    assert_error(post_encoded(client, b"", "gzip"), 400, "invalid_encoding", "ends early")
    assert_error(post_encoded(client, whole, "br"), 501, "unsupported", "'br'", "gzip")


def test_header_counts_the_json_before_compression(client: TestClient):
    head = json.dumps({"inputs": [binary("text", [1], "BYTES", 6)]}).encode()
    body = gzip.compress(head + elements(b"hi"))
    assert post_encoded(client, body, "gzip", **{HEADER: str(len(head))}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/models/no/infer", 404, "unknown_model"),
        ("/v2/models/texts/versions/9/infer", 404, "unknown_model"),
        ("/v2/models/te/xts/infer", 404, "not_found"),
        ("/v2/models/te%2Fxts/infer", 404, "not_found"),
        ("/v2/models//infer", 404, "not_found"),
    ],
)
def test_unknown_models_are_told_what_there_is(client: TestClient, path: str, status: int, code: str):
    assert_error(ask(client, path, text("hi")), status, code)
    assert ask(client, INFER, text("hi")).status_code == 200


def test_wrong_method_is_told_the_right_one(client: TestClient):
    assert_error(client.get(INFER), 405, "method_not_allowed", "POST")
    assert_error(client.post("/v2"), 405, "method_not_allowed", "GET")

import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from runtime import errors
from runtime.errors import AddNormError, Forbidden, InvalidInput, Overloaded, TooLarge
from service.http.errors import install_error_handlers
from service.inference.engine import Engine


def assert_error(response: Any, status: int, code: str, *words: str) -> None:
    """The answer is `status` with exactly {"error", "code"}: one sentence that has these words, and this code."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body.keys() == {"error", "code"}
    assert body["code"] == code
    assert body["error"].endswith(".")
    assert "\n" not in body["error"]
    for word in words:
        assert word in body["error"]


@pytest.mark.parametrize(
    ("inputs", "status", "code"),
    [
        ("", 400, "empty_text"),
        ("   \n", 400, "empty_text"),
        (["hi", ""], 400, "empty_text"),
        (None, 400, "invalid_inputs"),
        (5, 400, "invalid_inputs"),
        (True, 400, "invalid_inputs"),
        ({"text": "hi"}, 400, "invalid_inputs"),
        ([], 400, "no_inputs"),
        ([5], 400, "invalid_text"),
        (["hi", None], 400, "invalid_text"),
        ([["hi"]], 400, "invalid_text"),
        ([[[1, 2, 3, 4]]], 400, "invalid_text"),
        (["hi"] * 9, 413, "too_many_rows"),
    ],
    ids=str,
)
def test_bad_texts_are_refused(client: TestClient, inputs: Any, status: int, code: str):
    assert_error(client.post("/predict", json={"inputs": inputs}), status, code, "inputs", "expected")


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ("[[[1, 2, 3]]]", "wrong_width"),
        ("[[1, 2, 3, 4]]", "wrong_width"),
        ("[[]]", "wrong_width"),
        ("[[[]]]", "wrong_width"),
        ("[5]", "wrong_width"),
        ("[[[1, 2, 3, 4], [1]]]", "invalid_features"),
        ('[[["1", "2", "3", "4"]]]', "invalid_features"),
        ("[[[true, true, true, true]]]", "invalid_features"),
        ("[[[1, 2, 3, null]]]", "invalid_features"),
        ("[{}]", "invalid_features"),
        ('"a text"', "invalid_features"),
        (f"[[[1{'0' * 400}, 2, 3, 4]]]", "invalid_features"),
        (f"{'[' * 100}1{']' * 100}", "invalid_features"),
        ("[[[NaN, 2, 3, 4]]]", "not_finite"),
        ("[[[Infinity, 2, 3, 4]]]", "not_finite"),
        ("[[[1e39, 2, 3, 4]]]", "not_finite"),
        ("[[[1e999, 2, 3, 4]]]", "not_finite"),
        ("null", "invalid_inputs"),
        ("[]", "no_inputs"),
    ],
    ids=lambda value: value[:30],
)
def test_bad_features_are_refused(feature_client: TestClient, inputs: str, code: str):
    assert_error(feature_client.post("/predict", content=f'{{"inputs": {inputs}}}'), 400, code, "inputs", "expected")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"hi",
        b'{"inputs": "hi"',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"inputs": "\\ud800"}',
        b'{"inputs": "\xed\xa0"}',
    ],
)
def test_broken_json_is_refused(client: TestClient, content: bytes):
    assert_error(client.post("/predict", content=content), 400, "invalid_json", "not valid JSON", "expected an object")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "inputs"),
        ([], "object"),
        (None, "object"),
        ("hi", "object"),
        ({"inputs": "hi", "top_k": 0}, "top_k"),
        ({"inputs": "hi", "top_k": -1}, "top_k"),
        ({"inputs": "hi", "top_k": "1"}, "top_k"),
        ({"inputs": "hi", "top_k": 1.5}, "top_k"),
        ({"inputs": "hi", "top_k": True}, "top_k"),
        ({"inputs": "hi", "top_k": None}, "top_k"),
        ({"inputs": "hi", "norm_stats": "yes"}, "norm_stats"),
        ({"inputs": "hi", "norm_stats": 1}, "norm_stats"),
        ({"inputs": "hi", "topk": 1}, "topk"),
    ],
    ids=str,
)
def test_bad_request_names_the_field(client: TestClient, body: Any, word: str):
    assert_error(client.post("/predict", content=json.dumps(body)), 400, "invalid_request", word)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("POST", "/norm-stats", "GET"),
        ("DELETE", "/norm-stats/embeddings.norm", "GET"),
        ("POST", "/health/live", "GET, HEAD"),
    ],
)
def test_wrong_method_says_which_is_right(client: TestClient, method: str, path: str, allowed: str):
    response = client.request(method, path)
    assert_error(response, 405, "method_not_allowed", path, method, allowed)
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize("path", ["/nowhere", "/predict/more", "/norm-stats/a/b", "/health"])
def test_unknown_path_is_not_found(client: TestClient, path: str):
    assert_error(client.get(path), 404, "not_found", path, "/docs")


def test_unknown_layer_is_not_found(client: TestClient):
    assert_error(client.get("/norm-stats/nope"), 404, "unknown_layer", "'nope'", "embeddings.norm")


def test_defect_is_answered_and_logged_and_the_service_goes_on(
    client: TestClient, text_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with monkeypatch.context() as patch:
        patch.setattr(text_engine.encoder, "run", lambda _: 1 / 0)
        response = client.post("/predict", json={"inputs": "hi"})
    assert_error(response, 500, "internal_error", "log")
    assert "division" not in response.text
    assert "ZeroDivisionError" in caplog.text
    assert client.post("/predict", json={"inputs": "hi"}).status_code == 200


OWN_CODES = (InvalidInput, Forbidden)  # each such error names its own


def make_error(error: type[AddNormError]) -> AddNormError:
    arguments = dict.fromkeys(OWN_CODES, ("teapot", "It is so.")) | {Overloaded: ("It is so.", 1.0), TooLarge: (5,)}
    return error(*arguments.get(error, ("It is so.",)))


@pytest.mark.parametrize("error", AddNormError.__subclasses__(), ids=lambda error: error.__name__)
def test_every_domain_error_has_a_status_and_its_own_code(error: type[AddNormError]):
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/fail")
    async def fail() -> None:
        raise make_error(error)

    statuses = {
        "InvalidInput": 400,
        "Unauthorized": 401,
        "Forbidden": 403,
        "UnknownLayer": 404,
        "UnknownModel": 404,
        "StateError": 404,
        "Overloaded": 429,
        "TooLarge": 413,
        "Unsupported": 501,
        "ArtifactError": 409,
        "DeviceError": 409,
        "Unavailable": 503,
        "SettingError": 503,
        "DeadlineExceeded": 504,
    }
    status = statuses.get(error.__name__, 500)
    code = "teapot" if error in OWN_CODES else error.code
    response = TestClient(app, raise_server_exceptions=False).get("/fail")
    assert (response.status_code, response.json()) == (status, {"error": str(make_error(error)), "code": code})
    assert f"{error.__name__} " in (errors.__doc__ or "")


@pytest.mark.parametrize(("seconds", "header"), [(0.001, "1"), (0.0, "1"), (1.0, "1"), (1.2, "2"), (75.5, "76")])
def test_overload_says_in_whole_seconds_when_to_come_back(seconds: float, header: str):
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/fail")
    async def fail() -> None:
        raise Overloaded("It is full.", seconds)

    response = TestClient(app).get("/fail")
    assert_error(response, 429, "overloaded")
    assert response.headers["Retry-After"] == header


def test_domain_errors_have_different_codes():
    codes = [error.code for error in AddNormError.__subclasses__() if error not in OWN_CODES]
    assert len(set(codes)) == len(codes)
    assert AddNormError.code not in codes


def test_many_unknown_keys_are_counted_and_not_listed(client: TestClient):
    """To list 90,000 takes half a second, in which nobody is answered."""
    body = {"inputs": "hi"} | {f"k{n}": 1 for n in range(1500)}
    assert_error(client.post("/predict", json=body), 400, "invalid_request", "1,500 mistakes")
    assert_error(client.post("/predict", json={"inputs": "hi", "k": 1}), 400, "invalid_request", "k is not usable")


def test_validation_by_the_framework_has_the_same_body():
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/items")
    async def items(count: int) -> int:
        return count

    assert_error(TestClient(app).get("/items?count=many"), 400, "invalid_request", "query.count")

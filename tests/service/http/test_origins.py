"""Which hosts a request may name, and whose pages and keys may change state."""

import pytest
import uvicorn
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.http.origins import allowed_hosts, allows, host_name
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.apps import make_app
from tests.conftest import settings_for
from tests.service.fastpath.connections import TEXT, Connect, play, request

OWN = "http://testserver"
CHANGES = [
    ("POST", "/norm-stats/baseline"),
    ("DELETE", "/norm-stats/baseline"),
    ("POST", "/v2/repository/models/texts/load"),
    ("POST", "/v2/repository/models/texts/unload"),
]


def client_with(artifact: Artifact, engine: Engine, **changes: object) -> TestClient:
    changes = {"model_control": "explicit"} | changes
    return TestClient(make_app(settings_for(artifact).model_copy(update=changes), ModelRegistry(engine)))


def code(client: TestClient, method: str, path: str, **headers: str) -> str:
    response = client.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
    return str(response.json().get("code", "")) if response.status_code == 403 else ""


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_foreign_pages_change_nothing(text_artifact: Artifact, text_engine: Engine, method: str, path: str):
    client = client_with(text_artifact, text_engine)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Content_Type": "text/plain"},
        {"Origin": "null"},
        {"Origin": OWN + ":81"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://["},
        {"Origin": "//testserver"},
        {"Origin": "http://testserver/"},
        {"Origin": OWN, "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert code(client, method, path, **headers) == "foreign_origin", headers
    for headers in ({}, {"Origin": OWN}, {"Origin": OWN, "Sec_Fetch_Site": "same-origin"}, {"Sec_Fetch_Site": "none"}):
        assert code(client, method, path, **headers) == "", headers


def test_trusted_pages_may_change_state(text_artifact: Artifact, text_engine: Engine):
    client = client_with(text_artifact, text_engine, cors_origins="https://a.example, https://b.example")
    for origin, expected in (("https://b.example", ""), ("https://c.example", "foreign_origin")):
        assert code(client, *CHANGES[1], Origin=origin, Sec_Fetch_Site="cross-site") == expected
    client = client_with(text_artifact, text_engine, cors_origins="null")  # of files and sandboxed frames
    assert code(client, *CHANGES[1], Origin="null", Sec_Fetch_Site="cross-site") == ""
    answer = client.post("/predict", json={"inputs": "hi"}, headers={"Origin": "null"})
    assert answer.headers["access-control-allow-origin"] == "null"
    client = client_with(text_artifact, text_engine, cors_origins="*")
    assert code(client, *CHANGES[1], Origin="https://c.example", Sec_Fetch_Site="cross-site") == ""


def test_foreign_pages_may_ask(text_artifact: Artifact, text_engine: Engine):
    client, headers = client_with(text_artifact, text_engine), {"Origin": "https://evil.example"}
    assert client.post("/predict", json={"inputs": "hi"}, headers=headers).status_code == 200
    assert client.get("/norm-stats", headers=headers).status_code == 200


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_inference_keys_change_nothing(text_artifact: Artifact, text_engine: Engine, method: str, path: str):
    keys = {"api_keys": "full", "inference_keys": "asks, too", "api_key_for": "inference,reads"}
    client = client_with(text_artifact, text_engine, **keys)
    assert client.request(method, path).status_code == 401
    for key in ("asks", "too"):
        assert code(client, method, path, X_API_Key=key) == "key_not_allowed"
        assert client.post("/predict", json={"inputs": "hi"}, headers={"X-API-Key": key}).status_code == 200
        assert client.post("/v2/repository/index", headers={"X-API-Key": key}).status_code == 200
    assert client.post("/v2/repository/index").status_code == 401  # it is read, though it is posted
    assert code(client, method, path, X_API_Key="full") == ""
    alone = client_with(text_artifact, text_engine, inference_keys="asks")
    assert alone.request(method, path).status_code == 401  # without a full key, nobody may
    assert code(alone, method, path, X_API_Key="asks") == "key_not_allowed"
    assert alone.get("/norm-stats").status_code == 200


@pytest.mark.parametrize(
    ("host", "setting", "allowed"),
    [
        ("127.0.0.1", "", {"localhost", "127.0.0.1", "::1", "[::1]"}),
        ("::1", "", {"localhost", "127.0.0.1", "::1", "[::1]"}),
        ("0.0.0.0", "", None),
        ("192.168.0.7", "", None),
        ("127.0.0.1", "*", None),
        ("0.0.0.0", "a.example, B.example", {"a.example", "b.example"}),
    ],
)
def test_only_this_machine_is_named_where_only_it_is_listened_to(host: str, setting: str, allowed: set[str] | None):
    assert allowed_hosts(Settings(host=host, allowed_hosts=setting)) == allowed


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a:80", "a"),
        ("A.example", "a.example"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", ":"),
        ("a:b", "a:b"),
    ],
)
def test_host_is_named_without_its_port(header: str, name: str):
    assert host_name(header) == name


def test_other_hosts_are_refused(text_artifact: Artifact, text_engine: Engine):
    """A page whose name leads to this machine would read everything (DNS rebinding)."""
    client = client_with(text_artifact, text_engine, allowed_hosts="localhost,*.example.com")
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "example.com", "badexample.com"):
        for path in ("/norm-stats", "/", "/traffic", "/nothing"):
            response = client.get(path, headers={"Host": host})
            assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed"), (host, path)
            assert "ADDNORM_ALLOWED_HOSTS" in response.json()["error"]
    for host in ("localhost", "LOCALHOST:8000", "a.example.com", "a.b.example.com:80"):
        assert client.get("/norm-stats", headers={"Host": host}).status_code == 200


def test_probes_may_name_any_host(text_artifact: Artifact, text_engine: Engine):
    """kubelet and Docker ask the address of the container, which nobody can list."""
    settings = Settings(model=text_artifact.path, allowed_hosts="good.example")
    client = TestClient(make_app(settings, ModelRegistry(text_engine)), base_url="http://10.1.2.3:8000")
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert client.get(path).status_code == 200
    for path in ("/healthy", "/model", "/v2/models/anything", "/metrics"):
        assert client.get(path).status_code == 403


@pytest.mark.parametrize(
    ("host", "allowed"),
    [(b"a.example:80", True), (b"b.c.example", True), (b"c.example", False), (b"d.example", False), (b"", True)],
)
def test_host_is_allowed_by_name_or_by_what_it_lies_below(host: bytes, allowed: bool):
    hosts = frozenset({"a.example", "*.c.example"})
    assert allows(hosts, [(b"host", host)]) is allowed
    assert allows(None, [(b"host", host)])


@pytest.mark.parametrize("target", [b"/predict", b"/predict?way=long", b"/embed"])
def test_other_hosts_are_refused_on_the_fast_path_too(text_artifact: Artifact, text_engine: Engine, target: bytes):
    """Whatever heads are known."""
    settings = settings_for(text_artifact).model_copy(update={"allowed_hosts": "own.example"})
    own, foreign = (
        request(TEXT, target=target).replace(b"Host: x", b"Host: " + host) for host in (b"own.example:80", b"x.example")
    )

    async def scenario(connect: Connect, _: uvicorn.Server) -> None:
        client = await connect()
        for _ in range(3):
            assert (await client.ask(own))[0] == 200
            status, _, body = await client.ask(foreign)
            assert (status, body["code"]) == (403, "host_not_allowed")

    play(settings, text_engine, scenario)

"""Every request has an id, its client's or a new one."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.counters import Phases
from service.telemetry.logging import REQUEST_ID
from service.telemetry.request_log import RequestLog
from tests.apps import make_app
from tests.conftest import settings_for


@pytest.mark.parametrize("name", [b"a", b"4bf92f3577b34da6a3ce929d0e0e4736", b"A-z_0.9:/+=@", b"x" * 128])
def test_sane_ids_are_taken_over(name: bytes):
    token = REQUEST_ID.set(b"")
    assert RequestLog(Settings()).begin([(b"host", b"a"), (b"x-request-id", name)]) == name
    assert REQUEST_ID.get() == name
    REQUEST_ID.reset(token)


@pytest.mark.parametrize("name", [b"", b"x" * 129, b"a b", b"a\nb", b"\xff", b'"', b"{}", b"<a>", b"a\n"])
def test_other_ids_are_replaced_by_new_ones(name: bytes):
    token = REQUEST_ID.set(b"")
    request_log = RequestLog(Settings())
    ids = {
        request_log.begin([(b"x-request-id", name)]),
        request_log.begin([]),
        RequestLog(Settings()).begin([]),
    }
    assert len(ids) == 3 and name not in ids
    REQUEST_ID.reset(token)


@pytest.mark.parametrize(("status", "counted"), [(200, 1), (499, 0), (504, 0), (500, 0)])
def test_phases_count_where_the_answer_was_sent(status: int, counted: int):
    """Its client may have left after it was computed."""
    request_log = RequestLog(Settings())
    phases = Phases(0.0, *[0.001] * 7)
    request_log.end(b"a", "POST", [], "/predict", status, 0.0, phases)
    tally, _ = request_log.counters.snapshot([])
    assert tally.latencies.sum(1).tolist() == [counted] * 6


def test_every_answer_says_its_id(text_engine: Engine, text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    front = make_app(settings_for(text_artifact), ModelRegistry(text_engine))
    with TestClient(front, raise_server_exceptions=False) as client:

        def ask(method: str, path: str, **more: Any) -> str:
            given = client.request(method, path, headers={"X-Request-ID": "mine"}, **more)
            assert given.headers.get_list("x-request-id") == ["mine"]
            return client.request(method, path, **more).headers["x-request-id"]

        monkeypatch.setattr(text_engine.collector, "document", lambda _: 1 / 0)
        made = [ask("POST", "/predict", json={"inputs": "hi"}), ask("POST", "/predict", content=b"{")]
        paths = ("/norm-stats", "/nowhere", "/metrics", "/predict", "/norm-stats/state")
        made += [ask("GET", path) for path in paths]
    assert len(set(made)) == len(made)
    assert len({name.split("-")[0] for name in made}) == 1

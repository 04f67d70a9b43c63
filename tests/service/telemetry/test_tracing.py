"""Requests become spans in their clients' traces, and nothing is paid where nobody wants them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import SettingError
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry import tracing
from service.telemetry.tracing import VARIABLES, Tracing, make_provider, make_tracing
from tests.apps import make_app
from tests.conftest import settings_for

memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="needs the otel extra")
ROOT = Path(__file__).parents[3]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PHASES = ["parse", "tokenize", "queue", "infer", "serialize", "stats"]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter() -> Any:
    return memory.InMemorySpanExporter()


@pytest.fixture
def client(
    text_artifact: Artifact, text_engine: Engine, exporter: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    traced = Tracing(make_provider(exporter, at_once=True))
    monkeypatch.setattr("service.process.make_tracing", lambda _: traced)
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(text_engine))) as client:
        yield client


def test_prediction_is_a_span_with_its_phases_in_the_clients_trace(client: TestClient, exporter: Any):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
    client.post("/predict", json={"inputs": ["hi", "snow"]}, headers=headers)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    root = spans.pop("POST /predict")
    assert f"{root.context.trace_id:032x}" == TRACE
    assert (f"{root.parent.span_id:016x}", root.kind.name) == (PARENT, "SERVER")
    assert dict(root.attributes) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "addnorm.request_id": "mine",
    }
    assert sorted(spans) == sorted(PHASES)
    for name, span in spans.items():
        around = spans["infer"] if name == "stats" else root
        assert (span.context.trace_id, span.parent.span_id) == (root.context.trace_id, around.context.span_id)
        assert around.start_time - 100_000 <= span.start_time <= span.end_time <= around.end_time + 100_000
    in_order = [spans[name] for name in PHASES[:-1]]
    for before, after in pairwise(in_order):
        assert abs(after.start_time - before.end_time) < 1000
    assert sum(span.end_time - span.start_time for span in in_order) <= root.end_time - root.start_time


def test_other_requests_and_refusals_are_spans_without_phases(client: TestClient, exporter: Any):
    client.get("/norm-stats/embeddings.norm")
    client.post("/predict", content=b"{")
    client.post("/predict", json={"inputs": "hi", "timeout": 1e-9})
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["GET /norm-stats/{layer}", "POST /predict", "POST /predict"]
    assert [span.status.status_code.name for span in spans] == ["UNSET", "UNSET", "ERROR"]
    assert len({span.context.trace_id for span in spans}) == 3


def test_trace_that_its_client_does_not_sample_is_left_out(client: TestClient, exporter: Any):
    client.post("/predict", json={"inputs": "hi"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    client.post("/predict", json={"inputs": "hi"}, headers={"traceparent": "nonsense"})
    spans = exporter.get_finished_spans()
    assert len(spans) == 1 + len(PHASES)
    assert not [span for span in spans if f"{span.context.trace_id:032x}" == TRACE]


def test_nothing_is_imported_where_tracing_is_off():
    code = (
        "import sys, service.serve, service.workers.worker; print([m for m in sys.modules if 'opentelemetry.sdk' in m])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n"
    assert make_tracing(Settings()) is None


def test_missing_extra_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(SettingError, match=r"otel_endpoint needs the otel extra: .*\.$"):
        make_tracing(Settings(otel_endpoint="http://127.0.0.1:1"))
    assert not caplog.records
    monkeypatch.setenv(VARIABLES[1], "http://127.0.0.1:1")
    assert make_tracing(Settings()) is None
    assert "no traces: " in caplog.text and "needs the otel extra" in caplog.text


def test_standard_variables_turn_it_on_and_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLES[0], "http://127.0.0.1:1/v1/traces")
    made = make_tracing(Settings())
    assert made is not None
    made.close()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert make_tracing(Settings(otel_endpoint="http://127.0.0.1:1")) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-5"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "999999"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "foo"),
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "foo"),
    ],
)
def test_variable_that_cannot_be_used_is_one_sentence(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match=r"^An OTEL_\* variable cannot be used \(.*[^.]\): mend or unset it\.$"):
        make_tracing(Settings(otel_endpoint="http://127.0.0.1:1"))
    monkeypatch.setenv(VARIABLES[1], "http://127.0.0.1:1")
    assert make_tracing(Settings()) is None
    assert "no traces: An OTEL_* variable cannot be used" in caplog.text


@pytest.mark.parametrize("url", ["http://", "http://[", "http://:4318", "http://a:99999", "http://a:b", "http://a b"])
def test_endpoint_that_no_trace_can_reach_is_refused(url: str):
    with pytest.raises(
        SettingError,
        match=r"^otel_endpoint is no URL of a collector: expected http://HOST:PORT or https://HOST:PORT\.$",
    ):
        make_tracing(Settings(otel_endpoint=url))


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("url", ["collector:4317", "grpc://collector:4317", "http://user:secret@a:99999"])
def test_endpoint_of_a_whole_platform_keeps_no_service_from_its_start(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv(name, url)
    assert make_tracing(Settings()) is None
    assert caplog.messages == [
        f"no traces: {name} is no URL of a collector: expected http://HOST:PORT or https://HOST:PORT."
    ]
    made = make_tracing(Settings(otel_endpoint="http://127.0.0.1:1"))  # which wins
    assert made is not None
    made.close()


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that takes what is exported: its URL, and path and body of every request."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_spans_arrive_at_a_collector_over_http(text_artifact: Artifact, text_engine: Engine):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (url, received):
        settings = settings_for(text_artifact).model_copy(update={"otel_endpoint": url})
        with TestClient(make_app(settings, ModelRegistry(text_engine))) as client:
            for _ in range(3):
                client.post("/predict", json={"inputs": "xyzzy"})
    assert {path for path, _ in received} == {"/v1/traces"}
    names, services = [], set()
    for _, body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {item.value.string_value for item in resource.resource.attributes if item.key == "service.name"}
            names += [span.name for scope in resource.scope_spans for span in scope.spans]
    assert services == {"addnorm"}
    assert sorted(names) == sorted(3 * ["POST /predict", *PHASES])
    assert not any(b"xyzzy" in body for _, body in received)


def test_collector_that_does_not_answer_delays_the_end_by_a_moment_only(exporter: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "CLOSING", 0.1)
    traced, answers = Tracing(make_provider(exporter)), threading.Event()
    traced.provider.shutdown()
    monkeypatch.setattr(traced.provider, "shutdown", answers.wait)
    ending = time.monotonic()
    traced.close()
    assert 0.1 <= time.monotonic() - ending < 2.0
    answers.set()

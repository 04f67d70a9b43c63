"""Metrics are well formed, and count exactly what was asked; test_metrics_workers.py has those of several processes."""

import math
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.counters import BOUNDS, PHASES
from tests.apps import make_app
from tests.conftest import settings_for

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TOLD = {
    "addnorm_requests": "counter",
    "addnorm_rejections": "counter",
    "addnorm_request_duration_seconds": "histogram",
    "addnorm_requests_in_flight": "gauge",
    "addnorm_queue_requests": "gauge",
    "addnorm_queue_tokens": "gauge",
    "addnorm_rows": "counter",
    "addnorm_tokens": "counter",
    "addnorm_computed_tokens": "counter",
    "addnorm_batch_rows": "histogram",
    "addnorm_batch_padding_ratio": "gauge",
    "addnorm_workers": "gauge",
    "addnorm_model": "info",
    "addnorm_provider": "info",
    "addnorm_provider_fallback": "gauge",
    "addnorm_precision_fallback": "gauge",
    "addnorm_drift": "gauge",
    "addnorm_drift_alert": "gauge",
    "addnorm_estimated_accuracy_ratio": "gauge",
    "addnorm_unlike_requests_ratio": "gauge",
    "addnorm_mix_shift": "gauge",
    "addnorm_drift_window_requests": "gauge",
    "addnorm_statistics_disk_failing": "gauge",
    "addnorm_statistics_overhead_ratio": "gauge",
    "addnorm_layer_mean": "gauge",
    "addnorm_layer_variance": "gauge",
    "addnorm_layer_drift_score": "gauge",
    "addnorm_layer_drift_threshold": "gauge",
    "process_cpu_seconds": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels, none of them twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def test_both_formats_tell_the_same_families(client: TestClient):
    client.post("/predict", json={"inputs": ["hi"] * 8})
    plain, asked = client.get("/metrics"), client.get("/metrics", headers=OPENMETRICS)
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert asked.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(openmetrics.text_string_to_metric_families(asked.text))
    assert {family.name: family.type for family in families} == TOLD
    assert all(family.documentation for family in families)
    names = {family.name for family in parser.text_string_to_metric_families(plain.text)}
    assert names == {f"{name}_info" if kind == "info" else name for name, kind in TOLD.items()}
    assert asked.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ('text/plain;version="1.0.0"', "text/plain; version=1.0.0"),
        ('application/openmetrics-text;version="1.0.0";charset=utf-8', "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=abc", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.x", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=\xff", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1." + "9" * 5000, "text/plain; version=0.0.4"),
    ],
)
def test_whatever_version_is_asked_for_there_are_metrics(client: TestClient, accept: str, content_type: str):
    response = client.get("/metrics", headers={"Accept": accept.encode("latin-1")})
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(content_type)
    assert "addnorm_workers" in response.text


def test_histograms_are_cumulative_and_end_in_their_count(client: TestClient):
    for _ in range(5):
        client.post("/predict", json={"inputs": ["hi"] * 3})
    text = client.get("/metrics").text
    for phase in PHASES:
        counts = [value(text, "addnorm_request_duration_seconds_bucket", phase=phase, le=repr(b)) for b in BOUNDS]
        counts.append(value(text, "addnorm_request_duration_seconds_bucket", phase=phase, le="+Inf"))
        assert counts == sorted(counts)
        assert counts[-1] == value(text, "addnorm_request_duration_seconds_count", phase=phase) == 5
    assert value(text, "addnorm_batch_rows_bucket", le="2.0") == 0
    assert value(text, "addnorm_batch_rows_bucket", le="4.0") == value(text, "addnorm_batch_rows_count") == 5
    assert value(text, "addnorm_batch_rows_sum") == value(text, "addnorm_rows_total") == 15


def test_answers_and_refusals_are_counted_once(client: TestClient, text_engine: Engine):
    for _ in range(4):
        client.post("/predict", json={"inputs": ["hi", "snow"]})
    client.post("/predict", content=b"{")
    client.post("/predict", json={"inputs": "a" * 30_000})
    text = client.get("/metrics").text
    assert value(text, "addnorm_requests_total", route="/predict", status="200", protocol="http") == 4
    assert value(text, "addnorm_requests_total", route="/predict", status="400", protocol="http") == 1
    assert value(text, "addnorm_rejections_total", reason="invalid") == 1
    assert value(text, "addnorm_rejections_total", reason="too_large") == 1
    assert value(text, "addnorm_rejections_total", reason="overloaded") == 0
    tokens = sum(len(item.tokens) for item in text_engine.inputs.encode(["hi", "snow"]))
    assert value(text, "addnorm_tokens_total") == value(text, "addnorm_computed_tokens_total") == 4 * tokens
    assert value(text, "addnorm_workers") == 1
    assert (
        value(client.get("/metrics").text, "addnorm_requests_total", route="/metrics", status="200", protocol="http")
        == 1
    )


def test_layers_and_verdict_are_those_of_the_statistics():
    settings = Settings(device="cpu")
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        compare_with_statistics(client)


def compare_with_statistics(client: TestClient) -> None:
    labels = {"model": "intents", "version": "1"}
    text = client.get("/metrics").text
    assert math.isnan(value(text, "addnorm_batch_padding_ratio"))
    assert value(text, "addnorm_drift", **labels) == 0
    assert not [key for key in samples(text) if key[0].startswith("addnorm_layer_")]
    for number in range(40):
        client.post("/predict", json={"inputs": [f"{'hi ' * (number + 1)}{'there ' * part}" for part in range(8)]})
    text, stats = client.get("/metrics").text, client.get("/norm-stats?window=1h").json()
    assert value(text, "addnorm_batch_padding_ratio") >= 1
    assert value(text, "addnorm_drift", **labels) == (stats["verdict"]["state"] == "drift")
    assert value(text, "addnorm_mix_shift", **labels) == (stats["verdict"]["state"] == "mix_shift")
    assert value(text, "addnorm_drift_window_requests", **labels) == 320
    for layer in stats["layers"]:
        found = value(text, "addnorm_layer_variance", layer=layer["name"], **labels)
        assert found == pytest.approx(layer["live"]["variance"]["mean"])
    scores = {dict(key[1])["layer"] for key in samples(text) if key[0] == "addnorm_layer_drift_score"}
    assert scores == {"input", *(layer["name"] for layer in stats["layers"]), "output", "all layers", "unlikeness"}


def test_statistics_that_cannot_be_written_are_told(
    text_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("runtime.store.sqlite.INTERVAL", 3600)  # only this test saves
    (tmp_path / "file").touch()
    settings = settings_for(text_artifact).model_copy(update={"state": tmp_path / "file" / "state"})
    engine = Engine(settings)
    labels = {"model": text_artifact.manifest.name, "version": text_artifact.manifest.version}
    with TestClient(make_app(settings, ModelRegistry(engine))) as client:
        assert value(client.get("/metrics").text, "addnorm_statistics_disk_failing", **labels) == 1  # from the start on
        client.post("/predict", json={"inputs": "hi"})
        engine.collector.keep()
        assert value(client.get("/metrics").text, "addnorm_statistics_disk_failing", **labels) == 1
        (tmp_path / "file").unlink()
        engine.collector.keep()
        assert value(client.get("/metrics").text, "addnorm_statistics_disk_failing", **labels) == 0


def test_metrics_need_no_more_than_a_moment(client: TestClient):
    """The bound is ten times what it takes; docs/deployment.md has the figure."""
    client.get("/metrics")
    times = []
    for _ in range(10):
        started = time.perf_counter()
        client.get("/metrics")
        times.append(time.perf_counter() - started)
    assert min(times) < 0.03


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed")
def test_promtool_finds_nothing_to_complain_about(client: TestClient):
    client.post("/predict", json={"inputs": ["hi"] * 8})
    text = client.get("/metrics").text
    run = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

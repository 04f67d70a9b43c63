"""Baselines from live traffic, versions compared, and what the statistics cost; through the service."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.store.kept import Kept
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, WindowQuery
from service.settings import Settings
from tests.apps import make_app
from tests.conftest import settings_for
from tests.helpers import TEXTS, Export, random_sequences, rewrite

ANIMALS = ("heron", "eel", "bear", "beetle", "stork")
PLACES = ("volcanic soil", "the danube", "norway", "old forests", "salt lakes", "the coast")
ELSEWHERE = [f"the {animal} is rarely seen near {place}" for animal in ANIMALS for place in PLACES]


def post(client: TestClient, inputs: list[str]) -> None:
    for start in range(0, len(inputs), 8):
        client.post("/predict", json={"inputs": inputs[start : start + 8]}).raise_for_status()


def embedded(state: Path | None = None) -> Any:
    settings = Settings(device="cpu", state=state)
    return TestClient(make_app(settings, ModelRegistry(Engine(settings))))


@pytest.mark.parametrize("place", ["file", "file/below", "/dev/null", "/proc/none", "x" * 300])
def test_directory_that_cannot_keep_the_state_is_told_at_the_start(
    text_artifact: Artifact, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    collector = Collector(text_artifact, Settings(model=text_artifact.path, state=tmp_path / place))
    assert collector.status().storage == "disk_failing"
    assert "cannot be written" in caplog.text


def test_directory_that_can_be_used_later_is(text_artifact: Artifact, tmp_path: Path):
    (tmp_path / "state").touch()
    collector = Collector(text_artifact, Settings(model=text_artifact.path, state=tmp_path / "state"))
    (tmp_path / "state").unlink()
    collector.keep()
    assert collector.status().storage == "disk"
    collector.close()


def test_live_traffic_becomes_the_baseline_and_can_be_undone(tmp_path: Path):
    with embedded(tmp_path) as client:
        post(client, ELSEWHERE * 4)
        before = client.get("/norm-stats").json()
        assert before["verdict"]["state"] == "drift" and before["baseline"]["source"] == "validation"
        taken = client.post("/norm-stats/baseline", params={"window": "5m"}).json()
        assert (taken["baseline"]["source"], taken["baseline"]["requests"], taken["kept"]) == ("live", 120, 1)
        after = client.get("/norm-stats").json()
        assert after["verdict"]["state"] == "ok" and after["baseline"] == taken["baseline"]
    with embedded(tmp_path) as client:  # a restart keeps it
        assert client.get("/norm-stats").json()["baseline"] == taken["baseline"]
        undone = client.delete("/norm-stats/baseline").json()
        assert (undone["baseline"], undone["kept"]) == (before["baseline"], 0)
        assert client.get("/norm-stats").json()["verdict"]["state"] == "drift"
        again = client.delete("/norm-stats/baseline")
        assert (again.status_code, again.json()["code"]) == (409, "no_live_baseline")


def test_traffic_of_one_input_is_no_baseline_and_that_of_few_looks_keeps_the_deep_one(tmp_path: Path):
    settings = Settings(device="cpu", state=tmp_path, deep_budget=0)
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        post(client, ["is it open"] * 120)
        refused = client.post("/norm-stats/baseline", params={"window": "5m"})
        assert (refused.status_code, refused.json()["code"]) == (400, "too_few_requests")
        assert "no more than 1 different ones" in refused.json()["error"]
        deep = [layer["deep"]["baseline"] for layer in client.get("/norm-stats").json()["layers"]]
        post(client, ELSEWHERE * 20)
        client.post("/norm-stats/baseline", params={"window": "5m"}).raise_for_status()
        assert [layer["deep"]["baseline"] for layer in client.get("/norm-stats").json()["layers"]] == deep


def test_counts_of_two_services_in_turn_on_one_directory_are_all_kept(
    text_artifact: Artifact, text_encoder: Encoder, text_export: Export, tmp_path: Path
):
    """A rolling update: the new service starts while the old one answers."""
    settings = Settings(state=tmp_path)

    def observe(collector: Collector, rows: int) -> None:
        collector.observe(text_encoder.run(random_sequences(text_export[1], rows, rows)), 0.1)
        collector.keep()

    old = Collector(text_artifact, settings)
    observe(old, 30)
    new = Collector(text_artifact, settings)
    observe(new, 7)
    observe(old, 12)
    assert (new.status().storage, old.status().storage) == ("disk_failing", "disk")
    old.close()
    observe(new, 5)
    assert new.status().storage == "disk"
    for _ in range(2):
        for window in ("all", "5m"):
            report = json.loads(new.report(AllLayers(WindowQuery(window))))
            assert report["requests"] == 54, window
        new.close()
        new = Collector(text_artifact, settings)  # a restart finds the same
    new.close()


def test_few_requests_make_no_baseline(client: TestClient):
    post(client, TEXTS)
    answer = client.post("/norm-stats/baseline")
    assert (answer.status_code, answer.json()["code"]) == (400, "too_few_requests")
    assert client.get("/norm-stats").json()["baseline"]["source"] == "validation"


def test_spoiled_live_baseline_is_left_out(text_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    settings = settings_for(text_artifact).model_copy(update={"state": tmp_path})
    collector = Engine(settings).collector
    kept = collector._to_keep({})
    collector.store.save_changed(lambda _: Kept(kept.document, kept.buckets, [b'{"state": 1}']))
    collector.close()
    with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
        assert client.get("/norm-stats").json()["baseline"]["source"] == "validation"
    assert "The artifact's own is in force" in caplog.text


def test_versions_are_compared_by_what_they_saw(text_artifact: Artifact, tmp_path: Path):
    later = rewrite(tmp_path / "models" / "2", text_artifact, version="2")
    for path, inputs in ((text_artifact.path, TEXTS), (later, ["zzzz qqqq xxxx"] * 16)):
        settings = settings_for(text_artifact).model_copy(update={"state": tmp_path / "state", "model": path})
        with TestClient(make_app(settings, ModelRegistry(Engine(settings)))) as client:
            post(client, inputs)
            if path == later:
                found = client.get("/norm-stats/compare", params={"against": "version:1"}).json()
                unknown = client.get("/norm-stats/compare", params={"against": "version:9"})
    assert (found["version"], found["against_version"]) == ("2", "1")
    assert (found["window"]["requests"], found["against"]["requests"]) == (16, len(TEXTS))
    assert any(layer["psi"] > 0.25 for layer in found["layers"])
    assert unknown.status_code == 404
    assert "No statistics of version 9" in unknown.json()["error"] and unknown.json()["code"] == "state_error"


def test_overhead_is_told(client: TestClient):
    assert client.get("/norm-stats").json()["overhead_ratio"] == {"always_on": 0, "deep": 0, "deep_budget": 0.02}
    post(client, TEXTS)
    ratio = client.get("/norm-stats").json()["overhead_ratio"]
    assert 0 < ratio["always_on"] < 1
    assert ratio["deep"] <= 0.05  # of a service that has run for a moment only


def test_traffic_is_looked_at_deeply_and_shown_when_enough_was(client: TestClient, text_engine: Engine):
    assert text_engine.sampler is not None
    for text in TEXTS:
        text_engine.sampler.credit = 1.0
        post(client, [text])
    layer = client.get("/norm-stats/blocks.0.attention.norm").json()["layer"]
    deep = layer["deep"]
    assert deep["requests"] == len(TEXTS) >= 30
    assert len(deep["features"]["mean"]) == len(deep["features"]["variance"]) == layer["d_model"]
    assert deep["live"]["update"]["ratio"]["mean"] == pytest.approx(
        deep["baseline"]["update"]["ratio"]["mean"], rel=1e-3
    )
    for shown in ("outliers", "largest"):
        assert [f["feature"] for f in deep["live"][shown]] == [f["feature"] for f in deep["baseline"][shown]]
    assert max(abs(feature["shift"]) for feature in deep["shifted"]) < 1e-3
    assert client.get("/norm-stats").json()["layers"][0]["deep"].get("features") is None


def test_few_deep_looks_are_withheld(client: TestClient, text_engine: Engine):
    assert text_engine.sampler is not None
    text_engine.sampler.credit = 1.0
    post(client, TEXTS[:1])
    deep = client.get("/norm-stats/blocks.0.attention.norm").json()["layer"]["deep"]
    assert (deep["requests"], deep["live"], deep["shifted"], deep.get("features")) == (1, None, [], None)

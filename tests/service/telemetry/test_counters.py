"""What a process counts while it answers."""

import asyncio
from bisect import bisect_left
from collections import Counter
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.batching.batcher import ROW_BOUNDS, Batcher
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.telemetry.counters import (
    BOUNDS,
    PENDING,
    PHASES,
    REASONS,
    Gauges,
    Phases,
    RequestCounters,
    Tally,
    resident_bytes,
)
from tests.apps import make_app, reporter_of
from tests.conftest import settings_for
from tests.service.batching.scenarios import FakeRun, play, rows, submit


def test_bounds_are_spaced_evenly_from_ten_microseconds_to_ten_seconds():
    assert (BOUNDS[0], BOUNDS[-1], len(BOUNDS)) == (1e-5, 10.0, 31)
    ratios = np.array(BOUNDS[1:]) / BOUNDS[:-1]
    assert ((ratios > 1.5) & (ratios < 1.7)).all()


def test_answered_prediction_is_in_one_bucket_of_every_phase():
    counters = RequestCounters()
    phases = (0.5e-5, 1e-5, 1.1e-5, 0.3, 10.0, 10.1)
    counters.observe(Phases(0.0, *phases, 0.0))
    tally, _ = counters.snapshot([])
    assert [row.argmax() for row in tally.latencies] == [0, 0, 1, BOUNDS.index(0.4), 30, 31]
    assert tally.latencies.sum(1).tolist() == [1] * len(PHASES)
    assert tally.seconds.tolist() == list(phases)


def test_answers_are_counted_one_and_all_however_many_are_counted_together():
    counters, random = RequestCounters(), np.random.default_rng(0)
    phases = random.exponential(0.01, (PENDING + 10, len(PHASES)))
    for row in phases:
        counters.observe(Phases(5.0, *row, 7.0))
    for _ in range(2):
        tally, _ = counters.snapshot([])
        expected = [[np.sum(bisected == bucket) for bucket in range(len(BOUNDS) + 1)] for bisected in buckets(phases.T)]
        assert tally.latencies.tolist() == expected
        assert tally.seconds == pytest.approx(phases.sum(0))


def buckets(phases: Any) -> list[Any]:
    return [np.array([bisect_left(BOUNDS, seconds) for seconds in phase]) for phase in phases]


def test_tallies_add_up_and_subtract():
    random = np.random.default_rng(0)

    def some() -> Tally:
        tally = Tally.nothing()
        tally.requests = Counter({("/predict", 200): int(random.integers(1, 9)), ("/model", 404): 1})
        tally.latencies += random.integers(0, 9, tally.latencies.shape)
        tally.rows, tally.cpu_seconds = int(random.integers(9)), float(random.integers(9))
        return tally

    first, second = some(), some()
    for found in ((first + second) - second, first + Tally.nothing()):
        assert found.requests == first.requests
        assert (found.latencies == first.latencies).all()
        assert (found.rows, found.cpu_seconds) == (first.rows, first.cpu_seconds)
    assert Gauges(1, 2, 3, 4) + Gauges(10, 20, 30, 40) == Gauges(11, 22, 33, 44)


def test_batches_are_counted_by_their_rows():
    async def scenario(batcher: Batcher, _: FakeRun) -> None:
        for count in (1, 2, 3, 4, 5, 600):
            await submit(batcher, rows(*[[1]] * count))

    counters = play(scenario, tokens=1000).counters
    assert counters.batch_rows == [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (len(counters.batch_rows), counters.rows) == (len(ROW_BOUNDS) + 1, 615)


def test_what_an_unloaded_model_counted_stays(text_engine: Engine):
    counters = RequestCounters()
    text_engine.batcher.counters.rows = 5
    text_engine.batcher.queue.tokens, text_engine.batcher.queue.requests = 7, 2
    ran = [text_engine.batcher.counters]
    tally, gauges = counters.snapshot([text_engine.batcher], ran)
    assert (tally.rows, gauges.queue_tokens, gauges.queue_requests) == (5, 7, 2)
    tally, gauges = counters.snapshot([], ran)
    assert (tally.rows, gauges.queue_tokens, gauges.queue_requests) == (5, 0, 0)


def test_memory_in_use_is_told():
    assert 10e6 < resident_bytes() < 100e9


def test_every_answer_is_counted_by_route_status_and_reason(text_engine: Engine, text_artifact: Any):
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(text_engine))) as client:
        texts = ["what is my balance", "hi"]
        for _ in range(3):
            client.post("/predict", json={"inputs": texts})
        client.post("/predict", content=b"{")
        client.post("/predict", json={"inputs": "a" * 30_000})
        client.post("/predict", json={"inputs": "hi", "timeout": 1e-9})
        client.get("/predict")
        client.get("/norm-stats/embeddings.norm")
        client.get("/norm-stats/nowhere")
        client.get("/somewhere/else")
        body = client.get("/traffic").json()
    total = body["total"]
    assert total["requests"] == {
        "/norm-stats/{layer}": {"200": 1, "404": 1},
        "/predict": {"200": 3, "400": 1, "405": 1, "413": 1, "504": 1},
        "other": {"404": 1},
    }
    assert total["refusals"] == {"deadline": 1, "invalid": 1, "too_large": 1}
    assert total["protocols"] == {"http": 10, "grpc": 0}
    tokens = sum(len(item.tokens) for item in text_engine.inputs.encode(texts))
    assert (total["predictions"], total["batches"], total["rows"]) == (3, 3, 6)
    assert (total["tokens"], total["padding_ratio"], total["mean_batch_rows"]) == (3 * tokens, 1.0, 2.0)
    assert {phase["count"] for phase in total["latency_seconds"].values()} == {3}
    assert (body["workers"], body["now"]["in_flight"], body["now"]["queue_tokens"]) == (1, 1, 0)
    assert (body["models"][0]["model"], body["models"][0]["provider"]) == ("texts", "CPUExecutionProvider")
    assert body["last_10s"]["predictions"] == 3 and body["last_10s"]["rows_per_second"] > 0


def test_the_phases_of_every_kind_of_inference_are_told_and_counted(text_engine: Engine, text_artifact: Any):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}
    asked = {
        "/predict": {"inputs": "hi"},
        "/embed": {"inputs": "hi"},
        "/similarity": {"source_sentence": "hi", "sentences": ["rain"]},
        "/v1/embeddings": {"model": "texts", "input": "hi"},
        "/v2/models/texts/infer": {"inputs": [tensor]},
    }
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(text_engine))) as client:
        for path, body in asked.items():
            assert "infer;dur=" in client.post(path, json=body).raise_for_status().headers["server-timing"], path
        total = client.get("/traffic").json()["total"]
    assert total["predictions"] == len(asked)
    assert {phase["count"] for phase in total["latency_seconds"].values()} == {len(asked)}


def test_padding_is_counted(text_engine: Engine, text_artifact: Any):
    with TestClient(make_app(settings_for(text_artifact), ModelRegistry(text_engine))) as client:
        client.post("/predict", json={"inputs": [*["rain " * 20] * 6, "rain"]})
        total = client.get("/traffic").json()["total"]
    assert (total["rows"], total["tokens"]) == (7, 6 * 12 + 1)
    assert total["padding_ratio"] == pytest.approx(3 * 25 / 73)  # in three packs two of 12 each, and one of 1


def test_clients_that_left_and_defects_are_counted_too(text_engine: Engine, text_artifact: Any, monkeypatch: Any):
    settings, models = settings_for(text_artifact), ModelRegistry(text_engine)
    reporter = reporter_of(settings, models)
    app, counters = make_app(settings, models, reporter=reporter), reporter.request_log.counters

    async def gone(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    path = {"path": "/predict", "raw_path": b"/predict", "query_string": b"", "root_path": ""}
    asyncio.run(app({"type": "http", "method": "POST", "headers": [], **path}, gone, gone))
    assert counters.requests == {("/predict", 499): 1}
    assert counters.in_flight == 0

    with TestClient(app, raise_server_exceptions=False) as client:
        monkeypatch.setattr(text_engine.collector, "report", lambda _: 1 / 0)
        assert client.get("/norm-stats").status_code == 500
    assert counters.requests["/norm-stats", 500] == 1
    tally, _ = counters.snapshot([])
    assert tally.refusals == {REASONS[499]: 1, REASONS[500]: 1}

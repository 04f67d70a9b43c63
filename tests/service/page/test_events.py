import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.drift.detector import MIN_REQUESTS
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.page.events import FeedTopic, make_feed, summary
from service.page.feed import Feed
from service.settings import Settings
from service.telemetry.aggregator import Aggregator
from tests.apps import make_app
from tests.helpers import TEXTS
from tests.service.test_serve import announced_url

ROOT = Path(__file__).parents[3]


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.fixture(params=["1", "2"], ids=["one worker", "two workers"])
def server(text_artifact: Artifact, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "addnorm", "serve", "--port", "0", "--device", "cpu", "--workers", request.param]
    environment = os.environ | {"ADDNORM_MODEL": str(text_artifact.path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, announced_url(process)
        finally:
            process.kill()


def test_stream_tells_of_traffic_and_ends_at_once_when_the_service_stops(server: tuple[subprocess.Popen[str], str]):
    process, url = server
    with httpx.Client(base_url=url, trust_env=False, timeout=10) as client, client.stream("GET", "/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        heard = events(stream)
        assert next(heard)["requests"] == 0
        client.post("/predict", json={"inputs": TEXTS}).raise_for_status()
        second = next(heard)
        assert second["requests"] == len(TEXTS) >= MIN_REQUESTS
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert list(heard) == []  # the service ended the stream properly
        assert process.wait(10) == 0
        assert time.monotonic() - started < 5


def test_follower_that_leaves_is_forgotten(text_artifact: Artifact, text_engine: Engine):
    """Through a real socket: a test client would not tell the application that it left."""
    feed = Feed(lambda followed: followed.window.encode(), interval=0.05, most=1)
    app = make_app(Settings(model=text_artifact.path, device="cpu"), ModelRegistry(text_engine), feed=feed)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with httpx.Client(base_url=url, trust_env=False) as client:
                with client.stream("GET", "/events") as stream:
                    lines = stream.iter_lines()  # held on to: the stream ends with it
                    next(lines)
                    refused = client.get("/events")
                    in_flight = client.get("/traffic").json()["now"]["in_flight"]
                assert in_flight == 1  # the question itself: who watches takes nobody's place
                assert (refused.status_code, refused.json()["code"]) == (503, "too_many_followers")
                assert refused.headers["retry-after"] == "10"
                deadline = time.monotonic() + 5
                while feed.full and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert not feed.full and not feed.tasks
        finally:
            server.should_exit = True
            thread.join(10)


def test_unknown_window_is_refused(client: TestClient):
    response = client.get("/events", params={"window": "2h"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_window")
    assert "5m, 1h, 24h, all" in response.json()["error"]


def test_feed_is_about_the_model_that_is_named(text_engine: Engine, feature_engine: Engine):
    feed = make_feed(ModelRegistry(text_engine, feature_engine), Aggregator().open())
    told = {}
    for followed in (FeedTopic("all"), FeedTopic("all", "signals"), FeedTopic("1h", "texts", "1")):
        answer = json.loads(feed.compute(followed))
        told[followed] = answer["model"], answer["version"], answer["asked"]
    assert list(told.values()) == [("texts", "1", "all"), ("signals", "7", "all"), ("texts", "1", "1h")]


@pytest.mark.parametrize("named", [{"model": "nowhere"}, {"version": "9"}, {"model": "texts", "version": "9"}])
def test_unknown_model_is_refused_before_the_stream_begins(client: TestClient, named: dict[str, str]):
    response = client.get("/events", params=named)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_model")
    assert "there is " in response.json()["error"]


def test_page_may_wait_for_the_default_model(text_artifact: Artifact):
    models = ModelRegistry(default_name="texts")
    feed = make_feed(models, Aggregator().open())
    feed.close()  # so that the stream ends
    with TestClient(make_app(Settings(model=text_artifact.path), models, feed=feed)) as client:
        assert client.get("/events").status_code == 200
        assert client.get("/events", params={"model": "texts"}).status_code == 404


def test_summary_says_what_norm_stats_says(client: TestClient, text_engine: Engine):
    for start in range(0, len(TEXTS), 8):
        client.post("/predict", json={"inputs": TEXTS[start : start + 8]}).raise_for_status()
    whole = client.get("/norm-stats").json()
    told = json.loads(summary(text_engine.collector, Aggregator().report(), "all"))
    assert (told["requests"], told["verdict"], told["baseline"]) == (
        whole["requests"],
        whole["verdict"],
        whole["baseline"],
    )
    assert told["needed"] == MIN_REQUESTS and told["asked"] == "all"
    for line, layer in zip(told["layers"], whole["layers"], strict=True):
        assert line["name"] == layer["name"] and line["not_finite"] == 0
        assert {name: line[name] for name in ("state", "score", "threshold", "effect")} == {
            name: layer["drift"].get(name) for name in ("state", "score", "threshold", "effect")
        }
    assert told["traffic"]["last_10s"]["rows_per_second"] == 0

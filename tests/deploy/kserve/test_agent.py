"""A stand-in of KServe's agent: it lays models below a directory, and has a real service load and unload them."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from runtime.artifact import Artifact
from tests.helpers import publish
from tests.service.workers.processes import wait_until
from tests.service.workers.test_stopping import started
from tests.serving import served


class Agent:
    """Does what KServe's agent does for every TrainedModel."""

    def __init__(self, directory: Path, client: httpx.Client) -> None:
        self.directory, self.client = directory, client

    def put(self, name: str, artifact: Artifact) -> int:
        """Copies what lies at its storageUri, notes that it did, and asks for the load."""
        publish(self.directory, name, "1", artifact)
        (self.directory / name / "SUCCESS.3f2a").write_bytes(b"")
        return self.client.post(f"/v2/repository/models/{name}/load", json={}).status_code

    def take_away(self, name: str) -> int:
        status = self.client.post(f"/v2/repository/models/{name}/unload", json={}).status_code
        shutil.rmtree(self.directory / name)
        return status


def status(client: httpx.Client, path: str) -> int:
    return client.get(path).status_code


@contextmanager
def multi_model(directory: Path, *options: str) -> Iterator[httpx.Client]:
    """A service as deploy/kserve/runtime-multi-model.yaml starts it."""
    found = ("--models", str(directory), "--model-control", "explicit", *options)
    with served(*found) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("workers", ["1", "2"])
def test_models_come_and_go_in_a_server_that_starts_with_none(
    workers: str, tmp_path: Path, text_artifact: Artifact, feature_artifact: Artifact
) -> None:
    with multi_model(tmp_path, "--workers", workers) as client:
        agent = Agent(tmp_path, client)
        assert status(client, "/v2/health/live") == 200
        assert client.get("/v2/health/ready").json() == {"ready": True}  # to load: else nothing would ever be
        assert status(client, "/health/ready") == 503  # nobody answers /predict
        assert status(client, "/v2/models/reviews/ready") == 404
        assert client.post("/v2/repository/index", json={}).json() == []

        assert agent.put("reviews", text_artifact) == 200
        assert status(client, "/v2/models/reviews/ready") == 200
        asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}
        answer = client.post("/v2/models/reviews/infer", json=asked).json()
        assert (answer["model_name"], answer["model_version"]) == ("reviews", "1")
        assert agent.put("signals", feature_artifact) == 200
        ready = client.post("/v2/repository/index", json={"ready": True}).json()
        assert [each["name"] for each in ready] == ["reviews", "signals"]

        assert agent.take_away("reviews") == 200
        assert status(client, "/v2/models/reviews/ready") == 404
        assert status(client, "/v2/models/signals/ready") == status(client, "/v2/health/ready") == 200
        assert agent.take_away("signals") == 200
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.post("/v2/repository/models/nobody/load", json={}).status_code == 404


def test_server_that_is_told_to_stop_is_ready_no_more(text_artifact: Artifact) -> None:
    with started(text_artifact, 2, "--drain-delay", "60") as service:
        with httpx.Client(base_url=service.url, trust_env=False) as client:
            assert status(client, "/v2/health/ready") == 200
            service.signal(signal.SIGTERM)
            wait_until(lambda: status(client, "/v2/health/ready") == 503)
            assert status(client, "/v2/health/live") == 200
        service.signal(signal.SIGTERM)
        assert service.process.wait(20) == 0

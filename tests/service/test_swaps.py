"""Real services whose models are swapped while they answer: nobody notices, but by the version in the answer.

tests/service/test_loading.py has the same for one process, without a server.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from runtime.artifact import Artifact
from runtime.manifest import CANARY, MODEL
from runtime.state_store import read_kept
from tests.helpers import publish
from tests.service.processes import Service, ask, serving, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
BODY = json.dumps({"inputs": ["what is my balance", "will it rain"]})


def post(connection: HTTPConnection, path: str, body: str = "") -> tuple[int, Any]:
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def load(connection: HTTPConnection, name: str, **parameters: str) -> tuple[int, Any]:
    return post(connection, f"/v2/repository/models/{name}/load", json.dumps({"parameters": parameters}))


def unload(connection: HTTPConnection, name: str) -> tuple[int, Any]:
    return post(connection, f"/v2/repository/models/{name}/unload")


def index(connection: HTTPConnection) -> dict[tuple[str, str], str]:
    status, entries = post(connection, "/v2/repository/index")
    assert status == 200
    return {(entry["name"], entry["version"]): entry["state"] for entry in entries}


class Clients:
    """Threads that ask /predict all the time over connections that they keep, until the end."""

    def __init__(self, service: Service, count: int = 4) -> None:
        self.service, self.stopped = service, threading.Event()
        self.versions: Counter[str] = Counter()
        self.failures: list[object] = []
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, answers: int, version: str | None = None) -> None:
        def count() -> int:
            return self.versions[version] if version else self.versions.total()

        target = count() + answers
        wait_until(lambda: count() >= target or bool(self.failures))

    def _ask(self) -> None:
        connection = self.service.connect()
        try:
            while not self.stopped.is_set():
                status, answer = post(connection, "/predict", BODY)
                if status == 200 and len(answer["predictions"]) == 2:
                    self.versions[answer["version"]] += 1
                else:
                    self.failures.append((status, answer))
        except Exception as error:
            self.failures.append(error)
        finally:
            connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_dropped_while_versions_are_swapped(text_artifact: Artifact, tmp_path: Path, workers: str):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", workers, "--models", str(tmp_path)) as service:
        connection = service.connect()
        with Clients(service) as clients:
            for version in map(str, range(2, 22)):
                publish(tmp_path, "texts", version, text_artifact)
                assert load(connection, "texts") == (200, {})
                clients.wait_for(20, version)
        assert clients.failures == []
        assert clients.versions.keys() == set(map(str, range(1, 22)))
        assert clients.versions.total() > 400
        stats = ask(connection, "/norm-stats?version=20")
        assert (stats["version"], stats["requests"]) == ("20", 2 * clients.versions["20"])
        assert ask(connection, "/norm-stats")["requests"] == 2 * clients.versions["21"]
        assert ask(connection, "/norm-stats?version=19")["code"] == "unknown_model"
        assert ask(connection, "/health/ready")["models"] == {"texts": ["20", "21"]}
        connection.close()


def test_every_process_answers_with_the_new_version_once_it_is_loaded(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path)) as service:
        connections = list(service.connect_to_each().values())
        publish(tmp_path, "texts", "2", text_artifact)
        assert load(connections[0], "texts") == (200, {})
        for connection in connections:
            assert post(connection, "/predict", BODY)[1]["version"] == "2"
            assert ask(connection, "/model?version=1")["version"] == "1"
        assert unload(connections[0], "texts") == (200, {})
        for connection in connections:
            status, answer = post(connection, "/predict", BODY)
            assert (status, answer["code"]) == (503, "unavailable") and "'texts' is not loaded" in answer["error"]
            assert "is not loaded" in ask(connection, "/health/ready")["error"]
            assert unload(connection, "texts")[0] == 404
        assert load(connections[-1], "texts") == (200, {})
        for connection in connections:
            assert post(connection, "/predict", BODY)[1]["version"] == "2"
            connection.close()


def spoil(path: Path, how: str, artifact: Artifact) -> None:
    if how == "hash":
        (path / MODEL).write_bytes(b"half")
    elif how == "missing":
        (path / MODEL).unlink()
    else:
        canary = json.loads(artifact.files[CANARY])
        canary["logits"] = (np.array(canary["logits"]) + 1).tolist()
        publish(path.parents[1], "texts", path.name, artifact, {CANARY: json.dumps(canary).encode()})


REASONS = {"hash": "its SHA-256 does not match", "missing": "cannot be read", "canary": "does not reproduce its canary"}


def test_broken_version_changes_nothing(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path)) as service:
        connection = service.connect()
        with Clients(service, 2) as clients:
            for version, (how, reason) in enumerate(REASONS.items(), 2):
                spoil(publish(tmp_path, "texts", str(version), text_artifact), how, text_artifact)
                status, answer = load(connection, "texts")
                assert (status, answer["code"]) == (409, "artifact_error") and reason in answer["error"]
                entry = post(connection, "/v2/repository/index")[1][-1]
                assert (entry["version"], entry["state"]) == (str(version), "UNAVAILABLE") and reason in entry["reason"]
                clients.wait_for(5)
            publish(tmp_path, "texts", "9", text_artifact)
            assert load(connection, "texts") == (200, {})  # in spite of those below
            clients.wait_for(5, "9")
        assert clients.failures == [] and clients.versions.keys() == {"1", "9"}
        ready = {version for (_, version), state in index(connection).items() if state == "READY"}
        assert ready == {"1", "9"}
        connection.close()


def test_workers_that_start_again_serve_what_was_loaded_last(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path)) as service:
        time.sleep(1.0)  # a worker that ends sooner is not replaced at once
        connection = service.connect()
        publish(tmp_path, "texts", "2", text_artifact)
        assert load(connection, "texts") == (200, {})
        connection.close()
        shutil.rmtree(tmp_path / "texts")  # nobody reads it again
        before = service.workers
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(service.workers - {min(before)}) == 2)
        answers_everywhere(service, "2")
        before = service.workers
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(service.workers) == 2 and not service.workers & before)
        answers_everywhere(service, "2")


def answers_everywhere(service: Service, version: str) -> None:
    for connection in service.connect_to_each().values():
        assert post(connection, "/predict", BODY)[1]["version"] == version
        connection.close()


def test_worker_that_is_killed_or_stopped_while_it_prepares_hangs_nothing(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path)) as service:
        time.sleep(1.0)
        connections = service.connect_to_each()
        asked, victim = sorted(connections)
        connection = connections[asked]
        os.kill(victim, signal.SIGSTOP)  # it does not prepare
        publish(tmp_path, "texts", "2", text_artifact)
        found: list[tuple[int, Any]] = []
        thread = threading.Thread(target=lambda: found.append(load(connection, "texts")))
        thread.start()
        time.sleep(0.3)
        assert not found
        os.kill(victim, signal.SIGKILL)
        thread.join(10)
        ((status, answer),) = found
        assert (status, answer["code"]) == (503, "unavailable") and "nothing was changed" in answer["error"]
        assert post(connection, "/predict", BODY)[1]["version"] == "1"
        wait_until(lambda: len(service.workers - {victim}) == 2)
        assert load(connection, "texts") == (200, {})
        answers_everywhere(service, "2")
        for each in connections.values():
            each.close()


def test_watched_directory_is_followed(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path), "--watch", "0.05") as service:
        connection = service.connect()
        with Clients(service, 2) as clients:
            publish(tmp_path, "texts", "2", text_artifact)
            clients.wait_for(5, "2")
            publish(tmp_path, "others", "1", text_artifact)
            wait_until(lambda: index(connection).get(("others", "1")) == "READY")
            spoil(publish(tmp_path, "texts", "3", text_artifact), "hash", text_artifact)
            wait_until(lambda: ("texts", "3") in index(connection))
            shutil.rmtree(tmp_path / "others")
            wait_until(lambda: ("others", "1") not in index(connection))
            shutil.rmtree(tmp_path / "texts" / "3")
            shutil.rmtree(tmp_path / "texts" / "2")
            wait_until(lambda: ("texts", "2") not in index(connection))
            clients.wait_for(5, "1")
        assert clients.failures == [] and clients.versions.keys() == {"1", "2"}
        connection.close()


def test_statistics_of_an_unloaded_version_are_kept_and_resumed(text_artifact: Artifact, tmp_path: Path):
    models, state = tmp_path / "models", tmp_path / "state"
    for version in "12":
        publish(models, "texts", version, text_artifact)
    options = ("--workers", "2", "--models", str(models), "--state", str(state))
    with serving(*options) as service:
        connection = service.connect()
        post(connection, "/predict", BODY)
        assert unload(connection, "texts")[0] == 200
        assert load(connection, "texts")[0] == 200
        assert ask(connection, "/norm-stats")["requests"] == 2
        compared = ask(connection, "/norm-stats/compare?against=version:1")
        assert (compared["against_version"], compared["against"]["requests"]) == ("1", 0)
        assert unload(connection, "texts")[0] == 200
        connection.close()
    assert [read_kept(path).document.state.requests for path in state.glob("*.sqlite") if "2" in kept(path)] == [2]
    with serving(*options) as service:
        connection = service.connect()
        assert ask(connection, "/norm-stats?model=texts&version=2")["requests"] == 2
        connection.close()


def kept(path: Path) -> str:
    return read_kept(path).document.version


def test_start_goes_without_what_is_broken(text_artifact: Artifact, tmp_path: Path):
    """A canary that is wrong shows where the graph runs: in the workers, where there are several."""
    for version in ("1", "2", "3"):
        publish(tmp_path, "texts", version, text_artifact)
    spoil(tmp_path / "texts" / "3", "canary", text_artifact)
    publish(tmp_path, "broken", "1", text_artifact)
    spoil(tmp_path / "broken" / "1", "hash", text_artifact)
    publish(tmp_path, "signals", "7", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path), "--default-model", "texts") as service:
        connection = service.connect()
        assert ask(connection, "/health/ready")["models"] == {"signals": ["7"], "texts": ["1", "2"]}
        assert post(connection, "/predict", BODY)[1]["version"] == "2"
        states = index(connection)
        assert {key for key, state in states.items() if state == "UNAVAILABLE"} == {("broken", "1"), ("texts", "3")}
        connection.close()


def test_triton_client_lists_loads_and_unloads(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    publish(tmp_path, "others", "1", text_artifact)
    with serving("--workers", "2", "--models", str(tmp_path), api_keys="secret") as service:
        client = triton.InferenceServerClient(f"127.0.0.1:{service.port}")
        assert [entry["name"] for entry in client.get_model_repository_index()] == ["others", "texts"]
        keys = {"X-API-Key": "secret"}
        client.unload_model("others", headers=keys)
        client.load_model("texts", headers=keys)
        states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
        assert states == {"others": "UNAVAILABLE", "texts": "READY"}
        with pytest.raises(InferenceServerException, match="needs an API key"):
            client.load_model("others")
        with pytest.raises(InferenceServerException, match="There is no model 'nowhere'"):
            client.load_model("nowhere", headers=keys)
        client.close()

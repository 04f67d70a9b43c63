"""The repository of a service of one process, through its application; test_refusals.py has what it refuses."""

import asyncio
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeviceError, Unavailable
from runtime.manifest import CANARY, MODEL
from service.inference.engine import Engine
from service.repository.control import LocalParticipant, load_all
from service.settings import Settings
from tests.apps import make_app
from tests.helpers import publish, wrong_canary
from tests.service.workers.processes import wait_until


@pytest.fixture
def directory(tmp_path: Path, text_artifact: Artifact, feature_artifact: Artifact) -> Path:
    """A repository of texts/1, texts/2 and signals/7."""
    publish(tmp_path, "signals", "7", feature_artifact)
    for version in "12":
        publish(tmp_path, "texts", version, text_artifact)
    return tmp_path


@pytest.fixture
def control(directory: Path) -> LocalParticipant:
    return load_all(
        Settings(models=directory, device="cpu", workers=1, default_model="texts", watch=0.02, model_control="explicit")
    )


@pytest.fixture
def client(control: LocalParticipant) -> Iterator[TestClient]:
    with TestClient(make_app(control.settings, control.models, control)) as client:
        yield client


def load(client: TestClient, name: str, body: object = None) -> tuple[int, Any]:
    answer = client.post(f"/v2/repository/models/{name}/load", content=json.dumps(body) if body is not None else b"")
    return answer.status_code, answer.json()


def version(client: TestClient) -> str:
    return str(client.post("/predict", json={"inputs": "hi"}).json()["version"])


def ready(client: TestClient) -> Any:
    """The versions that answer, by model."""
    return client.get("/health/ready").json()["models"]


def test_everything_there_is_answers(client: TestClient):
    assert ready(client) == {"signals": ["7"], "texts": ["1", "2"]}
    assert version(client) == "2"
    assert client.get("/model", params={"name": "signals"}).json()["inputs"]["kind"] == "features"
    assert client.get("/model", params={"version": "1"}).json()["version"] == "1"
    stats = client.get("/norm-stats", params={"model": "signals"}).json()
    assert (stats["model"], stats["version"], stats["requests"]) == ("signals", "7", 0)
    for path, query in (("/model", {"name": "x"}), ("/norm-stats", {"model": "x"}), ("/norm-stats", {"version": "3"})):
        answer = client.get(path, params=query)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_new_version_takes_over_and_the_oldest_leaves(
    client: TestClient, control: LocalParticipant, directory: Path, text_artifact: Artifact
):
    control.catalog.watch = None  # which would load texts by itself once it sees version 3, and let version 1 go
    publish(directory, "texts", "3", text_artifact)
    assert load(client, "texts") == (200, {})
    assert version(client) == "3"
    assert ready(client)["texts"] == ["2", "3"]
    assert load(client, "texts", {"parameters": {"version": "1"}}) == (200, {})
    assert ready(client)["texts"] == ["1", "2", "3"]
    assert version(client) == "3"
    assert load(client, "texts", {}) == (200, {})
    assert ready(client)["texts"] == ["2", "3"]


def test_artifact_that_was_exported_anew_takes_its_own_place(
    control: LocalParticipant, client: TestClient, directory: Path, text_artifact: Artifact
):
    before = control.models.find("texts", "2"), control.models.find("texts", "1")
    version(client)
    publish(directory, "texts", "2", text_artifact, {"notes.txt": b"anew"})
    assert load(client, "texts") == (200, {})
    after = control.models.find("texts", "2"), control.models.find("texts", "1")
    assert after[0] is not before[0] and after[1] is before[1]
    assert client.get("/norm-stats").json()["requests"] == 0  # it is another artifact
    assert load(client, "texts", {}) == (200, {}) and control.models.find("texts", "2") is after[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path, _: (path / MODEL).write_bytes(b"half"), "4 bytes in the place of"),
        (lambda path, _: (path / CANARY).unlink(), "cannot be read"),
        (lambda path, one: publish(path.parents[1], "texts", "3", one, wrong_canary(one)), "reproduce its canary"),
        (lambda path, one: publish(path.parents[1], "texts", "3", one, {"baseline.json": b"{}"}), "baseline"),
    ],
    ids=["hash", "missing", "canary", "baseline"],
)
def test_broken_version_changes_nothing(
    client: TestClient, directory: Path, text_artifact: Artifact, spoil: Any, reason: str
):
    aside = directory / ".aside"  # the repository is polled: it must never see the version whole
    spoil(publish(aside, "texts", "3", text_artifact), text_artifact)
    (aside / "texts" / "3").rename(directory / "texts" / "3")
    status, answer = load(client, "texts")
    assert (status, answer["code"]) == (409, "artifact_error") and reason in answer["error"]
    assert version(client) == "2"
    entry = client.post("/v2/repository/index").json()[-1]
    assert (entry["version"], entry["state"]) == ("3", "UNAVAILABLE") and reason in entry["reason"]
    publish(directory, "texts", "4", text_artifact)
    assert load(client, "texts") == (200, {}) and version(client) == "4"
    assert ready(client)["texts"] == ["2", "4"]


def test_directory_of_another_model_is_refused(client: TestClient, directory: Path):
    shutil.copytree(directory / "texts" / "2", directory / "texts" / "3")
    status, answer = load(client, "texts")
    assert status == 409 and "holds texts/2, as its manifest says" in answer["error"]


def test_unloaded_default_model_is_unavailable_until_it_is_loaded(client: TestClient):
    assert client.post("/v2/repository/models/texts/unload", content=b'{"parameters": {}}').json() == {}
    for answer in (client.post("/predict", json={"inputs": "hi"}), client.get("/health/ready"), client.get("/model")):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "The default model 'texts' is not loaded: load it with POST" in answer.json()["error"]
    assert client.get("/norm-stats").status_code == 503
    assert client.get("/norm-stats", params={"model": "signals"}).status_code == 200
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert [(entry["name"], entry["version"]) for entry in ready] == [("signals", "7")]
    assert load(client, "texts") == (200, {}) and version(client) == "2"


def test_statistics_of_an_unloaded_model_are_resumed(client: TestClient):
    version(client)
    client.post("/v2/repository/models/texts/unload")
    load(client, "texts")
    assert client.get("/norm-stats").json()["requests"] == 1
    version(client)
    stats = client.get("/v2/models/texts/stats").json()["model_stats"]
    assert {each["version"]: each["inference_count"] for each in stats} == {"1": 0, "2": 2}
    assert client.get("/norm-stats/compare", params={"against": "version:1"}).json()["against"]["requests"] == 0


def test_event_loop_answers_while_a_model_is_loaded(
    client: TestClient, directory: Path, text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Engine:
        begun.set()
        assert go_on.wait(10)
        return Engine(*arguments)

    publish(directory, "texts", "3", text_artifact)
    monkeypatch.setattr("service.repository.control.Engine", slow)
    loads = threading.Thread(target=load, args=(client, "texts"))
    loads.start()
    assert begun.wait(10)
    assert version(client) == "2"
    go_on.set()
    loads.join(10)
    assert version(client) == "3"


def test_who_waits_when_the_service_stops_is_told(
    control: LocalParticipant, directory: Path, text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = threading.Event(), threading.Event()

    def stuck(*_: Any) -> Engine:
        begun.set()
        assert go_on.wait(10)
        raise ArtifactError("It takes too long.")

    async def main() -> None:
        control.start()
        asked = asyncio.create_task(control.load("texts"))
        assert await asyncio.to_thread(begun.wait, 10)
        closing = asyncio.create_task(control.close())
        with pytest.raises(Unavailable, match="is stopping"):
            await asked
        go_on.set()
        await closing

    publish(directory, "texts", "3", text_artifact)
    monkeypatch.setattr("service.repository.control.Engine", stuck)
    asyncio.run(main())
    assert control.models.versions("texts") == ["1", "2"]


def test_watched_directory_is_followed(
    client: TestClient, directory: Path, text_artifact: Artifact, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    publish(directory, "texts", "3", text_artifact)
    wait_until(lambda: ready(client) == {"signals": ["7"], "texts": ["2", "3"]})
    publish(directory, "texts", "4", text_artifact, wrong_canary(text_artifact))
    shutil.rmtree(directory / "signals")
    wait_until(lambda: ready(client) == {"texts": ["2", "3"]})
    assert "model texts stays as it was: " in caplog.text and "reproduce its canary" in caplog.text
    assert version(client) == "3"


def test_version_by_its_number_outlasts_what_the_watch_finds(
    client: TestClient, directory: Path, text_artifact: Artifact
):
    assert load(client, "texts", {"parameters": {"version": "1"}}) == (200, {})
    publish(directory, "texts", "3", text_artifact)
    wait_until(lambda: ready(client) == {"signals": ["7"], "texts": ["1", "2", "3"]})


def test_start_goes_without_what_does_not_run(directory: Path, text_artifact: Artifact):
    publish(directory, "texts", "3", text_artifact, wrong_canary(text_artifact))
    publish(directory, "alone", "1", text_artifact, wrong_canary(text_artifact))
    control = load_all(Settings(models=directory, device="cpu", workers=1, model_control="explicit"))
    assert [(name, control.models.versions(name)) for name in control.models.names()] == [
        ("signals", ["7"]),
        ("texts", ["1", "2"]),
    ]
    assert control.models.default.manifest.name == "signals"
    assert [artifact.files for artifact in control.catalog.artifacts()] == [{}] * 3  # the sessions have it


def test_start_without_anything_that_runs_is_refused(tmp_path: Path, text_artifact: Artifact):
    publish(tmp_path, "texts", "1", text_artifact, wrong_canary(text_artifact))
    with pytest.raises(ArtifactError, match="does not reproduce its canary"):
        load_all(Settings(models=tmp_path, device="cpu", workers=1))


def test_start_without_its_device_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="CUDAExecutionProvider"):
        load_all(Settings(models=directory, device="cuda", workers=1))

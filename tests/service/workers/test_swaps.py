"""Real services whose models are swapped while they answer: nobody notices, but by the version in the answer.

tests/service/repository has the same for one process, without a server; test_swaps_broken.py what goes wrong.
"""

import shutil
import sys
from pathlib import Path

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from runtime.artifact import Artifact
from runtime.store.kept import read_kept
from tests.helpers import publish
from tests.service.workers.clients import BODY, Clients
from tests.service.workers.processes import ROWS, ask, post, wait_until
from tests.service.workers.swapping import index, load, spoil, swapping, unload

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_dropped_while_versions_are_swapped(text_artifact: Artifact, tmp_path: Path, workers: str):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path, workers=workers) as service:
        connection = service.connect()
        with Clients(service, 4) as clients:
            for version in map(str, range(2, 22)):
                publish(tmp_path, "texts", version, text_artifact)
                assert load(connection, "texts") == (200, {})
                clients.wait_for(20, version)
        assert clients.failures == []
        assert clients.versions.keys() == set(map(str, range(1, 22)))
        assert clients.versions.total() > 400
        stats = ask(connection, "/norm-stats?version=20")
        assert (stats["version"], stats["requests"]) == ("20", len(ROWS) * clients.versions["20"])
        assert ask(connection, "/norm-stats")["requests"] == len(ROWS) * clients.versions["21"]
        assert ask(connection, "/norm-stats?version=19")["code"] == "unknown_model"
        assert ask(connection, "/health/ready")["models"] == {"texts": ["20", "21"]}
        connection.close()


def test_every_process_answers_with_the_new_version_once_it_is_loaded(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
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


def test_watched_directory_is_followed(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path, "--watch", "0.05") as service:
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
    with swapping(models, "--state", str(state)) as service:
        connection = service.connect()
        post(connection, "/predict", BODY)
        assert unload(connection, "texts")[0] == 200
        assert load(connection, "texts")[0] == 200
        assert ask(connection, "/norm-stats")["requests"] == len(ROWS)
        compared = ask(connection, "/norm-stats/compare?against=version:1")
        assert (compared["against_version"], compared["against"]["requests"]) == ("1", 0)
        assert unload(connection, "texts")[0] == 200
        connection.close()
    documents = [read_kept(path).document for path in state.glob("*.sqlite")]
    assert [document.state.requests for document in documents if document.version == "2"] == [len(ROWS)]
    with swapping(models, "--state", str(state)) as service:
        connection = service.connect()
        assert ask(connection, "/norm-stats?model=texts&version=2")["requests"] == len(ROWS)
        connection.close()


def test_triton_client_lists_loads_and_unloads(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    publish(tmp_path, "others", "1", text_artifact)
    with swapping(tmp_path, api_keys="secret") as service:
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

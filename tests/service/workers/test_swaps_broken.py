"""Real services whose models are swapped while something is broken: a version that is to be loaded, or a worker."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact
from tests.helpers import publish
from tests.service.workers.clients import BODY, Clients
from tests.service.workers.processes import ask, post, serving, wait_until
from tests.service.workers.swapping import answers_everywhere, index, load, spoil, swapping

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
REASONS = {"hash": "4 bytes in the place of", "missing": "cannot be read", "canary": "does not reproduce its canary"}


def test_broken_version_changes_nothing(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
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


def test_pipe_in_the_place_of_a_file_and_a_link_to_itself_hang_nothing(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
        connection = service.connect()
        with Clients(service, 2) as clients:
            publish(tmp_path, "texts", "2", text_artifact)
            (tmp_path / "texts" / "2" / "manifest.json").unlink()
            os.mkfifo(tmp_path / "texts" / "2" / "manifest.json")
            (tmp_path / "texts" / "3").symlink_to("3")
            (tmp_path / "loop").symlink_to("loop")
            for version, reason in (("2", "not a regular file"), ("3", "symbolic links")):
                status, answer = load(connection, "texts", version=version)
                assert (status, answer["code"]) == (409, "artifact_error") and reason in answer["error"]
            clients.wait_for(5)
            assert ask(connection, "/health/ready")["models"] == {"texts": ["1"]}
        assert clients.failures == []
        connection.close()


def test_service_may_start_empty_where_models_are_loaded_over_http(text_artifact: Artifact, tmp_path: Path):
    for workers in ("1", "2"):
        directory = tmp_path / workers
        directory.mkdir()
        with serving("--workers", workers, "--models", str(directory), "--model-control", "explicit") as service:
            connection = service.connect()
            assert ask(connection, "/health/live") == {"status": "live"}
            assert post(connection, "/predict", BODY)[0] == 503
            assert ask(connection, "/v2/health/ready")
            publish(directory, "texts", "1", text_artifact)
            assert load(connection, "texts") == (200, {})
            assert post(connection, "/predict", BODY)[1]["version"] == "1"
            connection.close()


def test_start_goes_without_what_is_broken(text_artifact: Artifact, tmp_path: Path):
    """A canary that is wrong shows where the graph runs: in the workers, where there are several."""
    for version in ("1", "2", "3"):
        publish(tmp_path, "texts", version, text_artifact)
    spoil(tmp_path / "texts" / "3", "canary", text_artifact)
    publish(tmp_path, "broken", "1", text_artifact)
    spoil(tmp_path / "broken" / "1", "hash", text_artifact)
    publish(tmp_path, "signals", "7", text_artifact)
    with swapping(tmp_path, "--default-model", "texts") as service:
        connection = service.connect()
        assert ask(connection, "/health/ready")["models"] == {"signals": ["7"], "texts": ["1", "2"]}
        assert post(connection, "/predict", BODY)[1]["version"] == "2"
        states = index(connection)
        assert {key for key, state in states.items() if state == "UNAVAILABLE"} == {("broken", "1"), ("texts", "3")}
        connection.close()


def test_workers_that_start_again_serve_what_was_loaded_last(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
        service.wait_until_steady()
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


def test_who_waits_is_told_though_all_workers_are_relieved_meanwhile(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
        connections = service.connect_to_each()
        asked, stopped = sorted(connections)
        os.kill(stopped, signal.SIGSTOP)  # it does not prepare
        publish(tmp_path, "texts", "2", text_artifact)
        found: list[tuple[int, Any]] = []
        thread = threading.Thread(target=lambda: found.append(load(connections[asked], "texts")))
        thread.start()
        time.sleep(0.3)
        assert not found
        service.process.send_signal(signal.SIGHUP)
        thread.join(30)
        assert found == [(200, {})]
        os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: len(service.workers) == 2 and not service.workers & connections.keys())
        answers_everywhere(service, "2")
        for each in connections.values():
            each.close()


def test_worker_that_is_killed_or_stopped_while_it_prepares_hangs_nothing(text_artifact: Artifact, tmp_path: Path):
    publish(tmp_path, "texts", "1", text_artifact)
    with swapping(tmp_path) as service:
        service.wait_until_steady()
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

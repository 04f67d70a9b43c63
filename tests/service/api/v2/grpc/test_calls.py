"""Calls over gRPC to real services, asked by a process of its own: gRPC's threads do not survive other tests' forks."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.artifact import Artifact
from runtime.errors import ListenError, SettingError
from service.settings import Settings
from service.sockets import check_grpc, listen
from tests.helpers import assert_same
from tests.ports import free_port
from tests.service.test_tls import make_certificate
from tests.service.workers.test_stopping import started
from tests.serving import checkout, served

ASK = (sys.executable, "-m", "tests.service.api.v2.grpc.ask")


def ask(what: str, *arguments: object) -> Any:
    """What a function of ask.py finds."""
    done = subprocess.run(
        [*ASK, what, *map(str, arguments)], env=checkout(), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A service of the embedded model."""
    port = free_port()
    with served("--grpc-port", str(port)):
        yield f"127.0.0.1:{port}"


def test_health_reflection_and_both_ways_to_send_tensors(address: str) -> None:
    found = ask("describe", address)
    assert (found["health"], found["unknown"]) == ([1, 1], 3)
    assert found["missing"]["status"] == "NOT_FOUND"
    assert {"inference.GRPCInferenceService", "addnorm.v1.NormStatistics"} <= set(found["services"])
    names = ["logits", "probabilities", "label", "score", "embedding"]
    assert found["raw"] == [*names, str(len(names))]
    assert found["typed"] == [1] * len(names)
    assert found["labels"] == ["greeting", "weather"]


def test_norm_statistics_come_as_a_service_and_beside_an_answer(address: str) -> None:
    found = ask("describe", address)
    assert found["layers"] == [5, 5]
    assert {"baseline", "layer", "verdict"} <= set(found["one layer"])
    assert found["window"]["status"] == "INVALID_ARGUMENT" and "expected one of auto, 5m" in found["window"]["message"]
    assert found["truncated"] == 1


def test_broken_messages_get_a_status_and_a_sentence_and_the_next_call_its_answer(address: str) -> None:
    found = ask("break_things", address)
    expected = {
        "both": ("INVALID_ARGUMENT", "raw_input_contents and contents are both there"),
        "entries": ("INVALID_ARGUMENT", "raw_input_contents has 2 entries for 1 inputs"),
        "field": ("INVALID_ARGUMENT", "text is BYTES and has fp32_contents"),
        "id": ("INVALID_ARGUMENT", "has token -2147483648"),
        "shape": ("INVALID_ARGUMENT", "greater than or equal to 0"),
        "bytes": ("INVALID_ARGUMENT", "longer than the bytes that are left"),
        "utf8": ("INVALID_ARGUMENT", "is not UTF-8"),
        "nothing": ("INVALID_ARGUMENT", "An input is missing"),
        "garbage": ("INVALID_ARGUMENT", "The message is no ModelInferRequest"),
        "method": ("UNIMPLEMENTED", ""),
        "metadata": ("RESOURCE_EXHAUSTED", "metadata size exceeds"),
        "timeout": ("DEADLINE_EXCEEDED", ""),
        # each time: between two limits gRPC would choose at random
        **{f"17 kB, call {call}": ("RESOURCE_EXHAUSTED", "metadata size exceeds") for call in range(8)},
        "after": ("OK", ""),
    }
    assert found.keys() == expected.keys()
    for case, (status, words) in expected.items():
        assert found[case]["status"] == status and words in found[case].get("message", ""), (case, found[case])


def test_clients_that_leave_take_nothing_with_them(address: str) -> None:
    assert ask("leave", address) == {"status": "OK"}


def test_keys_hold_for_calls() -> None:
    port = free_port()
    options = ("--grpc-port", str(port), "--api-keys", "secret", "--api-key-for", "inference")
    with served(*options) as url:
        found = ask("keys", f"127.0.0.1:{port}", "secret")
        refused = {case: found[case]["status"] for case in ("none", "wrong", "bearer", "x-api-key")}
        assert refused == {"none": "UNAUTHENTICATED", "wrong": "UNAUTHENTICATED", "bearer": "OK", "x-api-key": "OK"}
        assert "Authorization: Bearer KEY" in found["none"]["message"] and found["live"] is True
        assert httpx.get(f"{url}/health/live", trust_env=False).status_code == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_workers_share_the_port_and_the_files_for_tls(text_artifact: Artifact, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "own")
    port = free_port()
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--grpc-port", str(port)]
    with started(text_artifact, 2, *options):
        for _ in range(4):
            assert ask("secure", f"127.0.0.1:{port}", cert)["status"] == "OK"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_clients_show_a_certificate_where_they_must(text_artifact: Artifact, tmp_path: Path) -> None:
    (cert, key), mine, other = (make_certificate(tmp_path, name) for name in ("own", "mine", "other"))
    port = free_port()
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(mine[0])]
    with started(text_artifact, 1, *options, "--grpc-port", str(port)):
        found = [ask("secure", f"127.0.0.1:{port}", cert, *shown)["status"] for shown in ((), mine, other)]
    assert found == ["UNAVAILABLE", "OK", "UNAVAILABLE"]


def test_a_service_that_stops_ends_calls_with_a_status(text_artifact: Artifact) -> None:
    port = free_port()
    with started(text_artifact, 1, "--grpc-port", str(port)) as service:
        command = [*ASK, "drain", f"127.0.0.1:{port}"]
        with subprocess.Popen(command, env=checkout(), stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout and client.stdout.readline() == "asking\n"
            try:
                httpx.get(f"{service.url}/health/live", trust_env=False)
                while b"ModelInfer" not in httpx.get(f"{service.url}/metrics", trust_env=False).content:
                    pass
                service.process.send_signal(signal.SIGTERM)
                ended = json.loads(client.stdout.readline())
            finally:
                client.kill()
        assert ended["OK"] > 0 and ended.keys() <= {"OK", "UNAVAILABLE"}


def test_old_connections_are_told_to_connect_anew_and_no_call_is_lost(text_artifact: Artifact) -> None:
    port = free_port()
    options = ("--grpc-port", str(port), "--connection-age", "0.8", "--name", "reviews")
    with started(text_artifact, 1, "--model", str(text_artifact.path), *options):
        found = ask("reconnect", f"127.0.0.1:{port}", 2.5, "reviews")
    assert found["ended"].keys() == {"OK"} and found["ended"]["OK"] > 20
    assert all(len(times) >= 2 for times in found["connected"])
    assert len({round(times[1], 2) for times in found["connected"]}) > 1  # grpc's jitter is a tenth, too


def test_open_streams_do_not_hold_up_a_stop(text_artifact: Artifact) -> None:
    port = free_port()
    with started(text_artifact, 1, "--grpc-port", str(port)) as service:
        command = [*ASK, "follow", f"127.0.0.1:{port}"]
        with subprocess.Popen(command, env=checkout(), stdout=subprocess.PIPE, text=True) as client:
            try:
                assert client.stdout and client.stdout.readline() == "following\n"
                service.process.send_signal(signal.SIGTERM)
                found = json.loads(client.stdout.readline())
            finally:
                client.kill()
        service.process.wait(4)  # the grace that a stop has is longer
    assert found == {"answered": 5, "stream": "UNAVAILABLE", "statuses": [1, 2]}


def test_the_same_texts_give_the_same_answers_and_statistics_as_over_http(tmp_path: Path) -> None:
    """2,000 texts, 20 to a request, so that batches are the same."""
    things, places = (
        ("balance", "limit", "rent", "name", "pin"),
        ("rome", "oslo", "bonn", "town", "lima", "york", "kyiv", "baku"),
    )
    texts = [f"what is my {thing} in {place} {n}" for n in range(50) for thing in things for place in places]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    port = free_port()
    with served("--grpc-port", str(port)) as url:
        labels = ask("feed", f"127.0.0.1:{port}", tmp_path / "texts.json")
        over_grpc = httpx.get(f"{url}/norm-stats/state", trust_env=False).json()
        timed = httpx.get(f"{url}/traffic", trust_env=False).json()["total"]["latency_seconds"]
    with served() as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for start in range(0, len(texts), 20):
            sent = {"inputs": texts[start : start + 20]}
            found = client.post("/predict", json=sent).raise_for_status().json()["predictions"]
            assert [row["label"] for row in found] == labels[start : start + 20]
        over_http = client.get("/norm-stats/state").json()
    assert over_grpc["state"]["requests"] == len(texts) == 2000
    assert {phase["count"] for phase in timed.values()} == {100}
    assert_same(over_grpc["state"], over_http["state"])  # a time bucket may have ended in between


def test_a_port_that_is_taken_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} cannot be listened on"):
            check_grpc(Settings(grpc_port=port))
    check_grpc(Settings())
    monkeypatch.setattr("service.sockets.find_spec", lambda _: None)
    with pytest.raises(SettingError, match="needs the grpc extra"):
        check_grpc(Settings(grpc_port=port))

"""Triton's and KServe's gRPC clients, as they are published, against a real server; in an environment of their own.

No test process loads gRPC itself: its threads would not survive the forks of other tests.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from service.api.v2.grpc.messages import POOL
from service.telemetry.aggregator import PERIOD
from tests.helpers import LABELS
from tests.ports import free_port
from tests.serving import served

PYTHON = Path(__file__).parents[2] / ".clients" / "kserve" / "bin" / "python"
TEXTS = ["what is my balance", "will it rain"]

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason=f"{PYTHON} is missing: make .clients/kserve.stamp installs it"
)


class Service(NamedTuple):
    """Where it answers HTTP and gRPC."""

    url: str
    grpc: str


def script(name: str, *arguments: str) -> Any:
    """What a script of this folder prints, run by the clients' own Python."""
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name(name), *arguments], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def service(
    text_artifact: Artifact, feature_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    for name, artifact in (("texts", text_artifact), ("signals", feature_artifact)):
        shutil.copytree(artifact.path, models / name / artifact.path.name)
    port = free_port()
    options = ("--models", str(models), "--default-model", "texts", "--grpc-port", str(port), "--max-rows", "64")
    with served(*options) as url:
        yield Service(url, f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def triton(service: Service) -> Any:
    return script("ask_triton_grpc.py", service.grpc)


def test_server_and_models_describe_themselves(triton: Any) -> None:
    assert (triton["live"], triton["ready"], triton["models"]) == (True, True, [True, True, False])
    assert "normalization_statistics" in triton["server"]["extensions"]
    assert triton["metadata"]["inputs"] == [{"name": "features", "datatype": "FP32", "shape": ["-1", "-1", "4"]}]
    config = triton["config"]["config"]
    assert (config["max_batch_size"], config["backend"]) == (64, "onnxruntime")
    assert config["input"] == [{"name": "text", "data_type": "TYPE_STRING"}]
    assert {(model["name"], model["state"]) for model in triton["index"]["models"]} == {
        ("texts", "READY"),
        ("signals", "READY"),
    }


def test_answers_are_those_of_the_graph(triton: Any, text_artifact: Artifact, feature_artifact: Artifact) -> None:
    sequences = [item.tokens for item in make_input_encoder(text_artifact).encode(TEXTS)]
    batch = Encoder(text_artifact).run(sequences)
    np.testing.assert_allclose(triton["texts"]["logits"], batch.logits, rtol=1e-4, atol=1e-5)
    assert triton["texts"]["label"] == [LABELS[best] for best in batch.classes]
    features = np.linspace(-1, 1, 3 * 5 * 4, dtype=np.float32).reshape(3, 5, 4)
    batch = Encoder(feature_artifact).run(list(features))
    np.testing.assert_allclose(triton["signals"]["embedding"], batch.embedding, rtol=1e-4, atol=1e-5)
    assert [each.split(":")[2] in LABELS for each in triton["best"]] == [True] * 4
    assert triton["norm_statistics"] == [2, 5, 2]


def test_a_stream_answers_each_request_in_order(triton: Any) -> None:
    first, second = ([label] for label in triton["texts"]["label"])
    assert triton["stream"][:2] == [first, second] and triton["stream"][3:] == [second, first]
    assert triton["stream"][2].startswith("There is no model 'nope' here")


def test_many_calls_at_once_have_their_own_answers(triton: Any) -> None:
    assert triton["aio"] == {"live": True, "labels": triton["texts"]["label"] * 8}


def test_statistics_count_the_calls(triton: Any) -> None:
    (model,) = triton["statistics"]["model_stats"]
    assert model["name"] == "texts" and int(model["inference_count"]) >= 4
    assert int(model["inference_stats"]["success"]["count"]) >= 2


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("model", "NOT_FOUND", "There is no model 'nope' here"),
        ("version", "NOT_FOUND", "There is no version '9' of texts"),
        ("datatype", "INVALID_ARGUMENT", "text has datatype 'FP32'"),
        ("output", "INVALID_ARGUMENT", "There is no output 'nope'"),
        ("rows", "INVALID_ARGUMENT", "expected at most 64"),
        ("large", "RESOURCE_EXHAUSTED", "larger than max"),
        ("deadline", "DEADLINE_EXCEEDED", ""),
        ("load", "PERMISSION_DENIED", "--model-control explicit"),
        ("unload", "PERMISSION_DENIED", "--model-control explicit"),
        ("memory", "UNIMPLEMENTED", "is not supported"),
        ("cuda", "UNIMPLEMENTED", "is not supported"),
        ("trace", "UNIMPLEMENTED", "is not supported"),
        ("log", "UNIMPLEMENTED", "is not supported"),
    ],
)
def test_what_cannot_be_answered_has_a_status_and_a_sentence(triton: Any, case: str, status: str, words: str) -> None:
    found, message = triton["refused"][case]
    assert found == f"StatusCode.{status}" and words in message


def test_kserve_client_asks_everything_it_can(service: Service, triton: Any) -> None:
    found = script("ask_kserve_grpc.py", service.grpc)
    assert (found["live"], found["ready"], found["model"]) == (True, True, True)
    assert (found["id"], found["label"]) == ("mine", triton["texts"]["label"])
    np.testing.assert_allclose(found["logits"], triton["texts"]["logits"], rtol=1e-5)


@pytest.mark.usefixtures("triton")
def test_calls_are_counted_beside_requests(service: Service) -> None:
    httpx.get(f"{service.url}/model", trust_env=False).raise_for_status()
    time.sleep(2 * PERIOD)
    metrics = httpx.get(f"{service.url}/metrics", trust_env=False).text
    route = 'route="/inference.GRPCInferenceService/ModelInfer"'
    lines = [line for line in metrics.splitlines() if line.startswith("addnorm_requests_total") and route in line]
    assert any('status="200"' in line for line in lines) and any('status="404"' in line for line in lines)
    assert all('protocol="grpc"' in line for line in lines)
    assert 'protocol="http"' in metrics
    total = httpx.get(f"{service.url}/traffic", trust_env=False).json()["total"]
    assert total["protocols"]["grpc"] > 10 and total["requests"]["/inference.GRPCInferenceService/ModelInfer"]["200"]


def test_messages_are_those_of_the_clients_own_code() -> None:
    """Those that are described here; a field that is missing is neither read nor written."""
    theirs = script("ask_triton_grpc.py", "descriptors")
    file = POOL.FindFileByName("grpc_service.proto")
    waiting = list(file.message_types_by_name.values())
    assert len(waiting) == 35
    while waiting:
        message, described = waiting.pop(), DescriptorProto()
        message.CopyToProto(described)
        for field in described.field:
            found = [field.number, field.label, field.type, field.type_name.removeprefix(".") or None]
            number, label, kind, name = theirs[message.full_name][field.name]
            assert found[:3] == [number, label, kind] and name in (None, found[3]), f"{message.full_name}.{field.name}"
        waiting += message.nested_types
    numbers = {value.name: value.number for value in file.enum_types_by_name["DataType"].values}
    assert theirs["inference.DataType"] == numbers

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.weights import point_into_file
from runtime.artifact import Artifact
from runtime.errors import DeviceError
from runtime.graph import session
from runtime.graph.session import open_session
from runtime.manifest import MODEL
from runtime.precision import Plan


@pytest.fixture
def graph(text_artifact: Artifact) -> bytes:
    return text_artifact.files[MODEL]


class FakeSession:
    """A session as ONNX Runtime gives it where a GPU provider does not load: on the CPU, without an error."""

    works_on_gpu = False
    left_to_cpu: ClassVar[list[str]] = []  # operators
    said = ""  # an error, where the first provider is a GPU's
    opened: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, model: bytes, options: ort.SessionOptions, **arguments: Any) -> None:
        self.opened.append({"threads": options.intra_op_num_threads} | arguments)
        self.providers = arguments["providers"] if self.works_on_gpu else ["CPUExecutionProvider"]
        if self.said and arguments["providers"] != ["CPUExecutionProvider"]:
            raise RuntimeError(self.said)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(provider: str, index: int, operator: str) -> Any:
            node = SimpleNamespace(name=f"node_{index}", op_type=operator, domain="")
            return SimpleNamespace(ep_name=provider, get_nodes=lambda: [node])

        left = [part("CPUExecutionProvider", index, operator) for index, operator in enumerate(self.left_to_cpu)]
        return [part(self.providers[0], 9, "MatMul"), *left]

    def get_providers(self) -> list[str]:
        return self.providers


@pytest.fixture
def gpu_wheel(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """The GPU wheel, on a machine where its providers do not load."""
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(ort, "preload_dlls", lambda **_: None)
    monkeypatch.setattr(ort, "set_default_logger_severity", lambda _: None)
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "opened", [])
    return FakeSession


def test_cpu_runs_on_the_cpu(graph: bytes):
    opened, placement = open_session(graph, "cpu", threads=1)
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert (placement.requested, placement.device, placement.provider) == ("cpu", "cpu", "CPUExecutionProvider")
    assert placement.reason == ""


def test_threads_are_those_asked_for(graph: bytes):
    assert open_session(graph, "cpu", threads=2)[0].get_session_options().intra_op_num_threads == 2


@pytest.mark.parametrize(
    ("device", "provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_gpu_by_name_without_its_wheel_is_refused(
    graph: bytes, monkeypatch: pytest.MonkeyPatch, device: Any, provider: str
):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=f"Device {device} is not available.*{provider}.*gpu extra") as caught:
        open_session(graph, device, threads=1)
    assert "\n" not in str(caught.value)


def test_auto_without_a_gpu_falls_back_and_says_why(graph: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    opened, placement = open_session(graph, "auto", threads=1)
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert (placement.requested, placement.device, placement.provider) == ("auto", "cpu", "CPUExecutionProvider")
    assert "CUDAExecutionProvider" in placement.reason


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_session_that_is_not_where_it_was_asked_to_be_is_refused(gpu_wheel: type[FakeSession], device: Any):
    with pytest.raises(DeviceError, match=f"Device {device} is not available.*libonnxruntime_providers_{device}.so"):
        open_session(b"", device, threads=1)
    assert gpu_wheel.opened[0]["providers"][0].lower().startswith(device)


def test_auto_falls_back_where_the_gpu_does_not_load(gpu_wheel: type[FakeSession]):
    opened, placement = open_session(b"", "auto", threads=3)
    assert opened.get_providers() == ["CPUExecutionProvider"]
    assert (placement.device, placement.provider) == ("cpu", "CPUExecutionProvider")
    assert "libonnxruntime_providers_cuda.so" in placement.reason
    assert [call["providers"][0] for call in gpu_wheel.opened] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert gpu_wheel.opened[-1]["threads"] == 3


def test_products_on_a_gpu_are_as_exact_as_on_the_cpu(gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_wheel, "works_on_gpu", True)
    open_session(b"", "cuda", threads=1)
    assert gpu_wheel.opened[0]["provider_options"] == [{"use_tf32": "0"}, {}]


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_gpu_that_works_is_taken(gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch, device: Any):
    monkeypatch.setattr(gpu_wheel, "works_on_gpu", True)
    opened, placement = open_session(b"", device, threads=1)
    assert opened.get_providers()[0] == "CUDAExecutionProvider"
    assert (placement.requested, placement.device, placement.provider) == (device, "cuda", "CUDAExecutionProvider")
    assert placement.reason == ""


def test_failure_of_cuda_itself_is_told_without_a_fallback(
    gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_wheel, "said", "CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; line=355")
    with pytest.raises(DeviceError, match=r"not available: CUDA failure 100: no CUDA-capable device is detected; look"):
        open_session(b"", "cuda", threads=1)
    _, placement = open_session(b"", "auto", threads=1)
    assert placement.device == "cpu" and "no CUDA-capable device" in placement.reason
    assert [call["enable_fallback"] for call in gpu_wheel.opened] == [0, 0, 0]


def test_a_graph_that_is_none_is_no_failure_of_the_device(
    gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_wheel, "said", "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF")
    with pytest.raises(RuntimeError, match="INVALID_PROTOBUF"):
        open_session(b"", "auto", threads=1)


def test_a_node_that_computes_on_the_cpu_refuses_the_gpu_by_name(
    gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_wheel, "works_on_gpu", True)
    monkeypatch.setattr(gpu_wheel, "left_to_cpu", ["Shape", "Attention"])
    with pytest.raises(
        DeviceError, match=r"Device cuda is not possible: .* leaves the node node_1 \(Attention\) to the CPU"
    ):
        open_session(b"", "cuda", threads=1)
    _, placement = open_session(b"", "auto", threads=1)
    assert placement.device == "cpu" and "Attention" in placement.reason
    monkeypatch.setattr(gpu_wheel, "left_to_cpu", ["Shape"])
    assert open_session(b"", "cuda", threads=1)[1].device == "cuda"


def test_tensorrt_leaves_what_it_cannot_run_to_cuda(gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu_wheel, "works_on_gpu", True)
    open_session(b"", "tensorrt", threads=1)
    assert gpu_wheel.opened[0]["providers"] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]


def test_session_is_opened_without_the_slow_fusion(gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ort, "__version__", "1.30.0")
    open_session(b"", "cpu", threads=1)
    assert gpu_wheel.opened[0]["disabled_optimizers"] == session.PLANS["unfused"]


def test_plan_of_the_manifest_is_used_where_it_was_measured(
    gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ort, "__version__", "1.32.0")
    plan = Plan(name="default", onnxruntime="1.32.0", provider="CPUExecutionProvider")
    _, placement = open_session(b"", "cpu", threads=1, plan=plan)
    assert gpu_wheel.opened[0]["disabled_optimizers"] == []
    assert (placement.plan, placement.plan_source) == ("default", "measured")
    monkeypatch.setattr(ort, "__version__", "1.32.1")
    _, placement = open_session(b"", "cpu", threads=1, plan=plan)
    assert gpu_wheel.opened[1]["disabled_optimizers"] == session.PLANS["unfused"]
    assert (placement.plan, placement.plan_source) == ("unfused", "rule")


def test_graph_for_the_cpu_alone_does_not_go_to_a_gpu_that_works(
    gpu_wheel: type[FakeSession], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_wheel, "works_on_gpu", True)
    _, placement = open_session(b"", "auto", threads=1, cpu_only="it is in int8")
    assert [call["providers"] for call in gpu_wheel.opened] == [["CPUExecutionProvider"]]
    assert (placement.requested, placement.device, placement.reason) == ("auto", "cpu", "it is in int8")
    assert open_session(b"", "cpu", threads=1, cpu_only="it is in int8")[1].reason == ""
    with pytest.raises(DeviceError, match="Device cuda is not possible: it is in int8; ask for device cpu or auto"):
        open_session(b"", "cuda", threads=1, cpu_only="it is in int8")


def test_weights_of_a_file_that_no_hash_covers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ONNX Runtime would look for it in the working directory."""
    weights = onnx.numpy_helper.from_array(np.ones(1000, dtype=np.float32), "w")
    (tmp_path / "w.bin").write_bytes(weights.raw_data)
    point_into_file(weights, 0)
    weights.external_data[0].value = "w.bin"
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, [1000])],
        [value("y", 1, [1000])],
        [weights],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="External data path"):
        open_session(model.SerializeToString(), "cpu", 1)
    in_memory = {"w.bin": (tmp_path / "w.bin").read_bytes()}
    assert open_session(model.SerializeToString(), "cpu", 1, weights=in_memory)

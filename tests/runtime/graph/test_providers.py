"""Why a GPU cannot be had, and where nodes are. Only ONNX Runtime's answers are made up, from those that it gave."""

from collections import Counter
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from runtime.artifact import Artifact
from runtime.errors import DeviceError
from runtime.graph import providers
from runtime.graph.providers import CPU, check_placement, failure, unavailable
from runtime.manifest import DEEP, MODEL

CUDA = "CUDAExecutionProvider"
# onnxruntime-gpu 1.31.1 with the driver 535, on a machine without a GPU
TOO_OLD = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 std::conditional_t<THRW, void, "
    "onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, "
    "const char*, int) [with ERRTYPE = cudaError] CUDA failure 35: CUDA driver version is insufficient for "
    "CUDA runtime version ; GPU=-1 ; hostname=a ; file=/onnxruntime_src/cuda_execution_provider.cc ; line=355 ; "
    "expr=cudaSetDevice(info_.device_id); \n\n"
)
NO_TENSORRT = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void "
    "onnxruntime::python::RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) "
    "Please install TensorRT libraries as mentioned in the GPU requirements page"
)
NO_DRIVER = "libcuda.so.1: cannot open shared object file: No such file or directory"
NO_CUBLAS = "libcublasLt.so.13: cannot open shared object file: No such file or directory"


def node(op_type: str, domain: str = "", name: str = "a") -> Any:
    return SimpleNamespace(name=name, op_type=op_type, domain=domain)


def divided(**nodes: list[Any]) -> Any:
    """A session whose nodes are on these providers."""
    parts = [
        SimpleNamespace(ep_name=f"{provider}ExecutionProvider", get_nodes=lambda each=each: [each])
        for provider, several in nodes.items()
        for each in several
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_both_wheels_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: name)
    with pytest.raises(DeviceError, match=r"Both onnxruntime and onnxruntime-gpu .* uninstall both, then install one"):
        providers.check_wheels()


@pytest.mark.parametrize("installed", providers.WHEELS)
def test_one_wheel_is_accepted(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    def distribution(name: str) -> str:
        if name != installed:
            raise metadata.PackageNotFoundError(name)
        return name

    monkeypatch.setattr(metadata, "distribution", distribution)
    providers.check_wheels()


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (NO_DRIVER, "install NVIDIA's driver, 580 or newer, and start a container with --gpus all"),
        (failure(RuntimeError(TOO_OLD)), "update NVIDIA's driver to 580 or newer"),
        ("CUDA failure 100: no CUDA-capable device is detected", "look at nvidia-smi and CUDA_VISIBLE_DEVICES"),
        ("CUDA failure 2: out of memory", "free memory on the GPU"),
        (NO_CUBLAS, "install the gpu extra, which brings CUDA and cuDNN"),
        ("libnvinfer.so.10: cannot open shared object file", "install TensorRT 10"),
        (failure(RuntimeError(NO_TENSORRT)), "install TensorRT 10"),
        ("something else", "look at nvidia-smi"),
    ],
)
def test_each_reason_has_its_remedy_in_one_sentence(reason: str, remedy: str) -> None:
    told = str(unavailable("cuda", reason))
    assert told.startswith(f"Device cuda is not available: {reason}; {remedy}")
    assert told.endswith(", or ask for device cpu or auto.") and "\n" not in told


def test_what_cuda_said_is_found_in_what_onnxruntime_says() -> None:
    assert failure(RuntimeError(TOO_OLD)) == (
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"
    )
    full = "bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer of size 95158272"
    assert "free memory on the GPU" in str(unavailable("cuda", failure(RuntimeError(full))))
    assert failure(RuntimeError("CUDNN_FE failure 8: CUDNN_BACKEND_API_FAILED ; GPU=0")).startswith(
        "CUDNN_FE failure 8"
    )
    assert failure(RuntimeError("[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model.")) == ""


def test_shapes_may_stay_on_the_cpu_and_what_computes_may_not() -> None:
    shapes = [node("Shape"), node("Gather"), node("Equal")]
    assert check_placement(divided(CUDA=[node("MatMul"), node("Attention")], CPU=shapes), "cuda") == Counter(
        {CUDA: 2, CPU: 3}
    )
    # torch's attention computes its scale by Shape, Slice, Cast and Sqrt; rotary positions are a small product
    scale = [node(name) for name in ("Shape", "Slice", "Cast", "Sqrt", "Div", "Mul", "MatMul", "Cos", "Sin", "Log")]
    assert check_placement(divided(CUDA=[node("MatMul")], CPU=scale), "cuda")[CPU] == len(scale)
    left = divided(CUDA=[node("MatMul")], CPU=[*shapes, node("Attention", name="node_Attention_108")])
    with pytest.raises(DeviceError, match=r"leaves the node node_Attention_108 \(Attention\) to the CPU; install"):
        check_placement(left, "cuda")
    with pytest.raises(DeviceError, match="FusedMatMul"):
        check_placement(divided(CPU=[node("FusedMatMul", "com.microsoft")]), "cuda")


def test_nodes_that_tensorrt_leaves_to_cuda_are_on_the_gpu() -> None:
    session = divided(Tensorrt=[node("MatMul")], CUDA=[node("Attention")])
    assert check_placement(session, "tensorrt") == Counter({"TensorrtExecutionProvider": 1, CUDA: 1})


@pytest.mark.parametrize("file", [MODEL, DEEP])
@pytest.mark.parametrize("kind", ["text", "feature"])
def test_a_real_session_on_the_cpu_is_not_taken_for_one_on_a_gpu(
    kind: str, file: str, request: pytest.FixtureRequest
) -> None:
    """ONNX Runtime itself says where the nodes of our graphs are; all of them are on the CPU here."""
    artifact: Artifact = request.getfixturevalue(f"{kind}_artifact")
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if file == DEEP:
        content = artifact.files[MODEL]
        options.add_external_initializers_from_files_in_memory([MODEL], [content], [len(content)])
    session = ort.InferenceSession(artifact.files[file], options, providers=[CPU])
    with pytest.raises(DeviceError, match=r"\((LayerNormalization|Gemm|Attention|Gelu)\) to the CPU"):
        check_placement(session, "cuda")


def test_what_is_printed_on_the_way_goes_to_the_log(monkeypatch: pytest.MonkeyPatch, capsys, caplog) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublas.so.13"))
    monkeypatch.setattr(ort, "set_default_logger_severity", lambda _: None)
    caplog.set_level("DEBUG", "addnorm.session")
    providers.prepare("cuda")
    assert capsys.readouterr().out == "" and "Failed to load libcublas.so.13" in caplog.text

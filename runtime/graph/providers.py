"""What ONNX Runtime's execution providers need, why one cannot be had, and where a session's nodes really are.

A provider that is listed proves nothing: on a machine without a GPU the GPU package lists CUDA and TensorRT, and makes
a session on the CPU; and a session on a GPU may have some of its nodes on the CPU. So the session itself is asked.
"""

import ctypes
import io
import logging
import re
from collections import Counter
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import get_args

import onnxruntime as ort

from runtime.errors import DeviceError
from runtime.options import Device

logger = logging.getLogger("addnorm.session")
CPU = "CPUExecutionProvider"
# The first is the one that is asked for; the next ones take the nodes that it cannot run.
PROVIDERS: dict[Device, tuple[str, ...]] = {
    "cpu": (CPU,),
    "cuda": ("CUDAExecutionProvider", CPU),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU),
}
WHEELS = ("onnxruntime", "onnxruntime-gpu")

assert set(PROVIDERS) | {"auto"} == set(get_args(Device))

# float32 products as they are on the CPU: CUDA's provider would round their factors to TF32, with 10 bits, unless told
OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
# What makes up a network's work and never belongs to shapes, masks and positions, whose few numbers ONNX Runtime leaves
# on the CPU by design. Products and sums are among those, too, and every GPU provider has kernels for them.
COMPUTING = frozenset(
    {
        *(
            "Attention",
            "Softmax",
            "LogSoftmax",
            "Gelu",
            "Erf",
            "Relu",
            "Sigmoid",
            "Tanh",
            "Gemm",
            "Conv",
            "LSTM",
            "GRU",
        ),
        *("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", "BatchNormalization"),
        *(
            "InstanceNormalization",
            "GroupNormalization",
            "MatMulInteger",
            "ConvInteger",
            "QLinearMatMul",
            "QLinearConv",
        ),
    }
)
# What a reason says, and what to do about it.
REMEDIES = (
    (r"libcuda\.so", "install NVIDIA's driver, 580 or newer, and start a container with --gpus all"),
    (r"driver version is insufficient", "update NVIDIA's driver to 580 or newer"),
    (r"no CUDA-capable device", "look at nvidia-smi and CUDA_VISIBLE_DEVICES, and start a container with --gpus all"),
    (r"out of memory", "free memory on the GPU, or choose another one by CUDA_VISIBLE_DEVICES"),
    (r"libnvinfer|libnvonnxparser|TensorRT libraries", "install TensorRT 10, which the gpu extra leaves out"),
    (r"lib[a-zA-Z]+\.so", "install the gpu extra, which brings CUDA and cuDNN"),
)
OTHERWISE = "look at nvidia-smi"


def check_wheels() -> None:
    """Refuses an environment with both wheels: they overwrite each other's files.

    Raises:
        DeviceError: both are installed.
    """
    if all(is_installed(wheel) for wheel in WHEELS):
        raise DeviceError(
            "Both onnxruntime and onnxruntime-gpu are installed and overwrite each other: "
            "uninstall both, then install one."
        )


def is_installed(wheel: str) -> bool:
    try:
        metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        return False
    return True


def may_use_gpu(device: Device) -> bool:
    """Whether `device` may turn out to be a GPU; whether one works, only a session tells."""
    return device in ("cuda", "tensorrt") or (
        device == "auto" and PROVIDERS["cuda"][0] in ort.get_available_providers()
    )


def prepare(device: Device) -> None:
    """Loads the libraries of a GPU's provider from NVIDIA's Python packages, where they are installed.

    Raises:
        DeviceError: the installed package of ONNX Runtime has no such provider.
    """
    provider = PROVIDERS[device][0]
    if provider not in ort.get_available_providers():
        raise DeviceError(
            f"Device {device} is not available: the installed onnxruntime {ort.__version__} has no {provider}; "
            "install the gpu extra in place of the cpu one."
        )
    if device != "cpu":
        ort.set_default_logger_severity(4)  # what fails is told in a sentence of our own
        with redirect_stdout(io.StringIO()) as said:
            ort.preload_dlls()
        for line in said.getvalue().splitlines():
            logger.debug("%s", line)


def unavailable(device: Device, reason: str) -> DeviceError:
    """An error of one sentence: what is missing, and what to do."""
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, reason)), OTHERWISE)
    return DeviceError(f"Device {device} is not available: {reason}; {remedy}, or ask for device cpu or auto.")


def failure(error: Exception) -> str:
    """What CUDA, cuDNN or TensorRT said when a session was made or run; empty where the error is not theirs."""
    text = str(error)
    if said := re.search(r"(?:CUDA|CUDNN|CUDNN_FE|CUBLAS|CUFFT|CURAND) failure [^;]+", text):
        return said[0].strip()
    if "Failed to allocate memory" in text:
        return "out of memory on the GPU"
    if "TensorRT libraries" in text:
        return "the TensorRT libraries are missing"
    return ""


def missing_library(provider: str) -> str:
    """Why a provider did not load, in the dynamic linker's words."""
    name = provider.removesuffix("ExecutionProvider").lower()
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return f"{library.name} loads, but found no usable GPU"


def check_placement(session: ort.InferenceSession, device: Device) -> Counter[str]:
    """How many nodes each provider has, as the graph was divided when the session was made.

    Raises:
        DeviceError: one of COMPUTING, or of the operators beyond ONNX's own, is on the CPU.
    """
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            nodes[part.ep_name] += 1
            if part.ep_name == CPU and (node.domain or node.op_type in COMPUTING):
                raise DeviceError(
                    f"Device {device} is not possible: onnxruntime {ort.__version__} leaves the node {node.name} "
                    f"({node.op_type}) to the CPU; install another version of the gpu extra, or ask for device cpu or "
                    "auto."
                )
    return nodes

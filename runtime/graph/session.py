"""An ONNX Runtime session on the device that was asked for, or an error that says why not.

ONNX Runtime creates a CPU session without an error where a GPU provider cannot load, and lists GPU providers on
machines without a GPU; only a session's own provider list tells where it runs.
"""

import ctypes
import logging
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import get_args

import onnxruntime as ort

from runtime.errors import DeviceError
from runtime.manifest import Plan, PlanName, PlanSource
from runtime.options import Device

logger = logging.getLogger("addnorm.session")
_PROVIDERS: dict[Device, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
WHEELS = ("onnxruntime", "onnxruntime-gpu")

assert set(_PROVIDERS) | {"auto"} == set(get_args(Device))

# Of ten switches tried, only the fusion of Add with LayerNormalization matters: without it, float32 takes 0.67 to 0.93
# of the time on the CPU with onnxruntime 1.32, int8 0.50 to 0.79 (docs/training.md).
PLANS: dict[PlanName, list[str]] = {"default": [], "unfused": ["SkipLayerNormFusion"]}
SLOW_FUSION = (1, 30)  # the release whose fused CPU kernel became slower than its parts; before, it was the faster one
CPU = "CPUExecutionProvider"
NOWHERE = f"{os.devnull}/none"  # a folder that there cannot be


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a session really runs.

    Attributes:
        requested: the device that was asked for.
        device: the device it runs on.
        provider: ONNX Runtime's name for it.
        reason: why `auto` fell back to the CPU, or empty.
        plan: the graph plan in use (runtime/graph/session.py).
        plan_source: whether export measured it for this provider and release, or a rule chose it.
    """

    requested: Device
    device: Device
    provider: str
    reason: str = ""
    plan: PlanName = "default"
    plan_source: PlanSource = "rule"


def open_session(
    model: bytes,
    device: Device,
    threads: int,
    plan: Plan | None = None,
    cpu_only: str = "",
    weights: dict[str, bytes] | None = None,
) -> tuple[ort.InferenceSession, Placement]:
    """Opens a session for `model` on `device`.

    Args:
        device: `auto` takes CUDA where it works, else the CPU.
        threads: intra-op threads of the CPU provider.
        plan: what export measured.
        cpu_only: why the model runs on no GPU; empty where it does.
        weights: content, by file name, of the files in which the model's external data lie.

    Raises:
        DeviceError: the device cannot be had; names what is missing.
    """
    check_wheels()
    if cpu_only and device not in ("auto", "cpu"):
        raise DeviceError(f"Device {device} is not possible: {cpu_only}; ask for device cpu or auto.")
    if device != "auto":
        return start(model, device, threads, plan, device, weights=weights)
    if cpu_only:
        return start(model, "cpu", threads, plan, device, cpu_only, weights)
    try:  # TensorRT only by name: at its first start it builds engines for minutes
        return start(model, "cuda", threads, plan, device, weights=weights)
    except DeviceError as error:
        return start(model, "cpu", threads, plan, device, str(error), weights)


def may_use_gpu(device: Device) -> bool:
    """Whether `device` may turn out to be a GPU; whether one works, only a session tells."""
    return device in ("cuda", "tensorrt") or (device == "auto" and _PROVIDERS["cuda"] in ort.get_available_providers())


def start(
    model: bytes,
    device: Device,
    threads: int,
    plan: Plan | None,
    requested: Device,
    reason: str = "",
    weights: dict[str, bytes] | None = None,
) -> tuple[ort.InferenceSession, Placement]:
    provider = _PROVIDERS[device]
    placement = Placement(requested, device, provider, reason, *choose_plan(provider, ort.__version__, plan))
    if provider not in ort.get_available_providers():
        raise DeviceError(
            f"Device {device} is not available: the installed onnxruntime {ort.__version__} has no {provider}; "
            "install the gpu extra in place of the cpu one."
        )
    if device != "cpu":
        ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # weights come from files whose hash was checked: not from one that lies in the working directory
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    options.enable_mem_pattern = False  # one would be kept for every shape of batch: 12 MB under load, and no faster
    if weights:
        options.add_session_config_entry("session.disable_prepacking", "1")  # prepacked weights would be copies
        options.add_external_initializers_from_files_in_memory(
            list(weights), list(weights.values()), [len(content) for content in weights.values()]
        )
    providers = [provider] if device == "cpu" else [provider, _PROVIDERS["cpu"]]
    session = ort.InferenceSession(model, options, providers=providers, disabled_optimizers=PLANS[placement.plan])
    session.disable_fallback()
    session._model_bytes = None  # kept for a fallback only
    if provider not in session.get_providers():
        raise DeviceError(
            f"Device {device} is not available: {missing_library(provider)}; mend that, or ask for device cpu or auto."
        )
    return session, placement


def missing_library(provider: str) -> str:
    """Why a provider did not load, in the dynamic linker's words."""
    name = provider.removesuffix("ExecutionProvider").lower()
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return f"{library.name} loads, but found no usable GPU: check the driver, and --gpus in a container"


def check_wheels() -> None:
    """Refuses an environment with both wheels: they overwrite each other's files."""
    installed = [wheel for wheel in WHEELS if _is_installed(wheel)]
    if len(installed) > 1:
        raise DeviceError(
            "Both onnxruntime and onnxruntime-gpu are installed and overwrite each other: "
            "uninstall both, then install one."
        )


def _is_installed(wheel: str) -> bool:
    try:
        metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        return False
    return True


def choose_plan(provider: str, version: str, measured: Plan | None) -> tuple[PlanName, PlanSource]:
    """The plan for a provider and release: what export measured on the same ones, else what is known of them."""
    if measured and (measured.provider, measured.onnxruntime) == (provider, version):
        return measured.name, "measured"
    release = tuple(int(part) for part in version.split(".")[:2])
    return ("unfused" if provider == CPU and release >= SLOW_FUSION else "default"), "rule"

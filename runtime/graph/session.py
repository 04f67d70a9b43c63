"""An ONNX Runtime session on the device that was asked for, or an error that says why not."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import DeviceError
from runtime.graph.providers import (
    CPU,
    OPTIONS,
    PROVIDERS,
    check_placement,
    check_wheels,
    failure,
    missing_library,
    prepare,
    unavailable,
)
from runtime.options import Device
from runtime.precision import Plan, PlanName, PlanSource, PrecisionKind

logger = logging.getLogger("addnorm.session")

# Of ten switches tried, only the fusion of Add with LayerNormalization matters: without it, float32 takes 0.67 to 0.93
# of the time on the CPU with onnxruntime 1.32, int8 0.50 to 0.79 (docs/training.md). The fused kernels of embeddings
# and, on GPUs, of Add leave out means and 1/sigmas.
PLANS: dict[PlanName, list[str]] = {"default": [], "unfused": ["SkipLayerNormFusion", "EmbedLayerNormFusion"]}
SLOW_FUSION = (1, 30)  # the release whose fused CPU kernel became slower than its parts; before, it was the faster one
NOWHERE = f"{os.devnull}/none"  # a folder that there cannot be


class Named(Protocol):
    @property
    def name(self) -> str: ...


class GraphSession(Protocol):
    """A graph that is ready to run: ONNX Runtime's InferenceSession, or another engine's."""

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names, or all, in arrays of their own."""

    def get_inputs(self) -> Sequence[Named]: ...
    def get_outputs(self) -> Sequence[Named]: ...


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
        engine: what computes, and its release.
        precision: that it computes in; lower ones are those of the graph.
        precision_fallback: why an artifact in bf16 runs in fp32, or empty.
    """

    requested: Device
    device: Device
    provider: str
    reason: str = ""
    plan: PlanName = "default"
    plan_source: PlanSource = "rule"
    engine: str = f"onnxruntime {ort.__version__}"
    precision: PrecisionKind = "fp32"
    precision_fallback: str = ""


def open_session(
    model: bytes,
    device: Device,
    threads: int,
    plan: Plan | None = None,
    cpu_only: str = "",
    weights: dict[str, bytes] | None = None,
    tables: Mapping[str, ort.OrtValue] | None = None,
) -> tuple[ort.InferenceSession, Placement]:
    """Opens a session for `model` on `device`.

    Args:
        device: `auto` takes CUDA where it works, else the CPU.
        threads: intra-op threads of the CPU provider.
        plan: what export measured.
        cpu_only: why the model runs on no GPU; empty where it does.
        weights: content, by file name, of the files in which the model's external data lie.
        tables: initializers that sessions on the CPU share, by name; they must outlive the session.

    Raises:
        DeviceError: the device cannot be had; names what is missing.
    """
    check_wheels()
    if cpu_only and device not in ("auto", "cpu"):
        raise DeviceError(f"Device {device} is not possible: {cpu_only}; ask for device cpu or auto.")
    if device != "auto":
        return start(model, device, threads, plan, device, weights=weights, tables=tables)
    if cpu_only:
        return start(model, "cpu", threads, plan, device, cpu_only, weights, tables)
    try:  # TensorRT only by name: at its first start it builds engines for minutes
        return start(model, "cuda", threads, plan, device, weights=weights, tables=tables)
    except DeviceError as error:
        return start(model, "cpu", threads, plan, device, str(error), weights, tables)


def start(
    model: bytes,
    device: Device,
    threads: int,
    plan: Plan | None,
    requested: Device,
    reason: str = "",
    weights: dict[str, bytes] | None = None,
    tables: Mapping[str, ort.OrtValue] | None = None,
) -> tuple[ort.InferenceSession, Placement]:
    providers = list(PROVIDERS[device])
    provider = providers[0]
    placement = Placement(requested, device, provider, reason, *choose_plan(provider, ort.__version__, plan))
    prepare(device)
    options = session_options(threads, weights)
    if device == "cpu":
        for name, table in (tables or {}).items():
            options.add_initializer(name, table)
    else:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:  # without a fallback, here and at run time: it would go on where nobody asked for it
        session = ort.InferenceSession(
            model,
            options,
            providers=providers,
            provider_options=[OPTIONS.get(each, {}) for each in providers],
            disabled_optimizers=PLANS[placement.plan],
            enable_fallback=0,
        )
    except Exception as error:
        if device != "cpu" and (said := failure(error)):
            raise unavailable(device, said) from error
        raise
    session._model_bytes = None  # kept for a fallback only
    if provider not in session.get_providers():
        raise unavailable(device, missing_library(provider))
    if device != "cpu":
        nodes = check_placement(session, device)
        logger.debug("%d nodes on %s, %d of shapes on the CPU", nodes.total() - nodes[CPU], provider, nodes[CPU])
    return session, placement


def session_options(threads: int, weights: dict[str, bytes] | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # weights come from files whose hash was checked: not from one that lies in the working directory
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    options.enable_mem_pattern = False  # one would be kept for every shape of batch: 12 MB under load, and no faster
    if weights:
        options.add_session_config_entry("session.disable_prepacking", "1")  # prepacked weights would be copies
        options.enable_cpu_mem_arena = False  # of a graph that runs now and then: 7 to 11 MB more, and no faster
        options.add_external_initializers_from_files_in_memory(
            list(weights), list(weights.values()), [len(content) for content in weights.values()]
        )
    return options


def choose_plan(provider: str, version: str, measured: Plan | None) -> tuple[PlanName, PlanSource]:
    """The plan for a provider and release: what export measured on the same ones, else what is known of them.

    On a GPU the fused kernel of Add and LayerNormalization gives no means and 1/sigmas: there it is left out.
    """
    if measured and (measured.provider, measured.onnxruntime) == (provider, version):
        return measured.name, "measured"
    release = tuple(int(part) for part in version.split(".")[:2])
    return ("unfused" if provider != CPU or release >= SLOW_FUSION else "default"), "rule"

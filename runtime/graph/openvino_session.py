"""bfloat16 on the CPU: OpenVINO runs a graph of float32, and rounds what its products read to bfloat16.

ONNX Runtime has no such kernels for x86. The graph stays in float32: where a processor or an environment lacks what
bf16 takes, ONNX Runtime can run it as it is, if that is allowed.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from numpy.typing import NDArray

from runtime.errors import DeviceError
from runtime.graph.session import GraphSession, Placement, start
from runtime.options import Device
from runtime.precision import Plan

BF16 = "BF16"  # among the processor's capabilities: avx512_bf16 (AMD Zen 4, Intel Cooper Lake) or AMX (Sapphire Rapids)
ENGINE = "openvino"
# Tokens: OpenVINO prepares kernels for every shape, and AMX multiplies 16 rows at a time. So widths are rounded up:
# with all-MiniLM-L6-v2 a text takes 0.74 of the time, three texts 0.87, 32 texts what they took (docs/bf16.md).
WIDTH_STEP = 16
SHAPES = 64  # whose kernels are kept: without a limit memory grows with all that were ever met
SINK = "/sink_port_0"  # what OpenVINO adds to the name of a graph's output


class Port(NamedTuple):
    """An input or an output of a graph."""

    name: str


class OpenVinoSession:
    """A graph compiled by OpenVINO for the CPU; runs as an InferenceSession of ONNX Runtime does.

    Args:
        model: an ONNX graph in float32, without external data.
        threads: that compute.
        precision: of its products, as OpenVINO names it: bf16 or f32.

    Raises:
        RuntimeError: it does not read the graph; says why in a line.
    """

    def __init__(self, model: bytes, threads: int, precision: str = "bf16") -> None:
        # as ONNX Runtime: in the threads that are asked for, on the cores that this process has
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES,
        }
        try:
            compiled = core().compile_model(core().read_model(model), "CPU", options)
        except RuntimeError as error:  # where it was thrown comes first, in lines of their own
            raise RuntimeError(str(error).strip().splitlines()[-1]) from error
        self._inputs = [Port(each.get_any_name()) for each in compiled.inputs]
        # by their own names: where nodes are merged, a port has those of others, too
        self._outputs = [Port(each.node.get_friendly_name().removesuffix(SINK)) for each in compiled.outputs]
        self._request = compiled.create_infer_request()
        self._busy = threading.Lock()  # a request runs one batch at a time

    def get_inputs(self) -> Sequence[Port]:
        return self._inputs

    def get_outputs(self) -> Sequence[Port]:
        return self._outputs

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of these names, or all, in arrays of their own; inputs that it does not use may be there."""
        used = {port.name: feeds[port.name] for port in self._inputs}
        with self._busy:
            self._request.infer(used, share_inputs=True, share_outputs=True)
            return [
                self._request.get_tensor(name).data.copy() for name in names or [each.name for each in self._outputs]
            ]


@cache
def core() -> Any:
    """OpenVINO, of this process."""
    import openvino

    return openvino.Core()


def version() -> str:
    import openvino

    return f"{ENGINE} {openvino.__version__.partition('-')[0]}"


def capabilities() -> list[str]:
    """What this processor computes fast, as OpenVINO names it."""
    return sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def why_not() -> str:
    """Why there is no bf16 here, in a clause; empty where there is."""
    if find_spec(ENGINE) is None:
        return "the openvino extra is missing, pip install 'addnorm[openvino]'"
    try:
        found = capabilities()
    except Exception as error:  # whatever a library that does not fit this machine raises
        return f"openvino does not work: {str(error).strip().splitlines()[-1]}"
    if BF16 not in found:
        return "this processor has neither avx512_bf16 nor AMX, as AMD's have from Zen 4 on and some of Intel's Xeons"
    return ""


def open_bf16(
    model: bytes, device: Device, threads: int, plan: Plan | None, allow_fp32: bool
) -> tuple[GraphSession, Placement]:
    """Opens a session for a float32 graph that is to be run in bf16, on the CPU.

    Args:
        plan: what export measured, of ONNX Runtime.
        allow_fp32: run it in float32, by ONNX Runtime, where there is no bf16.

    Raises:
        DeviceError: there is no bf16 here, and float32 is not allowed; or a GPU was asked for.
    """
    if device not in ("auto", "cpu"):
        raise DeviceError(
            f"Device {device} is not possible: a bf16 artifact runs on the CPU alone, for a GPU export it with "
            "--precision fp16; ask for device cpu or auto."
        )
    if reason := why_not():
        if not allow_fp32:
            raise DeviceError(
                f"There is no bf16 here ({reason}): take another artifact, or pass --allow-fp32 "
                "(ADDNORM_ALLOW_FP32=true)."
            )
        session, placement = start(model, "cpu", threads, plan, device)
        return session, replace(placement, precision_fallback=reason)
    return OpenVinoSession(model, threads), Placement(device, "cpu", "CPU", engine=version(), precision="bf16")

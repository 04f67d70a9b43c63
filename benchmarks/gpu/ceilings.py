"""What the machine can do: matrix multiplications, copies, and the way from the host to the device."""

import platform
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch

from benchmarks.gpu.settings import Missing
from benchmarks.gpu.timing import best, reason

SIZES = {"cuda": (4096, 8192), "cpu": (512, 1024)}  # of square matrices: large enough to keep all units busy
HALF_SIZES = {"cuda": (4096, 8192), "cpu": (256,)}  # many a CPU has no instructions for halves
COPIED = {"cuda": 1 << 30, "cpu": 1 << 27}  # bytes: far more than the caches hold
FED = 1 << 28
SECONDS = {"cuda": 1.0, "cpu": 1.0}
KINDS = {
    "fp32": (torch.float32, "highest"),
    "tf32": (torch.float32, "high"),  # float32 whose products are of 10-bit mantissas; GPUs only
    "fp16": (torch.float16, "highest"),
    "bf16": (torch.bfloat16, "highest"),
}


def machine(device: str, threads: int) -> dict[str, Any]:
    """What was measured on."""
    found: dict[str, Any] = {
        "device": device,
        "cpu": platform.machine(),
        "python": platform.python_version(),
        "threads": threads,
        "torch": torch.__version__,
        "onnxruntime": ort.__version__,
        "providers": ort.get_available_providers(),
        "cuda": torch.version.cuda,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu_memory_bytes"] = properties.total_memory
        found["compute_capability"] = f"{properties.major}.{properties.minor}"
        found["cudnn"] = torch.backends.cudnn.version()
        found["driver"] = driver()
    return found


def driver() -> str | None:
    """The NVIDIA driver's version, where the system says it."""
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0].strip()
    except OSError:
        return None


def ceilings(device: str) -> tuple[dict[str, float | None], Missing]:
    """FLOP/s by kind of matrix multiplication, bytes/s of `copy` and `feed`; and what could not be measured.

    A copy reads and writes, both count. `feed` is None on a CPU: nothing has to go anywhere.
    """
    found: dict[str, float | None] = {}
    missing = Missing()
    for kind in KINDS:
        if kind == "tf32" and device == "cpu":
            missing.append({"what": "ceiling tf32", "why": "a CPU has no TF32"})
            continue
        try:
            found[kind] = matmul(kind, device)
        except Exception as error:  # such as a device without the type
            missing.append({"what": f"ceiling {kind}", "why": reason(error)})
    found["copy"] = copy(device)
    found["feed"] = feed(device) if device == "cuda" else None
    return found, missing


def matmul(kind: str, device: str) -> float:
    """FLOP/s: 2 n^3 of the product of two n x n matrices, of the size that is the fastest."""
    dtype, precision = KINDS[kind]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        return max(matmul_of(size, dtype, device) for size in (SIZES if dtype.itemsize == 4 else HALF_SIZES)[device])
    finally:
        torch.set_float32_matmul_precision(before)


def matmul_of(size: int, dtype: torch.dtype, device: str) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return 2.0 * size**3 / best(lambda: torch.mm(left, right, out=product), device, SECONDS[device])


def copy(device: str) -> float:
    """Bytes/s, read and written."""
    source = torch.ones(COPIED[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2.0 * COPIED[device] / best(lambda: target.copy_(source), device, SECONDS[device])


def feed(device: str) -> float:
    """Bytes/s from ordinary memory of the host to the device."""
    source = torch.ones(FED, dtype=torch.uint8)
    return FED / best(lambda: source.to(device), device, SECONDS[device])

"""The graph plan: which of ONNX Runtime's own graph optimizations a session goes without."""

from typing import Literal

from runtime.manifest import Plan, PlanName

# Of ten switches tried, only the fusion of Add with LayerNormalization matters: without it, float32 takes 0.67 to 0.93
# of the time on the CPU with onnxruntime 1.32, int8 0.50 to 0.79 (docs/training.md).
PLANS: dict[PlanName, list[str]] = {"default": [], "unfused": ["SkipLayerNormFusion"]}
SLOW_FUSION = (1, 30)  # the release whose fused CPU kernel became slower than its parts; before, it was the faster one
CPU = "CPUExecutionProvider"

PlanSource = Literal["measured", "rule"]


def choose_plan(provider: str, version: str, measured: Plan | None) -> tuple[PlanName, PlanSource]:
    """The plan for a provider and release: what export measured on the same ones, else what is known of them."""
    if measured and (measured.provider, measured.onnxruntime) == (provider, version):
        return measured.name, "measured"
    release = tuple(int(part) for part in version.split(".")[:2])
    return ("unfused" if provider == CPU and release >= SLOW_FUSION else "default"), "rule"

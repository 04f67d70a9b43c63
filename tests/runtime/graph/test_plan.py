import pytest

from runtime.graph.providers import CPU
from runtime.graph.session import choose_plan
from runtime.precision import Plan

CUDA = "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("provider", "version", "expected"),
    [
        (CPU, "1.29.9", "default"),
        (CPU, "1.30.0", "unfused"),
        (CPU, "1.32.0", "unfused"),
        (CPU, "2.0.1", "unfused"),
        (CPU, "1.9.0", "default"),
        (CUDA, "1.31.1", "unfused"),
        ("TensorrtExecutionProvider", "1.29.0", "unfused"),
    ],
)
def test_fusion_is_off_on_the_cpu_where_it_is_slow_and_on_gpus_where_it_gives_no_statistics(
    provider: str, version: str, expected: str
):
    assert choose_plan(provider, version, None) == (expected, "rule")


def test_measured_plan_counts_for_its_own_provider_and_release_alone():
    measured = Plan(name="default", onnxruntime="1.32.0", provider=CPU)
    assert choose_plan(CPU, "1.32.0", measured) == ("default", "measured")
    assert choose_plan(CPU, "1.32.1", measured) == ("unfused", "rule")
    assert choose_plan(CUDA, "1.32.0", measured) == ("unfused", "rule")
    other = Plan(name="unfused", onnxruntime="1.32.0", provider=CUDA)
    assert choose_plan(CUDA, "1.32.0", other) == ("unfused", "measured")
    assert choose_plan(CPU, "1.29.0", other) == ("default", "rule")

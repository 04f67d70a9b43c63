from addnorm.commands.export import tell_plan, tell_precision
from runtime.precision import Plan, Precision


def test_precision_and_plan_are_told_in_lines_a_person_reads():
    precision = Precision(
        kind="int8",
        accuracy={"fp32": 0.93733, "int8": 0.9361},
        mean_deviation=0.00722,
        variance_deviation=0.00158,
        speed={"batch 1": 1.463, "batch 32": 1.881},
        size={"fp32": 4_347_130, "int8": 1_203_897},
    )
    assert tell_precision(precision) == [
        "validation accuracy: fp32 0.9373, int8 0.9361; graph: fp32 4.35 MB, int8 1.20 MB",
        "int8 / fp32 speed on this CPU: batch 1 1.46, batch 32 1.88",
        "statistics: a layer's mean moved by at most 0.0072 of its sigma, its variance by 0.16%",
    ]
    plan = Plan(
        name="unfused", onnxruntime="1.32.0", provider="CPUExecutionProvider", speed={"unfused": {"batch 1": 1.5}}
    )
    assert tell_plan(plan) == ["graph plan on onnxruntime 1.32.0: unfused; / default speed: batch 1 1.50"]


def test_nothing_is_told_of_what_was_not_measured():
    assert tell_precision(None) == [] and tell_plan(None) == []

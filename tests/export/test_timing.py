import pytest

from export import timing
from export.timing import graph_speeds, with_plan
from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from runtime.graph.session import PLANS, choose_plan
from tests.helpers import Export, random_sequences


def test_plan_that_is_fastest_over_all_batches_is_chosen(
    text_artifact: Artifact, text_export: Export, monkeypatch: pytest.MonkeyPatch
):
    sequences = random_sequences(text_export[1], 4)
    for fastest, speed in {
        "unfused": {"batch 1": 0.95, "batch 32": 1.2},
        "default": {"batch 1": 1.05, "batch 32": 0.9},
    }.items():
        measured = {"default": {"batch 1": 1.0, "batch 32": 1.0}, "unfused": speed}
        monkeypatch.setattr(timing, "graph_speeds", lambda *_, measured=measured: measured)
        plan = with_plan(text_artifact, sequences).manifest.plan
        assert plan is not None and (plan.name, plan.speed) == (fastest, measured)
        assert choose_plan(plan.provider, plan.onnxruntime, plan) == (fastest, "measured")


def test_every_plan_is_measured_in_a_session_of_its_own(
    text_artifact: Artifact, text_export: Export, monkeypatch: pytest.MonkeyPatch
):
    seen = {}

    def note(encoders: dict[str, Encoder], *_: object) -> dict[str, dict[str, float]]:
        seen.update({name: encoder.placement.plan for name, encoder in encoders.items()})
        return {name: {"batch 1": 1.0} for name in encoders}

    monkeypatch.setattr(timing, "graph_speeds", note)
    with_plan(text_artifact, random_sequences(text_export[1], 4))
    assert seen == {name: name for name in PLANS}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.01, 20), (2.0, 10), (60.0, 3)])
def test_a_large_model_is_measured_in_fewer_rounds(seconds: float, rounds: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "ROUNDS", 20)
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    runners = [lambda: now.__setitem__(0, now[0] + seconds / 2)] * 2
    assert timing.rounds_for(runners) == rounds


def test_speed_is_in_rows_per_second_over_the_first(text_encoder: Encoder, text_export: Export):
    class Slow:
        """An encoder whose graph runs twenty times."""

        feeds = staticmethod(text_encoder.feeds)
        padded, pooling, step = False, "mean", 1
        session = property(lambda self: self)

        def run(self, *arguments: object) -> None:
            for _ in range(20):
                text_encoder.session.run(*arguments)

    speed = graph_speeds({"once": text_encoder, "slow": Slow()}, random_sequences(text_export[1], 40))
    assert set(speed["once"].values()) == {1.0}
    assert set(speed["slow"]) == {"batch 1", "batch 32"}
    assert all(0 < value < 0.5 for value in speed["slow"].values())  # 0.05 on a quiet machine

"""When batches are folded, who waits for whom, and that it changes nothing."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.statistics import buffer
from runtime.statistics.recorder import Costs, NormRecorder
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from tests.runtime.statistics.test_recorder import assert_same_state, record


@given(st.lists(st.sampled_from(["observe", "read", "lately", "wait"]), min_size=5, max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whenever_it_is_folded_each_reading_counts_all_that_was_observed(
    encoder: Encoder, batches: list[EncodedBatch], monkeypatch: pytest.MonkeyPatch, steps: list[str]
):
    monkeypatch.setattr(buffer, "TOKENS", 60)
    now, observed = [1_000_000.0], list[EncodedBatch]()
    seen = NormRecorder(encoder.manifest.layers, clock=lambda: now[0])
    for step in [*steps, "read"]:
        if step == "observe":
            observed.append(batches[len(observed) % len(batches)])
            seen.observe(observed[-1])
        elif step == "wait":
            now[0] += 4.0
        elif step == "lately":
            assert seen.lately({}).everything.requests == sum(len(each.lengths) for each in observed)
        elif step == "read":
            found = seen.window(Span(now[0] - 600, now[0] + 1))
            assert found.everything.requests == found.state.requests == sum(len(each.lengths) for each in observed)
    assert_same_state(seen.state(), record(encoder, observed))
    assert sum(count for _, count in seen.requests()) == sum(len(each.lengths) for each in observed)


def test_whoever_observes_waits_for_no_reader(
    encoder: Encoder, batches: list[EncodedBatch], monkeypatch: pytest.MonkeyPatch
):
    """Neither while it folds, nor while it compresses what it read; what came meanwhile is not in its answer."""
    seen, compress = NormRecorder(encoder.manifest.layers), SparseState.compress
    seen.observe(batches[0])
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(10)

    def slowly(state: NormState) -> SparseState:
        wait()
        return compress(state)

    monkeypatch.setattr(seen, "summarize", lambda _: (wait(), Traffic.nothing())[1])
    with ThreadPoolExecutor(1) as pool:
        for read in (seen.state, lambda: seen.buckets({})):
            reading = pool.submit(read)
            assert began.wait(10)
            seen.observe(batches[1])  # would not return
            go_on.set()
            reading.result()
            began.clear()
            go_on.clear()
            monkeypatch.setattr(seen, "summarize", None)
            seen.state()
            monkeypatch.setattr(SparseState, "compress", staticmethod(slowly))
    assert seen.state().requests == sum(len(batch.lengths) for batch in [batches[0], batches[1], batches[1]])


def test_threads_that_add_to_costs_lose_nothing():
    costs, interval = Costs(5.0), sys.getswitchinterval()

    def work() -> None:
        for _ in range(2000):
            costs.add(serving=1.0, recording=2.0)
            costs.add(deep=4.0)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            for each in [threads.submit(work) for _ in range(4)]:
                each.result()
    finally:
        sys.setswitchinterval(interval)
    assert (costs.started, costs.serving, costs.recording, costs.deep) == (5.0, 8000.0, 16000.0, 32000.0)

"""A worker is made of what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity.costs import FRAME_BYTES, Measured, Served, fit, fit_served
from tests.benchmarks.capacity.examples import COSTS, MEASURED


def test_a_line_through_medians_is_found_again() -> None:
    tokens = [9, 18, 36, 72, 144, 288, 576]
    found = fit(tokens, [1e-4 + 1e-5 * count for count in tokens])
    assert (found.batch, found.token) == (pytest.approx(1e-4), pytest.approx(1e-5))
    assert found.worst < 1e-9


def test_a_deviation_counts_by_its_share() -> None:
    """A batch of one text that takes longer moves the line, though large batches take much longer than that."""
    found = fit([10, 100, 1000], [2e-4, 1e-3, 1e-2])
    assert found.batch > 5e-5
    assert found.worst == pytest.approx(max(abs((found.batch + found.token * n) / t - 1) for n, t in
                                            [(10, 2e-4), (100, 1e-3), (1000, 1e-2)]))  # fmt: skip


def test_a_batch_never_costs_less_than_nothing() -> None:
    found = fit([10, 100], [5e-5, 2e-3])
    assert found.batch == 0.0 < found.token


def test_what_a_batch_and_a_request_take_of_a_service_is_found_again() -> None:
    """However many clients fill the batches: CPU time a request falls as they grow."""
    loops = [
        Served(1, 1, 1.0, 0.0, 0.0, 0.0, 0.0, cpu=6e-4 / size + 1.4e-4, batch=size) for size in (2.0, 3.9, 15.0, 28.4)
    ]
    found = fit_served(loops)
    assert (found.batch, found.request) == (pytest.approx(6e-4), pytest.approx(1.4e-4))
    assert found.worst < 1e-9


def test_what_the_graph_does_not_explain_is_outside_it() -> None:
    assert COSTS.tokens == 9
    assert COSTS.outside == pytest.approx(1.9e-4 - 9e-5)
    worker = COSTS.worker()
    assert worker.batch == COSTS.served.batch, "what is done once a batch, and not for the graph alone"
    assert worker.read + worker.write == pytest.approx(COSTS.outside)
    assert worker.read - worker.write == pytest.approx(COSTS.tokenize)
    assert replace(COSTS, tokenize=1.0).worker().write == 0.0


def test_what_one_client_waits_beside_the_work_is_the_wire() -> None:
    assert replace(COSTS, alone=5e-4).wire == pytest.approx(5e-4 - (1e-4 + 2e-4 + 9e-5))
    assert replace(COSTS, alone=1e-6).wire == 0.0


def test_pauses_can_be_left_out() -> None:
    paused = replace(COSTS, pauses=[0.01, 0.02])
    assert paused.worker().pauses == (0.01, 0.02)
    assert paused.worker().pause_rate == 0.4
    assert paused.worker(pauses=False).pauses == ()


def test_bytes_have_the_headers_of_their_frames() -> None:
    assert COSTS.wire_bytes() == (150 + 2 * FRAME_BYTES, 300 + 2 * FRAME_BYTES)
    assert replace(COSTS, response_bytes=3000.0).wire_bytes()[1] == 3000 + 4 * FRAME_BYTES
    assert COSTS.frames() == 4


def test_what_was_measured_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"measured": MEASURED.to_json()}))
    assert Measured.read(path) == MEASURED
    path.write_text("{}")
    with pytest.raises(SystemExit, match="no measured costs"):
        Measured.read(path)

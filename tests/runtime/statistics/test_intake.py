import numpy as np
import pytest

from runtime.graph.batch import EncodedBatch
from runtime.statistics import buffer
from runtime.statistics.intake import Full, Intake

RESOLUTION = 10


def batch(tokens: int, value: float) -> EncodedBatch:
    """Of a single request."""
    nothing = np.empty((0, 0), dtype=np.float32)
    statistics = np.full((tokens, 2), value, dtype=np.float32)
    lengths = np.array([tokens])
    return EncodedBatch(nothing, nothing, statistics, [], lengths, np.ones(tokens, "f4"), [0], [1.0], [0.0], [0.0])


def emptied(intake: Intake) -> list[Full]:
    found = []
    while (full := intake.pop()) is not None:
        found.append(full)
    return found


@pytest.fixture
def intake(monkeypatch: pytest.MonkeyPatch) -> Intake:
    monkeypatch.setattr(buffer, "TOKENS", 8)
    return Intake(2, [], {}, RESOLUTION, 100.0)


def test_it_is_told_when_something_became_full(intake: Intake):
    told = [intake.add(batch(3, number), lambda: 101.0) for number in range(6)]
    assert told == [False, False, True, False, True, False]
    intake.close()
    values = [full.batch.norm_statistics[:, 0].tolist() for full in emptied(intake)]
    assert values == [[0.0] * 3 + [1.0] * 3, [2.0] * 3 + [3.0] * 3, [4.0] * 3 + [5.0] * 3]
    assert intake.pop() is None


def test_a_batch_that_no_buffer_holds_comes_after_those_before_it(intake: Intake):
    intake.add(batch(2, 1.0), lambda: 101.0)
    assert intake.add(batch(9, 2.0), lambda: 101.0)
    assert [len(full.batch.norm_statistics) for full in emptied(intake)] == [2, 9]


def test_what_is_full_belongs_to_one_time_bucket(intake: Intake):
    for now in (101.0, 109.9, 110.0, 119.9, 135.0):
        intake.add(batch(1, now), lambda now=now: now)  # type: ignore[misc]
    assert intake.latest == 135.0
    intake.close()
    found = [(full.begun, len(full.batch.norm_statistics)) for full in emptied(intake)]
    assert found == [(100.0, 2), (110.0, 2), (135.0, 1)]


def test_what_was_handed_on_does_not_change(intake: Intake):
    intake.add(batch(8, 1.0), lambda: 101.0)
    intake.close()
    first = intake.pop()
    assert first is not None
    intake.add(batch(8, 2.0), lambda: 101.0)
    assert (first.batch.norm_statistics == 1.0).all() and first.batch.scores == [1.0]

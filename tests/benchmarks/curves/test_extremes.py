"""Parts that are measured at sizes that few have, here at small ones."""

import pytest

from benchmarks.curves.extremes import PARTS, extremes


def test_every_part_is_measured_at_every_size():
    told: list[str] = []
    curve = extremes(told.append, 1, {name: (make, (2, 5)) for name, (make, _) in PARTS.items()})
    assert list(curve.lines) == list(PARTS) and len(told) == len(PARTS)
    assert all(set(points) == {2, 5} and min(points.values()) > 0 for points in curve.lines.values())
    assert len(curve.rows) == 4 * len(PARTS) and {len(row) for row in curve.rows} == {len(curve.header)}


@pytest.mark.parametrize(("make", "sizes"), PARTS.values(), ids=PARTS.keys())
def test_what_is_measured_works(make, sizes):
    assert make(min(sizes))() is not None

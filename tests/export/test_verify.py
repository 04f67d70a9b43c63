import dataclasses

import numpy as np
import pytest

from export.verify import Expected, check_shapes, value_errors
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch


def pair() -> tuple[EncodedBatch, Expected]:
    """A graph's answer and a reference that agree: two rows, three tokens, two layers."""
    logits, statistics = np.ones((2, 3), dtype=np.float32), np.full((3, 4), 0.5, dtype=np.float32)
    moments = np.ones((1, 2, 5), dtype=np.float32)
    found = EncodedBatch(
        logits,
        np.zeros((2, 5), np.float32),
        statistics,
        moments,
        np.array([1, 2]),
        np.zeros(3, np.float32),
        [0, 0],
        [0.5, 0.5],
        [1.0, 1.0],
        [0.5, 0.5],
    )
    return found, Expected(logits, logits.astype(float), statistics.astype(float), moments.astype(float))


def test_equal_values_have_no_error() -> None:
    found, expected = pair()
    check_shapes(found, expected)
    assert set(value_errors(found, expected).values()) == {0.0}


@pytest.mark.parametrize(
    ("field", "column", "kind"),
    [
        ("logits", (0, 1), "logits"),
        ("norm_statistics", (2, 0), "means"),
        ("norm_statistics", (2, 3), "inverse_deviations"),
        ("feature_moments", (0, 1, 4), "feature_moments"),
    ],
)
def test_each_kind_of_error_is_found(field: str, column: tuple[int, ...], kind: str) -> None:
    found, expected = pair()
    changed = getattr(found, field).copy()
    changed[column] += 0.25
    errors = value_errors(dataclasses.replace(found, **{field: changed}), expected)
    assert errors.pop(kind) > 0.1
    assert set(errors.values()) == {0.0}


def test_other_shapes_are_refused() -> None:
    found, expected = pair()
    with pytest.raises(ExportError, match="norm_statistics have shape"):
        check_shapes(dataclasses.replace(found, norm_statistics=found.norm_statistics[:, :2]), expected)

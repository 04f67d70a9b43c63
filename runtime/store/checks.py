"""What a state that was read must hold, whatever wrote it: else it would spoil what it is merged with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.histogram import BUCKETS
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.traffic import COUNTERS, Traffic
from runtime.statistics.windows import Span

LARGEST = float(np.finfo(np.float32).max) ** 2  # no mean and no variance of float32 values is larger
MOST = 10**15  # tokens: a million a second for thirty years
END = 1e11  # Unix seconds: the year 5138
LONGEST = 300  # characters of a name: those of a host have 253
UNUSABLE = (  # what reading raises where it is given something else; int(inf) and deeply nested JSON included
    ArithmeticError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def within(value: Any, end: float) -> Any:
    """The number, if 0 <= value < end; raises ValueError or TypeError where it is none or another."""
    if not 0 <= value < end:
        raise ValueError(f"a number that is not from 0 up to {end:g}")
    return value


def checked_span(start: Any, end: Any) -> Span:
    """A stretch of time that a date can be told of; raises ValueError or TypeError where these are no ends of one."""
    if not 0 <= start <= end < END:
        raise ValueError("times that are not in order from 1970 to the year 5138")
    return Span(float(start), float(end))


def checked_name(name: Any) -> str:
    """What people and URLs are shown; raises ValueError where it is no short line of text."""
    if not (isinstance(name, str) and len(name) <= LONGEST and name.isprintable()):
        raise ValueError("a name that is no short line of text")
    return name


def check_kind(kind: str, *columns: NDArray[Any]) -> None:
    """Raises ValueError where arrays that hold something are not of integers (i) or floats (f)."""
    if any(column.size and column.dtype.kind != kind for column in columns):
        raise ValueError("numbers of another type")


def check_counts(*counts: Ints) -> None:
    """Raises ValueError where counts are no integers, negative, or more than there can be."""
    check_kind("i", *counts)
    if not all(((column >= 0) & (column <= MOST)).all() for column in counts):
        raise ValueError("counts that no traffic has")


def checked_moments(count: Ints, mean: Floats, m2: Floats, low: Floats, high: Floats) -> Moments:
    """Moments of these columns [K]; raises ValueError where no values have them."""
    if {column.shape for column in (count, mean, m2, low, high)} != {(len(count),)}:
        raise ValueError("moments of different lengths")
    check_counts(count)
    check_kind("f", mean, m2, low, high)
    seen = count > 0
    if not (
        (np.abs(mean) <= LARGEST).all()
        and ((m2 >= -1e-6 * LARGEST) & (m2 <= np.maximum(count, 1) * LARGEST**2)).all()
        and ((low <= high) & (np.abs(low) <= LARGEST) & (np.abs(high) <= LARGEST))[seen].all()
        and ((low == np.inf) & (high == -np.inf))[~seen].all()
    ):
        raise ValueError("moments that no float32 values have")
    return Moments(count, mean, m2, low, high)


def check_histograms(places: Ints, counts: Ints, columns: int) -> None:
    """Raises ValueError where sparse histograms are not those of so many columns."""
    check_kind("i", places)
    if places.shape != counts.shape or (places < 0).any() or (places >= columns * BUCKETS).any():
        raise ValueError("histogram places that do not fit the moments")
    check_counts(counts)


def checked_traffic(counts: Ints, totals: Floats, by_class: Floats, repeats: Ints, sketched: int) -> Traffic:
    """Traffic of these sums; raises ValueError where none has them."""
    check_counts(counts, np.array([sketched]))
    check_kind("f", totals, by_class)
    check_kind("i", repeats)
    if not ((np.abs(totals) <= MOST * LARGEST).all() and (np.abs(by_class) <= MOST).all()):
        raise ValueError("totals that no traffic has")
    if sketched > counts.sum() or np.abs(repeats).sum() > sketched:
        raise ValueError("more repeats than requests")
    return Traffic(counts, totals, by_class, repeats, sketched)


def checked_deep(requests: int, tokens: int, outputs: Moments, largest: Floats, adds: Moments) -> DeepState:
    """A deep state; raises ValueError where it is none."""
    check_kind("f", largest)
    if largest.shape != (2, len(outputs.count)):
        raise ValueError("largest activations of other features than the moments")
    if not ((largest >= 0) & (largest <= LARGEST)).all():
        raise ValueError("activations that no float32 holds")
    return DeepState(requests, tokens, outputs, largest, adds)


def belongs(content: NormState | SparseState | DeepState, manifest: Manifest) -> bool:
    """Whether it can be a state of that model: what it is merged with has these sizes."""
    if isinstance(content, DeepState):
        return content.fits(manifest.layers)
    columns = 2 * len(manifest.layers)
    features = {index: len(moments.count) for index, moments in content.features.items()}
    expected = {i: layer.d_model for i, layer in enumerate(manifest.layers) if layer.kind == "batch_norm"}
    return (
        len(content.moments.count) == columns
        and fits(content.traffic, columns, manifest.num_classes)
        and features.items() <= expected.items()
    )


def fits(traffic: Traffic, columns: int, classes: int) -> bool:
    """Whether traffic can be that of a model with so many columns (two of each norm) and classes."""
    sums, repeats = traffic.by_class.shape, traffic.repeats.shape
    if not len(traffic.counts):
        return not len(traffic.totals) and sums == repeats == (0,)
    numbers = columns + 5 if sums == (2, classes) else columns + 4
    shapes = (traffic.counts.shape, traffic.totals.shape)
    return shapes == ((classes,), (numbers,)) and sums in ((2, classes), (0,)) and repeats in ((COUNTERS,), (0,))

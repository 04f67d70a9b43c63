"""Log-bucket histograms that merge by addition.

A float32 is binned by its own bits: sign, exponent and the first 6 bits of the mantissa, so 64 buckets an octave and a
relative error of at most 1/128 (0.8 %) for a quantile. Magnitudes outside [2^-20, 2^20) go to the zero bucket or to the
outermost one; exact minimum and maximum are kept beside it (runtime/statistics/moments.py).
"""

# N values, K columns, B buckets

from functools import cache

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 6
MIN_EXPONENT, MAX_EXPONENT = -20, 20
SHIFT = 23 - MANTISSA_BITS
LOWEST = (127 + MIN_EXPONENT) << MANTISSA_BITS  # 127 is the exponent bias of a float32
HALF = (MAX_EXPONENT - MIN_EXPONENT) << MANTISSA_BITS
ZERO = HALF
BUCKETS = 2 * HALF + 1


def bucket_of(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Bucket index of every finite value; negative values lie below `ZERO`, mirrored."""
    bits = values.view(np.int32)
    index = (bits & 0x7FFFFFFF) >> SHIFT
    index -= LOWEST - 1
    np.clip(index, 0, HALF, out=index)
    index *= 1 - ((bits >> 30) & 2)  # the sign bit
    index += ZERO
    return index


@cache
def bucket_values() -> NDArray[np.float64]:
    """The middle of every bucket [B]; read-only."""
    lower = ((np.arange(HALF) + LOWEST) << SHIFT).astype(np.uint32).view(np.float32).astype(np.float64)
    middle = lower * (1 + 2.0 ** -(MANTISSA_BITS + 1) / _mantissa(lower))
    values = np.concatenate([-middle[::-1], [0.0], middle])
    values.flags.writeable = False
    return values


def bucket_width(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How wide the bucket is that each value falls into."""
    least = 2.0**MIN_EXPONENT
    octave = np.exp2(np.floor(np.log2(np.maximum(np.abs(values), least))))
    widths: NDArray[np.float64] = np.where(np.abs(values) < least, 2 * least, octave / 2**MANTISSA_BITS)
    return widths


def count_buckets(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Histogram [K, B] of every column of `values` [N, K]."""
    columns = values.shape[1]
    flat = bucket_of(values) + np.arange(columns, dtype=np.int32) * BUCKETS
    return np.bincount(flat.ravel(order="K"), minlength=columns * BUCKETS).reshape(columns, BUCKETS)


def quantile(counts: NDArray[np.int64], q: float) -> float:
    """The value below which a share `q` of the counted values lies, to the middle of its bucket.

    Args:
        counts: one column's buckets [B], with at least one value counted.
    """
    cumulative = np.cumsum(counts)
    rank = q * (cumulative[-1] - 1)
    return float(bucket_values()[np.searchsorted(cumulative, rank, side="right")])


def _mantissa(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * np.frexp(values)[0]

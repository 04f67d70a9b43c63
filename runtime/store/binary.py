"""States in binary, format 4: what is kept on disk and what replicas exchange. Versioned, compressed, quick to write.

A record is MAGIC, the format, its kind, then zlib over its arrays. `figures` are what drift is judged by, the moments
and the counts, 1 to 2 kB; a `whole` record has the histograms and BatchNorm's features as well.
"""

# K columns, P occupied places of the histograms

import struct
import zlib
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import StateError
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.state import SparseState
from runtime.store.checks import (
    UNUSABLE,
    check_counts,
    check_histograms,
    check_kind,
    checked_deep,
    checked_moments,
    checked_traffic,
)

MAGIC, FORMAT = b"ANST", 4
FIGURES, WHOLE, DEEP = 1, 2, 3
LEVELS = {FIGURES: 0, WHOLE: 1, DEEP: 1}  # of compression: figures are told every second, and are hardly smaller for it
HEAD = struct.Struct("<4sBB")
# Of a record, unpacked. Deep statistics of 49 norms of 4,096 features are 1.4 million values, of 161 norms of 8,192
# 9.2 million; every BatchNorm has 5 arrays.
VALUES, ARRAYS = 1 << 24, 1 << 12
LARGEST_RECORD = 8 * VALUES  # bytes
DTYPES = {code: np.dtype(code) for code in "bhiqd"}  # signed integers of 1 to 8 bytes, float64
WIDE: dict[str, type] = {"i": np.int64, "f": np.float64}
Array = NDArray[Any]


def pack_figures(state: SparseState) -> bytes:
    """A state without its histograms and features."""
    return pack(FIGURES, _figures(state))


def pack_whole(state: SparseState) -> bytes:
    steps = np.diff(state.places, prepend=0)
    features = [array for moments in state.features.values() for array in _moments(moments)]
    indices = np.array(list(state.features), dtype=np.int64)
    return pack(WHOLE, [*_figures(state), steps, state.counts, indices, *features])


def pack_deep(state: DeepState) -> bytes:
    arrays = [*_moments(state.outputs), state.largest, *_moments(state.adds)]
    return pack(DEEP, [np.array([state.requests, state.tokens]), *arrays])


def pack_content(content: SparseState | DeepState) -> bytes:
    return pack_whole(content) if isinstance(content, SparseState) else pack_deep(content)


def is_binary(content: bytes) -> bool:
    """Whether it is a record of this module, and not of what older versions kept."""
    return content.startswith(MAGIC)


def unpack_sparse(content: bytes, source: str) -> SparseState:
    """A state, with empty histograms and no features where only its figures were packed.

    Args:
        source: where it came from, for the error.

    Raises:
        StateError: it is no such record.
    """
    try:
        kind, arrays = unpack(content)
        if kind not in (FIGURES, WHOLE):
            raise ValueError(f"kind {kind}")
        totals, *rest = arrays
        check_kind("i", totals)
        moments = checked_moments(*rest[:5])
        requests, tokens, sketched = (int(value) for value in totals)
        check_counts(np.array([requests, tokens]))
        counts, totals, by_class, repeats = rest[5:9]
        traffic = checked_traffic(counts, totals, by_class, repeats, sketched)
        steps, held, indices, *features = rest[9:] if kind == WHOLE else [_none(), _none(), _none()]
        places = np.cumsum(steps)
        check_histograms(places, held, len(moments.count))
        check_kind("i", indices)
        layers = [checked_moments(*features[start : start + 5]) for start in range(0, len(features), 5)]
        named = {int(index): layer for index, layer in zip(indices, layers, strict=True)}
        return SparseState(requests, tokens, moments, places, held, named, traffic)
    except (*UNUSABLE, zlib.error, struct.error) as error:
        raise _unusable(source, error) from error


def unpack_deep(content: bytes, source: str) -> DeepState:
    """Raises what `unpack_sparse` raises."""
    try:
        kind, arrays = unpack(content)
        if kind != DEEP:
            raise ValueError(f"kind {kind}")
        totals, *rest = arrays
        check_kind("i", totals)
        requests, tokens = (int(value) for value in totals)
        check_counts(np.array([requests, tokens]))
        return checked_deep(requests, tokens, checked_moments(*rest[:5]), rest[5], checked_moments(*rest[6:11]))
    except (*UNUSABLE, zlib.error, struct.error) as error:
        raise _unusable(source, error) from error


def unpack_content(ring: str, content: bytes, source: str) -> SparseState | DeepState:
    """What the ring of that name holds. Raises what `unpack_sparse` raises."""
    return unpack_deep(content, source) if ring.startswith("deep") else unpack_sparse(content, source)


def pack(kind: int, arrays: Sequence[Array]) -> bytes:
    """Arrays of int64, each in as few bytes as its values need, and of floats, as they are."""
    parts = []
    for array in arrays:
        small = np.ascontiguousarray(array.astype(_smallest(array)) if array.dtype == np.int64 else array)
        code = _portable(small.dtype.char).encode()
        parts += [struct.pack(f"<cB{small.ndim}I", code, small.ndim, *small.shape), small.tobytes()]
    return HEAD.pack(MAGIC, FORMAT, kind) + zlib.compress(b"".join(parts), LEVELS[kind])


def unpack(content: bytes) -> tuple[int, list[Array]]:
    """Kind and arrays, in int64 and float64; raises ValueError, struct.error or zlib.error where it is no record."""
    magic, version, kind = HEAD.unpack_from(content)
    if magic != MAGIC or version != FORMAT:
        raise ValueError(f"format {version if magic == MAGIC else content[:4]!r}, expected {FORMAT}")
    inflate = zlib.decompressobj()
    body = inflate.decompress(content[HEAD.size :], LARGEST_RECORD)
    if not inflate.eof:
        raise ValueError("cut short, or larger than any state")
    arrays: list[Array] = []
    at = values = 0
    while at < len(body):
        held, at = _next(body, at)
        values += held.size
        if values > VALUES or len(arrays) == ARRAYS:
            raise ValueError("larger than any state")
        arrays.append(held.astype(WIDE[held.dtype.kind]))
    return kind, arrays


def _next(body: bytes, at: int) -> tuple[Array, int]:
    """The array that begins there, as it is packed, and where the next one does."""
    code, dimensions = struct.unpack_from("<cB", body, at)
    if dimensions not in (1, 2):
        raise ValueError(f"an array of {dimensions} dimensions")
    shape = struct.unpack_from(f"<{dimensions}I", body, at + 2)
    at += 2 + 4 * dimensions
    dtype, size = DTYPES[code.decode()], prod(shape)
    held = np.frombuffer(body, dtype, size, at) if size else np.zeros(0, dtype)
    return held.reshape(shape), at + size * dtype.itemsize


def _portable(code: str) -> str:
    return "q" if code == "l" else code  # the platform's name of an int64


def _smallest(integers: Array) -> np.dtype[Any]:
    most = int(np.abs(integers).max(initial=0))
    return next(np.dtype(code) for code in "bhiq" if most <= np.iinfo(code).max)


def _figures(state: SparseState) -> list[Array]:
    traffic = state.traffic
    sums = [traffic.counts, traffic.totals, traffic.by_class, traffic.repeats]
    return [np.array([state.requests, state.tokens, traffic.sketched]), *_moments(state.moments), *map(_typed, sums)]


def _typed(array: Array) -> Array:
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _moments(moments: Moments) -> list[Array]:
    return [moments.count, moments.mean, moments.m2, moments.minimum, moments.maximum]


def _none() -> Array:
    return np.zeros(0, dtype=np.int64)


def _unusable(source: str, error: Exception) -> StateError:
    return StateError(f"{source} is not a state of format {FORMAT} ({error}).")

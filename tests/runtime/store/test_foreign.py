"""What anyone may have written is refused by a StateError that says whose it is, and does nothing else."""

import json
import struct
import zlib
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import StateError
from runtime.statistics.state import SparseState
from runtime.store import binary
from runtime.store.binary import DEEP, HEAD, WHOLE, pack, pack_deep, pack_whole, unpack, unpack_deep, unpack_sparse
from runtime.store.document import StateDocument
from runtime.store.kept import parse_bucket
from runtime.store.shares import LENGTH, Published, Replica, Share, merged
from runtime.store.shares import WHOLE as OF_ALL

PLACES = {"window-10": WHOLE, "deep-300": DEEP}
REPLICA = {"id": "id", "name": "host:8000", "since": 5.5, "replaces": ["before"], "sequence": 9, "revision": 3}
TOLD = ["window-10", 7, "whole", 9, 0]
Flips = list[tuple[float, int]]
flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


def answer(replica: dict[str, Any] | None = None, told: list[Any] | None = None, clock: Any = 7.25) -> bytes:
    head = {"format": 1, "replica": REPLICA | (replica or {}), "clock": clock, "shares": [told or TOLD]}
    content = json.dumps(head).encode()
    return LENGTH.pack(len(content)) + content


def flipped(content: bytes, changes: Flips, cut: float) -> bytes:
    spoiled = bytearray(content[: int(len(content) * cut)])
    for at, byte in changes if spoiled else ():
        spoiled[int(at * len(spoiled))] = byte
    return bytes(spoiled)


def both(ring: str, good: bytes, other: bytes) -> dict[tuple[str, str], Share]:
    """What replicas a and b share of one bucket."""
    return {(who, OF_ALL): Share(ring, 7, OF_ALL, 1, each) for who, each in (("a", good), ("b", other))}


def replaced(arrays: list[Any], place: int, other: Any) -> list[Any]:
    return [*arrays[:place], other, *arrays[place + 1 :]]


def with_told(at: int, value: Any) -> list[Any]:
    return replaced(TOLD, at, value)


@pytest.fixture(scope="module")
def records(text_artifact: Artifact) -> dict[str, bytes]:
    baseline = read_baseline(text_artifact)
    assert baseline.deep is not None
    return {"window-10": pack_whole(SparseState.compress(baseline.state)), "deep-300": pack_deep(baseline.deep)}


def test_answer_is_good_where_nothing_is_wrong():
    assert Published.unpack(answer(), "it").replica == Replica("id", "host:8000", 5.5, ("before",), 9, 3)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1, 1e11, "soon", None, [[]], 10**400])
@pytest.mark.parametrize("name", ["sequence", "revision", "since", "clock"])
def test_numbers_that_no_replica_has_are_refused(name: str, value: Any):
    value = 10**16 if name in ("sequence", "revision") and value == 1e11 else value
    content = answer(clock=value) if name == "clock" else answer({name: value})
    with pytest.raises(StateError, match=r"^it gives no statistics of format 1 \(.*\)\.$"):
        Published.unpack(content, "it")
    if name != "clock":
        with pytest.raises(StateError, match=r"^it names no replica \(.*\)\.$"):
            Replica.from_json(json.dumps(REPLICA | {name: value}).encode(), "it")


@pytest.mark.parametrize("value", ["\ud800", "two\nlines", "x" * 301, 5, None, {"a": 1}])
@pytest.mark.parametrize("name", ["id", "name", "replaces"])
def test_names_that_cannot_be_shown_are_refused(name: str, value: Any):
    with pytest.raises(StateError, match="gives no statistics of format 1"):
        Published.unpack(answer({name: [value] if name == "replaces" else value}), "it")


@pytest.mark.parametrize(
    "told",
    [
        with_told(0, "other"),
        with_told(0, ["window-10"]),
        with_told(1, -1),
        with_told(1, 10**10),
        with_told(1, 10**400),
        with_told(1, float("nan")),
        with_told(1, float("-inf")),
        with_told(2, "other"),
        with_told(2, None),
        with_told(3, float("inf")),
        with_told(3, 10**16),
        with_told(4, -1),
        with_told(4, 1),
        with_told(4, float("nan")),
        ["deep-300", 7, "figures", 9, 0],
        ["deep", 0, "figures", 9, 0],
        ["baselines", 0, "figures", 9, 0],
        ["everything", 1, "whole", 9, 0],
        TOLD[:-1],
    ],
)
def test_shares_that_nobody_tells_are_refused(told: list[Any]):
    with pytest.raises(StateError, match="gives no statistics of format 1"):
        Published.unpack(answer(told=told), "it")


def test_json_that_is_nested_too_deeply_is_refused():
    deep = b"[" * 200_000
    with pytest.raises(StateError, match="gives no statistics"):
        Published.unpack(LENGTH.pack(len(deep)) + deep, "it")
    with pytest.raises(StateError, match="names no replica"):
        Replica.from_json(deep, "it")
    with pytest.raises(StateError, match="is not a state"):
        StateDocument.from_json(deep, "it")
    with pytest.raises(StateError, match="holds what is no state"):
        parse_bucket("window-10", deep, "it")


@given(flips, st.floats(0, 1))
def test_answer_with_some_bytes_changed_is_read_or_refused(changes: Flips, cut: float):
    shares = [Share("window-10", 7, OF_ALL, 9, b"whole"), Share("everything", 0, OF_ALL, 8, b"")]
    content = Published(Replica("id", "host:8000", 5.5, ("before",), 9), 7.25, shares).pack()
    try:
        Published.unpack(flipped(content, changes, cut), "it")
    except StateError as error:
        assert str(error).startswith("it gives no statistics of format 1 (")


@pytest.mark.parametrize("ring", PLACES)
@given(changes=flips, cut=st.floats(0, 1), inside=st.booleans())
def test_record_with_some_bytes_changed_is_merged_or_refused(
    text_artifact: Artifact, records: dict[str, bytes], ring: str, changes: Flips, cut: float, inside: bool
):
    """Of the record, or of what is compressed in it."""
    record = records[ring]
    spoiled = flipped(record, changes, cut)
    if inside:
        spoiled = record[: HEAD.size] + zlib.compress(flipped(zlib.decompress(record[HEAD.size :]), changes, cut))
    found, errors = merged(text_artifact.manifest, (ring, 7), both(ring, record, spoiled))
    assert found is not None and found.requests > 0
    assert all(str(error).startswith("What replica b shares ") for error in errors)


@pytest.mark.parametrize(("ring", "kind"), PLACES.items())
def test_arrays_of_another_type_are_refused(records: dict[str, bytes], ring: str, kind: int):
    """Counts that are no integers would make no counts of what they are added to."""
    _, arrays = unpack(records[ring])
    for place, array in enumerate(arrays):
        wrong = array.astype(np.float64) if array.dtype == np.int64 else np.zeros(array.shape, np.int64)
        if array.size:
            with pytest.raises(StateError, match="it is not a state of format 4"):
                (unpack_deep if kind == DEEP else unpack_sparse)(pack(kind, replaced(arrays, place, wrong)), "it")


@pytest.mark.parametrize(("ring", "kind"), PLACES.items())
def test_arrays_of_another_shape_end_no_merging(
    text_artifact: Artifact, records: dict[str, bytes], ring: str, kind: int
):
    _, arrays = unpack(records[ring])
    for place, array in enumerate(arrays):
        for wrong in (array.reshape(-1, 1), array.reshape(1, -1), array[:0], array[:1]):
            content = pack(kind, replaced(arrays, place, wrong))
            found, _ = merged(text_artifact.manifest, (ring, 7), both(ring, records[ring], content))
            assert found is not None and found.requests > 0


def test_extremes_of_columns_without_values_are_those_of_nothing(records: dict[str, bytes]):
    _, arrays = unpack(records["window-10"])
    arrays[1] = np.zeros_like(arrays[1])
    arrays[4] = np.full_like(arrays[4], np.nan)
    with pytest.raises(StateError, match="moments that no float32 values have"):
        unpack_sparse(pack(WHOLE, arrays), "it")


def test_small_record_of_many_values_is_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(binary, "VALUES", 1000)
    assert unpack(pack(WHOLE, [np.zeros(500, np.int64)] * 2))[1][1].size == 500
    for arrays in ([np.zeros(1001, np.int64)], [np.zeros(501, np.int64)] * 2):
        with pytest.raises(StateError, match="larger than any state"):
            unpack_sparse(pack(WHOLE, arrays), "it")


def test_record_of_too_many_arrays_is_refused():
    with pytest.raises(StateError, match="larger than any state"):
        unpack_sparse(pack(WHOLE, [np.zeros(0, np.int64)] * (binary.ARRAYS + 1)), "it")


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (1,) * 200])
def test_array_of_other_dimensions_is_refused(shape: tuple[int, ...]):
    body = struct.pack(f"<cB{len(shape)}Ib", b"b", len(shape), *shape, 1)
    with pytest.raises(StateError, match=f"an array of {len(shape)} dimensions"):
        unpack_sparse(HEAD.pack(binary.MAGIC, binary.FORMAT, WHOLE) + zlib.compress(body), "it")

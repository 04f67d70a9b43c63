"""Tables of embeddings that the served and the deep graph hold in memory once.

Each session arranges matrices for products in its own way: the served one frees the plain copy, the deep one keeps that
alone. A table that is only looked up stays as it is, so both sessions can read the same one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import DTypeLike, NDArray

from runtime.artifact import Artifact
from runtime.manifest import DEEP, MODEL

Tables = dict[str, ort.OrtValue]  # by the initializer's name

SHARED_BYTES = 1 << 20  # smaller tables are not worth it
DTYPES: dict[int, DTypeLike] = {1: np.float32, 2: np.uint8, 3: np.int8, 10: np.float16}  # by TensorProto.DataType
# Field numbers of ModelProto, GraphProto, NodeProto, TensorProto and StringStringEntryProto (onnx.proto)
GRAPH = 7
NODE, INITIALIZER = 1, 5
INPUT, OPERATOR = 1, 4
DIMS, DATA_TYPE, NAME, RAW_DATA, EXTERNAL_DATA = 1, 2, 8, 9, 13
KEY, VALUE = 1, 2


class Field(NamedTuple):
    """A field of a protobuf message: `value` if it is a whole number, else its content from `start` to `end`."""

    number: int
    value: int
    start: int
    end: int


class Place(NamedTuple):
    """Where in the served graph's file an initializer lies, and how it is to be read."""

    data_type: int
    shape: tuple[int, ...]
    start: int
    end: int


def shared_tables(artifact: Artifact) -> Tables:
    """The tables that both graphs of `artifact` look up, each in memory of its own; they must outlive the sessions.

    Only those which both graphs call the same and the deep graph has at the served one's place.
    """
    model, deep = artifact.files[MODEL], artifact.files.get(DEEP)
    if deep is None:
        return {}
    try:
        wanted, served = outside(deep), inside(model)
        names = [
            name for name in looked_up(deep) & looked_up(model) if name in wanted and wanted[name] == served.get(name)
        ]
        return {name: ort.OrtValue.ortvalue_from_numpy(read(model, served[name])) for name in sorted(names)}
    except (LookupError, ValueError):  # no graph that is understood here: ONNX Runtime says so, or can run it
        return {}


def read(model: bytes, place: Place) -> NDArray[Any]:
    """A table in memory of its own: the file's is given back."""
    dtype = np.dtype(DTYPES[place.data_type])
    return np.frombuffer(model[place.start : place.end], dtype).reshape(place.shape)


def looked_up(model: bytes) -> set[str]:
    """Names of what the graph looks rows up in, and uses for nothing else."""
    tables, others = set[str](), set[str]()
    for node in graph_fields(model, NODE):
        parts = list(fields(model, node.start, node.end))
        operator = next((text(model, part) for part in parts if part.number == OPERATOR), "")
        names = [text(model, part) for part in parts if part.number == INPUT]
        tables.update(names[:1] if operator == "Gather" else [])
        others.update(names[1:] if operator == "Gather" else names)
    return tables - others


def inside(model: bytes) -> dict[str, Place]:
    """Large initializers that the file holds as plain bytes, by name."""
    found = {}
    for tensor in graph_fields(model, INITIALIZER):
        name, data_type, shape, parts = describe(model, tensor)
        raw = next((part for part in parts if part.number == RAW_DATA), None)
        if raw and raw.end - raw.start >= SHARED_BYTES and data_type in DTYPES:
            found[name] = Place(data_type, shape, raw.start, raw.end)
    return found


def outside(deep: bytes) -> dict[str, Place]:
    """Large initializers that lie in the served graph's file, by name."""
    found = {}
    for tensor in graph_fields(deep, INITIALIZER):
        name, data_type, shape, parts = describe(deep, tensor)
        entries = [fields(deep, part.start, part.end) for part in parts if part.number == EXTERNAL_DATA]
        pairs = [{part.number: text(deep, part) for part in entry} for entry in entries]
        where = {pair[KEY]: pair[VALUE] for pair in pairs}
        start, size = (int(where.get(key, 0)) for key in ("offset", "length"))
        if where.get("location") == MODEL and size >= SHARED_BYTES:
            found[name] = Place(data_type, shape, start, start + size)
    return found


def describe(model: bytes, tensor: Field) -> tuple[str, int, tuple[int, ...], list[Field]]:
    """Name, type, shape and all fields of an initializer."""
    parts = list(fields(model, tensor.start, tensor.end))
    name = next((text(model, part) for part in parts if part.number == NAME), "")
    data_type = next((part.value for part in parts if part.number == DATA_TYPE), 0)
    shape = [size for part in parts if part.number == DIMS for size in numbers(model, part)]
    return name, data_type, tuple(shape), parts


def numbers(data: bytes, field: Field) -> list[int]:
    """A repeated whole number, one in each field or many packed in one."""
    if field.start == field.end:
        return [field.value]
    found, at = [], field.start
    while at < field.end:
        value, at = varint(data, at)
        found.append(value)
    return found


def graph_fields(model: bytes, number: int) -> Iterator[Field]:
    for graph in fields(model, 0, len(model)):
        if graph.number == GRAPH:
            yield from (field for field in fields(model, graph.start, graph.end) if field.number == number)


def fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields of a protobuf message; raises ValueError or IndexError where it is none."""
    while at < end:
        key, at = varint(data, at)
        kind, value, start = key & 7, 0, at
        if kind == 0:
            value, at = varint(data, at)
            start = at
        elif kind == 2:
            size, start = varint(data, at)
            at = start + size
        elif kind in (1, 5):
            at = start + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("a field goes beyond its message")
        yield Field(key >> 3, value, start, at)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number in base 128, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > 70:
            raise ValueError("a number of more than ten bytes")
        if byte < 128:
            return value, at


def text(data: bytes, field: Field) -> str:
    return data[field.start : field.end].decode()

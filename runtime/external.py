"""A graph's weights that lie in another file, as tensors over that file's content in memory.

ONNX Runtime copies such weights into every session that is given the file. A session that is given tensors computes on
them where they are, but asks for their names, shapes and types. These are read from the graph: of the format (protocol
buffers) it takes a few fields only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Self

import numpy as np
import onnxruntime as ort

# numbers of fields in onnx.proto
GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, NAME, EXTERNAL_DATA = 1, 2, 8, 13
KEY, VALUE = 1, 2
DATA_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}
# how a field is written
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class ExternalWeights:
    """Weights that lie outside their graph; to be kept as long as a session runs on them.

    Attributes:
        files: content of the files in which they lie, by name.
        tensors: by name of the initializer; views into `files`.
    """

    files: Mapping[str, bytes]
    tensors: Mapping[str, ort.OrtValue]

    @classmethod
    def of(cls, model: bytes, files: Mapping[str, bytes]) -> Self:
        """Those of the graph `model`.

        Raises:
            ValueError, LookupError: it is no graph, or a weight does not lie in its file.
        """
        tensors = {}
        for graph in parts(memoryview(model), GRAPH):
            for tensor in parts(graph, INITIALIZER):
                if place := dict(map(entry, parts(tensor, EXTERNAL_DATA))):
                    tensors[text(tensor, NAME)] = view(tensor, files[place["location"]], int(place.get("offset", 0)))
        return cls(files, tensors)


def view(tensor: memoryview, content: bytes, offset: int) -> ort.OrtValue:
    """The tensor that lies in `content` from byte `offset` on."""
    shape, (data_type,) = numbers(tensor, DIMS), numbers(tensor, DATA_TYPE)
    values = np.frombuffer(content, DATA_TYPES[data_type], prod(shape), offset)
    return ort.OrtValue.ortvalue_from_numpy(values.reshape(shape))


def entry(message: memoryview) -> tuple[str, str]:
    return text(message, KEY), text(message, VALUE)


def text(message: memoryview, number: int) -> str:
    return b"".join(parts(message, number)).decode()


def parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """The contents of field `number`, which are messages or texts."""
    return (content for found, content in fields(message) if found == number and isinstance(content, memoryview))


def numbers(message: memoryview, number: int) -> list[int]:
    """The integers of field `number`, written one by one or packed."""
    values: list[int] = []
    for found, content in fields(message):
        if found != number:
            continue
        if isinstance(content, int):
            values.append(content)
        else:
            at = 0
            while at < len(content):
                value, at = varint(content, at)
                values.append(value)
    return values


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and content of every field: an integer, or bytes.

    Raises:
        ValueError, IndexError: it is not a message.
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == LENGTH:
            length, at = varint(message, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}, which protocol buffers do not have")
        if length > len(message) - at:
            raise ValueError(f"a field of {length} bytes where {len(message) - at} are left")
        yield number, message[at : at + length]
        at += length


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at byte `at`, and where it ends: 7 bits a byte, lowest first."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7

"""Tensors of the protocol, out of JSON and out of raw bytes."""

from collections.abc import Mapping
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput, Unsupported
from runtime.graph.inputs import describe
from runtime.manifest import Dtype
from runtime.words import listed, quoted, shortened
from service.api.v2.schemas import Datatype, InputTensor

DATATYPES: dict[Dtype, Datatype] = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "int64": "INT64",
    "int32": "INT32",
    "int16": "INT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "bool": "BOOL",
}
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in DATATYPES.items()}
OF_KIND: dict[str, set[type]] = {"f": {int, float}, "b": {bool}, "i": {int}, "u": {int}}
KINDS = {name: OF_KIND[dtype.kind] for name, dtype in DTYPES.items()} | {"BYTES": {str}}
LENGTH = 4  # bytes of the length before an element of BYTES, little-endian

Values = NDArray[Any] | list[str]


class Tensor(NamedTuple):
    """An input as it was sent.

    Attributes:
        values: an array of its shape that is nobody else's; of BYTES a flat list of texts.
    """

    shape: list[int]
    values: Any


def read_tensors(
    inputs: list[InputTensor], binary: memoryview, expected: Mapping[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """The inputs of a request, by name.

    Args:
        binary: what follows the JSON: the binary tensors, in order, and nothing else.
        expected: the datatypes that are allowed, by name.

    Raises:
        InvalidInput: a tensor is not one of them, or not what it says it is.
        Unsupported: it is in shared memory.
    """
    tensors: dict[str, Tensor] = {}
    offset = 0
    for item in inputs:
        check_kind(item, expected)
        if item.name in tensors:
            raise InvalidInput("invalid_tensor", f"{item.name} is there twice, expected each input once.")
        size = item.parameters.binary_data_size if item.parameters else None
        if size is None:
            tensors[item.name] = Tensor(item.shape, from_json(item))
            continue
        if item.data is not None:
            raise InvalidInput("invalid_tensor", f"{item.name} has data and binary_data_size, expected one of them.")
        if offset + size > len(binary):
            raise InvalidInput(
                "invalid_binary",
                f"{item.name} should have {size} bytes, {len(binary) - offset} are left behind the JSON.",
            )
        tensors[item.name] = Tensor(item.shape, from_bytes(item, binary[offset : offset + size]))
        offset += size
    if offset < len(binary):
        raise InvalidInput("invalid_binary", f"{len(binary) - offset} bytes follow the last tensor, expected none.")
    return tensors


def check_kind(item: InputTensor, expected: Mapping[str, tuple[str, ...]]) -> None:
    if item.name not in expected:
        raise InvalidInput("unknown_input", f"There is no input {quoted(item.name)}, expected {listed(expected)}.")
    if item.datatype not in expected[item.name]:
        allowed = " or ".join(expected[item.name])
        raise InvalidInput("invalid_datatype", f"{item.name} has datatype {quoted(item.datatype)}, expected {allowed}.")
    if item.parameters and item.parameters.shared_memory_region is not None:
        raise Unsupported(f"{item.name} is in shared memory, which is not supported: send it in the body.")


def from_json(item: InputTensor) -> Values:
    """The `data` of a tensor."""
    values = flat(item)
    kinds = set(map(type, values))
    if not kinds <= KINDS[item.datatype]:
        strange = next(value for value in values if type(value) not in KINDS[item.datatype])
        raise InvalidInput("invalid_tensor", f"{item.name} has {describe(strange)} in data, expected {item.datatype}.")
    if item.datatype == "BYTES":
        return values
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            numbers = np.array(values, DTYPES[item.datatype])
    except OverflowError:
        raise InvalidInput("invalid_tensor", f"{item.name} has a number that no {item.datatype} holds.") from None
    return shaped(item, numbers)


def flat(item: InputTensor) -> list[Any]:
    """The `data` of a tensor without its nesting, which must be that of its shape where there is any."""
    level, depth, shape = item.data, 0, item.shape
    if not isinstance(level, list):
        raise InvalidInput("invalid_tensor", f"{item.name} has {describe(level)} as data, expected a list.")
    while level and type(level[0]) is list:
        depth += 1
        if depth == len(shape) or set(map(type, level)) != {list} or set(map(len, level)) != {shape[depth]}:
            raise wrong_size(item, "data is nested otherwise")
        level = list(chain.from_iterable(level))
    if len(level) != prod(shape) or (depth and depth != len(shape) - 1):
        raise wrong_size(item, f"data has {len(level)} elements")
    return level


def from_bytes(item: InputTensor, content: memoryview) -> Values:
    """A tensor's raw bytes, little-endian and row-major."""
    if item.datatype == "BYTES":
        return texts(item, content)
    dtype = DTYPES[item.datatype]
    if len(content) != prod(item.shape) * dtype.itemsize:
        raise wrong_size(item, f"there are {len(content)} bytes")
    return shaped(item, np.frombuffer(content, dtype)).copy()  # the buffer need not be aligned


def shaped(item: InputTensor, values: NDArray[Any]) -> NDArray[Any]:
    """A tensor's values, which are as many as its shape says, in that shape."""
    try:
        return values.reshape(item.shape)
    except ValueError:  # more than 64 sizes, or huge ones beside a 0
        raise wrong_size(item, "no tensor can have that") from None


def texts(item: InputTensor, content: memoryview) -> list[str]:
    """Elements of BYTES, each behind its length."""
    found: list[str] = []
    offset, count = 0, prod(item.shape)
    while offset < len(content) and len(found) < count:
        start = offset + LENGTH
        offset = start + int.from_bytes(content[offset:start], "little")
        if offset > len(content) or start > len(content):
            raise InvalidInput("invalid_binary", f"{item.name}[{len(found)}] is longer than the bytes that are left.")
        try:
            found.append(str(content[start:offset], "utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidInput(
                "invalid_text", f"{item.name}[{len(found)}] is not UTF-8 ({error.reason} at byte {error.start})."
            ) from None
    if len(found) != count or offset != len(content):
        raise wrong_size(item, f"its bytes hold {len(found)} elements and {len(content) - offset} bytes more")
    return found


def wrong_size(item: InputTensor, found: str) -> InvalidInput:
    return InvalidInput("invalid_tensor", f"{item.name} has shape {shortened(item.shape)}, but {found}.")


def to_bytes(values: Values) -> bytes:
    """A tensor's raw bytes."""
    if not isinstance(values, list):
        return values.tobytes()
    elements = [text.encode() for text in values]
    return b"".join([part for element in elements for part in (len(element).to_bytes(LENGTH, "little"), element)])


def to_list(values: Values) -> list[Any]:
    """A tensor as JSON's `data`, flat."""
    return values if isinstance(values, list) else values.ravel().tolist()

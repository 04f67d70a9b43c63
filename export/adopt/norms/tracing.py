"""Reads a graph backwards: what a value is, whatever casts and quantization it came through."""

from collections.abc import Iterator, Set
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})
SAME = QUANTIZING | {"Cast", "Identity"}  # their output is their first input
SPREAD = SAME | {
    "Expand",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
}  # and how one number of each token is spread over its features


def origin(value: ir.Value | None, through: Set[str] = SAME) -> ir.Value | None:
    """What a value was before casts and quantization."""
    while value is not None and (node := value.producer()) is not None and node.op_type in through:
        value = node.inputs[0]
    return value


def made_by(value: ir.Value | None, op_type: str, through: Set[str] = SAME) -> ir.Node | None:
    """The node that a value comes from, if it is such an operator."""
    start = origin(value, through)
    node = start.producer() if start is not None else None
    return node if node is not None and node.op_type == op_type else None


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """What a value always is; None where the graph's inputs decide."""
    if value is None:
        return None
    tensor, node = ir.convenience.get_const_tensor(value), value.producer()
    if tensor is not None:
        return tensor.numpy()
    if node is None or node.op_type not in SAME:
        return None
    content, *grid = [constant(item) for item in node.inputs]
    if node.op_type != "DequantizeLinear" or content is None or content.dtype.kind == "f":
        return content
    step, zero = grid[0], grid[1] if len(grid) > 1 else None
    return None if step is None else (content.astype(np.float32) - (0 if zero is None else zero)) * step


def number(value: ir.Value | None) -> float | None:
    """A constant of one element."""
    content = constant(value)
    return float(content.item()) if content is not None and content.size == 1 else None


def width(value: ir.Value | None) -> int | None:
    """Features of a weight or a bias: a constant with one axis."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    shape = tensor.shape.numpy() if tensor is not None else ()
    return shape[0] if len(shape) == 1 else None


def between(y: ir.Value, x: ir.Value) -> Iterator[ir.Node]:
    """The nodes that y comes from, as far back as x."""
    waiting, seen = [y], {x}
    while waiting:
        node = waiting.pop().producer()
        if node is None:
            continue
        yield node
        ahead = [value for value in node.inputs if value is not None and value not in seen]
        seen.update(ahead)
        waiting += ahead


def placement_of(x: ir.Value | None) -> Literal["post", "pre"]:
    """Where a norm is: pre where what it normalizes is added to something beside it, the residual stream."""
    same = [value for value in [origin(x)] if value is not None]
    for value in same:  # and after casts and quantization
        same += [output for user in value.consumers() if user.op_type in SAME for output in user.outputs]
    goes_on = any(user.op_type.endswith("Add") for value in same for user in value.consumers())
    return "pre" if goes_on else "post"

"""What of a graph can do with less than float32: its linear layers."""

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

READ = {"input_ids", "features"}  # graph inputs that tokens are made of


def is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies the tokens' activations with a weight, [P, S, D] with [D, E].

    A head stays as it is, so that an overflow still shows in the logits: it is a Gemm, or it reads pooled rows. So do
    the projection of float features, whose size nothing bounds, and what is computed of weights alone.
    """
    if node.op_type != "MatMul":
        return False
    activation, weight = node.inputs
    if activation is None or weight is None or not is_matrix(weight) or activation.is_graph_input():
        return False
    made_of = graph_inputs(activation)
    return bool(made_of & READ) and "pooling" not in made_of


def is_matrix(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None and len(value.const_value.shape) == 2


def graph_inputs(value: ir.Value) -> set[str]:
    """The names of the graph's inputs that a value is computed from."""
    found, waiting, seen = set(), [value], {value}
    while waiting:
        current = waiting.pop()
        if current.is_graph_input():
            found.add(str(current.name))
        producer = current.producer()
        read = {source for source in producer.inputs if source is not None} if producer else set()
        waiting += read - seen
        seen |= read
    return found


def is_float(value: ir.Value) -> bool:
    """Whether a value is a weight in float32."""
    return value.is_initializer() and value.dtype == ir.DataType.FLOAT


def array_of(weight: ir.Value) -> NDArray[Any]:
    assert weight.const_value is not None
    return weight.const_value.numpy()


def activation_of(linear: ir.Node) -> ir.Value:
    assert linear.inputs[0] is not None
    return linear.inputs[0]


def weight_of(linear: ir.Node) -> ir.Value:
    assert linear.inputs[1] is not None
    return linear.inputs[1]


def made_by(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node

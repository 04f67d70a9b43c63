"""What of a graph can do with less than float32: its linear layers."""

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray


def is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies activations with a block's weights.

    The head is a Gemm and stays as it is, so that an overflow still shows in the logits; so does the projection of
    float features, whose size nothing bounds.
    """
    if node.op_type != "MatMul":
        return False
    activation, weight = node.inputs
    return weight is not None and weight.is_initializer() and activation is not None and not activation.is_graph_input()


def is_float(value: ir.Value) -> bool:
    """Whether a value is a weight in float32."""
    return value.is_initializer() and value.dtype == ir.DataType.FLOAT


def array_of(weight: ir.Value) -> NDArray[Any]:
    assert weight.const_value is not None
    return weight.const_value.numpy()


def activation_of(linear: ir.Node) -> ir.Value:
    assert linear.inputs[0] is not None
    return linear.inputs[0]


def made_by(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node

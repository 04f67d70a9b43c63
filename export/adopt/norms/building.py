"""Adds nodes to a graph that others exported. All that it adds is named `addnorm.` and something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

AXES_ARE_INPUTS = 18  # of the reductions but ReduceSum, from this opset on


@dataclass(frozen=True, slots=True)
class Builder:
    """Adds to one graph."""

    graph: ir.Graph
    opset: int

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        """The output of a new node."""
        return self.add_all(op_type, inputs, [name], **attributes)[0]

    def add_all(
        self, op_type: str, inputs: Sequence[ir.Value | None], names: Sequence[str], **attributes: Any
    ) -> Sequence[ir.Value]:
        """The outputs of a new node."""
        outputs = [ir.val(f"addnorm.{name}") for name in names]
        node = ir.node(op_type, inputs, attributes, outputs=outputs, name=f"addnorm.{names[0]}")
        self.graph.append(node)
        return node.outputs

    def reduce(self, op_type: str, value: ir.Value, axis: int, name: str, keepdims: int = 0) -> ir.Value:
        """A reduction over one axis, as the graph's opset writes it."""
        if self.opset < AXES_ARE_INPUTS:
            return self.add(op_type, [value], name, axes=[axis], keepdims=keepdims)
        return self.add(op_type, [value, self.constant(f"{name}.axes", [axis])], name, keepdims=keepdims)

    def cast(self, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
        return value if value.dtype == dtype else self.add("Cast", [value], name, to=dtype)

    def constant(self, name: str, content: object) -> ir.Value:
        tensor = ir.tensor(np.array(content), name=f"addnorm.{name}")
        value = ir.val(f"addnorm.{name}", const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def named(self, name: str, value: ir.Value, shape: Sequence[str | int]) -> ir.Value:
        """A value in float32 that was added here, under the name of an output."""
        value.name, value.dtype, value.shape = name, ir.DataType.FLOAT, ir.Shape(shape)
        return value

    def output(self, name: str, value: ir.Value, shape: Sequence[str | int]) -> ir.Value:
        """`value` in float32, under a name that the served graph's outputs have."""
        out = ir.val(name, ir.DataType.FLOAT, shape)
        self.graph.append(ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, outputs=[out], name=name))
        return out


def free_names(graph: ir.Graph, taken: Callable[[str], bool]) -> None:
    """Renames the graph's values whose names are taken by what is added to it."""
    for value in [*graph.inputs, *graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)]:
        name = str(value.name)
        if taken(name):
            initializer = graph.initializers.pop(name, None)
            value.name = f"{name}.file"
            if initializer is not None:
                graph.register_initializer(value)

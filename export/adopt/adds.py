"""Finds the residual Adds of somebody else's network in its graph, and has the graph measure what they add.

No module of the network tells them. But the graph does: of the two values that an Add adds, the one that the other is
computed from is the residual stream x, and the other the update F(x).
"""

# P packs, S tokens per pack, D d_model, A Adds, L norm layers

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper

from runtime.graph.packing import PACKED
from runtime.manifest import NormLayer

Placement = Literal["post", "pre"]
LAST_AXIS = "adds_last_axis"
AXES_ARE_INPUTS = {"ReduceL2": 18, "ReduceSum": 13}  # from this opset on

Floats = NDArray[np.float64]


class NormAdd(NamedTuple):
    """The Add that belongs to a norm, and the names of the values that it adds.

    Attributes:
        norm: number of the norm.
        before: where x is seen too: the number of a norm, which x leaves in a post placement, and enters in a pre one.
        after: number of the norm that x + F(x) enters.
    """

    norm: int
    before: int
    after: int
    x: str
    update: str


def find_adds(graph: onnx.ModelProto, placement: Placement) -> list[NormAdd]:
    """The Adds of a graph's norms, norm after norm; those alone between values that norms see.

    Args:
        graph: its outputs `norm_inputs` and `norm_outputs` join one value for each norm [P, S, D].
    """
    outputs = {value.name: value for value in ir.from_proto(graph).graph.outputs}
    entered, left = (joined(outputs[name]) for name in ("norm_inputs", "norm_outputs"))
    return adds_between(entered, left, [placement] * len(entered))


def adds_between(
    entered: Sequence[ir.Value], left: Sequence[ir.Value], placements: Sequence[Placement]
) -> list[NormAdd]:
    """The Adds of the norms of which these values enter and leave each."""
    found = [
        (add_before if placement == "post" else add_after)(number, entered, left)
        for number, placement in enumerate(placements)
    ]
    return [add for add in found if add is not None]


def joined(output: ir.Value) -> list[ir.Value]:
    """The values that an output was joined from."""
    node = output.producer()
    if node is None or node.op_type != "Concat":
        return [output]
    return [value for value in node.inputs if value is not None]


def add_before(number: int, entered: Sequence[ir.Value], left: Sequence[ir.Value]) -> NormAdd | None:
    """The Add of a post norm: what it gives enters the norm."""
    add = entered[number].producer()
    for x, update in orders(add):
        if x in left and depends(update, x):
            return NormAdd(number, list(left).index(x), number, str(x.name), str(update.name))
    return None


def add_after(number: int, entered: Sequence[ir.Value], left: Sequence[ir.Value]) -> NormAdd | None:
    """The Add of a pre norm: it adds to what entered the norm what was computed from what left it."""
    same = with_casts(entered[number])
    for add in (user for value in same for user in value.consumers()):
        for x, update in orders(add):
            total = add.outputs[0]
            if x in same and total in entered and depends(update, left[number]):
                return NormAdd(number, number, list(entered).index(total), str(x.name), str(update.name))
    return None


def with_casts(value: ir.Value) -> list[ir.Value]:
    """A value and what it is cast to: Llama's RMSNorm casts the residual stream, which then goes on so."""
    found = [value]
    for each in found:  # which grows meanwhile
        found += [user.outputs[0] for user in each.consumers() if user.op_type == "Cast"]
    return found


def orders(add: ir.Node | None) -> list[tuple[ir.Value, ir.Value]]:
    """Both orders of what is added, if that is computed."""
    if add is None or add.op_type != "Add":
        return []
    first, second = add.inputs
    if first is None or second is None or first.is_initializer() or second.is_initializer():
        return []
    return [(first, second), (second, first)]


def depends(value: ir.Value, on: ir.Value) -> bool:
    """Whether a value is computed from another."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        if current is on:
            return True
        producer = current.producer()
        read = {source for source in producer.inputs if source is not None} if producer else set()
        waiting += read - seen
        seen |= read
    return False


def measure_adds(graph: onnx.ModelProto, adds: Sequence[NormAdd]) -> None:
    """Gives the graph the output `adds` [P, S, 2A]: of each, |F(x)| / |x| and the cosine between both."""
    graph.graph.initializer.append(helper.make_tensor(LAST_AXIS, TensorProto.INT64, [1], [-1]))
    numbers = [name for add in adds for name in measure_add(graph, add)]
    graph.graph.node.append(helper.make_node("Concat", numbers, ["adds"], axis=2))
    graph.graph.output.append(helper.make_tensor_value_info("adds", TensorProto.FLOAT, [*PACKED, 2 * len(adds)]))


def measure_add(graph: onnx.ModelProto, add: NormAdd) -> tuple[str, str]:
    """The names of an Add's ratio and cosine [P, S, 1], which are computed from now on."""
    name, opset = f"adds_{add.norm}", next(each.version for each in graph.opset_import if not each.domain)
    x, update, product, dot, sizes, ratio, cosine = (
        f"{name}_{part}" for part in ("x", "update", "product", "dot", "sizes", "ratio", "cosine")
    )
    graph.graph.node.extend(
        [
            reduce_last("ReduceL2", add.x, x, opset),
            reduce_last("ReduceL2", add.update, update, opset),
            helper.make_node("Div", [update, x], [ratio]),
            helper.make_node("Mul", [add.x, add.update], [product]),
            reduce_last("ReduceSum", product, dot, opset),
            helper.make_node("Mul", [x, update], [sizes]),
            helper.make_node("Div", [dot, sizes], [cosine]),
        ]
    )
    return ratio, cosine


def reduce_last(op_type: str, value: str, name: str, opset: int) -> onnx.NodeProto:
    """A reduction over the features, as this opset writes it."""
    if opset >= AXES_ARE_INPUTS[op_type]:
        return helper.make_node(op_type, [value, LAST_AXIS], [name])
    return helper.make_node(op_type, [value], [name], axes=[2])


def with_adds(layers: Sequence[NormLayer], adds: Sequence[NormAdd]) -> list[NormLayer]:
    """The layers, with word of which have an Add."""
    have = {add.norm for add in adds}
    return [layer.model_copy(update={"add": number in have}) for number, layer in enumerate(layers)]


def expect_adds(entered: Floats, left: Floats, layers: Sequence[NormLayer], adds: Sequence[NormAdd]) -> Floats:
    """What the Adds' numbers must be [N, 2A]: an update is the difference of what two norms see."""
    ends = np.cumsum([layer.d_model for layer in layers])[:-1]
    inputs, outputs = np.split(entered, ends, axis=1), np.split(left, ends, axis=1)
    numbers = [np.zeros((len(entered), 0))]
    for add in adds:
        x = (outputs if layers[add.norm].placement == "post" else inputs)[add.before]
        update = inputs[add.after] - x
        sizes = [np.linalg.norm(values, axis=1) for values in (x, update)]
        numbers.append(np.stack([sizes[1] / sizes[0], (x * update).sum(1) / (sizes[0] * sizes[1])], axis=1))
    return np.concatenate(numbers, axis=1)

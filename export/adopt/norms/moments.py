"""Reads what a norm divides by from its graph: the mean square of x, or of x - mean(x).

Exporters write means, squares and roots in several ways, and put casts and quantization anywhere between them.
"""

from typing import NamedTuple

import onnx_ir as ir

from export.adopt.norms.norm import Kind
from export.adopt.norms.tracing import SPREAD, constant, made_by, number, origin

LAST = ([-1], [2])  # the features of [batch, tokens, features]


class Moment(NamedTuple):
    """A variance, or a mean square, of x over axes; d is what is squared; `divided_by` is of a sum of squares."""

    kind: Kind
    x: ir.Value
    d: ir.Value
    axes: list[int]
    divided_by: float | None


def variance(value: ir.Value | None) -> Moment | None:
    """mean((x - mean(x))^2) or mean(x^2)."""
    d, axes = mean_square(value)
    if d is None:
        return None
    x, divided_by = centered(d, axes), divisor(value)
    return Moment("rms_norm", d, d, axes, divided_by) if x is None else Moment("layer_norm", x, d, axes, divided_by)


def fast_variance(value: ir.Value | None) -> Moment | None:
    """mean(x^2) - mean(x)^2, as JAX writes it, perhaps not less than 0."""
    clipped = made_by(value, "Relu", SPREAD) or made_by(value, "Max", SPREAD)
    for term in clipped.inputs if clipped else [value]:
        difference = made_by(term, "Sub", SPREAD)
        x, axes = mean_square(difference.inputs[0]) if difference else (None, [])
        averaged, mean_axes = mean_of(square_of(difference.inputs[1])) if difference else (None, [])
        if x is not None and origin(x) is origin(averaged) and same_axes(mean_axes, axes):
            return Moment("layer_norm", x, x, axes, divisor(difference.inputs[0]))  # type: ignore[union-attr]
    return None


def mean_square(value: ir.Value | None) -> tuple[ir.Value | None, list[int]]:
    """What a value is the mean of the squares of, and over which axes."""
    square, axes = mean_of(value)
    if (d := square_of(square)) is not None:
        return d, axes
    summed = summed_for_mean(value, "ReduceSumSquare")
    return (None, []) if summed is None else (summed.inputs[0], axes_of(summed))


def mean_of(value: ir.Value | None) -> tuple[ir.Value | None, list[int]]:
    """What a value is the mean of, and over which axes."""
    node = made_by(value, "ReduceMean", SPREAD) or summed_for_mean(value, "ReduceSum")
    return (None, []) if node is None else (node.inputs[0], axes_of(node))


def axes_of(node: ir.Node) -> list[int]:
    """Over which axes a node reduces."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return list(node.attributes.get_ints("axes", ())) if axes is None else axes.tolist()


def summed_for_mean(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The sum of a mean that is written as a sum over, or times, a number."""
    term, _, factor = times_number(value)
    return made_by(term, op_type, SPREAD) if factor is not None else None


def divisor(value: ir.Value | None) -> float | None:
    """What the sum of such a mean is divided by; None where the graph does not write it as a sum."""
    _, op_type, factor = times_number(value)
    if not factor or all(summed_for_mean(value, name) is None for name in ("ReduceSum", "ReduceSumSquare")):
        return None
    return factor if op_type == "Div" else 1 / factor


def times_number(value: ir.Value | None) -> tuple[ir.Value | None, str, float | None]:
    """What is multiplied with a number, or divided by it: the value, the operator and the number."""
    node = made_by(value, "Div", SPREAD) or made_by(value, "Mul", SPREAD)
    if node is None:
        return None, "", None
    term, factor = node.inputs if number(node.inputs[1]) is not None else node.inputs[::-1]
    return term, node.op_type, number(factor)


def square_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is the square of."""
    product, power = made_by(value, "Mul"), made_by(value, "Pow")
    if product and origin(product.inputs[0]) is origin(product.inputs[1]):
        return unsigned(product.inputs[0])
    return unsigned(power.inputs[0]) if power and number(power.inputs[1]) == 2 else None


def unsigned(value: ir.Value | None) -> ir.Value | None:
    """A value before its sign was taken away, which its square loses anyway."""
    node = made_by(value, "Abs")
    return node.inputs[0] if node else value


def centered(d: ir.Value, axes: list[int]) -> ir.Value | None:
    """x where d is x - mean(x) over these axes, or the negative of that."""
    for x, mean in differences(d):
        averaged, mean_axes = mean_of(mean)
        if averaged is not None and origin(averaged) is origin(x) and same_axes(mean_axes, axes):
            return x
    return None


def differences(d: ir.Value | None) -> list[tuple[ir.Value | None, ir.Value | None]]:
    """Two values of which d is the difference, in both orders, written as a difference or as a sum with a negative."""
    difference, total = made_by(d, "Sub"), made_by(d, "Add")
    if difference:
        return [(difference.inputs[0], difference.inputs[1]), (difference.inputs[1], difference.inputs[0])]
    orders = [(0, 1), (1, 0)] if total else []
    negated = [(total.inputs[x], made_by(total.inputs[other], "Neg", SPREAD)) for x, other in orders]  # type: ignore[union-attr]
    return [(x, node.inputs[0]) for x, node in negated if node is not None]


def same_axes(one: list[int], other: list[int]) -> bool:
    return one == other or (one in LAST and other in LAST)

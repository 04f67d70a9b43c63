"""Recognizes a norm by one node: an operator of that name, or the square root that a decomposed norm has.

A LayerNorm is the root of mean(d^2) + eps, where d = x - mean(x); an RMSNorm the same with d = x. Exporters write the
square, the root and the quotient in several ways, and put casts and quantization anywhere between them.
"""

# d: what is squared; the quotient d / sigma is the normalized value

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.norm import DECOMPOSED, NAMED, OTHERS, SCALE, Kind, Match
from export.adopt.norms.tracing import QUANTIZING, SPREAD, between, constant, made_by, number, origin, width

UNBIASED = "it divides by the unbiased deviation, which no operator gives out"
LAST = ([-1], [2])  # the features of [batch, tokens, features]


def recognize(node: ir.Node) -> Match | str | None:
    """The norm that this node tells of; why it cannot be observed, as a sentence without its subject; or nothing."""
    if node.op_type in OTHERS:
        return OTHERS[node.op_type]
    return named(node) if node.op_type in NAMED else decomposed(node)


def named(node: ir.Node) -> Match:
    kind, eps = NAMED[node.op_type]
    eps = shortest(node.attributes.get_float("epsilon", eps))
    whole = node.outputs[0] if node.op_type.startswith("Embed") else node.inputs[0]
    assert whole is not None
    scale, *rest = node.inputs[SCALE.get(node.op_type, 1) :]
    bias = rest[0] if rest and kind == "layer_norm" else None
    return Match(kind, node.op_type, node, whole, node.attributes.get_int("axis", -1), eps, scale, bias)


def decomposed(root: ir.Node) -> Match | str | None:
    """The norm of which `root` is the square root, if it is one."""
    exponent = root_exponent(root)
    moment, eps = moment_and_eps(root.inputs[0]) if exponent else (None, None)
    if moment is None:
        return unknown_moment(root.inputs[0]) if exponent else None
    if eps is None:
        return "nothing is added to its variance" if moment.kind == "layer_norm" else None
    if eps.size != 1 or not eps.item() > 0:
        return "its eps is not one positive number"
    if len(moment.axes) != 1:
        return f"it normalizes over axes {moment.axes}, not over the features of one token"
    match = Match(
        moment.kind, DECOMPOSED, root, moment.x, moment.axes[0], shortest(eps.item()), divided_by=moment.divided_by
    )
    return replaceable(match, moment, exponent == -0.5) if moment.kind == "layer_norm" else match


def unknown_moment(value: ir.Value | None) -> str | None:
    """Why what is under a root cannot be observed, if it is of a norm at all."""
    if made_by(value, "QLinearAdd"):
        return "its parts are 8-bit operators"
    summed = made_by(value, "Add", SPREAD)
    terms = [term for added in (summed.inputs if summed else [value]) for term in factors(added)]
    moments = [moment for term in terms if (moment := variance(term)) is not None]
    return UNBIASED if moments and moments[0].kind == "layer_norm" else None


def factors(value: ir.Value | None) -> list[ir.Value | None]:
    """What a value is the product or the quotient of, and what that is."""
    found = [value]
    for _ in range(2):  # times N, over N - 1
        nodes = [made_by(term, op_type, SPREAD) for term in found for op_type in ("Mul", "Div")]
        found = [term for node in nodes if node is not None for term in node.inputs] or found
    return found


def shortest(eps: float) -> float:
    """The shortest number that is the same in float32: 1e-12 where that holds 9.999999960041972e-13."""
    return float(str(np.float32(eps)))


class Moment(NamedTuple):
    """A variance, or a mean square, of x over axes; d is what is squared; `divided_by` is of a sum of squares."""

    kind: Kind
    x: ir.Value
    d: ir.Value
    axes: list[int]
    divided_by: float | None


def root_exponent(node: ir.Node) -> float | None:
    """0.5 of a square root, -0.5 of its inverse."""
    if node.op_type == "Sqrt":
        return 0.5
    exponent = number(node.inputs[1]) if node.op_type == "Pow" else None
    return exponent if exponent in (0.5, -0.5) else None


def moment_and_eps(value: ir.Value | None) -> tuple[Moment | None, NDArray[Any] | None]:
    """What is under a root: a moment, and what is added to it; eps is None where nothing constant is."""
    summed = made_by(value, "Add", SPREAD)
    pairs = [summed.inputs, summed.inputs[::-1]] if summed else [(value, None)]
    for term, added in pairs:
        moment = variance(term) or fast_variance(term)
        if moment:
            return moment, constant(added)
    return None, None


def variance(value: ir.Value | None) -> Moment | None:
    """mean((x - mean(x))^2) or mean(x^2)."""
    square, axes = mean_of(value)
    d = square_of(square)
    if d is None:
        return None
    x, divided_by = centered(d, axes), divisor(value)
    return Moment("rms_norm", d, d, axes, divided_by) if x is None else Moment("layer_norm", x, d, axes, divided_by)


def fast_variance(value: ir.Value | None) -> Moment | None:
    """mean(x^2) - mean(x)^2, as JAX writes it, perhaps not less than 0."""
    clipped = made_by(value, "Relu", SPREAD) or made_by(value, "Max", SPREAD)
    for term in clipped.inputs if clipped else [value]:
        difference = made_by(term, "Sub", SPREAD)
        square, axes = mean_of(difference.inputs[0]) if difference else (None, [])
        x = square_of(square)
        averaged, mean_axes = mean_of(square_of(difference.inputs[1])) if difference else (None, [])
        if x is not None and origin(x) is origin(averaged) and same_axes(mean_axes, axes):
            return Moment("layer_norm", x, x, axes, divisor(difference.inputs[0]))  # type: ignore[union-attr]
    return None


def mean_of(value: ir.Value | None) -> tuple[ir.Value | None, list[int]]:
    """What a value is the mean of, and over which axes."""
    node = made_by(value, "ReduceMean", SPREAD) or summed_for_mean(value)
    if node is None:
        return None, []
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return node.inputs[0], list(node.attributes.get_ints("axes", ())) if axes is None else axes.tolist()


def summed_for_mean(value: ir.Value | None) -> ir.Node | None:
    """The sum of a mean that is written as a sum over, or times, a number."""
    term, _, factor = times_number(value)
    return made_by(term, "ReduceSum", SPREAD) if factor is not None else None


def divisor(value: ir.Value | None) -> float | None:
    """What the sum of such a mean is divided by; None where the graph does not write it as a sum."""
    _, op_type, factor = times_number(value)
    if not factor or summed_for_mean(value) is None:
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
        return product.inputs[0]
    return power.inputs[0] if power and number(power.inputs[1]) == 2 else None


def centered(d: ir.Value, axes: list[int]) -> ir.Value | None:
    """x where d is x - mean(x) over these axes, or the negative of that."""
    difference = made_by(d, "Sub")
    for x, mean in (difference.inputs, difference.inputs[::-1]) if difference else ():
        averaged, mean_axes = mean_of(mean)
        if averaged is not None and origin(averaged) is origin(x) and same_axes(mean_axes, axes):
            return x
    return None


def same_axes(one: list[int], other: list[int]) -> bool:
    return one == other or (one in LAST and other in LAST)


def replaceable(match: Match, moment: Moment, inverse: bool) -> Match:
    """`match` with what LayerNormalization takes and replaces, if y is of x's type and nothing between is quantized."""
    y, numerator = quotient(match.node.outputs[0], moment, inverse)
    difference = numerator.producer() if numerator is not None else None
    if y is None or difference is None or difference.op_type != "Sub" or difference.inputs[0] is not match.x:
        return match
    if any(node.op_type in QUANTIZING for node in between(y, match.x)):
        return match
    scale, y = next_term(y, "Mul")
    bias, y = next_term(y, "Add") if scale is not None else (None, y)
    return match._replace(scale=scale, bias=bias, y=y)


def quotient(root: ir.Value, moment: Moment, inverse: bool) -> tuple[ir.Value | None, ir.Value | None]:
    """The normalized value, and what was divided by the root for it, or multiplied with an inverse root."""
    waiting = [(root, inverse)]
    while waiting:
        value, inverse = waiting.pop()
        for node, index in value.uses():
            other = node.inputs[1 - index] if len(node.inputs) == 2 else None
            inverts = node.op_type == "Reciprocal" or (node.op_type == "Div" and index == 1 and number(other) == 1)
            if node.op_type in SPREAD or inverts:
                waiting.append((node.outputs[0], inverse != inverts))
            elif (node.op_type, inverse) in (("Div", False), ("Mul", True)) and is_centered(other, moment):
                return node.outputs[0], other
    return None, None


def is_centered(value: ir.Value | None, moment: Moment) -> bool:
    """Whether a value is the moment's x - mean(x), perhaps subtracted a second time; of a mean square, x itself."""
    if value is None or moment.kind == "rms_norm":
        return value is not None and origin(value) is origin(moment.x)
    return origin(centered(value, moment.axes)) is origin(moment.x)


def next_term(value: ir.Value, op_type: str) -> tuple[ir.Value | None, ir.Value]:
    """The weight that a value is next multiplied with, or the bias added to it, and the result."""
    uses = value.uses()
    if len(uses) == 1 and not value.is_graph_output():
        (node, index), *_ = uses
        if node.op_type == op_type and width(node.inputs[1 - index]):
            return node.inputs[1 - index], node.outputs[0]
    return None, value

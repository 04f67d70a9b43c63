"""Recognizes a norm by one node: an operator of that name, or the square root that a decomposed norm has.

A LayerNorm is the root of mean(d^2) + eps, where d = x - mean(x); an RMSNorm the same with d = x. Exporters write the
square, the root and the quotient in several ways, and put casts and quantization anywhere between them.
"""

# d: what is squared; the quotient d / sigma is the normalized value

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.moments import Moment, centered, fast_variance, variance
from export.adopt.norms.norm import DECOMPOSED, NAMED, NOT_KNOWN, OTHERS, SCALE, Match
from export.adopt.norms.tracing import QUANTIZING, SPREAD, between, constant, made_by, number, origin, width

UNBIASED = "it divides by the unbiased deviation, which no operator gives out"
NO_EPS = "nothing is added to its variance"


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
    exponent, inside = under_root(root)
    if exponent is None:
        return None
    moment, eps = moment_and_eps(inside)
    if moment is None:
        return unknown_moment(inside)
    if eps is None:
        divides = moment.kind == "layer_norm" or quotient(root.outputs[0], moment, exponent == -0.5)[0] is not None
        reason = NO_EPS if made_by(inside, "Add", SPREAD) is None else NOT_KNOWN
        return reason if divides else None
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


def under_root(node: ir.Node) -> tuple[float | None, ir.Value | None]:
    """0.5 of a square root, -0.5 of its inverse, and what is under it."""
    if node.op_type == "Sqrt":
        inverse = inverse_of(node.inputs[0])
        return (0.5, node.inputs[0]) if inverse is None else (-0.5, inverse)
    exponent = number(node.inputs[1]) if node.op_type == "Pow" else None
    return (exponent, node.inputs[0]) if exponent in (0.5, -0.5) else (None, None)


def inverse_of(value: ir.Value | None) -> ir.Value | None:
    """What a value is 1 over."""
    reciprocal, quotient = made_by(value, "Reciprocal", SPREAD), made_by(value, "Div", SPREAD)
    if reciprocal is not None:
        return reciprocal.inputs[0]
    return quotient.inputs[1] if quotient is not None and number(quotient.inputs[0]) == 1 else None


def moment_and_eps(value: ir.Value | None) -> tuple[Moment | None, NDArray[Any] | None]:
    """What is under a root: a moment, and what is added to it; eps is None where nothing constant is."""
    summed = made_by(value, "Add", SPREAD)
    pairs = [summed.inputs, summed.inputs[::-1]] if summed else [(value, None)]
    for term, added in pairs:
        moment = variance(term) or fast_variance(term)
        if moment:
            return moment, constant(added)
    return None, None


def replaceable(match: Match, moment: Moment, inverse: bool) -> Match:
    """`match` with what LayerNormalization takes and replaces, if y is of x's type and nothing between is quantized."""
    y, numerator = quotient(match.node.outputs[0], moment, inverse)
    difference = numerator.producer() if numerator is not None else None
    if y is None or difference is None or difference.op_type not in ("Sub", "Add"):
        return match
    if match.x not in difference.inputs[: 1 if difference.op_type == "Sub" else 2]:
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

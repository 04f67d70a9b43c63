"""Notices norms that are written in a way that is not known: a value is divided by what its own squares add up to.

They are listed, so that nobody takes the norms that are observed for all there are. What is squared tells them from a
softmax. A vector that only gets length 1, as embeddings do at the end, is no norm.
"""

from collections import deque
from collections.abc import Callable, Collection

import onnx_ir as ir

from export.adopt.norms.moments import axes_of, differences, square_of
from export.adopt.norms.norm import NOT_KNOWN, UNKNOWN, Match
from export.adopt.norms.outputs import uncast
from export.adopt.norms.patterns import next_term
from export.adopt.norms.tracing import SPREAD, constant, number, origin, width

# what makes one number of a token of others, and what of all of its features
POINTWISE = SPREAD | {"Abs", "Add", "Clip", "Div", "Exp", "Log", "Max", "Mean", "Min", "Mul", "Neg"}
POINTWISE |= {"Pow", "Reciprocal", "Relu", "Sqrt", "Sub", "Sum", "Where"}
SQUARING, REDUCING = ("ReduceL2", "ReduceSumSquare"), ("ReduceMean", "ReduceSum")
OTHER_AXES = (0, 1)  # rows, and tokens or channels
MOVING = SPREAD | {"Flatten", "Gather", "Slice", "Transpose"}
NEAR = 24  # nodes between what is divided and the sum of its squares


def all_norms(graph: ir.Graph, recognize: Callable[[ir.Node], Match | str | None]) -> list[tuple[ir.Node, Match | str]]:
    """The nodes that tell of norms, in network order, and what they tell: those that are recognized, and others."""
    nodes = list(graph.all_nodes())
    known = {node: told for node in nodes if (told := recognize(node)) is not None}
    found: list[tuple[ir.Node, Match | str]] = []
    totals: set[ir.Node] = set()
    for node in nodes:
        if node in known:
            found.append((node, known[node]))
        elif (match := unknown(node, known, totals)) is not None:
            found.append((node, match))
    return found


def unknown(node: ir.Node, known: Collection[ir.Node], told: set[ir.Node]) -> Match | None:
    """The norm that this node is the quotient of.

    Args:
        known: the roots of norms that are recognized.
        told: sums of squares that a norm was told of; one is added.
    """
    for x, by in quotients(node):
        total = node if by is None else sum_of_squares(x, by, known)
        if total is None or total in told or not is_computed(x):
            continue
        told.add(total)
        scale = weight_after(node.outputs[0])
        return (
            None if scale is None and is_final(node.outputs[0]) else Match("rms_norm", UNKNOWN, node, x, -1, 0, scale)
        )
    return None


def unknown_reason(match: Match, rank: int) -> str:
    """Why a norm that is written in an unknown way is not observed; empty of one vector of a row without a weight: it
    only gets length 1."""
    return "" if rank == 2 and match.scale is None else NOT_KNOWN


def quotients(node: ir.Node) -> list[tuple[ir.Value, ir.Value | None]]:
    """What may be normalized by this node, and by what; None of an operator that finds that itself."""
    if node.op_type == "LpNormalization" and node.inputs[0] is not None:
        return [(node.inputs[0], None)]
    if node.op_type not in ("Div", "Mul") or None in node.inputs:
        return []
    first, second = node.inputs
    assert first is not None and second is not None
    return [(first, second)] if node.op_type == "Div" else [(first, second), (second, first)]


def sum_of_squares(x: ir.Value, by: ir.Value, known: Collection[ir.Node]) -> ir.Node | None:
    """The sum or mean of squares of x, or of what x is a difference of, that `by` is computed from."""
    own, waiting, seen = sources(x), deque([by]), set[ir.Node]()
    while waiting and len(seen) < NEAR:
        node = waiting.popleft().producer()
        if node is None or node in known or node in seen:
            continue
        seen.add(node)
        d = squared(node)
        if d is not None and own & sources(d):
            return node
        if node.op_type in POINTWISE:
            waiting += [value for value in node.inputs if value is not None]
    return None


def squared(node: ir.Node) -> ir.Value | None:
    """What a node adds the squares of, over the features of each token."""
    if node.op_type == "MatMul":
        return square_of(node.inputs[0]) if constant(node.inputs[1]) is not None else None
    if node.op_type == "Einsum":
        terms, _, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
        one, _, other = terms.partition(",")
        same = len(node.inputs) == 2 and origin(node.inputs[0]) is origin(node.inputs[1])
        return node.inputs[0] if same and one == other and result == one[:-1] else None
    if node.op_type not in (*SQUARING, *REDUCING):
        return None
    axes = axes_of(node)
    if len(axes) != 1 or axes[0] in OTHER_AXES:
        return None
    return node.inputs[0] if node.op_type in SQUARING else square_of(node.inputs[0])


def sources(value: ir.Value | None) -> set[ir.Value]:
    """A value, and those that it is the difference of."""
    found = [origin(value), *(origin(term) for pair in differences(value) for term in pair)]
    return {each for each in found if each is not None}


def is_computed(value: ir.Value) -> bool:
    """Whether a value depends on the graph's inputs; weights may be normalized, too."""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        node = current.producer()
        if node is None and not current.is_initializer():
            return True
        ahead = {each for each in node.inputs if each is not None} - seen if node is not None else set()
        seen |= ahead
        waiting += ahead
    return False


def weight_after(y: ir.Value) -> ir.Value | None:
    """The weight of every feature that a value is next multiplied with, perhaps after a number."""
    for _ in range(2):
        scale, after = next_term(uncast(y), "Mul")
        if scale is not None and (width(scale) or 0) > 1:
            return scale
        users = [node for node in uncast(y).consumers() if node.op_type == "Mul"]
        if scale is None and not (users and any(number(term) is not None for term in users[0].inputs)):
            return None
        y = after if scale is not None else users[0].outputs[0]
    return None


def is_final(y: ir.Value) -> bool:
    """Whether a value is an output of the graph, perhaps after it is moved, and nothing else."""
    waiting = [y]
    for value in waiting:  # which grows meanwhile
        for node in value.consumers():
            if node.op_type not in MOVING:
                return False
            waiting += node.outputs
    return True

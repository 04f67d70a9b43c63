"""Notices norms that are written in a way that is not known: a value is divided by what its own squares add up to.

They are listed, so that nobody takes the norms that are observed for all there are. What is squared tells them from a
softmax. A vector that only gets length 1, to be compared or as embeddings do at the end, is no norm.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence, Set

import onnx_ir as ir

from export.adopt.norms.moments import axes_of, differences, square_of
from export.adopt.norms.names import is_unknown
from export.adopt.norms.norm import UNKNOWN, Match
from export.adopt.norms.outputs import uncast
from export.adopt.norms.patterns import next_term
from export.adopt.norms.tracing import SAME, SPREAD, constant, made_by, number, origin, width

# what makes one number of a token of others, and what of all of its features
POINTWISE = SPREAD | {"Abs", "Add", "Clip", "Div", "Exp", "Log", "Max", "Mean", "Min", "Mul", "Neg"}
POINTWISE |= {"Pow", "Reciprocal", "Relu", "Sqrt", "Sub", "Sum", "Where"}
SQUARING, REDUCING = ("ReduceL2", "ReduceSumSquare"), ("ReduceMean", "ReduceSum")
FIRST = 2  # axis that may be of features; those before it are rows, and tokens or channels
MOVING = SPREAD | {"Flatten", "Gather", "Slice", "Transpose"}
COMPARING, MEASURING = ("Einsum", "MatMul"), ("Shape", "Size")
NEAR = 24  # nodes between what is divided and the sum of its squares


def all_norms(graph: ir.Graph, recognize: Callable[[ir.Node], Match | str | None]) -> list[tuple[ir.Node, Match | str]]:
    """The nodes that tell of norms, in network order, and what they tell: those that are recognized, and others."""
    nodes = list(graph.all_nodes())
    known = {node: told for node in nodes if (told := recognize(node)) is not None}
    found: list[tuple[ir.Node, Match | str]] = []
    computed, totals = computed_values(nodes), set[ir.Node]()
    for node in nodes:
        if node in known:
            found.append((node, known[node]))
        elif (match := unknown(node, known, computed, totals)) is not None:
            found.append((node, match))
    return found


def unknown(node: ir.Node, known: Collection[ir.Node], computed: Set[ir.Value], told: set[ir.Node]) -> Match | None:
    """The norm that this node is the quotient of.

    Args:
        known: the roots of norms that are recognized.
        computed: values that depend on the graph's inputs; weights may be normalized, too.
        told: sums of squares that a norm was told of; one is added.
    """
    for x, by in quotients(node):
        total = node if by is None else sum_of_squares(x, by, known)
        if total is None or total in told or x not in computed:
            continue
        told.add(total)
        scale = weight_after(node.outputs[0])
        if scale is None and is_compared(node.outputs[0], computed):
            return None
        return Match("rms_norm", UNKNOWN, node, x, -1, 0, scale)
    return None


def listed(
    norms: Sequence[tuple[ir.Node, Match | str]], ranks: Mapping[ir.Node, int]
) -> list[tuple[ir.Node, Match | str]]:
    """Without those that are written in an unknown way and are one vector of a row without a weight: it only gets
    length 1."""
    return [
        (node, found)
        for node, found in norms
        if isinstance(found, str) or not is_unknown(found) or found.scale is not None or ranks.get(node) != 2
    ]


def quotients(node: ir.Node) -> list[tuple[ir.Value, ir.Value | None]]:
    """What may be normalized by this node, and by what; None of an operator that finds that itself."""
    if node.op_type == "LpNormalization" and node.inputs[0] is not None:
        euclidean = node.attributes.get_int("p", 2) == 2 and is_of_features(node.attributes.get_int("axis", -1))
        return [(node.inputs[0], None)] if euclidean else []
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
        d = square_of(node.inputs[0])
        return d if d is not None and constant(node.inputs[1]) is not None else None  # in this order: it is copied
    if node.op_type == "Einsum":
        terms, _, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
        one, _, other = terms.partition(",")
        same = len(node.inputs) == 2 and origin(node.inputs[0]) is origin(node.inputs[1])
        return node.inputs[0] if same and one == other and result == one[:-1] else None
    if node.op_type not in (*SQUARING, *REDUCING):
        return None
    axes = axes_of(node)
    if len(axes) != 1 or not is_of_features(axes[0]):
        return None
    return node.inputs[0] if node.op_type in SQUARING else square_of(node.inputs[0])


def is_of_features(axis: int) -> bool:
    return axis == -1 or axis >= FIRST


def sources(value: ir.Value | None) -> set[ir.Value]:
    """A value, and those that it is the difference of."""
    found = [origin(value), *(origin(term) for pair in differences(value) for term in pair)]
    return {each for each in found if each is not None}


def computed_values(nodes: Sequence[ir.Node]) -> set[ir.Value]:
    """The values that depend on inputs of the graph, which is sorted, or of a graph inside it."""
    found: set[ir.Value] = set()
    for node in nodes:
        given = [value for value in node.inputs if value is not None]
        found.update(value for value in given if value.producer() is None and not value.is_initializer())
        if not found.isdisjoint(given):
            found.update(node.outputs)
    return found


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


def is_compared(y: ir.Value, computed: Set[ir.Value]) -> bool:
    """Whether a value, moved, masked or times a number, is only compared with others or an output of the graph."""
    waiting, seen = [y], {y}
    for value in waiting:  # which grows meanwhile
        for node, index in value.uses():
            others = [other for place, other in enumerate(node.inputs) if place != index and other is not None]
            if node.op_type in MEASURING or (node.op_type in COMPARING and all(each in computed for each in others)):
                continue
            if node.op_type not in MOVING and not scales(node, index, others):
                return False
            waiting += set(node.outputs) - seen
            seen.update(node.outputs)
    return True


def scales(node: ir.Node, index: int, others: Sequence[ir.Value]) -> bool:
    """Whether a node multiplies one of its inputs with a number, or with one of every token, or masks it."""
    if node.op_type == "Where":
        return index > 0 and any(number(other) is not None for other in others[1:])
    if node.op_type == "Mul" or (node.op_type == "Div" and index == 0):
        return all(number(other) is not None or is_spread(other) for other in others)
    return False


def is_spread(value: ir.Value) -> bool:
    """Whether a value is one number of every token."""
    if value.shape is not None and len(value.shape) and value.shape[-1] == 1:
        return True
    node = made_by(value, "Unsqueeze", SAME | {"Expand"})
    return node is not None and any(is_of_features(axis) for axis in axes_of(node))

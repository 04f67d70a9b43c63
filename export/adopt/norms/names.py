"""Names a norm by the module that it was: from the weight beside it, else from the name of its node."""

import re
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from export.adopt.norms.norm import DECOMPOSED, UNKNOWN, Match
from export.adopt.norms.tracing import SAME, SPREAD, width

PARAMETER = re.compile(r"(.+)[./](?:weight|bias|gamma|beta|scale)(?![A-Za-z])")  # may end in :0 or _quantized
SCOPE = re.compile(r"/?(.+)/[^/]+")  # PyTorch's older exporter and TensorFlow put the module before the operator
PASSED = SPREAD | {"Mul", "Div", "Reciprocal"}  # between the root of a norm and its weights


def name_norms(norms: Sequence[tuple[ir.Node, Match | str]]) -> list[str]:
    """A different name for each: a weight may be shared, by calls of one module or because equal ones were merged.

    Unknown norms get what is free then: that they are noticed must not rename the layers that are observed.
    """
    taken: dict[int, str] = {}  # by the place among all
    for number, place in enumerate(sorted(range(len(norms)), key=lambda place: is_unknown(norms[place][1]))):
        paths = list(module_paths(*norms[place])) or [f"norm_{number:02}"]
        names = set(taken.values())
        calls = (f"{paths[0]}:{call}" for call in range(2, len(norms) + 2))
        taken[place] = next(name for name in (*paths, *calls) if name not in names)
    return [taken[place] for place in range(len(norms))]


def is_unknown(found: Match | str) -> bool:
    return isinstance(found, Match) and found.written == UNKNOWN


def module_paths(node: ir.Node, found: Match | str) -> Iterator[str]:
    """What a norm's module may be called, the likeliest first."""
    for value in parameters(node, found):
        item: ir.Value | None = value
        while item is not None:
            if path := PARAMETER.match(item.name or ""):
                yield path[1].strip("/").replace("/", ".")
            producer = item.producer()
            item = producer.inputs[0] if producer is not None and producer.op_type in SAME else None
    if scope := SCOPE.fullmatch(node.name or ""):
        yield scope[1].replace("/", ".")


def parameters(node: ir.Node, found: Match | str) -> list[ir.Value]:
    """The weight and the bias of a norm."""
    if isinstance(found, Match) and found.written == DECOMPOSED:
        return list(beside(node.outputs[0]))
    terms = (found.scale, found.bias) if isinstance(found, Match) else node.inputs[1:]
    return [term for term in terms if term is not None]


def beside(root: ir.Value) -> Iterator[ir.Value]:
    """The weights that what is divided by a root is multiplied with, and what is added then."""
    waiting = [root]
    for value in waiting:
        for node in value.consumers():
            yield from (other for other in node.inputs if other is not None and other is not value and width(other))
            if node.op_type in PASSED:
                waiting += node.outputs

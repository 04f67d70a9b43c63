"""What a norm of a foreign graph gives, and the weights that it is scaled and shifted with."""

from typing import NamedTuple

import onnx_ir as ir

from export.adopt.norms.moments import Moment
from export.adopt.norms.norm import DECOMPOSED, Norm
from export.adopt.norms.patterns import next_term, quotient, under_root
from export.adopt.norms.tracing import QUANTIZING, SAME, between, constant, width


class Output(NamedTuple):
    """Of one norm; no y: it was not found."""

    y: ir.Value | None
    scale: ir.Value | None = None
    bias: ir.Value | None = None


def output_of(norm: Norm) -> Output:
    """What a norm gives in the graph as it was found: of a decomposed one, the last value that is the norm's alone.

    Not found is that of a decomposed norm whose weight is not a constant, or after which more of the norm may come: a
    bias behind a cast or quantization.
    """
    match = norm.match
    if norm.written != DECOMPOSED:
        return Output(match.node.outputs[0], match.scale, match.bias)
    found = Output(match.y, match.scale, match.bias) if norm.kind == "layer_norm" else scaled(norm)
    if found.y is None or found.scale is None or width(found.scale) != norm.d_model:
        return Output(None)
    return found if found.bias is not None or is_last(found.y) else Output(None)


def scaled(norm: Norm) -> Output:
    """x / sqrt(mean(x^2) + eps) times a weight."""
    match = norm.match
    moment = Moment("rms_norm", match.x, match.x, [match.axis], None)
    y, _ = quotient(match.node.outputs[0], moment, under_root(match.node)[0] == -0.5)
    if y is None or any(node.op_type in QUANTIZING for node in between(y, match.x)):
        return Output(None)
    scale, y = next_term(uncast(y), "Mul")
    return Output(y, scale)


def uncast(y: ir.Value) -> ir.Value:
    """A value after the casts that are all that reads it: Llama's RMSNorm computes in float32, and scales after it."""
    while len(users := list(y.consumers())) == 1 and users[0].op_type == "Cast" and not y.is_graph_output():
        y = users[0].outputs[0]
    return y


def is_last(y: ir.Value) -> bool:
    """Whether no bias follows, behind casts neither; what is quantized may hide one."""
    waiting = [y]
    while waiting:
        for node in waiting.pop().consumers():
            if node.op_type in QUANTIZING:
                return False
            if node.op_type == "Add" and any(constant(term) is not None for term in node.inputs):
                return False
            if node.op_type in SAME:
                waiting.append(node.outputs[0])
    return True

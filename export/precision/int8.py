"""A graph whose linear layers compute in 8-bit integers, and whose token table is kept in them.

Static quantization: the scale of every activation is fixed at export, from training inputs. Dynamic quantization takes
it from each batch instead, so that an answer depends on what it is packed with, and is no faster (docs/training.md).
Residual sums, norms, their statistics, attention and the classification head stay in float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule

from export.precision.linear import activation_of, array_of, is_float, is_linear, weight_of
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.session import open_session

# CPUs without VNNI instructions add two products of an activation (0 to 255) and a weight in 16 bits. Weights of -64 to
# 64 cannot overflow them, so that every CPU computes the same integers.
WEIGHT_STEPS, ACTIVATION_STEPS = 64, 255
TABLE_STEPS = 127  # nothing is multiplied with the token table
HEADROOM = 1.1  # for activations beyond those seen; wider ranges have coarser steps
OUTLIER = 2.0  # times as far as the median feature reaches; of 1 to 3, the best cosines of all-MiniLM-L6-v2

Range = tuple[float, float]
Floats = NDArray[np.float32]
Ranges = dict[str, Floats]  # lowest and highest value of every feature [2, D]


def to_int8(
    proto: onnx.ModelProto, encoder: Encoder, samples: Sequence[Sequence[Tokens]], fine: bool = False
) -> onnx.ModelProto:
    """`proto` in integers.

    Args:
        encoder: of the same graph.
        samples: batches of sequences that show how far its activations reach.
        fine: whether every output of a layer and every feature of the token table has steps of its own, and features
            that reach far are made smaller before they are rounded. Pretrained encoders need it: a few of their
            features would leave the others hardly any steps.
    """
    reached = activation_ranges(proto, encoder, samples)
    divisors = outlier_divisors(proto, reached) if fine else {}
    with_bias, bare = linear_rules(reached, divisors, fine)
    return rewrite(rewrite(proto, [with_bias, table_rule(fine)]), [bare])


def linear_rules(reached: Ranges, divisors: dict[str, Floats], fine: bool) -> list[RewriteRule]:
    """For layers whose product a bias is added to, and for all others."""

    def linear(op: Any, x: Any, weight: Any, bias: Any) -> Any:
        return op.Add(op.MatMul(x, weight), bias)

    def bare_linear(op: Any, x: Any, weight: Any) -> Any:
        return op.MatMul(x, weight)

    def in_integers(op: Any, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> Any:
        name = f"{weight.name}.{x.name}"  # equal weights share one initializer, their inputs have ranges of their own
        ranges, matrix = reached[str(x.name)], array_of(weight)
        divisor = divisors.get(str(weight.name), np.ones(len(matrix), np.float32))
        steps, step = constants(op, f"{name}.weight", *to_steps(matrix * divisor[:, None], WEIGHT_STEPS, fine))
        low, high = ranges / divisor
        zero, scale = constants(op, f"{name}.input", *activation_grid((float(low.min()), float(high.max()))))
        if (divisor > 1).any():
            x = op.Mul(x, op.initializer(ir.tensor(1 / divisor, name=f"{name}.smaller")))
        quantized = op.QuantizeLinear(x, scale, zero)
        return op.MatMulIntegerToFloat(quantized, steps, scale, step, zero, None, bias, _domain="com.microsoft")

    def can_be_lowered(_: Any, x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> bool:
        return x.name in reached and is_float(weight) and (bias is None or is_float(bias))

    return [RewriteRule(pattern, in_integers, can_be_lowered) for pattern in (linear, bare_linear)]


def table_rule(fine: bool) -> RewriteRule:
    """For the token table."""

    def lookup(op: Any, table: Any, ids: Any) -> Any:
        return op.Gather(table, ids)

    def lookup_steps(op: Any, table: ir.Value, ids: ir.Value) -> Any:
        steps, step = constants(op, str(table.name), *to_steps(array_of(table), TABLE_STEPS, fine))
        found = op.Gather(steps, ids)
        return op.Mul(op.Cast(found, to=ir.DataType.FLOAT), step) if fine else op.DequantizeLinear(found, step)

    return RewriteRule(lookup, lookup_steps, lambda _, table, ids: ids.name == "input_ids" and is_float(table))


def activation_ranges(proto: onnx.ModelProto, encoder: Encoder, samples: Sequence[Sequence[Tokens]]) -> Ranges:
    """The lowest and highest value of every feature that enters a linear layer [2, D], by the name of its input."""
    names = sorted({str(activation_of(node).name) for node in ir.from_proto(proto).graph if is_linear(node)})
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session, _ = open_session(watched.SerializeToString(), "cpu", threads=1)
    reached: Ranges = {}
    for batch in (pack(sequences, pooling=encoder.pooling) for sequences in samples):
        for name, output in zip(names, session.run(names, encoder.feeds(batch)), strict=True):
            valid = output.reshape(-1, output.shape[-1])[batch.token_index]
            before = reached.get(name, valid[:1])
            reached[name] = np.stack([np.minimum(before[0], valid.min(0)), np.maximum(before[-1], valid.max(0))])
    return reached


def outlier_divisors(proto: onnx.ModelProto, reached: Ranges) -> dict[str, Floats]:
    """What features are divided by before they are rounded [D], by the name of the weight that is multiplied instead.

    So SmoothQuant does it (Xiao et al. 2022, arXiv:2211.10438), here for features alone that reach farther than most.
    A weight that is used several times has one divisor, and so remains one.
    """
    largest: dict[str, Floats] = {}
    for node in filter(is_linear, ir.from_proto(proto).graph):
        own, name = np.abs(reached[str(activation_of(node).name)]).max(0), str(weight_of(node).name)
        largest[name] = np.maximum(own, largest.get(name, 0.0))
    return {name: outlier_divisor(values) for name, values in largest.items()}


def outlier_divisor(largest: Floats) -> Floats:
    """Of features with these largest magnitudes [D]: 1 for all but a few."""
    usual = max(OUTLIER * float(np.median(largest)), 1e-6)
    divisor: Floats = np.maximum(largest / usual, 1.0).astype(np.float32)
    return divisor


def activation_grid(reached: Range) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Zero point and size of a step: the integer zero + x / step stands for x."""
    low, high = min(HEADROOM * reached[0], 0.0), max(HEADROOM * reached[1], 0.0)
    step = max(high - low, 1e-6) / ACTIVATION_STEPS
    return np.array(round(-low / step), np.uint8), np.array(step, np.float32)


def to_steps(
    weight: NDArray[np.float32], steps: int, every_output: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight [D, E] as integers from -steps to steps, and the size of a step: one for all, or for every output [E].

    A size for every output takes 6 % longer on single texts, and gave encoders that addnorm trained no better accuracy.
    """
    largest = np.abs(weight).max(0) if every_output else np.abs(weight).max()
    step = np.maximum(largest, 1e-12) / steps
    return np.rint(weight / step).astype(np.int8), np.array(step, np.float32)


def constants(op: Any, name: str, integers: NDArray[Any], step: NDArray[np.float32]) -> tuple[Any, Any]:
    """Initializers for integers and for the size of their steps."""
    return op.initializer(ir.tensor(integers, name=f"{name}.steps")), op.initializer(
        ir.tensor(step, name=f"{name}.step")
    )

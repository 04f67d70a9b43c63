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

from export.precision.linear import activation_of, array_of, is_float, is_linear
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens, pack
from runtime.graph.session import open_session

# CPUs without VNNI instructions add two products of an activation (0 to 255) and a weight in 16 bits. Weights of -64 to
# 64 cannot overflow them, so that every CPU computes the same integers.
WEIGHT_STEPS, ACTIVATION_STEPS = 64, 255
TABLE_STEPS = 127  # nothing is multiplied with the token table
HEADROOM = 1.1  # for activations beyond those seen; wider ranges have coarser steps

Range = tuple[float, float]


def to_int8(proto: onnx.ModelProto, encoder: Encoder, samples: Sequence[Sequence[Tokens]]) -> onnx.ModelProto:
    """`proto` in integers.

    Args:
        encoder: of the same graph.
        samples: batches of sequences that show how far its activations reach.
    """
    ranges = activation_ranges(proto, encoder, samples)

    def linear(op: Any, x: Any, weight: Any, bias: Any) -> Any:
        return op.Add(op.MatMul(x, weight), bias)

    def in_integers(op: Any, x: ir.Value, weight: ir.Value, bias: ir.Value) -> Any:
        name = f"{weight.name}.{x.name}"  # equal weights share one initializer, their inputs have ranges of their own
        steps, step = constants(op, f"{name}.weight", *to_steps(weight, WEIGHT_STEPS))
        zero, scale = constants(op, f"{name}.input", *activation_grid(ranges[str(x.name)]))
        quantized = op.QuantizeLinear(x, scale, zero)
        return op.MatMulIntegerToFloat(quantized, steps, scale, step, zero, None, bias, _domain="com.microsoft")

    def lookup(op: Any, table: Any, ids: Any) -> Any:
        return op.Gather(table, ids)

    def lookup_steps(op: Any, table: ir.Value, ids: ir.Value) -> Any:
        steps, step = constants(op, str(table.name), *to_steps(table, TABLE_STEPS))
        return op.DequantizeLinear(op.Gather(steps, ids), step)

    rules = [
        RewriteRule(linear, in_integers, lambda _, x, **__: x.name in ranges),
        RewriteRule(lookup, lookup_steps, lambda _, table, ids: ids.name == "input_ids" and is_float(table)),
    ]
    return rewrite(proto, rules)


def activation_ranges(
    proto: onnx.ModelProto, encoder: Encoder, samples: Sequence[Sequence[Tokens]]
) -> dict[str, Range]:
    """The lowest and highest value of whatever enters a linear layer, by its name."""
    names = sorted({str(activation_of(node).name) for node in ir.from_proto(proto).graph if is_linear(node)})
    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session, _ = open_session(watched.SerializeToString(), "cpu", threads=1)
    extremes = []
    for batch in map(pack, samples):
        outputs = session.run(names, encoder.feeds(batch))
        valid = [output.reshape(-1, output.shape[-1])[batch.token_index] for output in outputs]
        extremes.append([(values.min(), values.max()) for values in valid])
    reached = np.array(extremes)  # [batches, names, 2]
    return {name: (float(reached[:, i, 0].min()), float(reached[:, i, 1].max())) for i, name in enumerate(names)}


def activation_grid(reached: Range) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Zero point and size of a step: the integer zero + x / step stands for x."""
    low, high = min(HEADROOM * reached[0], 0.0), max(HEADROOM * reached[1], 0.0)
    step = max(high - low, 1e-6) / ACTIVATION_STEPS
    return np.array(round(-low / step), np.uint8), np.array(step, np.float32)


def to_steps(value: ir.Value, steps: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight as integers from -steps to steps, and the size of a step: one for the whole weight.

    A size for every output takes 6 % longer on single texts, and gave no better accuracy.
    """
    weight = array_of(value)
    step = max(float(np.abs(weight).max()), 1e-12) / steps
    return np.rint(weight / step).astype(np.int8), np.array(step, np.float32)


def constants(op: Any, name: str, integers: NDArray[Any], step: NDArray[np.float32]) -> tuple[Any, Any]:
    """Initializers for integers and for the size of their steps."""
    return op.initializer(ir.tensor(integers, name=f"{name}.steps")), op.initializer(
        ir.tensor(step, name=f"{name}.step")
    )

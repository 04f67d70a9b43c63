"""A graph whose blocks compute in float16, for GPUs, and whose token table is kept in it.

Residual sums, norms, their statistics and the classification head stay in float32.
"""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule

from export.precision.linear import array_of, is_float, is_linear, made_by


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """`proto` in half precision: each operator between casts at first, then without those that undo each other."""
    halved = rewrite(proto, [LINEAR, GELU, JOINED_ATTENTION, ATTENTION, LOOKUP])
    return rewrite(rewrite(halved, [BARE_LINEAR]), [UNDONE])  # bare: those that no bias follows


def down(op: Any, x: ir.Value) -> Any:
    return op.Cast(x, to=ir.DataType.FLOAT16)


def up(op: Any, x: ir.Value) -> Any:
    return op.Cast(x, to=ir.DataType.FLOAT)


def half(op: Any, weight: ir.Value, user: ir.Value) -> Any:
    """A weight in float16, named after its use too: equal weights and biases share one initializer."""
    return op.initializer(ir.tensor(array_of(weight).astype(np.float16), name=f"{weight.name}.{user.name}.half"))


def is_half(value: ir.Value) -> bool:
    """Whether a value was cast down already, or is part of one that was."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Split" and producer.inputs[0] is not None:
        return is_half(producer.inputs[0])
    return (
        producer is not None and producer.op_type == "Cast" and producer.attributes["to"].value == ir.DataType.FLOAT16
    )


def linear(op: Any, x: Any, weight: Any, bias: Any) -> Any:
    return op.Add(op.MatMul(x, weight, _outputs=["product"]), bias)


def linear_in_half(op: Any, x: ir.Value, weight: ir.Value, bias: ir.Value, **_: Any) -> Any:
    return up(op, op.Add(op.MatMul(down(op, x), half(op, weight, x)), half(op, bias, x)))


def bare_linear(op: Any, x: Any, weight: Any) -> Any:
    return op.MatMul(x, weight, _outputs=["product"])


def bare_linear_in_half(op: Any, x: ir.Value, weight: ir.Value, **_: Any) -> Any:
    return up(op, op.MatMul(down(op, x), half(op, weight, x)))


def gelu(op: Any, x: Any) -> Any:
    return op.Gelu(x, _outputs=["y"])


def gelu_in_half(op: Any, x: ir.Value, y: ir.Value) -> Any:
    return up(op, op.Gelu(down(op, x), **made_by(y).attributes))


def joined_attention(op: Any, joined: Any, mask: Any) -> Any:
    return op.Attention(*op.Split(joined, _outputs=3), mask, _outputs=["mixed"])


def joined_attention_in_half(op: Any, joined: ir.Value, mask: ir.Value, mixed: ir.Value) -> Any:
    parts = op.Split(down(op, joined), axis=2, num_outputs=3, _outputs=3)
    return up(op, op.Attention(*parts, mask, **made_by(mixed).attributes))


def attention(op: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
    return op.Attention(query, key, value, mask, _outputs=["mixed"])


def attention_in_half(op: Any, query: ir.Value, key: ir.Value, value: ir.Value, mask: ir.Value, mixed: ir.Value) -> Any:
    parts = (down(op, part) for part in (query, key, value))
    return up(op, op.Attention(*parts, mask, **made_by(mixed).attributes))


def lookup(op: Any, table: Any, ids: Any) -> Any:
    return op.Gather(table, ids)


def lookup_in_half(op: Any, table: ir.Value, ids: ir.Value) -> Any:
    return up(op, op.Gather(half(op, table, ids), ids))


LINEAR = RewriteRule(
    linear,
    linear_in_half,
    lambda _, weight, bias, product, **__: is_linear(made_by(product)) and is_float(weight) and is_float(bias),
)
BARE_LINEAR = RewriteRule(
    bare_linear, bare_linear_in_half, lambda _, weight, product, **__: is_linear(made_by(product)) and is_float(weight)
)
GELU = RewriteRule(gelu, gelu_in_half, lambda _, x, **__: not is_half(x))
JOINED_ATTENTION = RewriteRule(joined_attention, joined_attention_in_half, lambda _, joined, **__: not is_half(joined))
ATTENTION = RewriteRule(attention, attention_in_half, lambda _, query, **__: not is_half(query))
LOOKUP = RewriteRule(lookup, lookup_in_half, lambda _, table, ids: ids.name == "input_ids" and is_float(table))
UNDONE = RewriteRule(lambda op, x: op.Cast(op.Cast(x, to=ir.DataType.FLOAT), to=ir.DataType.FLOAT16), lambda _, x: x)

"""Attention on token vectors as they are: the exporter's way of splitting and joining heads around it costs time.

PyTorch's attention takes heads apart ([P, H, S, K]), so the exported graph reshapes and transposes queries, keys,
values and answers. ONNX's operator takes [P, S, D] and a number of heads, gives the same bits, and saves 8 nodes a
block: 4 to 20 % of the time (docs/training.md).
"""

# P packs, S tokens per pack, H heads, K head dimension, D = H * K

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule

HEADS_FIRST = [0, 2, 1, 3]


def merge_heads(model: ir.Model, num_heads: int) -> ir.Model:
    """`model` with every attention on [P, H, S, K] replaced by the same on [P, S, D]."""

    def apart(op: Any, q: Any, k: Any, v: Any, mask: Any, split: Any, joined: Any) -> Any:
        heads = [op.Transpose(op.Reshape(x, split), perm=HEADS_FIRST) for x in (q, k, v)]
        return op.Reshape(op.Transpose(op.Attention(*heads, mask), perm=HEADS_FIRST), joined)

    def merged(op: Any, q: Any, k: Any, v: Any, mask: Any, **_: Any) -> Any:
        return op.Attention(q, k, v, mask, q_num_heads=num_heads, kv_num_heads=num_heads)

    return rewrite(model, [RewriteRule(apart, merged)])

"""From an encoder to an ONNX graph whose outputs include what every norm saw."""

import logging
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import RewriteRule
from torch import Tensor, nn

from model.network.encoder import Encoder
from runtime.graph.packing import PACKED, POOLED, ROWS, PackedBatch

OPSET = 23

HEADS_FIRST = [0, 2, 1, 3]


class GraphModule(Protocol):
    """What becomes a graph: a module that takes a packed batch, and names its inputs and outputs.

    Attributes:
        input_names: of the arguments of `forward`, as `as_tensors` gives them.
        outputs: the dynamic dimensions that each output begins with, by its name.
        num_heads: of its attention.
    """

    outputs: dict[str, tuple[str, ...]]

    @property
    def input_names(self) -> list[str]: ...

    @property
    def num_heads(self) -> int: ...

    def eval(self) -> nn.Module: ...


class ServedEncoder(nn.Module):
    """An encoder with the outputs that are served.

    `norm_statistics` [P, S, 2L] holds, for layer l, the mean in column 2l and 1/sigma in column 2l + 1;
    `feature_moments` [BatchNorm layers, 2, D] the mean and variance of every feature in this batch.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.outputs: dict[str, tuple[str, ...]] = {"logits": ROWS, "embedding": ROWS, "norm_statistics": PACKED}
        if encoder.config.norm == "batch_norm":
            self.outputs["feature_moments"] = ()

    @property
    def input_names(self) -> list[str]:
        values = "input_ids" if self.encoder.config.vocab_size else "features"
        return [values, "position_ids", "segment_ids", "pooling"]

    @property
    def num_heads(self) -> int:
        return self.encoder.config.num_heads

    def forward(self, values: Tensor, position_ids: Tensor, segment_ids: Tensor, pooling: Tensor) -> tuple[Tensor, ...]:
        logits, embedding, statistics = self.encoder(values, position_ids, segment_ids, pooling)
        per_token = torch.cat([part for norm in statistics for part in (norm.mean, norm.inv_std)], dim=-1)
        moments = [norm.feature_moments for norm in statistics if norm.feature_moments is not None]
        return (logits, embedding, per_token, *([torch.stack(moments)] if moments else []))


def as_tensors(batch: PackedBatch) -> tuple[Tensor, ...]:
    """A packed batch in the order of the graph's inputs; token types, where it has them, come last."""
    values, shared = batch.values, (batch.position_ids, batch.segment_ids, batch.pooling)
    typed = values.ndim == 3 and values.dtype == np.int64
    arrays = (values[..., 0], *shared, values[..., 1]) if typed else (values, *shared)
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def to_onnx(module: GraphModule, example: PackedBatch) -> onnx.ModelProto:
    """Exports through torch's dynamo exporter with packs, tokens and rows dynamic."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    tensors, names = as_tensors(example), list(module.outputs)
    with quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            tensors,
            dynamo=True,
            opset_version=OPSET,
            input_names=module.input_names,
            output_names=names,
            dynamic_shapes=(dynamic,) * len(tensors),
            verbose=False,
        )
    assert program is not None
    outputs = set(program.model.graph.outputs)
    for node in program.model.graph:
        for value in node.outputs:  # an inner value may bear an output's name by chance
            if value.name in names and value not in outputs:
                value.name = f"{value.name}_inner"
    proto = ir.to_proto(merge_heads(program.model, module.num_heads))
    tidy(proto)
    name_dimensions(proto.graph.input, [PACKED, PACKED, PACKED, POOLED, PACKED])
    name_dimensions(proto.graph.output, list(module.outputs.values()))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def only(outputs: Collection[str], proto: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with all of `proto`'s inputs and these of its outputs; goes without what they do not need."""
    model = ir.from_proto(proto)
    kept = [value for value in model.graph.outputs if value.name in outputs]
    model.graph.outputs[:] = kept
    RemoveUnusedNodesPass()(model)
    reduced = ir.to_proto(model)
    tidy(reduced)
    return reduced


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keeps torch's notes to its own developers, and on the torchvision that is not needed, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def tidy(proto: onnx.ModelProto) -> None:
    """Drops what the exporter notes for debugging: stack traces with local paths, inferred inner shapes."""
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    proto.graph.name = "addnorm"
    for item in (*proto.graph.node, *proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def name_dimensions(values: Iterable[onnx.ValueInfoProto], names: list[tuple[str, ...]]) -> None:
    for value, dimensions in zip(values, names, strict=False):
        for dimension, name in zip(value.type.tensor_type.shape.dim, dimensions, strict=False):
            dimension.dim_param = name


def merge_heads(model: ir.Model, num_heads: int) -> ir.Model:
    """`model` with every attention on [P, H, S, K] replaced by the same on [P, S, D]."""

    def apart(op: Any, q: Any, k: Any, v: Any, mask: Any, split: Any, joined: Any) -> Any:
        heads = [op.Transpose(op.Reshape(x, split), perm=HEADS_FIRST) for x in (q, k, v)]
        return op.Reshape(op.Transpose(op.Attention(*heads, mask), perm=HEADS_FIRST), joined)

    def merged(op: Any, q: Any, k: Any, v: Any, mask: Any, **_: Any) -> Any:
        return op.Attention(q, k, v, mask, q_num_heads=num_heads, kv_num_heads=num_heads)

    return rewrite(model, [RewriteRule(apart, merged)])

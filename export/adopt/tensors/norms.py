"""Finds the norms of a network that reads tensors: LayerNorm and RMSNorm over the last axis, BatchNorm, GroupNorm and
InstanceNorm."""

# R rows, C channels

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.centering import subtracts
from export.adopt.norms.names import is_unknown, name_norms
from export.adopt.norms.norm import CENTERED, NOT_KNOWN, Match, Unobserved
from export.adopt.norms.patterns import recognize, shortest
from export.adopt.norms.probing import Feeds, is_centered, load, run, with_outputs
from export.adopt.norms.tracing import constant
from export.adopt.norms.unknown import all_norms, listed
from runtime.manifest import LayerKind, Unit

BATCH_NORM, FOLDED = "BatchNormalization", ("Conv", "Gemm")
FUSED = (*FOLDED, "MatMul", "ConvTranspose")  # what ONNX Runtime folds a BatchNorm behind it into, or may
GROUPED = ("InstanceNormalization", "GroupNormalization")
UNITS: dict[int, Unit] = {2: "sample", 4: "pixel"}  # by the axes of what is normalized; else a token
FLOATS = {np.dtype("float32"): ir.DataType.FLOAT, np.dtype("float16"): ir.DataType.FLOAT16}
FLOATS |= {np.dtype("float64"): ir.DataType.DOUBLE}


@dataclass(frozen=True, slots=True)
class TensorNorm:
    """A norm whose statistics can be sampled.

    Attributes:
        x: what it normalizes: [R, ..., features]; [R, channels, ...] of a BatchNorm; [R, groups * ...] of a GroupNorm.
        dtype: of x.
        shape: of x without rows, where the graph ran; `channels_first` tells where its features are.
        running_mean, running_variance: BatchNorm: what it normalizes with [C]; None where it is folded into weights.
        affine: BatchNorm: scale and bias [C] of what it gives, `y`.
        usual: of one that is folded: mean and variance of the features [C] in some rows of the baseline.
        groups: of a GroupNorm, and channels of an InstanceNorm: each has a mean and a variance over all its places.
    """

    name: str
    kind: LayerKind
    x: ir.Value
    eps: float
    dtype: ir.DataType
    shape: tuple[int, ...]
    channels_first: bool = False
    running_mean: NDArray[np.float64] | None = None
    running_variance: NDArray[np.float64] | None = None
    affine: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    y: ir.Value | None = None
    usual: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    groups: int = 0

    @property
    def standard(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """BatchNorm: mean and standard deviation [C] that its features are standardized by."""
        if self.running_mean is not None and self.running_variance is not None:
            return self.running_mean, np.sqrt(self.running_variance + self.eps)
        assert self.usual is not None
        return self.usual[0], np.sqrt(self.usual[1] + self.eps)

    @property
    def features(self) -> int:
        """Numbers of a unit."""
        if self.groups:
            return prod(self.shape) // self.groups
        return self.shape[0 if self.channels_first else -1]

    @property
    def vector_size(self) -> int:
        """Numbers of what it sees, averaged over a row."""
        return self.shape[0] if self.groups else self.features

    @property
    def units(self) -> int:
        """Of a row: tokens, pixels or groups; 1 where the whole row is normalized."""
        return prod(self.shape) // self.features

    @property
    def unit(self) -> Unit:
        if self.groups:
            return "group" if self.kind == "group_norm" else "channel"
        return UNITS.get(len(self.shape) + 1, "token")


def find_tensor_norms(
    model: ir.Model, batch: Feeds, fixed: bool, folded: bool = False
) -> tuple[list[TensorNorm], list[Unobserved]]:
    """The norms that can be sampled, in network order, and all others with the reason.

    Args:
        model: it has no local functions.
        batch: inputs by name, of one row or more.
        fixed: whether all rows have the same shapes.
        folded: whether what Conv and Gemm give is taken for what a BatchNorm that was folded into them gave.

    Raises:
        ExportError: ONNX Runtime cannot load the graph, or not run it on the batch.
    """
    model.graph.sort()
    found = all_norms(model.graph, lambda node: candidate(node, folded))
    values = {
        match.x.name: match.x
        for node, match in found
        if isinstance(match, Match) and node.graph is model.graph and match.x.name
    }
    session = load(with_outputs(ir.to_proto(model), [str(name) for name in values]).SerializeToString())
    seen = run(session, batch)
    rows = len(next(iter(batch.values())))
    norms: list[TensorNorm] = []
    unobserved: list[Unobserved] = []
    ranks = {
        node: seen[name].ndim for node, match in found if isinstance(match, Match) and (name := match.x.name) in seen
    }
    told = listed(found, ranks)
    for name, (node, match) in zip(name_norms(told), told, strict=True):
        judged: TensorNorm | str = match if isinstance(match, str) else "it is inside a branch, a loop or a scan"
        if isinstance(match, Match) and node.graph is model.graph:
            judged = judge(name, node, match, seen[str(match.x.name)], rows, fixed)
        if isinstance(judged, TensorNorm):
            norms.append(judged)
        else:
            unobserved.append(Unobserved(name, f"{name} is not observed: {judged}."))
    return norms, unobserved


def candidate(node: ir.Node, folded: bool) -> Match | str | None:
    """The norm that this node tells of; why it cannot be observed; or nothing."""
    if node.op_type == BATCH_NORM and node.inputs[0] is not None:
        if node.attributes.get_int("training_mode", 0):
            return "it normalizes by the batch, as in training: export the network in evaluation mode"
        eps = shortest(node.attributes.get_float("epsilon", 1e-5))
        return Match("layer_norm", BATCH_NORM, node, node.inputs[0], 1, eps, node.inputs[1], node.inputs[2])
    if node.op_type in GROUPED and node.inputs[0] is not None:
        eps = shortest(node.attributes.get_float("epsilon", 1e-5))
        return Match("layer_norm", node.op_type, node, node.inputs[0], 1, eps, node.inputs[1], node.inputs[2])
    inner = node.op_type in FOLDED and not any(value.is_graph_output() for value in node.outputs)
    if folded and inner and len(node.inputs) == 3 and node.inputs[2] is not None:
        return Match("layer_norm", node.op_type, node, node.outputs[0], 1, 1e-5, node.inputs[1], node.inputs[2])
    return recognize(node)


def judge(name: str, node: ir.Node, match: Match, x: NDArray[Any], rows: int, fixed: bool) -> TensorNorm | str:
    """The norm, or why its statistics cannot be those of a row's own units."""
    if is_unknown(match):
        return NOT_KNOWN
    if x.ndim < 2 or x.dtype not in FLOATS:
        return f"its input is {x.dtype} with {x.ndim} axes, expected floats with rows first"
    if x.shape[0] % rows or not x.size:
        return f"the first axis of its input, {x.shape[0]}, is not that of the rows"
    shape = (x.size // rows // prod(x.shape[1:]), *x.shape[1:]) if x.shape[0] != rows else x.shape[1:]
    if match.written == BATCH_NORM or match.written in FOLDED:
        if x.shape[0] != rows:
            return f"the first axis of its input, {x.shape[0]}, is not that of the rows"
        if match.written in FOLDED:
            units = np.moveaxis(x, 1, -1).reshape(-1, shape[0]).astype(np.float64)
            moments = units.mean(0), units.var(0)
            return TensorNorm(name, "batch_norm", match.x, match.eps, FLOATS[x.dtype], shape, True, usual=moments)
        known = [constant(value) for value in node.inputs[1:5]]
        if any(values is None for values in known):
            return "its weights and running moments are no constants"
        scale, bias, mean, variance = (values.astype(np.float64) for values in known if values is not None)
        running, affine = (mean, variance), (scale, bias)
        dtype = FLOATS[x.dtype]
        return TensorNorm(name, "batch_norm", match.x, match.eps, dtype, shape, True, *running, affine, node.outputs[0])
    if match.written in GROUPED:
        return judge_grouped(name, match, x, rows, fixed)
    if match.axis not in (-1, x.ndim - 1):
        return f"it normalizes over axis {match.axis} and what follows, not over the last axis alone"
    if match.kind == "rms_norm" and is_centered(x) and subtracts(match.x):
        return CENTERED
    return TensorNorm(name, match.kind, match.x, match.eps, FLOATS[x.dtype], shape)


def judge_grouped(name: str, match: Match, x: NDArray[Any], rows: int, fixed: bool) -> TensorNorm | str:
    """A GroupNorm or an InstanceNorm; PyTorch writes the first by the second, over groups that a Reshape has made."""
    if x.shape[0] != rows or x.ndim < 3:
        return f"the first axis of its input, {x.shape[0]}, is not that of the rows"
    if not fixed:
        return "how many numbers its groups have depends on the row"
    before = match.x.producer()
    groups = match.node.attributes.get_int("num_groups", x.shape[1])
    kind: LayerKind = "instance_norm"
    scale, bias = constant(match.scale), constant(match.bias)
    plain = scale is not None and bias is not None and (scale == 1).all() and not bias.any()
    if match.written == "GroupNormalization" or (plain and before is not None and before.op_type == "Reshape"):
        kind = "group_norm"
    return TensorNorm(name, kind, match.x, match.eps, FLOATS[x.dtype], x.shape[1:], groups=groups)

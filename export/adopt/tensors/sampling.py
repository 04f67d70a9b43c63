"""Adds statistics to a graph: of a few tokens or pixels of each row, beside the network, which stays as it was.

What a few of them, evenly over the row, cost is measured in docs/adopt.md.
A channels-first tensor is thinned out by a MaxPool of one pixel, which ONNX Runtime computes in its own blocked layout:
a Gather would have it turn the whole tensor around. A BatchNorm is looked at behind it, where it stays fused with its
convolution: what went in follows from what comes out. All BatchNorms are computed in one go.
"""

# R rows, U units that are looked at, L norms, C channels of all BatchNorms together

from collections.abc import Sequence
from math import ceil, isqrt, prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.adopt.norms.building import Builder
from export.adopt.tensors.norms import FOLDED, TensorNorm
from runtime.errors import ExportError
from runtime.graph.tensor_graph import EMBEDDING, LOGITS, MOMENTS, OWN, STATISTICS

SAMPLED, SAMPLED_PIXELS = 16, 4  # of a row; pixels of convolutional networks, whose features are as many


def samples_of(norms: Sequence[TensorNorm]) -> int:
    """U: units of each row that are looked at; of norms with fewer, some are looked at more than once."""
    most = SAMPLED_PIXELS if any(norm.channels_first for norm in norms) else SAMPLED
    return min(most, max((norm.units for norm in norms), default=1))


def expose_sampled(
    model: ir.Model,
    norms: Sequence[TensorNorm],
    fixed: bool,
    embedding: str | None = None,
    logits: str | None = None,
) -> ir.Model:
    """`model`, changed in place, with outputs of our own.

    `addnorm.norm_statistics` [R, U, 2L] holds what a token's statistics are to others: mean and 1/sigma of every unit;
    of a BatchNorm's, of its features standardized by the moments that it normalizes with. `addnorm.feature_moments`
    [2, C] has mean and variance of every BatchNorm's features over the units of this run.

    Args:
        fixed: whether all rows have the same shapes.
        embedding: the output that is a row's vector; where it is None, what the last norm sees, averaged over the row.
        logits: the value that classes are told by.

    Raises:
        ExportError: there are no norms, or outputs of these names.
    """
    graph = model.graph
    if not norms:
        some = any(node.op_type in FOLDED for node in graph.all_nodes())
        advice = "pass --folded if BatchNorm was folded into Conv or Gemm" if some else "export the network whole"
        raise ExportError(f"The graph has no norm that can be observed, nothing to adopt: {advice}.")
    if any(str(value.name).startswith(OWN) for value in (*graph.inputs, *graph.outputs)):
        raise ExportError(f"The graph has an input or output that begins with {OWN}: rename it.")
    builder = Builder(graph, model.opset_imports.get("", 17))
    values = {value.name: value for node in graph for value in node.outputs} | {v.name: v for v in graph.inputs}
    sampler = Sampler(builder, norms, graph.inputs[0], samples_of(norms), fixed)
    added = [sampler.statistics(), *sampler.moments()]
    vector = values[embedding] if embedding else sampler.vector()
    added.append(builder.output(EMBEDDING, vector, ["rows", "features"]))
    if logits is not None:
        added.append(builder.output(LOGITS, values[logits], ["rows", "classes"]))
    graph.outputs.extend(added)
    graph.sort()
    RemoveUnusedNodesPass()(model)
    return model


class Sampler:
    """Takes units out of what norms see.

    Args:
        given: an input of the network, which tells how many rows there are.
        samples: U.
        fixed: whether all rows have the same shapes.
    """

    def __init__(
        self, builder: Builder, norms: Sequence[TensorNorm], given: ir.Value, samples: int, fixed: bool
    ) -> None:
        self.builder, self.norms, self.samples, self.fixed = builder, norms, samples, fixed
        self.channels = [norm for norm in norms if norm.channels_first]
        shape = builder.add("Shape", [given], "given.shape")
        self.rows = builder.add("Gather", [shape, builder.constant("given.axis", [0])], "rows", axis=0)
        self.tokens = {
            place: self.sample(norm, f"norm_{place}") for place, norm in enumerate(norms) if not norm.channels_first
        }
        self.z = self.standardized() if self.channels else None

    def sample(self, norm: TensorNorm, name: str) -> ir.Value:
        """U units of every row in float32: [R, U, D], or [R, D, U] of a channels-first tensor."""
        add, constant = self.builder.add, self.builder.constant
        x = norm.seen
        if norm.channels_first:
            if strides := thinning(norm, self.fixed):
                x = add("MaxPool", [x], f"{name}.thin", kernel_shape=[1] * len(strides), strides=strides)
            x = add("Reshape", [x, constant(f"{name}.shape", [0, norm.features, -1])], f"{name}.units")
        else:
            rest = constant(f"{name}.rest", [-1, norm.features])
            x = add("Reshape", [x, add("Concat", [self.rows, rest], f"{name}.shape", axis=0)], f"{name}.units")
        axis, left = (2 if norm.channels_first else 1), thinned(norm, self.fixed)
        if not self.fixed or left != self.samples:
            x = add("Gather", [x, self.places(left, x, axis, name)], f"{name}.sample", axis=axis)
        return self.builder.cast(x, ir.DataType.FLOAT, f"{name}.float") if norm.dtype != ir.DataType.FLOAT else x

    def places(self, left: int, x: ir.Value, axis: int, name: str) -> ir.Value:
        """Which of n units are taken: floor(u * n / U)."""
        units = np.arange(self.samples)
        add, constant = self.builder.add, self.builder.constant
        if self.fixed:
            return constant(f"{name}.places", units * left // self.samples)
        shape = add("Shape", [x], f"{name}.units.shape")
        count = add("Gather", [shape, constant(f"{name}.axis", [axis])], f"{name}.count", axis=0)
        scaled = add("Mul", [count, constant(f"{name}.numbers", units)], f"{name}.scaled")
        return add("Div", [scaled, constant(f"{name}.samples", [self.samples])], f"{name}.places")

    def standardized(self) -> ir.Value:
        """The units of all BatchNorms [R, C, U], each feature by the moments that it is normalized with."""
        parts = [self.sample(norm, f"norm_{place}") for place, norm in enumerate(self.norms) if norm.channels_first]
        x = self.builder.add("Concat", parts, "channels", axis=1)
        scale, shift = (
            np.concatenate(part)[:, None] for part in zip(*(norm.to_standard for norm in self.channels), strict=True)
        )
        x = self.builder.add("Mul", [x, self.builder.constant("scale", np.float32(scale))], "scaled")
        return self.builder.add("Add", [x, self.builder.constant("shift", np.float32(shift))], "standardized")

    def statistics(self) -> ir.Value:
        """Mean and 1/sigma of every unit at every norm [R, U, 2L]."""
        means, deviations = self.channel_statistics() if self.z is not None else ([], [])
        order = [place for place, norm in enumerate(self.norms) if norm.channels_first]
        for place, x in self.tokens.items():
            ones = self.builder.constant(f"norm_{place}.ones", np.ones(self.norms[place].features, np.float32))
            names = [f"norm_{place}.{what}" for what in ("y", "mean", "inv_std")]
            eps = self.norms[place].eps
            _, mean, inv_std = self.builder.add_all("LayerNormalization", [x, ones], names, axis=-1, epsilon=eps)
            means.append(mean)
            deviations.append(inv_std)
            order.append(place)
        columns = self.builder.add("Concat", [*means, *deviations], "columns", axis=2)
        at = np.argsort(order)
        places = self.builder.constant("order", np.stack([at, at + len(order)], axis=1).ravel())
        return self.builder.named(
            STATISTICS,
            self.builder.add("Gather", [columns, places], "statistics", axis=2),
            ["rows", "units", len(at) * 2],
        )

    def channel_statistics(self) -> tuple[list[ir.Value], list[ir.Value]]:
        """Mean and 1/sigma over the features of each BatchNorm [R, U, norms]: by products with a matrix of shares."""
        add, constant = self.builder.add, self.builder.constant
        sizes = [norm.features for norm in self.channels]
        of_norm = np.repeat(np.eye(len(sizes), dtype=np.float32), sizes, axis=1)
        shares = constant("shares", of_norm / np.array(sizes, np.float32)[:, None])
        eps = np.array([[norm.eps] for norm in self.channels], np.float32)
        mean = add("MatMul", [shares, self.z], "means")
        off = add("Sub", [self.z, add("MatMul", [constant("spread", of_norm.T), mean], "means.spread")], "off")
        variance = add("MatMul", [shares, add("Mul", [off, off], "squares")], "variances")
        sigma = add("Sqrt", [add("Add", [variance, constant("eps", eps)], "with_eps")], "sigmas")
        inverse = add("Reciprocal", [sigma], "inverse_sigmas")
        turned = [add("Transpose", [value], f"{value.name}.turned", perm=[0, 2, 1]) for value in (mean, inverse)]
        return [turned[0]], [turned[1]]

    def moments(self) -> list[ir.Value]:
        """Mean and variance of every feature of the BatchNorms over all units [2, C]; nothing where there are none."""
        if self.z is None:
            return []
        add, constant = self.builder.add, self.builder.constant
        share = constant("unit_share", np.full((self.samples, 1), 1 / self.samples, np.float32))

        def average(value: ir.Value, what: str) -> ir.Value:
            return self.builder.reduce("ReduceMean", add("MatMul", [value, share], f"{what}.rows"), 0, what)  # [C, 1]

        mean = average(self.z, "feature_means")
        off = add("Sub", [self.z, mean], "feature_off")
        variance = average(add("Mul", [off, off], "feature_squares"), "feature_variances")
        both = add("Transpose", [add("Concat", [mean, variance], "feature_both", axis=1)], "feature_turned")
        center, deviation = (
            np.concatenate(part) for part in zip(*(norm.standard for norm in self.channels), strict=True)
        )
        both = add(
            "Mul", [both, constant("sizes", np.stack([deviation, deviation**2]).astype(np.float32))], "feature_sized"
        )
        both = add(
            "Add", [both, constant("centers", np.stack([center, 0 * center]).astype(np.float32))], "feature_moments"
        )
        return [self.builder.named(MOMENTS, both, [2, len(center)])]

    def vector(self) -> ir.Value:
        """What the last norm sees, averaged over the row's units [R, D]."""
        last = self.norms[-1]
        if not last.channels_first:
            return self.builder.reduce("ReduceMean", self.tokens[len(self.norms) - 1], 1, "vector")
        whole = sum(norm.features for norm in self.channels)
        bounds = [("vector.start", whole - last.features), ("vector.stop", whole), ("vector.axis", 1)]
        cut = [self.builder.constant(name, [number]) for name, number in bounds]
        units = self.builder.add("Slice", [self.z, *cut], "vector.units")
        return self.builder.reduce("ReduceMean", units, 2, "vector")


def thinning(norm: TensorNorm, fixed: bool) -> list[int]:
    """Strides over the places of a channels-first tensor that leave SAMPLED_PIXELS or fewer; none: all are kept."""
    sizes = norm.shape[1:]
    unlike = not fixed or not norm.channels_first or norm.dtype != ir.DataType.FLOAT
    if unlike or norm.units <= SAMPLED_PIXELS or len(sizes) > 2:
        return []
    most = {1: SAMPLED_PIXELS, 2: isqrt(SAMPLED_PIXELS)}[len(sizes)]
    return [ceil(size / most) for size in sizes]


def thinned(norm: TensorNorm, fixed: bool) -> int:
    """Units of a row that are left."""
    strides = thinning(norm, fixed)
    return prod(ceil(n / step) for n, step in zip(norm.shape[1:], strides, strict=True)) if strides else norm.units


def expected_sample(norm: TensorNorm, x: NDArray[Any], rows: int, samples: int, fixed: bool) -> NDArray[np.float64]:
    """The units that `Sampler.sample` takes of x, in float64 [R, U, D]."""
    if norm.channels_first:
        for axis, stride in enumerate(thinning(norm, fixed), 2):
            x = x.take(range(0, x.shape[axis], stride), axis)
        units = np.moveaxis(x.reshape(rows, norm.features, -1), 1, 2)
    else:
        units = x.reshape(rows, -1, norm.features)
    return units[:, np.arange(samples) * units.shape[1] // samples].astype(np.float64)

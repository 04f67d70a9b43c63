"""The statistics of all BatchNorms of a graph, in one go: over the features of a unit, and over the units of a feature.

The network keeps its speed only if a BatchNorm stays fused with its convolution, and this with the ReLU or the sum
behind it. Then what flows in between is nowhere to be read: where it is cheap, the convolution is computed once more
for the few pixels that are looked at. Elsewhere what went in is told from what comes out.
"""

# R rows, U units that are looked at, L norms, C features of all of them together, D features of one

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.tracing import constant
from export.adopt.tensors.norms import FUSED, TensorNorm
from export.adopt.tensors.units import Picker, thinned, thinning, units_left
from runtime.graph.tensor_graph import MOMENTS

SMALLEST_SCALE = 1e-3  # of a BatchNorm's largest scale and of the feature's bias: less would magnify rounding
EPS = 1e-12  # added to the variance of a block: less than any norm adds
CHEAP = 1.0  # pixels for each weight of an output channel from which on a convolution is computed once more


class Seen(NamedTuple):
    """Where a BatchNorm's units are taken from: z = scale * value + shift, each [D]."""

    value: ir.Value
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def behind(norm: TensorNorm) -> Seen | None:
    """What a BatchNorm gives, if what went in can be told from it: no feature's scale is nearly 0."""
    if norm.affine is None or norm.y is None or not made_by_weights(norm):
        return None
    scale, bias = norm.affine
    if not (np.abs(scale) > SMALLEST_SCALE * np.maximum(np.abs(bias), np.abs(scale).max())).all():
        return None
    return Seen(norm.y, 1 / scale, -bias / scale)


def made_by_weights(norm: TensorNorm) -> bool:
    """Whether what it normalizes comes from an operator that ONNX Runtime fuses it with."""
    node = norm.x.producer()
    return node is not None and node.op_type in FUSED


def once_more(norm: TensorNorm, strides: Sequence[int]) -> bool:
    """Whether the convolution before it costs less for a few pixels than a pass over all of them that is not fused."""
    node = norm.x.producer()
    if node is None or node.op_type != "Conv" or not strides:
        return False
    weights = constant(node.inputs[1])
    if weights is None or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    return norm.units >= CHEAP * prod(weights.shape[1:])


class Channels:
    """The units of all BatchNorms.

    Attributes:
        z: [R, U, C], each feature standardized by the moments that it is normalized with.
    """

    def __init__(self, picker: Picker, norms: Sequence[TensorNorm]) -> None:
        self.builder, self.picker, self.norms = picker.builder, picker, norms
        self.z = self.standardized()

    def standardized(self) -> ir.Value:
        add, constant = self.builder.add, self.builder.constant
        seen = [self.seen(norm, f"channels_{place}") for place, norm in enumerate(self.norms)]
        scale, shift = (np.float32(np.concatenate(part)) for part in list(zip(*seen, strict=True))[1:])
        scaled = add("Mul", [self.units([each.value for each in seen]), constant("scale", scale)], "scaled")
        return add("Add", [scaled, constant("shift", shift)], "standardized")

    def seen(self, norm: TensorNorm, name: str) -> Seen:
        """[R, D, ...] in float32, with the places that `thinned` says."""
        center, deviation = norm.standard
        found = Seen(norm.x, 1 / deviation, -center / deviation)
        strides = thinning(norm, self.picker.fixed)
        if once_more(norm, strides):
            return found._replace(value=self.convolve(norm, strides, name))
        found = behind(norm) or found
        x = found.value
        if strides:  # a Gather would have ONNX Runtime turn the whole tensor out of its own blocked layout
            x = self.builder.add("MaxPool", [x], f"{name}.thin", kernel_shape=[1] * len(strides), strides=strides)
        if norm.dtype != ir.DataType.FLOAT:
            x = self.builder.cast(x, ir.DataType.FLOAT, f"{name}.float")
        return found._replace(value=x)

    def convolve(self, norm: TensorNorm, strides: Sequence[int], name: str) -> ir.Value:
        """What the convolution before a BatchNorm gives at the places that are looked at."""
        node = norm.x.producer()
        assert node is not None
        own = node.attributes.get_ints("strides", [1] * len(strides))
        further = [each * stride for each, stride in zip(own, strides, strict=True)]
        attributes = {key: value for key, value in node.attributes.items() if key != "strides"}
        return self.builder.add("Conv", node.inputs, f"{name}.conv", **attributes, strides=further)

    def units(self, parts: list[ir.Value]) -> ir.Value:
        """What is looked at [R, U, C]."""
        add, constant, fixed = self.builder.add, self.builder.constant, self.picker.fixed
        alike = fixed and len({thinned(norm, fixed) for norm in self.norms}) == 1
        whole = alike and units_left(self.norms[0], fixed) == self.picker.samples
        if not whole:
            each = enumerate(zip(parts, self.norms, strict=True))
            parts = [self.flat(x, norm, f"channels_{place}") for place, (x, norm) in each]
        x = add("Concat", parts, "channels", axis=1)
        if whole:
            x = add(
                "Reshape", [x, constant("channels.shape", [0, self.features, self.picker.samples])], "channels.flat"
            )
        return add("Transpose", [x], "channels.last", perm=[0, 2, 1])

    def flat(self, x: ir.Value, norm: TensorNorm, name: str) -> ir.Value:
        """U units of [R, D, ...] as [R, D, U]."""
        shape = self.builder.constant(f"{name}.shape", [0, norm.features, -1])
        x = self.builder.add("Reshape", [x, shape], f"{name}.units")
        count = units_left(norm, self.picker.fixed)
        return self.picker.repeat(self.picker.pick(x, count, 2, name), count, 2, name)

    @property
    def features(self) -> int:
        return sum(norm.features for norm in self.norms)

    def statistics(self) -> tuple[ir.Value, ir.Value]:
        """Mean and 1/sigma over the features of each norm [R, U, L], from those of blocks that divide all norms."""
        add, constant, block = self.builder.add, self.builder.constant, gcd(*(norm.features for norm in self.norms))
        blocks = add("Reshape", [self.z, constant("blocks.shape", [0, 0, -1, block])], "blocks")
        ones = constant("blocks.ones", np.ones(block, np.float32))
        names = [f"blocks.{what}" for what in ("y", "mean", "inv_std")]
        _, *inner = self.builder.add_all("LayerNormalization", [blocks, ones], names, axis=-1, epsilon=EPS)
        shape = constant("blocks.flat", [0, 0, -1])
        means, inverse = (add("Reshape", [value, shape], f"{value.name}.flat") for value in inner)
        sizes = [norm.features // block for norm in self.norms]
        owner = np.repeat(np.eye(len(sizes)), sizes, axis=0)  # [blocks, L]
        shares = constant("shares", np.float32(owner / sizes))
        mean = add("MatMul", [means, shares], "means")
        off = add("Sub", [means, add("MatMul", [mean, constant("owner", np.float32(owner.T))], "means.spread")], "off")
        with_eps = add("Reciprocal", [add("Mul", [inverse, inverse], "blocks.inv_var")], "blocks.with_eps")
        own = add("Sub", [with_eps, constant("blocks.eps", np.float32(EPS))], "blocks.own")
        within = add("Relu", [own], "blocks.var")  # rounding may leave it below 0
        both = add("Add", [within, add("Mul", [off, off], "squares")], "blocks.both")
        eps = constant("eps", np.array([norm.eps for norm in self.norms], np.float32))
        variance = add("Add", [add("MatMul", [both, shares], "variances"), eps], "with_eps")
        return mean, add("Reciprocal", [add("Sqrt", [variance], "sigmas")], "inverse_sigmas")

    def moments(self) -> ir.Value:
        """Mean and variance of every feature over all units, as it came in [2, C]."""
        add, constant = self.builder.add, self.builder.constant
        flat = add("Reshape", [self.z, constant("feature_shape", [-1, self.features])], "feature_units")
        mean = self.builder.reduce("ReduceMean", flat, 0, "feature_means", keepdims=1)
        off = add("Sub", [flat, mean], "feature_off")
        variance = self.builder.reduce(
            "ReduceMean", add("Mul", [off, off], "feature_squares"), 0, "feature_variances", 1
        )
        both = add("Concat", [mean, variance], "feature_both", axis=0)
        center, deviation = (np.concatenate(part) for part in zip(*(n.standard for n in self.norms), strict=True))
        sizes, centers = np.stack([deviation, deviation**2]), np.stack([center, 0 * center])
        both = add("Mul", [both, constant("feature_sizes", np.float32(sizes))], "feature_sized")
        both = add("Add", [both, constant("feature_centers", np.float32(centers))], "feature_moments")
        return self.builder.named(MOMENTS, both, [2, self.features])

    def vector(self) -> ir.Value:
        """The last norm's units, averaged over each row [R, D]."""
        add, constant = self.builder.add, self.builder.constant
        bounds = {"start": self.features - self.norms[-1].features, "stop": self.features, "axis": 2}
        cut = [constant(f"vector.{name}", [number]) for name, number in bounds.items()]
        return self.builder.reduce("ReduceMean", add("Slice", [self.z, *cut], "vector.units"), 1, "vector")

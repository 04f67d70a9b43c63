"""Which units of a row are looked at: a few, evenly over it; docs/adopt.md has what they cost."""

# R rows, U units that are looked at, D features

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt, prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.adopt.norms.building import Builder
from export.adopt.tensors.norms import TensorNorm

SAMPLED, SAMPLED_PIXELS = 16, 4  # of a row; pixels or groups of convolutional networks, whose features are as many


def samples_of(norms: Sequence[TensorNorm]) -> int:
    """U: units of each row that are looked at; of norms with fewer, some are looked at more than once."""
    most = SAMPLED_PIXELS if any(norm.channels_first or norm.groups for norm in norms) else SAMPLED
    return min(most, max((norm.units for norm in norms), default=1))


def thinning(norm: TensorNorm, fixed: bool) -> list[int]:
    """Strides over the places of a channels-first tensor that leave SAMPLED_PIXELS or fewer; none: all are kept."""
    sizes = norm.shape[1:]
    unlike = not fixed or not norm.channels_first or norm.dtype != ir.DataType.FLOAT
    if unlike or norm.units <= SAMPLED_PIXELS or len(sizes) > 2:
        return []
    most = {1: SAMPLED_PIXELS, 2: isqrt(SAMPLED_PIXELS)}[len(sizes)]
    return [ceil(size / most) for size in sizes]


def thinned(norm: TensorNorm, fixed: bool) -> tuple[int, ...]:
    """The places of a row that are left of each axis but that of the features."""
    sizes = norm.shape[1:] if norm.channels_first else (norm.units,)
    strides = thinning(norm, fixed) or [1] * len(sizes)
    return tuple(ceil(size / stride) for size, stride in zip(sizes, strides, strict=True))


@dataclass(frozen=True, slots=True)
class Picker:
    """Takes U of a tensor's units.

    Attributes:
        samples: U.
        fixed: whether all rows have the same shapes.
    """

    builder: Builder
    samples: int
    fixed: bool

    def pick(self, x: ir.Value, count: int, axis: int, name: str) -> ir.Value:
        """U of the `count` units along an axis, those floor(u * count / U); all of them where there are not more."""
        if self.fixed and count <= self.samples:
            return x
        return self.builder.add("Gather", [x, self.places(x, count, axis, name)], f"{name}.sample", axis=axis)

    def repeat(self, x: ir.Value, count: int, axis: int, name: str) -> ir.Value:
        """What was picked of `count` units as U: some more than once where there are fewer."""
        if not self.fixed or count >= self.samples:
            return x
        return self.builder.add("Gather", [x, self.places(x, count, axis, name)], f"{name}.repeated", axis=axis)

    def places(self, x: ir.Value, count: int, axis: int, name: str) -> ir.Value:
        units = np.arange(self.samples)
        add, constant = self.builder.add, self.builder.constant
        if self.fixed:
            return constant(f"{name}.places", units * count // self.samples)
        shape = add("Shape", [x], f"{name}.units.shape")
        counted = add("Gather", [shape, constant(f"{name}.axis", [axis])], f"{name}.count", axis=0)
        scaled = add("Mul", [counted, constant(f"{name}.numbers", units)], f"{name}.scaled")
        return add("Div", [scaled, constant(f"{name}.samples", [self.samples])], f"{name}.places")


def expected_sample(norm: TensorNorm, x: NDArray[Any], rows: int, samples: int, fixed: bool) -> NDArray[np.float64]:
    """The units that are looked at of x, in float64 [R, U, D]."""
    if norm.channels_first:
        for axis, stride in enumerate(thinning(norm, fixed), 2):
            x = x.take(range(0, x.shape[axis], stride), axis)
        units = np.moveaxis(x.reshape(rows, norm.features, -1), 1, 2)
    else:
        units = x.reshape(rows, -1, norm.features)
    return units[:, np.arange(samples) * units.shape[1] // samples].astype(np.float64)


def units_left(norm: TensorNorm, fixed: bool) -> int:
    """Units of a row that `thinned` leaves."""
    return prod(thinned(norm, fixed))

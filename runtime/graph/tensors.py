"""Networks that read tensors: from what clients send to rows."""

# R rows

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput
from runtime.graph.inputs import EncodedInput
from runtime.graph.packing import Tokens
from runtime.manifest import TensorInputs, TensorSpec
from runtime.words import shortened


@dataclass(slots=True)
class TensorRow:
    """One row of every input, in the order of the manifest; it counts as one token."""

    values: tuple[NDArray[Any], ...]

    def __len__(self) -> int:
        return 1

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(value.shape for value in self.values)


class TensorEncoder:
    """Arrays, or nested lists of numbers, to rows."""

    def __init__(self, inputs: TensorInputs) -> None:
        self.inputs, self.max_tokens = inputs, inputs.max_tokens

    def encode(self, inputs: Sequence[Any]) -> list[EncodedInput]:
        """Rows of a model with one input, as JSON has them: a number, or nested lists of numbers."""
        first, *others = self.inputs.tensors
        if others:
            names = ", ".join(spec.name for spec in self.inputs.tensors)
            raise InvalidInput(
                "invalid_tensor", f"This model has several inputs ({names}), ask POST /v2/models/.../infer."
            )
        rows = [to_array(row, value, first) for row, value in enumerate(inputs)]
        for row, value in enumerate(rows):
            check(first, value[None], f"inputs[{row}]")
        return [encoded(value) for value in rows]

    def encode_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> list[EncodedInput]:
        """Rows of all inputs, each [R, ...], by name.

        Raises:
            InvalidInput: one is missing, or of another shape, or not finite.
        """
        parts = []
        for spec in self.inputs.tensors:
            if spec.name not in arrays:
                raise InvalidInput("invalid_tensor", f"The input {spec.name} is missing, expected {describe(spec)}.")
            parts.append(check(spec, arrays[spec.name], spec.name))
        if len({len(part) for part in parts}) != 1:
            counts = ", ".join(
                f"{spec.name} {len(part)}" for spec, part in zip(self.inputs.tensors, parts, strict=True)
            )
            raise InvalidInput(
                "invalid_tensor", f"The inputs have unlike numbers of rows ({counts}), expected as many of each."
            )
        return [encoded(*values) for values in zip(*parts, strict=True)]


def encoded(*values: NDArray[Any]) -> EncodedInput:
    return EncodedInput(cast(Tokens, TensorRow(values)), False)


def describe(spec: TensorSpec) -> str:
    sizes = ["rows", *("any" if size is None else str(size) for size in spec.shape)]
    return f"{spec.dtype} [{', '.join(sizes)}]"


def to_array(row: int, value: Any, spec: TensorSpec) -> NDArray[Any]:
    """A row out of JSON."""
    try:
        numbers = np.asarray(value)
    except ValueError:
        raise InvalidInput("invalid_tensor", f"inputs[{row}] is ragged, expected {describe(spec)}.") from None
    if numbers.dtype.kind not in (
        "b" if spec.dtype == "bool" else "iu" if np.dtype(spec.dtype).kind in "iu" else "iuf"
    ):
        raise InvalidInput("invalid_tensor", f"inputs[{row}] is not of numbers that fit, expected {describe(spec)}.")
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        changed = numbers.astype(spec.dtype)
    if changed.dtype.kind in "iu" and (changed != numbers).any():
        raise InvalidInput("invalid_tensor", f"inputs[{row}] has a number that no {spec.dtype} holds.")
    return changed


def check(spec: TensorSpec, array: NDArray[Any], name: str) -> NDArray[Any]:
    """`array` [R, ...], or raises InvalidInput."""
    sizes = array.shape[1:]
    fits = len(sizes) == len(spec.shape) and all(
        size >= 1 and wanted in (None, size) for size, wanted in zip(sizes, spec.shape, strict=False)
    )
    if not array.ndim or not fits:
        raise InvalidInput(
            "invalid_tensor", f"{name} has shape {shortened(list(sizes))} in each row, expected {describe(spec)}."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInput("not_finite", f"{name} has NaN or infinite values, expected finite numbers.")
    return array


def encode_row(row: TensorRow) -> list[dict[str, Any]]:
    """A row as JSON: bytes are a tenth of what numbers in letters take."""
    return [
        {"dtype": str(value.dtype), "shape": list(value.shape), "base64": base64.b64encode(value.tobytes()).decode()}
        for value in row.values
    ]


def decode(part: Mapping[str, Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(part["base64"]), part["dtype"]).reshape(part["shape"])

"""From what a client sends to the sequences that a graph takes: nested lists of numbers (texts: texts.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput
from runtime.graph.packing import Tokens


@dataclass(slots=True)  # not frozen: that would cost each request a microsecond
class EncodedInput:
    """One input, ready to be packed.

    Attributes:
        tokens: token ids [n] int64, or features [n, F] float32; 1 <= n <= max_tokens.
        truncated: whether the input was longer than max_tokens.
    """

    tokens: Tokens
    truncated: bool


class InputEncoder(Protocol):
    """Encodes what clients send, or raises InvalidInput naming the input and what is allowed."""

    max_tokens: int

    def encode(self, inputs: Sequence[Any]) -> list[EncodedInput]: ...


class FeatureEncoder:
    """Nested lists of numbers to float sequences."""

    def __init__(self, num_features: int, max_tokens: int) -> None:
        self.num_features, self.max_tokens = num_features, max_tokens

    def encode(self, inputs: Sequence[Any]) -> list[EncodedInput]:
        return [self._sequence(row, value) for row, value in enumerate(inputs)]

    def encode_arrays(self, values: NDArray[np.float32], lengths: Sequence[int] | None = None) -> list[EncodedInput]:
        """Sequences [R, T, F], with T >= 1; of row r the first lengths[r] >= 1 steps, or all.

        Padding may hold anything; what is longer than max_tokens is cut.
        """
        rows = list(values) if lengths is None else [row[:n] for row, n in zip(values, lengths, strict=True)]
        if not np.isfinite(values).all() and (bad := [r for r, row in enumerate(rows) if not np.isfinite(row).all()]):
            raise InvalidInput("not_finite", f"inputs[{bad[0]}] has NaN or infinite values, expected finite numbers.")
        return [EncodedInput(row[: self.max_tokens], len(row) > self.max_tokens) for row in rows]

    def _sequence(self, row: int, value: Any) -> EncodedInput:
        expected = f"expected a list of [{self.num_features}] finite numbers per step"
        sequence = self._to_array(row, value, expected)
        if sequence.ndim != 2 or sequence.shape[1] != self.num_features or not len(sequence):
            shape = "x".join(str(size) for size in sequence.shape) or "a single number"
            raise InvalidInput("wrong_width", f"inputs[{row}] has shape {shape}, {expected}.")
        if not np.isfinite(sequence).all():
            raise InvalidInput("not_finite", f"inputs[{row}] has NaN or infinite values, {expected}.")
        return EncodedInput(sequence[: self.max_tokens], len(sequence) > self.max_tokens)

    def _to_array(self, row: int, value: Any, expected: str) -> NDArray[np.float32]:
        try:
            numbers = np.asarray(value)
        except ValueError:
            raise InvalidInput("invalid_features", f"inputs[{row}] is ragged, {expected}.") from None
        if numbers.dtype.kind not in "iuf" or (numbers.ndim == 2 and has_boolean(value)):
            raise InvalidInput("invalid_features", f"inputs[{row}] is not numeric, {expected}.")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            return numbers.astype(np.float32)


def has_boolean(value: Any) -> bool:
    """Whether a client's nested lists hold a boolean, which numpy would take for a number."""
    return isinstance(value, list) and any(isinstance(number, bool) for step in value for number in step)


def describe(value: Any) -> str:
    """A JSON value's type, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)

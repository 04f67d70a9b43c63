"""From what a client sends to the sequences that a graph takes. Training encodes with this same code."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput
from runtime.graph.packing import Tokens
from runtime.manifest import TOKENIZER, FeatureInputs

# No token of a vocabulary that we train is longer; text beyond max_tokens of them is left out, and called truncated.
CHARACTERS_PER_TOKEN = 64


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


class TextEncoder:
    """Texts to token ids, by a tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.vocabulary: int = tokenizer.get_vocab_size(with_added_tokens=False)

    def encode(self, inputs: Sequence[Any]) -> list[EncodedInput]:
        for row, text in enumerate(inputs):
            if not isinstance(text, str):
                raise InvalidInput("invalid_text", f"inputs[{row}] is {describe(text)}, expected a text.")
            if not is_unicode(text):
                raise InvalidInput("invalid_text", f"inputs[{row}] has half a surrogate pair, expected valid Unicode.")
        longest = self.max_tokens * CHARACTERS_PER_TOKEN
        texts = [text if len(text) <= longest else text.strip() for text in inputs]
        encodings = self.tokenizer.encode_batch_fast([text[:longest] for text in texts], add_special_tokens=False)
        return [
            self._cut(row, encoding.ids, len(text) > longest)
            for row, (encoding, text) in enumerate(zip(encodings, texts, strict=True))
        ]

    def encode_ids(self, rows: Sequence[NDArray[np.int64]]) -> list[EncodedInput]:
        """What a client tokenized itself, each row token ids [n]; what is too long is refused, not cut."""
        for row, ids in enumerate(rows):
            if not 1 <= len(ids) <= self.max_tokens:
                code = "too_many_tokens" if len(ids) else "empty_text"
                raise InvalidInput(code, f"inputs[{row}] has {len(ids)} tokens, expected 1 to {self.max_tokens}.")
        known = np.concatenate(rows)
        if known.min() < 0 or known.max() >= self.vocabulary:
            strange = [(row, ids[(ids < 0) | (ids >= self.vocabulary)]) for row, ids in enumerate(rows)]
            row, token = next((row, some[0]) for row, some in strange if len(some))
            raise InvalidInput(
                "unknown_token", f"inputs[{row}] has token {token}, expected 0 to {self.vocabulary - 1}."
            )
        return [EncodedInput(ids, False) for ids in rows]

    def _cut(self, row: int, ids: list[int], shortened: bool) -> EncodedInput:
        if not ids:
            raise InvalidInput("empty_text", f"inputs[{row}] is empty, expected a text with at least one word.")
        return EncodedInput(np.array(ids[: self.max_tokens], dtype=np.int64), shortened or len(ids) > self.max_tokens)


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


def make_input_encoder(artifact: Artifact) -> InputEncoder:
    """The encoder that the artifact's manifest asks for."""
    inputs = artifact.manifest.inputs
    if isinstance(inputs, FeatureInputs):
        return FeatureEncoder(inputs.num_features, inputs.max_tokens)
    try:
        tokenizer = Tokenizer.from_buffer(artifact.files[TOKENIZER])
    except Exception as error:  # the library raises a bare Exception
        raise ArtifactError(
            f"{artifact.path / TOKENIZER} is not a tokenizer ({error}): export the model again."
        ) from error
    return TextEncoder(tokenizer, inputs.max_tokens)


def piece_lengths(artifact: Artifact) -> NDArray[np.float32] | None:
    """Characters of every token's piece of text, by token id [V]; None for a model of float sequences."""
    if (content := artifact.files.get(TOKENIZER)) is None:
        return None
    vocabulary = json.loads(content)["model"]["vocab"]
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.float32)
    for piece, token in vocabulary.items():
        lengths[token] = len(piece)
    return lengths


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded; JSON can carry half a surrogate pair, which no tokenizer reads."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def describe(value: Any) -> str:
    """A JSON value's type, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)

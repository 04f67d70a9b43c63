"""From texts to token ids, and which encoder of inputs an artifact asks for. Training encodes with this same code."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput
from runtime.graph.inputs import EncodedInput, FeatureEncoder, InputEncoder, describe
from runtime.graph.tensors import TensorEncoder
from runtime.manifest import TOKENIZER, FeatureInputs, TensorInputs, TextInputs
from runtime.words import is_unicode, listed, quoted

# No token of a vocabulary that we train is longer; text beyond max_tokens of them is left out, and called truncated.
CHARACTERS_PER_TOKEN = 64
# Of a vocabulary of others; they may also read a run of spaces, or a long word, as nothing or as a single token.
CHARACTERS_PER_FOREIGN_TOKEN = 256
MARGIN = 32  # tokens of a long text that are kept beyond those that are read: where it was cut, they may be others
PAIR = 'a pair of texts, ["text", "text"]'


class TextEncoder:
    """Texts to token ids, by a tokenizer of the `tokenizers` library."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.vocabulary: int = tokenizer.get_vocab_size(with_added_tokens=False)

    def encode(self, inputs: Sequence[Any], prompt: str | None = None) -> list[EncodedInput]:
        """Texts to token ids; what is too long is cut, and says so.

        Args:
            prompt: name of the text that is put before each; the model's default where none is named.
        """
        if prompt is not None:
            raise InvalidInput("unknown_prompt", f"There is no prompt {quoted(prompt)} here, there is none.")
        for row, text in enumerate(inputs):
            check_text(text, f"inputs[{row}]")
        longest = self.max_tokens * CHARACTERS_PER_TOKEN
        texts = [text if len(text) <= longest else text.strip() for text in inputs]
        encodings = self.tokenizer.encode_batch_fast([text[:longest] for text in texts], add_special_tokens=False)
        return [
            self._cut(row, encoding.ids, len(text) > longest)
            for row, (encoding, text) in enumerate(zip(encodings, texts, strict=True))
        ]

    def tokenize(self, inputs: Sequence[Any], prompt: str | None = None) -> list[list[dict[str, Any]]]:
        """The tokens that are read of each text: id, text, whether it is special, where it starts and stops."""
        self.encode(inputs, prompt)  # refuses what cannot be read
        return [describe_tokens(encoding, self.max_tokens) for encoding in self._tokenize(inputs, prompt)]

    def _tokenize(self, inputs: Sequence[Any], prompt: str | None) -> list[Encoding]:
        longest = self.max_tokens * CHARACTERS_PER_TOKEN
        return self.tokenizer.encode_batch([kept(text, longest) for text in inputs], add_special_tokens=False)

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


class SpecialTokensEncoder(TextEncoder):
    """Texts, with a prompt before each, or pairs of texts, with the special tokens that their tokenizer adds.

    So were pretrained encoders trained: [CLS] and [SEP], for one. A pair's longer text is cut first.
    """

    def __init__(self, tokenizer: Tokenizer, inputs: TextInputs) -> None:
        super().__init__(tokenizer, inputs.max_tokens)
        self.inputs = inputs
        self.vocabulary = inputs.vocabulary or tokenizer.get_vocab_size()
        self.added: int = tokenizer.num_special_tokens_to_add(inputs.pairs)
        self.longest = inputs.max_tokens * CHARACTERS_PER_FOREIGN_TOKEN
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # of pairs alone, without truncation: another tokenizer takes as much memory again
        self.whole = Tokenizer.from_str(tokenizer.to_str()) if inputs.pairs else None
        tokenizer.enable_truncation(inputs.max_tokens, strategy="longest_first")

    def encode(self, inputs: Sequence[Any], prompt: str | None = None) -> list[EncodedInput]:
        encodings = self.tokenizer.encode_batch_fast(self._rows(inputs, prompt), add_special_tokens=True)
        return [self._sequence(row, *item) for row, item in enumerate(zip(encodings, inputs, strict=True))]

    def encode_ids(self, rows: Sequence[NDArray[np.int64]]) -> list[EncodedInput]:
        if self.inputs.pairs:
            raise InvalidInput("invalid_pair", f"inputs[0] is a list of tokens, expected {PAIR}.")
        encoded = super().encode_ids(rows)
        if self.inputs.type_ids:
            return [EncodedInput(with_types(ids, 0), False) for ids in rows]
        return encoded

    def _tokenize(self, inputs: Sequence[Any], prompt: str | None) -> list[Encoding]:
        return self.tokenizer.encode_batch(self._rows(inputs, prompt), add_special_tokens=True)

    def _rows(self, inputs: Sequence[Any], prompt: str | None) -> list[Any]:
        """What the tokenizer takes: texts with the prompt before each, or pairs."""
        parts: dict[str, str] = {}  # a query may stand in each of the pairs
        rows = [self._check(row, value, parts) for row, value in enumerate(inputs)]
        if self.inputs.pairs:
            if prompt is not None:
                raise InvalidInput("unknown_prompt", "A pair of texts takes no prompt, leave its name out.")
            return rows
        if before := self._prompt(prompt):
            if empty := [row for row, text in enumerate(rows) if not text.strip()]:
                raise InvalidInput(
                    "empty_text", f"inputs[{empty[0]}] is empty, expected a text with at least one word."
                )
            rows = [before + text for text in rows]
        return [text.strip() for text in rows] if self.inputs.strip else rows

    def _check(self, row: int, value: Any, parts: dict[str, str]) -> Any:
        """A text or a pair, without what lies far beyond the tokens that are read."""
        if not self.inputs.pairs:
            if isinstance(value, list):
                raise InvalidInput("invalid_text", f"inputs[{row}] is a list, expected one text, no pair.")
            return kept(check_text(value, f"inputs[{row}]"), self.longest)
        if not isinstance(value, list) or len(value) != 2:
            what = f"a list of {len(value)}" if isinstance(value, list) else describe(value)
            raise InvalidInput("invalid_pair", f"inputs[{row}] is {what}, expected {PAIR}.")
        for place, text in enumerate(value):
            if check_text(text, f"inputs[{row}][{place}]") not in parts:
                parts[text] = self._part(text)
        return tuple(parts[text] for text in value)

    def _part(self, text: str) -> str:
        """A text of a pair, with few tokens more than are read: what is cut off of both, tokenizers multiplies."""
        text = text.strip() if self.inputs.strip else kept(text, self.longest)
        most = self.max_tokens + MARGIN
        if self.whole is None or len(text) <= most:
            return text
        offsets = self.whole.encode(text[: self.longest], add_special_tokens=False).offsets
        return text[: offsets[most - 1][1]] if len(offsets) > most else text[: self.longest]

    def _prompt(self, name: str | None) -> str:
        if name is None:
            name = self.inputs.default_prompt
        if name is None:
            return ""
        if name not in self.inputs.prompts:
            raise InvalidInput(
                "unknown_prompt", f"There is no prompt {quoted(name)} here, there is {listed(self.inputs.prompts)}."
            )
        return self.inputs.prompts[name]

    def _sequence(self, row: int, encoding: Encoding, value: Any) -> EncodedInput:
        if len(encoding.ids) <= self.added:
            raise InvalidInput("empty_text", f"inputs[{row}] is empty, expected a text with at least one word.")
        ids = np.array(encoding.ids, dtype=np.int64)
        tokens = with_types(ids, encoding.type_ids) if self.inputs.type_ids else ids
        parts = value if self.inputs.pairs else [value]
        cut = any(len(text) > self.longest and len(text.strip()) > self.longest for text in parts)
        return EncodedInput(tokens, cut or bool(encoding.overflowing))


def kept(text: str, longest: int) -> str:
    """Without what lies far beyond the tokens that are read; space around a text is no part of it."""
    return text if len(text) <= longest else text.strip()[:longest]


def describe_tokens(encoding: Encoding, most: int) -> list[dict[str, Any]]:
    parts = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        {"id": token, "text": text, "special": bool(special), "start": start, "stop": stop}
        for token, text, special, (start, stop) in list(parts)[:most]
    ]


def with_types(ids: NDArray[np.int64], types: Any) -> NDArray[np.int64]:
    """Token ids and their types [n, 2]."""
    tokens = np.empty((len(ids), 2), dtype=np.int64)
    tokens[:, 0], tokens[:, 1] = ids, types
    return tokens


def make_input_encoder(artifact: Artifact) -> InputEncoder:
    """The encoder that the artifact's manifest asks for."""
    inputs = artifact.manifest.inputs
    if isinstance(inputs, FeatureInputs):
        return FeatureEncoder(inputs.num_features, inputs.max_tokens)
    if isinstance(inputs, TensorInputs):
        return TensorEncoder(inputs)
    try:
        tokenizer = Tokenizer.from_buffer(artifact.files[TOKENIZER])
    except Exception as error:  # the library raises a bare Exception
        raise ArtifactError(
            f"{artifact.path / TOKENIZER} is not a tokenizer ({error}): export the model again."
        ) from error
    if inputs.special_tokens:
        return SpecialTokensEncoder(tokenizer, inputs)
    return TextEncoder(tokenizer, inputs.max_tokens)


def piece_lengths(artifact: Artifact) -> NDArray[np.float32] | None:
    """Characters of every token's piece of text, by token id [V]; None for a model of float sequences."""
    if (content := artifact.files.get(TOKENIZER)) is None:
        return None
    described = json.loads(content)
    vocabulary = described["model"]["vocab"]
    if isinstance(vocabulary, list):  # of a unigram model: pieces with their scores
        vocabulary = {piece: token for token, (piece, _) in enumerate(vocabulary)}
    vocabulary |= {added["content"]: added["id"] for added in described.get("added_tokens", ())}
    inputs = artifact.manifest.inputs  # whose graph may know more tokens than the tokenizer has
    known = (inputs.vocabulary or 0) if isinstance(inputs, TextInputs) else 0
    lengths = np.zeros(max(known, max(vocabulary.values()) + 1), dtype=np.float32)
    for piece, token in vocabulary.items():
        lengths[token] = len(piece)
    return lengths


def check_text(value: Any, name: str) -> str:
    """What a client sent as a text, or raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput("invalid_text", f"{name} is {describe(value)}, expected a text.")
    if not is_unicode(value):
        raise InvalidInput("invalid_text", f"{name} has half a surrogate pair, expected valid Unicode.")
    return value

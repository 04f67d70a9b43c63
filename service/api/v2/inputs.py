"""What a model takes over the protocol, and how it becomes the sequences of its graph."""

# R rows, T tokens, F features

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput
from runtime.graph.inputs import EncodedInput, FeatureEncoder
from runtime.graph.tensors import TensorEncoder
from runtime.graph.texts import SpecialTokensEncoder, TextEncoder
from runtime.manifest import FeatureInputs, TensorInputs, TensorSpec, TextInputs
from runtime.words import shortened
from service.api.v2.schemas import InputTensor, TensorMetadata
from service.api.v2.tensors import DATATYPES, Tensor, read_tensors
from service.inference.engine import Engine

WHOLE = ("INT64", "INT32")
TEXT: Mapping[str, tuple[str, ...]] = {"text": ("BYTES",), "input_ids": WHOLE, "attention_mask": WHOLE}
FEATURES: Mapping[str, tuple[str, ...]] = {"features": ("FP32",), "lengths": WHOLE}
TOKENIZED = "input_ids INT64 [rows, tokens] instead of text, with attention_mask INT64 [rows, tokens] where padded"
PAIRS = "none: a pair of texts in each row"
PADDED = "lengths INT64 [rows] beside features that are padded"


def main_input(engine: Engine) -> str:
    inputs = engine.manifest.inputs
    return inputs.tensors[0].name if isinstance(inputs, TensorInputs) else expected(engine)[0].name


def expected(engine: Engine) -> list[TensorMetadata]:
    """The inputs that a client must send; what it may send instead or besides is in the model's configuration."""
    inputs = engine.manifest.inputs
    if isinstance(inputs, TensorInputs):
        return described(inputs.tensors)
    if inputs.kind == "text":
        return [TensorMetadata(name="text", datatype="BYTES", shape=[-1, 2] if inputs.pairs else [-1])]
    return [TensorMetadata(name="features", datatype="FP32", shape=[-1, -1, inputs.num_features])]


def accepted(inputs: TextInputs | FeatureInputs | TensorInputs) -> Mapping[str, tuple[str, ...]]:
    """The datatypes that each input may have, by its name."""
    if isinstance(inputs, TensorInputs):
        return {spec.name: (DATATYPES[spec.dtype],) for spec in inputs.tensors}
    return TEXT if inputs.kind == "text" else FEATURES


def described(tensors: Sequence[TensorSpec]) -> list[TensorMetadata]:
    """A network's own tensors; -1 is any size."""
    return [
        TensorMetadata(
            name=spec.name, datatype=DATATYPES[spec.dtype], shape=[-1, *(-1 if n is None else n for n in spec.shape)]
        )
        for spec in tensors
    ]


def further(engine: Engine) -> str:
    """What may be sent instead of that or besides."""
    inputs = engine.manifest.inputs
    if inputs.kind == "text":
        return PAIRS if inputs.pairs else TOKENIZED
    return PADDED if inputs.kind == "features" else "none"


def encode(engine: Engine, inputs: list[InputTensor], binary: memoryview) -> list[EncodedInput]:
    """The rows of a request.

    Raises:
        InvalidInput, Unsupported: they cannot be answered; says which tensor is wrong.
    """
    reads = engine.manifest.inputs
    for item in inputs:  # before anything is made of them
        if item.shape:
            in_words_of(item.name, engine.check_rows, item.shape[0])
    tensors = read_tensors(inputs, binary, accepted(reads))
    if isinstance(reads, TensorInputs):
        arrays = {name: tensor.values for name, tensor in tensors.items()}
        return cast(TensorEncoder, engine.inputs).encode_arrays(arrays)
    if reads.kind == "features":
        return encode_features(cast(FeatureEncoder, engine.inputs), tensors)
    encoder = cast(TextEncoder, engine.inputs)
    if "text" in tensors:
        return encode_texts(encoder, tensors)
    return encode_ids(encoder, tensors)


def in_words_of(name: str, encode: Any, *arguments: Any) -> Any:
    """What `encode` gives; where it refuses, it names the tensor."""
    try:
        return encode(*arguments)
    except InvalidInput as error:
        raise error.about(name) from None


def encode_texts(encoder: TextEncoder, tensors: dict[str, Tensor]) -> list[EncodedInput]:
    if len(tensors) > 1:
        raise InvalidInput("invalid_tensor", "text and input_ids are both there, expected one of them.")
    shape, texts = tensors["text"]
    if isinstance(encoder, SpecialTokensEncoder) and encoder.inputs.pairs:
        if len(shape) != 2 or shape[1] != 2:
            raise InvalidInput(
                "invalid_tensor", f"text has shape {shortened(shape)}, expected [rows, 2]: pairs of texts."
            )
        texts = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    elif len(shape) != 1 and shape[1:] != [1]:
        raise InvalidInput("invalid_tensor", f"text has shape {shortened(shape)}, expected [rows] or [rows, 1].")
    return cast(list[EncodedInput], in_words_of("text", encoder.encode, texts))


def encode_ids(encoder: TextEncoder, tensors: dict[str, Tensor]) -> list[EncodedInput]:
    ids = needed(tensors, "input_ids", "text, or input_ids with attention_mask")
    if len(ids.shape) != 2:
        raise InvalidInput("invalid_tensor", f"input_ids has shape {shortened(ids.shape)}, expected [rows, tokens].")
    rows: list[NDArray[np.int64]] = list(ids.values.astype(np.int64, copy=False))
    if (mask := tensors.get("attention_mask")) is not None:
        if mask.shape != ids.shape:
            raise InvalidInput(
                "invalid_tensor",
                f"attention_mask has shape {shortened(mask.shape)}, expected that of input_ids, {ids.shape}.",
            )
        if ((mask.values != 0) & (mask.values != 1)).any():
            raise InvalidInput("invalid_tensor", "attention_mask has other values than 0 and 1.")
        rows = [row[read] for row, read in zip(rows, mask.values == 1, strict=True)]
    return cast(list[EncodedInput], in_words_of("input_ids", encoder.encode_ids, rows))


def encode_features(encoder: FeatureEncoder, tensors: dict[str, Tensor]) -> list[EncodedInput]:
    features = needed(tensors, "features", "features, with lengths where they are padded")
    shape = features.shape
    if len(shape) != 3 or shape[2] != encoder.num_features or not shape[1]:
        raise InvalidInput(
            "invalid_tensor",
            f"features has shape {shortened(shape)}, expected [rows, steps, {encoder.num_features}] with 1 step or "
            "more.",
        )
    lengths = None
    if (sent := tensors.get("lengths")) is not None:
        if sent.shape != shape[:1] or not ((sent.values >= 1) & (sent.values <= shape[1])).all():
            raise InvalidInput("invalid_tensor", f"lengths is not [{shape[0]}] numbers of 1 to {shape[1]} steps.")
        lengths = sent.values.tolist()
    return cast(list[EncodedInput], in_words_of("features", encoder.encode_arrays, features.values, lengths))


def needed(tensors: dict[str, Tensor], name: str, expected: str) -> Tensor:
    if name not in tensors:
        raise InvalidInput("invalid_tensor", f"An input is missing, expected {expected}.")
    return tensors[name]

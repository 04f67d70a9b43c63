"""Embeddings: what the model makes of an input before it classifies it, from the very run that would classify it."""

# R rows, D d_model

import time
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.types import Receive

from runtime.batch import EncodedBatch
from runtime.errors import InvalidInput, UnknownModel
from runtime.inputs import EncodedInput, TextEncoder, describe
from service.answering import run_counted
from service.engine import Engine
from service.limits import read_body
from service.models import Models
from service.openai_schemas import EmbeddingsRequest
from service.schemas import EmbedRequest


def unit(embedding_RD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows at length 1, so that their dot products are cosines; a row of zeros stays as it is."""
    lengths = np.linalg.norm(embedding_RD.astype(np.float64), axis=1, keepdims=True)
    return (embedding_RD / np.where(lengths, lengths, 1.0)).astype(np.float32)


async def embed(models: Models, receive: Receive, max_bytes: int) -> bytes:
    """Answers POST /embed with JSON.

    Raises: as `service.answering.run_counted`; TooLarge, ValidationError.
    """
    body = await read_body(receive, max_bytes)
    started = time.perf_counter()
    request = EmbedRequest.model_validate_json(body)
    engine = models.find(request.model, request.version)

    def encode() -> list[EncodedInput]:
        return engine.encode(request.inputs)

    def write(encoded: list[EncodedInput], batch: EncodedBatch) -> bytes:
        vectors = unit(batch.embedding) if request.normalize else batch.embedding
        rows = [
            {"embedding": vector, "tokens": len(item.tokens), "truncated": item.truncated}
            for vector, item in zip(vectors.tolist(), encoded, strict=True)
        ]
        return to_json(engine.identity | {"embeddings": rows})

    return await run_counted(engine, "inputs", started, encode, write, receive, request.timeout)


async def openai_embeddings(models: Models, receive: Receive, max_bytes: int) -> bytes:
    """Answers POST /v1/embeddings with JSON.

    Raises: as `embed`.
    """
    body = await read_body(receive, max_bytes)
    started = time.perf_counter()
    request = EmbeddingsRequest.model_validate_json(body)
    engine = find_id(models, request.model)
    width = engine.manifest.d_model
    if request.dimensions not in (None, width):
        raise InvalidInput(
            "invalid_dimensions",
            f"dimensions is {request.dimensions}, expected {width}: the embeddings of {request.model} cannot be cut.",
        )

    def write(encoded: list[EncodedInput], batch: EncodedBatch) -> bytes:
        vectors = unit(batch.embedding)
        is_text = request.encoding_format == "base64"
        values: list[Any] = [b64encode(row).decode() for row in vectors] if is_text else vectors.tolist()
        tokens = sum([len(item.tokens) for item in encoded])
        return to_json(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)],
                "model": request.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    return await run_counted(engine, "input", started, lambda: encode_openai(engine, request.input), write, receive)


def encode_openai(engine: Engine, value: Any) -> list[EncodedInput]:
    """Texts or token ids; what is too long is refused, for the answer has no place to say that it was cut."""
    if not isinstance(engine.inputs, TextEncoder):
        name = engine.manifest.name
        raise InvalidInput(
            "invalid_inputs", f"{name} reads float sequences, which OpenAI's API has not: use POST /embed."
        )
    is_ids = isinstance(value, list) and bool(value) and type(value[0]) is int
    rows = engine.as_list([value] if is_ids else value)
    if isinstance(rows[0], list):
        return engine.inputs.encode_ids([token_ids(row, ids) for row, ids in enumerate(rows)])
    encoded = engine.inputs.encode(rows)
    for row, item in enumerate(encoded):
        if item.truncated:
            raise InvalidInput(
                "too_many_tokens",
                f"inputs[{row}] is longer than the {engine.inputs.max_tokens} tokens that the model reads: send less, "
                "or use POST /embed, which cuts it and says so.",
            )
    return encoded


def token_ids(row: int, ids: Any) -> NDArray[np.int64]:
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        found = "a list with other things" if isinstance(ids, list) else describe(ids)
        raise InvalidInput("invalid_inputs", f"inputs[{row}] is {found}, expected a list of token ids.")
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:
        raise InvalidInput("unknown_token", f"inputs[{row}] has a number that is no token id.") from None


def find_id(models: Models, identifier: str) -> Engine:
    """The engine of an OpenAI model id: a name, or name:version.

    Raises:
        UnknownModel: there is none; says which there are.
    """
    try:
        return models.find(identifier)
    except UnknownModel:
        name, colon, version = identifier.rpartition(":")
        if not colon:
            raise
        return models.find(name, version)


def model_ids(models: Models) -> dict[str, Engine]:
    """What a request may call the models: each name, which is its highest version, and each name:version."""
    names = {engine.manifest.name: models.find(engine.manifest.name) for engine in models}
    return names | {f"{engine.manifest.name}:{engine.manifest.version}": engine for engine in models}

"""Embeddings, for people and for OpenAI's clients."""

import time
from base64 import b64encode
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import Field, WithJsonSchema
from pydantic_core import to_json

from runtime.errors import InvalidInput, UnknownModel
from runtime.graph.batch import EncodedBatch, unit
from runtime.graph.inputs import EncodedInput, describe
from runtime.graph.texts import TextEncoder
from runtime.words import shortened
from service.api.inference import Embedding, respond
from service.http.errors import OpenAIErrorBody
from service.http.openapi import INFERENCE, SERVER_TIMING, UNKNOWN_MODEL, Responses, json_body
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import Inference, ServingContext
from service.schemas.base import Body
from service.schemas.inference import EmbedRequest, EmbedResponse

MISSING: Responses = {404: {"model": OpenAIErrorBody, "description": "No such model or version"}}
OPENAI: Responses = {status: answer | {"model": OpenAIErrorBody} for status, answer in INFERENCE.items()} | MISSING

IDS = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
Input = Annotated[
    Any,
    WithJsonSchema(
        {
            "description": "A text, a list of texts, token ids, or a list of lists of them.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                IDS,
                {"type": "array", "minItems": 1, "items": IDS},
            ],
        }
    ),
]


def add_embeddings(app: FastAPI, context: ServingContext) -> None:
    models = context.models

    @app.post(
        "/embed",
        responses=INFERENCE | UNKNOWN_MODEL | SERVER_TIMING,
        openapi_extra=json_body(EmbedRequest, example={"inputs": ["what is my balance", "will it rain"]}),
        response_model=EmbedResponse,
    )
    async def embed_inputs(request: Request) -> Response:
        """The embedding of every input; of length 1 where `normalize` or, without it, the model says so.

        The body is read as JSON, whatever its Content-Type.
        """
        return await respond("/embed", Embedding, context, request)

    @app.post(
        "/v1/embeddings",
        responses=OPENAI | SERVER_TIMING,
        openapi_extra=json_body(EmbeddingsRequest, example={"model": "intents", "input": ["what is my balance"]}),
        response_model=EmbeddingsResponse,
    )
    async def v1_embeddings(request: Request) -> Response:
        """Embeddings of length 1, as OpenAI's clients ask for them."""
        return await respond("/v1/embeddings", OpenAIInference, context, request)

    @app.get("/v1/models")
    async def v1_models() -> ModelsResponse:
        """What a request may call the models: each name, which is its highest version, and each name:version."""
        return ModelsResponse(data=[described(name, engine) for name, engine in model_ids(models).items()])

    @app.get("/v1/models/{model}", responses=MISSING)
    async def v1_model(model: str) -> OpenAIModel:
        """One of them."""
        return described(model, find_id(models, model))


class OpenAIModel(Body):
    id: str
    object: Literal["model"] = "model"
    created: int
    """When it was exported; Unix seconds."""
    owned_by: str = "addnorm"


def described(name: str, engine: Engine) -> OpenAIModel:
    return OpenAIModel(id=name, created=int(datetime.fromisoformat(engine.manifest.created).timestamp()))


class OpenAIInference(Inference[bytes]):
    """A request to /v1/embeddings, which is answered with JSON.

    Raises:
        ValidationError: the body is not an EmbeddingsRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("request",)

    def __init__(self, context: ServingContext, body: bytes) -> None:
        started = time.perf_counter()
        self.request = request = EmbeddingsRequest.model_validate_json(body)
        engine = find_id(context.models, request.model)
        width = engine.manifest.d_model
        if request.dimensions not in (None, width):
            raise InvalidInput(
                "invalid_dimensions",
                f"dimensions is {shortened(request.dimensions)}, expected {width}: "
                f"the embeddings of {request.model} cannot be cut.",
            )
        super().__init__(engine, started, None)

    @property
    def inputs_name(self) -> str:
        return "input"

    def encode(self) -> list[EncodedInput]:
        return encode_openai(self.engine, self.request.input)

    def write(self, batch: EncodedBatch) -> bytes:
        vectors = unit(batch.embedding)
        is_text = self.request.encoding_format == "base64"
        values: list[Any] = [b64encode(row).decode() for row in vectors] if is_text else vectors.tolist()
        tokens = sum([len(item.tokens) for item in self.encoded])
        return to_json(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)],
                "model": self.request.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


def encode_openai(engine: Engine, value: Any) -> list[EncodedInput]:
    """Texts or token ids; what is too long is refused, for the answer has no place to say that it was cut."""
    if not isinstance(engine.inputs, TextEncoder):
        name = engine.manifest.name
        raise InvalidInput(
            "invalid_inputs", f"{name} reads float sequences, which OpenAI's API has not: use POST /embed."
        )
    engine.require("classification", "embedding")
    engine.require_single_texts()
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


def find_id(models: ModelRegistry, identifier: str) -> Engine:
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


def model_ids(models: ModelRegistry) -> dict[str, Engine]:
    """What a request may call the models: each name, which is its highest version, and each name:version."""
    names = {engine.manifest.name: models.find(engine.manifest.name) for engine in models}
    return names | {f"{engine.manifest.name}:{engine.manifest.version}": engine for engine in models}


class EmbeddingsRequest(Body):
    """What to embed."""

    input: Input
    model: str
    """A model's name, or name:version."""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: of little-endian float32."""
    dimensions: int | None = Field(None, strict=True)
    """Nothing but the model's own width is possible."""
    user: str | None = None
    """Is not looked at."""


class OpenAIEmbedding(Body):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Of length 1."""


class Usage(Body):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Body):
    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: Usage


class ModelsResponse(Body):
    object: Literal["list"] = "list"
    data: list[OpenAIModel]

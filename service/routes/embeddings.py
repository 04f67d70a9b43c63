"""Embeddings, for people and for OpenAI's clients."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.answering import answered
from service.embeddings import embed, find_id, model_ids, openai_embeddings
from service.engine import Engine
from service.errors import OpenAIErrorBody
from service.models import Models
from service.openai_schemas import EmbeddingsRequest, EmbeddingsResponse, ModelsResponse, OpenAIModel
from service.routes.common import INFERENCE, UNKNOWN_MODEL, JSONBytes, Responses, json_body
from service.schemas import EmbedRequest, EmbedResponse
from service.settings import Settings
from service.window import parse_time

MISSING: Responses = {404: {"model": OpenAIErrorBody, "description": "No such model or version"}}
OPENAI: Responses = {status: answer | {"model": OpenAIErrorBody} for status, answer in INFERENCE.items()} | MISSING


def add_embeddings(app: FastAPI, models: Models, settings: Settings) -> None:
    max_bytes = settings.max_body_bytes

    @app.post(
        "/embed",
        responses=INFERENCE | UNKNOWN_MODEL,
        openapi_extra=json_body(EmbedRequest, example={"inputs": ["what is my balance", "will it rain"]}),
        response_model=EmbedResponse,
    )
    async def embed_inputs(request: Request) -> Response:
        """The embedding of every input, of length 1. The body is read as JSON, whatever its Content-Type."""
        return as_response(await answered(embed(models, request.receive, max_bytes), "/embed", "/embed"))

    @app.post(
        "/v1/embeddings",
        responses=OPENAI,
        openapi_extra=json_body(EmbeddingsRequest, example={"model": "intents", "input": ["what is my balance"]}),
        response_model=EmbeddingsResponse,
    )
    async def v1_embeddings(request: Request) -> Response:
        """Embeddings of length 1, as OpenAI's clients ask for them."""
        work = openai_embeddings(models, request.receive, max_bytes)
        return as_response(await answered(work, "/v1/embeddings", "/v1/embeddings"))

    @app.get("/v1/models")
    async def v1_models() -> ModelsResponse:
        """What a request may call the models: each name, which is its highest version, and each name:version."""
        return ModelsResponse(data=[described(name, engine) for name, engine in model_ids(models).items()])

    @app.get("/v1/models/{model}", responses=MISSING)
    async def v1_model(model: str) -> OpenAIModel:
        """One of them."""
        return described(model, find_id(models, model))


def as_response(answer: bytes | Response) -> Response:
    return answer if isinstance(answer, Response) else JSONBytes(answer)


def described(name: str, engine: Engine) -> OpenAIModel:
    return OpenAIModel(id=name, created=int(parse_time("created", engine.manifest.created)))

"""POST /rerank, /similarity and /tokenize: what adopted text encoders are asked besides labels and embeddings."""

import time
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch, unit
from runtime.graph.inputs import EncodedInput
from runtime.graph.texts import check_text
from service.api.inference import respond
from service.batching.queue import Answer
from service.http.bodies import JSONBytes, read_body
from service.http.errors import result_or_error
from service.http.openapi import INFERENCE, INVALID, SERVER_TIMING, STOPPING, TOO_LARGE, UNKNOWN_MODEL, json_body
from service.inference.registry import ModelRegistry
from service.inference.request import Inference, ServingContext
from service.inference.results import relevance
from service.schemas.ranking import (
    RerankRequest,
    RerankResponse,
    SimilarityRequest,
    SimilarityResponse,
    TokenizeRequest,
    TokenizeResponse,
)

DOCUMENTS = {"query": "how do i block my card", "documents": ["Cards can be frozen in the app.", "We open at nine."]}
SENTENCES = {"source_sentence": "my card is lost", "sentences": ["where is my card", "book a flight"]}


def add_ranking(app: FastAPI, context: ServingContext) -> None:
    @app.post(
        "/rerank",
        responses=INFERENCE | UNKNOWN_MODEL | SERVER_TIMING,
        openapi_extra=json_body(RerankRequest, example=DOCUMENTS),
        response_model=RerankResponse,
    )
    async def rerank(request: Request) -> Response:
        """Sorts documents by how well they answer a query. For models that rerank (cross-encoders)."""
        return await respond("/rerank", Reranking, context, request)

    @app.post(
        "/similarity",
        responses=INFERENCE | UNKNOWN_MODEL | SERVER_TIMING,
        openapi_extra=json_body(SimilarityRequest, example=SENTENCES),
        response_model=SimilarityResponse,
    )
    async def similarity(request: Request) -> Response:
        """How near each sentence is to a source: the cosine of their embeddings."""
        return await respond("/similarity", Similarity, context, request)

    @app.post(
        "/tokenize",
        responses=INVALID | TOO_LARGE | STOPPING | UNKNOWN_MODEL,
        openapi_extra=json_body(TokenizeRequest, example={"inputs": ["what is my balance"]}),
        response_model=TokenizeResponse,
    )
    async def tokenize(request: Request) -> Response:
        """The tokens that a model reads of each input."""

        async def work() -> bytes:
            return tokenized(context.models, TokenizeRequest.model_validate_json(await read_body(request.receive)))

        answer = await result_or_error(work(), "/tokenize", "/tokenize")
        return answer if isinstance(answer, Response) else JSONBytes(answer)


def tokenized(models: ModelRegistry, request: TokenizeRequest) -> bytes:
    engine = models.find(request.model, request.version)
    rows = engine.texts.tokenize(engine.as_list(request.inputs), request.prompt_name)
    return to_json(engine.identity | {"tokens": rows})


class Reranking(Inference[bytes]):
    """A request to /rerank, which is answered with JSON.

    Raises:
        ValidationError: the body is not a RerankRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("request",)

    def __init__(self, context: ServingContext, body: bytes) -> None:
        started = time.perf_counter()
        self.request = request = RerankRequest.model_validate_json(body)
        engine = context.models.find(request.model, request.version)
        engine.require("rerank")
        super().__init__(engine, started, request.timeout)

    @property
    def inputs_name(self) -> str:
        return "documents"

    def encode(self) -> list[EncodedInput]:
        query = self.request.query
        check_text(query, "query")
        return self.engine.encode([[query, document] for document in self.request.documents])

    def write(self, batch: EncodedBatch) -> bytes:
        request, logits = self.request, batch.logits[:, 0]
        scores = logits if request.raw_scores else relevance(self.engine.manifest, batch)
        order = np.argsort(-logits, kind="stable")[: request.top_n].tolist()
        results: list[dict[str, Any]] = [{"index": i, "relevance_score": float(scores[i])} for i in order]
        if request.return_documents:
            for result in results:
                result["document"] = request.documents[result["index"]]
        truncated = [index for index, item in enumerate(self.encoded) if item.truncated]
        return to_json(self.engine.identity | {"results": results, "truncated": truncated})


class Similarity(Inference[bytes]):
    """A request to /similarity, which is answered with JSON.

    Raises:
        ValidationError: the body is not a SimilarityRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("request",)

    def __init__(self, context: ServingContext, body: bytes) -> None:
        started = time.perf_counter()
        self.request = request = SimilarityRequest.model_validate_json(body)
        engine = context.models.find(request.model, request.version)
        engine.require("classification", "embedding")
        engine.require_single_texts()
        super().__init__(engine, started, request.timeout)

    @property
    def inputs_name(self) -> str:
        return "sentences"

    def encode(self) -> list[EncodedInput]:
        encoder, request = self.engine.texts, self.request
        self.engine.check_rows(len(request.sentences))
        sentences = encoder.encode(request.sentences, request.prompt_name)
        try:
            return [*sentences, *encoder.encode([request.source_sentence], request.prompt_name)]
        except InvalidInput as error:
            raise about_source(error, 0) from None

    def finish(self, answer: Answer) -> bytes:
        try:
            return super().finish(answer)
        except InvalidInput as error:  # a row overflows the model
            raise about_source(error, len(self.request.sentences)) from None

    def write(self, batch: EncodedBatch) -> bytes:
        vectors = unit(batch.embedding)
        cosines = np.clip(vectors[:-1] @ vectors[-1], -1.0, 1.0)  # rounding leads a little beyond
        return to_json(self.engine.identity | {"similarities": cosines.tolist()})


def about_source(error: InvalidInput, row: int) -> InvalidInput:
    """The error, in which the source sentence, which was that row of the inputs, has its name."""
    return InvalidInput(error.code, str(error).replace(f"inputs[{row}]", "source_sentence"))

"""Predictions, and what answers them."""

import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from runtime.graph.batch import EncodedBatch, unit
from runtime.graph.inputs import EncodedInput
from service.http.bodies import JSONBytes, read_body
from service.http.errors import result_or_error
from service.http.openapi import INFERENCE, NOT_LOADED, SERVER_TIMING, UNKNOWN_MODEL, ModelName, ModelVersion, json_body
from service.inference.engine import Engine
from service.inference.request import Inference, Prediction, ServingContext, Understand, run
from service.schemas.inference import EmbedRequest, PredictRequest, PredictResponse
from service.schemas.models import InputLogKind, ModelResponse, PlanInUse, Unobserved
from service.telemetry.counters import PREDICT, Phases, server_timing
from service.telemetry.input_log import InputLog
from service.telemetry.request_log import PHASES

EXAMPLE = {"inputs": ["what is my balance", "will it rain"], "top_k": 2, "norm_stats": True}


def add_inference(app: FastAPI, context: ServingContext) -> None:
    @app.post(
        "/predict",
        responses=INFERENCE | UNKNOWN_MODEL | SERVER_TIMING,
        openapi_extra=json_body(PredictRequest, example=EXAMPLE),
        response_model=PredictResponse,
    )
    async def predict(request: Request) -> Response:
        """Classifies one or more inputs. The body is read as JSON, whatever its Content-Type."""
        return await respond(PREDICT, Prediction, context, request)

    @app.get("/model", responses=UNKNOWN_MODEL | NOT_LOADED)
    async def model(name: ModelName = None, version: ModelVersion = None) -> ModelResponse:
        """What is served, how it was made, and where it runs."""
        engine = context.models.find(name, version)
        manifest, placement = engine.manifest, engine.placement
        return ModelResponse(
            task=manifest.task,
            labels=manifest.labels,
            activation=manifest.activation,
            normalize=manifest.normalize,
            inputs=manifest.inputs.model_dump(),
            layers=manifest.layer_names,
            unobserved=[Unobserved(name=layer.name, reason=layer.reason) for layer in manifest.unobserved],
            training=manifest.training,
            precision=manifest.precision.model_dump() if manifest.precision else {"kind": "fp32"},
            plan=PlanInUse(name=placement.plan, source=placement.plan_source, measured=manifest.plan),
            input_log=kept_by(context.request_log.inputs),
            **identity(engine),
        )


async def respond(path: str, understand: Understand, context: ServingContext, request: Request) -> Response:
    """The response to a request to `path` that is answered with JSON.

    Raises:
        ClientDisconnect: the client left before.
    """

    async def work() -> tuple[bytes, Phases]:
        inference = understand(context, await read_body(request.receive))
        return await run(inference, request.receive), inference.phases

    answer = await result_or_error(work(), path, path)
    if isinstance(answer, Response):
        return answer
    body, phases = answer
    request.scope[PHASES] = phases
    return JSONBytes(body, headers={"Server-Timing": server_timing(phases).decode()})


class Embedding(Inference[bytes]):
    """A request to /embed, which is answered with JSON.

    Raises:
        ValidationError: the body is not an EmbedRequest.
        AddNormError: it cannot be answered.
    """

    __slots__ = ("request",)

    def __init__(self, context: ServingContext, body: bytes) -> None:
        started = time.perf_counter()
        self.request = request = EmbedRequest.model_validate_json(body)
        engine = context.models.find(request.model, request.version)
        engine.require("classification", "embedding")
        super().__init__(engine, started, request.timeout, input_log=context.request_log.inputs)

    def sent(self) -> list[Any]:
        return self.engine.as_list(self.request.inputs)

    def encode(self) -> list[EncodedInput]:
        return self.engine.encode(self.request.inputs, self.request.prompt_name)

    def write(self, batch: EncodedBatch) -> bytes:
        asked = self.request.normalize
        normalize = self.engine.manifest.normalize if asked is None else asked
        vectors = unit(batch.embedding) if normalize else batch.embedding
        rows = [
            {"embedding": vector, "tokens": len(item.tokens), "truncated": item.truncated}
            for vector, item in zip(vectors.tolist(), self.encoded, strict=True)
        ]
        return to_json(self.engine.identity | {"embeddings": rows})


def identity(engine: Engine) -> dict[str, str]:
    placement = engine.placement
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "provider": placement.provider,
        "device": placement.device,
        "requested_device": placement.requested,
        "fallback_reason": placement.reason,
        "engine": placement.engine,
        "precision_in_use": placement.precision,
        "precision_fallback": placement.precision_fallback,
    }


def kept_by(log: InputLog | None) -> InputLogKind:
    if log is None:
        return "none"
    return "scores" if log.pattern is None else "texts"

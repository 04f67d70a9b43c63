"""Predictions, and what answers them."""

import asyncio
import time

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.batching.queue import Answer
from service.http.bodies import JSONBytes, read_body
from service.http.errors import answered
from service.http.openapi import INFERENCE, NOT_LOADED, SERVER_TIMING, UNKNOWN_MODEL, ModelName, ModelVersion, json_body
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import CancelOnDisconnect, Content, Prediction, ServingContext, run_counted
from service.inference.results import unit
from service.schemas.inference import EmbedRequest, PredictRequest, PredictResponse
from service.schemas.models import ModelResponse, PlanInUse
from service.telemetry.counters import PREDICT, server_timing
from service.telemetry.request_log import PHASES

EXAMPLE = {"inputs": ["what is my balance", "will it rain"], "top_k": 2, "norm_stats": True}


async def respond(context: ServingContext, receive: Receive) -> Content | Response:
    """The answer to the request whose body `receive` gives, or the response that says why there is none.

    Raises:
        ClientDisconnect: the client left before.
    """
    return await answered(_content(context, receive), PREDICT, PREDICT)


async def _content(context: ServingContext, receive: Receive) -> Content:
    body = await read_body(receive, context.max_bytes)
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    prediction = Prediction(context, body, answer)
    try:
        async with CancelOnDisconnect(receive):
            return prediction.content(await answer)
    except (ClientDisconnect, asyncio.CancelledError):
        prediction.abandon()
        raise
    except Exception:
        prediction.fail()
        raise


def add_inference(app: FastAPI, models: ModelRegistry, context: ServingContext) -> None:
    @app.post(
        "/predict",
        responses=INFERENCE | UNKNOWN_MODEL | SERVER_TIMING,
        openapi_extra=json_body(PredictRequest, example=EXAMPLE),
        response_model=PredictResponse,
    )
    async def predict(request: Request) -> Response:
        """Classifies one or more inputs. The body is read as JSON, whatever its Content-Type.

        `Server-Timing` says where the time went: parse, tokenize, queue, infer and serialize.
        """
        answer = await respond(context, request.receive)
        if isinstance(answer, Response):
            return answer
        request.scope[PHASES] = answer.phases
        return JSONBytes(answer.body, headers={"Server-Timing": server_timing(answer.phases)})

    @app.get("/model", responses=UNKNOWN_MODEL | NOT_LOADED)
    async def model(name: ModelName = None, version: ModelVersion = None) -> ModelResponse:
        """What is served, how it was made, and where it runs."""
        engine = models.find(name, version)
        manifest, placement = engine.manifest, engine.placement
        return ModelResponse(
            task=manifest.task,
            labels=manifest.labels,
            inputs=manifest.inputs.model_dump(),
            layers=manifest.layer_names,
            training=manifest.training,
            precision=manifest.precision.model_dump() if manifest.precision else {"kind": "fp32"},
            plan=PlanInUse(name=placement.plan, source=placement.plan_source, measured=manifest.plan),
            **identity(engine),
        )


async def embed(models: ModelRegistry, receive: Receive, max_bytes: int) -> bytes:
    """Answers POST /embed with JSON.

    Raises: as `service.http.errors.run_counted`; TooLarge, ValidationError.
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


def identity(engine: Engine) -> dict[str, str]:
    placement = engine.placement
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "provider": placement.provider,
        "device": placement.device,
        "requested_device": placement.requested,
        "fallback_reason": placement.reason,
    }

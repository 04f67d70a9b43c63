"""Predictions, and what answers them."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.models import Models
from service.noted import PHASES
from service.predict import Desk, respond, server_timing
from service.routes.common import (
    INFERENCE,
    NOT_LOADED,
    SERVER_TIMING,
    UNKNOWN_MODEL,
    JSONBytes,
    ModelName,
    ModelVersion,
    identity,
    json_body,
)
from service.schemas import ModelResponse, PlanInUse, PredictRequest, PredictResponse

EXAMPLE = {"inputs": ["what is my balance", "will it rain"], "top_k": 2, "norm_stats": True}


def add_inference(app: FastAPI, models: Models, desk: Desk) -> None:
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
        answer = await respond(desk, request.receive)
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

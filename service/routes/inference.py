"""Predictions, and what answers them."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from service.journal import Journal
from service.models import Models
from service.predict import PredictRoute
from service.routes.common import INFERENCE, JSONBytes, identity
from service.schemas import ModelResponse, PlanInUse, PredictRequest, PredictResponse
from service.settings import Settings

PREDICT_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}
}


def add_inference(app: FastAPI, models: Models, settings: Settings, journal: Journal) -> None:
    route = PredictRoute(app, models, settings.max_body_bytes, journal)

    @app.post("/predict", responses=INFERENCE, openapi_extra=PREDICT_BODY, response_model=PredictResponse)
    async def predict(request: Request) -> Response:
        """Classifies one or more inputs. The body is read as JSON, whatever its Content-Type.

        `Server-Timing` says where the time went: parse, tokenize, queue, infer and serialize.
        """
        answer = await route.respond(request.receive)
        if isinstance(answer, Response):
            return answer
        return JSONBytes(answer.content, headers={"Server-Timing": answer.timing})

    @app.get("/model")
    async def model() -> ModelResponse:
        """What is served, how it was made, and where it runs."""
        engine = models.default
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

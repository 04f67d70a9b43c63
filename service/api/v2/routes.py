"""The routes of the Open Inference Protocol, all but loading and unloading models."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response

from service.api.norm_stats import BAD_WINDOW, Reports, Window
from service.api.v2.infer import InferMiddleware, target_of
from service.api.v2.metadata import model_config, model_metadata, model_statistics, server_metadata
from service.api.v2.schemas import (
    InferRequest,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    StatisticsResponse,
)
from service.http.openapi import GONE, INFERENCE, SERVER_TIMING, STOPPING, Responses, error, header, json_body
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import AllLayers, OneLayer
from service.schemas.norm_stats import LayerResponse, NormStatsResponse
from service.settings import Settings
from service.telemetry.aggregator import Reporter

UNKNOWN = error(404, "No such model, version or layer")
UNSUPPORTED = error(501, "A part of the protocol that is not supported")
LENGTH_HEADER = "Inference-Header-Content-Length"
EXAMPLE = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["what is my balance"]}]}
SIZE = {"type": "integer", "minimum": 0}
PARAMETERS = [
    header(LENGTH_HEADER, "Bytes of the JSON, before binary tensors; 0: the body is one raw input", SIZE),
    header("Content-Encoding", "How the body is compressed", {"type": "string", "enum": ["gzip", "deflate"]}),
    header("Accept-Encoding", "gzip or deflate: how the answer may be compressed", {"type": "string"}),
]
INFER = json_body(InferRequest, "application/octet-stream", example=EXAMPLE) | {"parameters": PARAMETERS}
BINARY: Responses = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            LENGTH_HEADER: {"description": "Bytes of the JSON, before binary tensors", "schema": SIZE},
            "Content-Encoding": {"schema": {"type": "string", "enum": ["gzip", "deflate"]}},
            **SERVER_TIMING[200]["headers"],
        },
    }
}
Find = Callable[..., Any]


def add_oip(app: FastAPI, models: ModelRegistry, settings: Settings, reporter: Reporter, reports: Reports) -> None:
    @app.get("/v2")
    async def v2_server() -> ServerMetadata:
        """The server, and which extensions of the protocol it has."""
        return server_metadata(settings)

    @app.head("/v2/health/live", include_in_schema=False)
    @app.get("/v2/health/live")
    async def v2_live() -> ServerLive:
        """The process answers."""
        return ServerLive(live=True)

    @app.head("/v2/health/ready", include_in_schema=False)
    @app.get("/v2/health/ready", responses=STOPPING)
    def v2_ready() -> ServerReady:
        """Every loaded model answers, and where models are loaded over HTTP, more may be; 503 when stopping."""
        reporter.sink.check_ready()
        return ServerReady(ready=True)

    @app.get("/v2/models/stats")
    async def v2_all_statistics() -> StatisticsResponse:
        """Requests, batches and where their time went, of every model."""
        inferences = await reporter.inferences()
        return StatisticsResponse(model_stats=[model_statistics(engine, inferences) for engine in models])

    async def named(model: str) -> Engine:
        return models.find(model)

    async def versioned(model: str, version: str) -> Engine:
        return models.find(model, version)

    route = InferMiddleware(app, models, settings.max_body_bytes)
    for prefix, find in (("/v2/models/{model}", named), ("/v2/models/{model}/versions/{version}", versioned)):
        add_model(app, models, prefix, find)
        add_statistics(app, models, reporter, prefix, find)
        add_norm_stats(app, prefix, find, reports)
        add_infer(app, route, prefix, find)


def add_model(app: FastAPI, models: ModelRegistry, prefix: str, find: Find) -> None:
    @app.get(prefix, responses=UNKNOWN)
    async def v2_model(engine: Annotated[Engine, Depends(find)]) -> ModelMetadata:
        """The input that it needs, and the outputs it has."""
        return model_metadata(models, engine)

    @app.get(f"{prefix}/ready", responses=UNKNOWN)
    async def v2_model_ready(engine: Annotated[Engine, Depends(find)]) -> ModelReady:
        """It is loaded and answers; 404 where it is not."""
        return ModelReady(name=engine.manifest.name, ready=True)

    @app.get(f"{prefix}/config", responses=UNKNOWN)
    async def v2_model_config(engine: Annotated[Engine, Depends(find)]) -> ModelConfig:
        """The same as Triton words it, with the most rows of a request."""
        return model_config(engine)


def add_statistics(app: FastAPI, models: ModelRegistry, reporter: Reporter, prefix: str, find: Find) -> None:
    one = prefix.endswith("{version}")

    @app.get(f"{prefix}/stats", responses=UNKNOWN)
    async def v2_statistics(engine: Annotated[Engine, Depends(find)]) -> StatisticsResponse:
        """Requests, batches and where their time went; of every version where none is named."""
        name = engine.manifest.name
        engines = [engine] if one else [models.find(name, version) for version in models.versions(name)]
        inferences = await reporter.inferences()
        return StatisticsResponse(model_stats=[model_statistics(each, inferences) for each in engines])


def add_norm_stats(app: FastAPI, prefix: str, find: Find, reports: Reports) -> None:
    @app.get(f"{prefix}/norm-stats", responses=BAD_WINDOW | UNKNOWN | GONE, response_model=NormStatsResponse)
    async def v2_norm_stats(engine: Annotated[Engine, Depends(find)], query: Window) -> Response:
        """GET /norm-stats of this model."""
        return await reports.answer(engine.collector, AllLayers(query))

    @app.get(f"{prefix}/norm-stats/{{layer}}", responses=BAD_WINDOW | UNKNOWN | GONE, response_model=LayerResponse)
    async def v2_norm_stats_of_one_layer(
        engine: Annotated[Engine, Depends(find)], layer: str, query: Window
    ) -> Response:
        """GET /norm-stats/{layer} of this model."""
        return await reports.answer(engine.collector, OneLayer(query, layer))


def add_infer(app: FastAPI, route: InferMiddleware, prefix: str, find: Find) -> None:
    @app.post(
        f"{prefix}/infer",
        responses=INFERENCE | UNKNOWN | UNSUPPORTED | BINARY,
        openapi_extra=INFER,
        response_model=InferResponse,
        dependencies=[Depends(find)],
    )
    async def v2_infer(request: Request) -> Response:
        """Logits, probabilities, label, score, embedding and, where asked for, what the norms saw.

        The body is read as JSON, with binary tensors behind it where Inference-Header-Content-Length says so.
        """
        target = target_of(request.url.path)
        assert target is not None
        reply = await route.respond(target, request.scope, request.receive)
        if isinstance(reply, Response):
            return reply
        response = Response(reply.content)
        response.raw_headers = reply.headers
        return response

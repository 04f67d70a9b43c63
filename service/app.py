"""The application: routes over one engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import RedirectResponse, Response

from service.collector import Asked
from service.engine import Engine
from service.errors import ErrorBody, install_error_handlers
from service.keys import ApiKeys
from service.limits import BodyLimit
from service.predict import PredictRoute
from service.schemas import Live, ModelResponse, PlanInUse, PredictRequest, PredictResponse, Ready
from service.settings import Settings
from service.statistics_schemas import BaselineResponse, CompareResponse, LayerResponse, NormStatsResponse

INVALID: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request cannot be answered"},
    413: {"model": ErrorBody, "description": "Too many inputs, or too large a body"},
    429: {"model": ErrorBody, "description": "Too much waits already; Retry-After says how long to wait"},
    503: {"model": ErrorBody, "description": "The service is stopping"},
    504: {"model": ErrorBody, "description": "The answer was not ready in time"},
}
BAD_WINDOW: dict[int | str, dict[str, Any]] = {400: {"model": ErrorBody, "description": "No such window of time"}}
GUARDED: dict[int | str, dict[str, Any]] = {401: {"model": ErrorBody, "description": "An API key is needed"}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody, "description": "There is nothing to undo"}}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "No such layer"}}
WindowName = Annotated[str | None, Query(alias="window", description="5m, 1h, 24h or all (the default)")]
WindowStart = Annotated[str | None, Query(alias="from", description="ISO 8601 or Unix seconds, instead of window")]
WindowEnd = Annotated[str | None, Query(alias="to", description="ISO 8601 or Unix seconds; now where it is missing")]
Against = Annotated[str, Query(description="5m, 1h, 24h (the default), all, or version:N")]


async def _asked(window: WindowName = None, start: WindowStart = None, end: WindowEnd = None) -> Asked:
    return Asked(window, start, end)


AskedWindow = Annotated[Asked, Depends(_asked)]
PREDICT_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}
}


class JSONBytes(Response):
    """JSON that is written already."""

    media_type = "application/json"


def create_app(settings: Settings, engine: Engine | None = None) -> FastAPI:
    """Builds the application.

    Args:
        engine: the loaded model; loaded as the settings say where it is not given.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    engine = engine or Engine(settings)
    app = FastAPI(title="AddNorm", version=engine.manifest.version, lifespan=_lifespan(engine))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    install_error_handlers(app)
    _add_inference(app, engine, settings.max_body_bytes)
    _add_statistics(app, engine, ApiKeys.of(settings))
    _add_health(app, engine)
    return app


def create_front(settings: Settings, engine: Engine) -> PredictRoute:
    """The application behind its fast route: what a server runs."""
    return PredictRoute(create_app(settings, engine), engine, settings.max_body_bytes)


def _lifespan(engine: Engine) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await engine.close()

    return lifespan


def _add_inference(app: FastAPI, engine: Engine, max_bytes: int) -> None:
    route = PredictRoute(app, engine, max_bytes)

    @app.post("/predict", responses=INVALID, openapi_extra=PREDICT_BODY, response_model=PredictResponse)
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
        manifest, placement = engine.manifest, engine.placement
        return ModelResponse(
            task=manifest.task,
            labels=manifest.labels,
            inputs=manifest.inputs.model_dump(),
            layers=manifest.layer_names,
            training=manifest.training,
            precision=manifest.precision.model_dump() if manifest.precision else {"kind": "fp32"},
            plan=PlanInUse(name=placement.plan, source=placement.plan_source, measured=manifest.plan),
            **_identity(engine),
        )


def _add_statistics(app: FastAPI, engine: Engine, keys: ApiKeys) -> None:
    """The routes are plain functions: they run in threads, beside the event loop that answers predictions."""
    collector = engine.collector

    @app.get("/norm-stats", responses=BAD_WINDOW, response_model=NormStatsResponse)
    def norm_stats_of_all_layers(asked: AskedWindow) -> Response:
        """What flowed into every normalization layer, beside the baseline, and whether it looks as it did there."""
        return JSONBytes(collector.all_layers(asked))

    @app.get("/norm-stats/state", responses=BAD_WINDOW)
    def norm_stats_state(asked: AskedWindow) -> Response:
        """The mergeable state behind the numbers: `addnorm stats merge` adds up those of several hosts."""
        return JSONBytes(collector.state(asked))

    @app.get("/norm-stats/compare", responses=BAD_WINDOW, response_model=CompareResponse)
    def norm_stats_compare(asked: AskedWindow, against: Against = "24h") -> Response:
        """Effect sizes of a window of traffic against another, or against what another version saw."""
        return JSONBytes(collector.compare(asked, against))

    guard = [Depends(keys)]

    @app.post(
        "/norm-stats/baseline", responses=BAD_WINDOW | GUARDED, dependencies=guard, response_model=BaselineResponse
    )
    def take_baseline(asked: AskedWindow) -> Response:
        """Makes a window of live traffic the baseline; the one before is kept, and DELETE goes back to it."""
        return JSONBytes(collector.take_baseline(asked))

    @app.delete(
        "/norm-stats/baseline", responses=GUARDED | CONFLICT, dependencies=guard, response_model=BaselineResponse
    )
    def drop_baseline() -> Response:
        """Goes back to the baseline before."""
        return JSONBytes(collector.drop_baseline())

    @app.get("/norm-stats/{layer}", responses=BAD_WINDOW | UNKNOWN, response_model=LayerResponse)
    def norm_stats_of_one_layer(layer: str, asked: AskedWindow) -> Response:
        """The same for one layer, by its name."""
        return JSONBytes(collector.one_layer(asked, layer))


def _add_health(app: FastAPI, engine: Engine) -> None:
    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/health/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @app.get("/health/ready")
    def ready() -> Ready:
        """The model is loaded, verified against its canary, and runs on this provider."""
        collector = engine.collector
        return Ready(**_identity(engine), workers=collector.workers, statistics=collector.storage())


def _identity(engine: Engine) -> dict[str, str]:
    placement = engine.placement
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "provider": placement.provider,
        "device": placement.device,
        "requested_device": placement.requested,
        "fallback_reason": placement.reason,
    }

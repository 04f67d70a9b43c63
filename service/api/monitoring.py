"""What the service answers, and how fast: for people and pages, and for Prometheus."""

from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Header
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from service.api.inference import identity
from service.http.openapi import GONE, NOT_LOADED, Responses
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.schemas.models import Live, Ready
from service.schemas.traffic import ServedModel, TrafficResponse
from service.telemetry.aggregator import CountSink, Report, Reporter
from service.telemetry.report import traffic_response

if TYPE_CHECKING:
    from service.telemetry.prometheus import ObservedModel

PROMETHEUS: Responses = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }
    }
}


def add_traffic(app: FastAPI, models: ModelRegistry, reporter: Reporter) -> None:
    @app.get("/traffic", responses=GONE)
    async def traffic() -> TrafficResponse:
        """Requests, rows, tokens, latencies and refusals of all workers: since the start, and lately."""
        report = await reporter.report()
        served = await run_in_threadpool(lambda: [served_model(engine) for engine in models])
        return traffic_response(report, served)

    @app.get("/metrics", responses=PROMETHEUS | GONE, response_class=Response)
    async def metrics(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
        """The same for Prometheus, with each layer's mean, variance and drift score over the last hour.

        OpenMetrics where `Accept` asks for it.
        """
        report = await reporter.report()
        content, content_type = await run_in_threadpool(_rendered, report, models, accept)
        return Response(content, headers={"Content-Type": content_type})


def _rendered(report: Report, models: ModelRegistry, accept: str) -> tuple[bytes, str]:
    from service.telemetry.prometheus import render  # with Prometheus' library, for those who ask

    return render(report, [_observed(engine) for engine in models], accept)


def _observed(engine: Engine) -> "ObservedModel":
    from service.telemetry.prometheus import ObservedModel

    manifest = engine.manifest
    return ObservedModel(manifest.name, manifest.version, engine.placement, engine.collector.snapshot())


def served_model(engine: Engine) -> ServedModel:
    """What a model runs on, and what its statistics cost; asks the collector."""
    placement = engine.placement
    return ServedModel(
        model=engine.manifest.name,
        version=engine.manifest.version,
        provider=placement.provider,
        device=placement.device,
        fallback_reason=placement.reason,
        overhead_ratio=engine.collector.status().overhead,
    )


def add_health(app: FastAPI, models: ModelRegistry, sink: CountSink) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", responses=NOT_LOADED, response_model_exclude_none=True)
    def ready() -> Ready:
        """The default model is loaded, verified against its canary, and runs on this provider; 503 when stopping."""
        sink.check_ready()
        engine = models.default
        collector = engine.collector
        versions = {name: models.versions(name) for name in models.names()}
        status = collector.status()
        fleet = {} if status.fleet is None else {"fleet": status.fleet}
        return Ready(**identity(engine), workers=collector.workers, statistics=status.storage, models=versions, **fleet)

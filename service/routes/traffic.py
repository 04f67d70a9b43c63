"""What the service answers, and how fast: for people and pages, and for Prometheus."""

from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Header
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from service.engine import Engine
from service.ledger import Report, Reporter
from service.models import Models
from service.routes.common import GONE, Responses
from service.traffic_report import served_model, traffic_response
from service.traffic_schemas import TrafficResponse

if TYPE_CHECKING:
    from service.metrics import Observed

PROMETHEUS: Responses = {
    200: {
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }
    }
}


def add_traffic(app: FastAPI, models: Models, reporter: Reporter) -> None:
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


def _rendered(report: Report, models: Models, accept: str) -> tuple[bytes, str]:
    from service.metrics import render  # with Prometheus' library, for those who ask

    return render(report, [_observed(engine) for engine in models], accept)


def _observed(engine: Engine) -> "Observed":
    from service.metrics import Observed

    manifest = engine.manifest
    collector = engine.collector
    return Observed(
        manifest.name,
        manifest.version,
        manifest.precision_kind,
        engine.placement,
        collector.glance(),
        collector.storage(),
    )

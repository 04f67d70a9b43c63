"""What the service answers, and how fast."""

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from service.ledger import Reporter
from service.models import Models
from service.traffic_report import served_model, traffic_response
from service.traffic_schemas import TrafficResponse


def add_traffic(app: FastAPI, models: Models, reporter: Reporter) -> None:
    @app.get("/traffic")
    async def traffic() -> TrafficResponse:
        """Requests, rows, tokens, latencies and refusals of all workers: since the start, and lately."""
        report = await reporter.report()
        served = await run_in_threadpool(lambda: [served_model(engine) for engine in models])
        return traffic_response(report, served)

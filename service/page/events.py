"""Server-sent events: what the page shows live."""

import json
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, Query
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from runtime.drift.detector import MIN_REQUESTS
from runtime.errors import InvalidInput
from service.http.errors import error_response
from service.http.openapi import ModelName, ModelVersion
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import ALL, NAMED, AllLayers, Statistics, WindowQuery
from service.page.feed import Feed, Subscription
from service.telemetry.aggregator import CountSink, Report
from service.telemetry.report import recent

RETRY = 10  # seconds after which a page that was not let in may ask again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for nginx, which would hold events back

HEAD = ("model", "version", "requests", "since", "baseline", "window", "verdict", "overhead_ratio")


class FeedTopic(NamedTuple):
    """What a page follows; the default model, and the highest version, where it names none."""

    window: str
    model: str | None = None
    version: str | None = None


class EventStream(StreamingResponse):
    """Passes a subscription's events on until either side leaves."""

    media_type = "text/event-stream"

    def __init__(self, subscription: Subscription[FeedTopic]) -> None:
        super().__init__(subscription.events(), headers=HEADERS)
        self.subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.subscription.close()


def add_events(app: FastAPI, models: ModelRegistry, feed: Feed[FeedTopic]) -> None:
    # not in the documents: it never ends, which no client made from them could bear
    @app.get("/events", include_in_schema=False)
    async def events(
        window: Annotated[str, Query()] = ALL, model: ModelName = None, version: ModelVersion = None
    ) -> Response:
        """The verdict and every layer of a model in a line, every two seconds, as text/event-stream."""
        if window not in (*NAMED, ALL):
            raise InvalidInput("invalid_window", f"window is {window!r}, expected one of {', '.join(NAMED)}, {ALL}.")
        models.find(model, version)  # or says which there are
        if feed.full:
            message = f"{feed.most} pages follow this service already: close one, or ask /norm-stats."
            response = error_response(503, message, "too_many_followers")
            response.headers["Retry-After"] = str(RETRY)
            return response
        return EventStream(feed.join(FeedTopic(window, model, version)))


def summary(collector: Statistics, report: Report, window: str) -> bytes:
    """JSON: what every answer about statistics begins with, each layer's drift, and how traffic goes now."""
    answer = json.loads(collector.report(AllLayers(WindowQuery(window))))
    ends = {name: answer[name] for name in ("input", "output") if answer[name] is not None}
    return to_json(
        {name: answer[name] for name in HEAD}
        | {"needed": MIN_REQUESTS, "asked": window, "traffic": traffic_now(report)}
        | {name: line(layer) for name, layer in ends.items()}
        | {"layers": [line(layer) | {"not_finite": layer["live"]["not_finite"]} for layer in answer["layers"]]}
    )


def line(layer: dict[str, Any]) -> dict[str, Any]:
    return {"name": layer["name"]} | {
        name: layer["drift"].get(name) for name in ("state", "score", "threshold", "effect")
    }


def traffic_now(report: Report) -> dict[str, Any]:
    """What GET /traffic says of this moment and of the last ten seconds."""
    lately = recent(report.recent[10])
    return {"workers": report.workers, "now": report.now._asdict(), "last_10s": lately.model_dump()}


def make_feed(models: ModelRegistry, sink: CountSink) -> Feed[FeedTopic]:
    """Live summaries of the models' traffic.

    Args:
        owner: who knows what all processes answer.
    """

    def compute(followed: FeedTopic) -> bytes:
        engine = models.find(followed.model, followed.version)
        return summary(engine.collector, sink.traffic(), followed.window)

    return Feed(compute)

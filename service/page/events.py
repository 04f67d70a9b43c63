"""Server-sent events: what the page shows live."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, FastAPI, Query
from fastapi.sse import EventSourceResponse
from pydantic_core import to_json

from runtime.drift.detector import MIN_REQUESTS
from runtime.errors import InvalidInput, Unavailable
from runtime.words import quoted
from service.http.openapi import ModelName, ModelVersion
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import AUTO, CHOICES, NAMES, AllLayers, Statistics, WindowQuery
from service.page.feed import Feed, Subscription
from service.telemetry.aggregator import CountSink, Report
from service.telemetry.report import recent

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for nginx, which would hold events back

ENDS = ("input", "output", "all_layers", "unlikeness")  # what is judged beside the layers
HEAD = ("model", "version", "requests", "since", "baseline", "window", "verdict", "overhead_ratio", "fleet")


class FeedTopic(NamedTuple):
    """What a page follows; the default model, and the highest version, where it names none."""

    window: str
    model: str | None = None
    version: str | None = None


def add_events(app: FastAPI, models: ModelRegistry, feed: Feed[FeedTopic]) -> None:
    async def subscribe(
        window: Annotated[str, Query()] = AUTO, model: ModelName = None, version: ModelVersion = None
    ) -> AsyncIterator[Subscription[FeedTopic]]:
        """A subscription, until either side leaves."""
        if window not in NAMES:
            raise InvalidInput("invalid_window", f"window is {quoted(window)}, expected one of {CHOICES}.")
        with suppress(Unavailable):  # the default model may be loaded while a page waits for it
            models.find(model, version)  # or says which there are
        subscription = feed.join(FeedTopic(window, model, version))
        try:
            yield subscription
        finally:
            subscription.close()

    # Not in the documents: it never ends, which no client made from them could bear. And not a generator, which FastAPI
    # would make the events of: it would queue those that a slow page is to skip, and allow caches to keep them.
    @app.get("/events", include_in_schema=False)
    async def events(subscription: Annotated[Subscription[FeedTopic], Depends(subscribe)]) -> EventSourceResponse:
        """The verdict and every layer of a model in a line, every two seconds, as text/event-stream."""
        return EventSourceResponse(subscription.events(), headers=HEADERS)


def summary(collector: Statistics, report: Report, window: str) -> bytes:
    """JSON: what every answer about statistics begins with, each layer's drift, and how traffic goes now."""
    answer = json.loads(collector.report(AllLayers(WindowQuery(window))))
    ends = {name: answer[name] for name in ENDS if answer.get(name)}
    return to_json(
        {name: answer[name] for name in HEAD if name in answer}
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
        sink: says what all processes answer.
    """

    def compute(followed: FeedTopic) -> bytes:
        engine = models.find(followed.model, followed.version)
        return summary(engine.collector, sink.traffic(), followed.window)

    return Feed(compute)

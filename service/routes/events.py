"""Server-sent events: what the page shows live."""

from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runtime.errors import InvalidInput
from service.errors import error_response
from service.feed import Feed, Subscription
from service.models import Models
from service.routes.common import ModelName, ModelVersion
from service.summary import Followed
from service.window import ALL, NAMED

RETRY = 10  # seconds after which a page that was not let in may ask again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second for nginx, which would hold events back


class EventStream(StreamingResponse):
    """Passes a subscription's events on until either side leaves."""

    media_type = "text/event-stream"

    def __init__(self, subscription: Subscription[Followed]) -> None:
        super().__init__(subscription.events(), headers=HEADERS)
        self.subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.subscription.close()


def add_events(app: FastAPI, models: Models, feed: Feed[Followed]) -> None:
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
        return EventStream(feed.join(Followed(window, model, version)))

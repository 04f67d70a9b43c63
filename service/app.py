"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service.engine import Engine
from service.errors import install_error_handlers
from service.feed import Feed
from service.keys import ApiKeys
from service.limits import BodyLimit
from service.models import Models
from service.predict import PredictRoute
from service.routes.events import add_events
from service.routes.health import add_health
from service.routes.inference import add_inference
from service.routes.page import add_page
from service.routes.statistics import add_statistics
from service.settings import Settings
from service.summary import make_feed


def create_app(settings: Settings, models: Models | None = None, feed: Feed | None = None) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; loaded as the settings say where it is not given.
        feed: what the page follows; a server closes it before it waits for its connections to end.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    models = models or Models(Engine(settings))
    feed = feed or make_feed(models)
    app = FastAPI(title="AddNorm", version=models.default.manifest.version, lifespan=_lifespan(models, feed))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    install_error_handlers(app)
    add_inference(app, models, settings)
    add_statistics(app, models, ApiKeys.of(settings))
    add_health(app, models)
    add_page(app)
    add_events(app, feed)
    return app


def create_front(settings: Settings, models: Models, feed: Feed | None = None) -> PredictRoute:
    """The application behind its fast route: what a server runs."""
    return PredictRoute(create_app(settings, models, feed), models, settings.max_body_bytes)


def _lifespan(models: Models, feed: Feed) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        feed.close()
        await models.close()

    return lifespan

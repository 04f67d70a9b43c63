"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service.counted import Counted
from service.engine import Engine
from service.errors import install_error_handlers
from service.feed import Feed
from service.keys import ApiKeys
from service.ledger import Ledger, Owner, Reporter
from service.limits import BodyLimit
from service.models import Models
from service.predict import PredictRoute
from service.routes.events import add_events
from service.routes.health import add_health
from service.routes.inference import add_inference
from service.routes.page import add_page
from service.routes.statistics import add_statistics
from service.routes.traffic import add_traffic
from service.settings import Settings
from service.summary import make_feed
from service.traffic import Traffic


def create_app(
    settings: Settings,
    models: Models | None = None,
    reporter: Reporter | None = None,
    feed: Feed | None = None,
) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; loaded as the settings say where it is not given.
        reporter: what hands in what is answered; to a ledger of its own where it is not given.
        feed: what the page follows; a server closes it before it waits for its connections to end.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    models = models or Models(Engine(settings))
    reporter = reporter or create_reporter(models, None)
    feed = feed or make_feed(models, reporter.owner)
    lifespan = _lifespan(models, reporter, feed)
    app = FastAPI(title="AddNorm", version=models.default.manifest.version, lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Counted, traffic=reporter.counted)
    install_error_handlers(app)
    add_inference(app, models, settings, reporter.counted)
    add_statistics(app, models, ApiKeys.of(settings))
    add_health(app, models)
    add_traffic(app, models, reporter)
    add_page(app)
    add_events(app, feed)
    return app


def create_front(
    settings: Settings, models: Models, owner: Owner | None = None, feed: Feed | None = None
) -> PredictRoute:
    """The application behind its fast route: what a server runs.

    Args:
        owner: where this process hands in what it answers; a ledger of its own where it is not given.
        feed: what the page follows.
    """
    reporter = create_reporter(models, owner)
    app = create_app(settings, models, reporter, feed)
    return PredictRoute(app, models, settings.max_body_bytes, reporter.counted)


def create_reporter(models: Models, owner: Owner | None) -> Reporter:
    return Reporter(Traffic(), owner or Ledger().open(), lambda: (engine.batcher for engine in models))


def _lifespan(models: Models, reporter: Reporter, feed: Feed) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        reporter.start()
        yield
        feed.close()
        await models.close()
        reporter.stop()

    return lifespan

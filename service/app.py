"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.admission import Admission, Admitted
from service.engine import Engine
from service.errors import install_error_handlers
from service.feed import Feed
from service.journal import Journal
from service.keys import ApiKeys
from service.ledger import Ledger, Owner, Reporter
from service.limits import BodyLimit
from service.models import Models
from service.noted import Noted
from service.predict import PredictRoute
from service.routes.events import add_events
from service.routes.health import add_health
from service.routes.inference import add_inference
from service.routes.page import add_page
from service.routes.statistics import add_statistics
from service.routes.traffic import add_traffic
from service.settings import Settings
from service.summary import make_feed
from service.tracing import make_tracing


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
    reporter = reporter or create_reporter(settings, models, None)
    feed = feed or make_feed(models, reporter.owner)
    lifespan = _lifespan(models, reporter, feed)
    app = FastAPI(title="AddNorm", version=models.default.manifest.version, lifespan=lifespan)
    keys = ApiKeys.of(settings)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    if (admission := Admission.of(settings, keys, reporter.journal.traffic)) is not None:
        app.add_middleware(Admitted, admission=admission)
    app.add_middleware(Noted, journal=reporter.journal)
    install_error_handlers(app)
    add_inference(app, models, settings, reporter.journal)
    add_statistics(app, models, keys)
    add_health(app, models, reporter.owner)
    add_traffic(app, models, reporter)
    add_page(app)
    add_events(app, feed)
    return app


def create_front(settings: Settings, models: Models, owner: Owner | None = None, feed: Feed | None = None) -> ASGIApp:
    """The application behind its fast route: what a server runs.

    Args:
        owner: where this process hands in what it answers; a ledger of its own where it is not given.
        feed: what the page follows.
    """
    reporter = create_reporter(settings, models, owner)
    app, journal = create_app(settings, models, reporter, feed), reporter.journal
    admission = Admission.of(settings, ApiKeys.of(settings), journal.traffic)
    front = PredictRoute(app, models, settings.max_body_bytes, journal, admission)
    return with_cors(front, settings.cors_origins) if settings.cors_origins else front


def with_cors(app: ASGIApp, origins: str) -> ASGIApp:
    """Lets pages of these origins, separated by commas, ask from a browser."""
    return CORSMiddleware(
        app,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Server-Timing", "X-Request-ID", "Retry-After"],
    )


def create_reporter(settings: Settings, models: Models, owner: Owner | None) -> Reporter:
    journal = Journal(settings, make_tracing(settings))
    return Reporter(journal, owner or Ledger().open(), lambda: (engine.batcher for engine in models))


def _lifespan(models: Models, reporter: Reporter, feed: Feed) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        reporter.start()
        yield
        feed.close()
        await models.close()
        reporter.stop()
        await run_in_threadpool(reporter.journal.close)

    return lifespan

"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from service.api.inference import add_inference
from service.api.monitoring import add_health, add_traffic
from service.api.norm_stats import add_statistics
from service.api.openai import add_embeddings
from service.api.v2.infer import InferMiddleware
from service.api.v2.repository import add_repository
from service.api.v2.routes import add_oip
from service.http.admission import Admission, AdmissionMiddleware, ApiKeys
from service.http.bodies import BodyLimitMiddleware
from service.http.errors import install_error_handlers
from service.http.openapi import describe_truly
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import ServingContext
from service.norm_stats.pool import CollectorPool
from service.page.events import FeedTopic, add_events, make_feed
from service.page.feed import Feed
from service.page.files import add_page
from service.repository.catalog import Catalog
from service.repository.control import Control, Loader
from service.settings import Settings
from service.telemetry.aggregator import Aggregator, CountSink, Reporter
from service.telemetry.request_log import RequestLog, RequestLogMiddleware
from service.telemetry.tracing import make_tracing


def create_app(
    settings: Settings,
    models: ModelRegistry | None = None,
    control: Control | None = None,
    reporter: Reporter | None = None,
    feed: Feed[FeedTopic] | None = None,
) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; the artifact that the settings name where it is not given.
        control: what loads and unloads models; where it is not given, nothing does.
        reporter: what hands in what is answered; to an aggregator of its own where it is not given.
        feed: what the page follows; a server closes it before it waits for its connections to end.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    models = models or ModelRegistry(Engine(settings))
    control = control or Loader(
        settings, Catalog.of(engine.manifest for engine in models), models, CollectorPool(settings)
    )
    reporter = reporter or create_reporter(settings, models, None)
    context = ServingContext(models, settings.max_body_bytes, reporter.request_log)
    keys = ApiKeys.of(settings)
    feed = feed or make_feed(models, reporter.sink)
    version = next((engine.manifest.version for engine in models), "0")
    app = FastAPI(title="AddNorm", version=version, lifespan=_lifespan(models, control, reporter, feed))
    _add_middleware(app, settings, context, Admission.of(settings, keys, reporter.request_log.traffic))
    add_inference(app, models, context)
    add_statistics(app, models, keys)
    add_embeddings(app, models)
    add_oip(app, models, settings, reporter)
    add_repository(app, control, keys)
    add_health(app, models, reporter.sink)
    add_traffic(app, models, reporter)
    add_page(app)
    add_events(app, models, feed)
    describe_truly(app)
    return app


def create_reporter(settings: Settings, models: ModelRegistry, sink: CountSink | None) -> Reporter:
    request_log = RequestLog(settings, make_tracing(settings))
    return Reporter(
        request_log, sink or Aggregator().open(), lambda: (engine.batcher for engine in models), models.counted
    )


def _add_middleware(app: FastAPI, settings: Settings, context: ServingContext, admission: Admission | None) -> None:
    """From the inmost on."""
    app.add_middleware(InferMiddleware, models=context.models, max_bytes=settings.max_body_bytes)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    if admission is not None:
        app.add_middleware(AdmissionMiddleware, admission=admission)
    install_error_handlers(app)
    app.add_middleware(RequestLogMiddleware, request_log=context.request_log)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=[origin.strip() for origin in settings.cors_origins.split(",")],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Server-Timing", "X-Request-ID", "Retry-After"],
        )


def _lifespan(models: ModelRegistry, control: Control, reporter: Reporter, feed: Feed[FeedTopic]) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        control.start()
        reporter.start()
        yield
        feed.close()
        await models.close()
        await control.close()
        reporter.stop()
        await run_in_threadpool(reporter.request_log.close)

    return lifespan

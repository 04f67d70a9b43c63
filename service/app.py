"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from service.api.inference import add_inference
from service.api.monitoring import add_health, add_traffic
from service.api.norm_stats import Reports, add_exchange, add_statistics
from service.api.openai import add_embeddings
from service.api.ranking import add_ranking
from service.api.v2.infer import InferMiddleware
from service.api.v2.repository import add_repository
from service.api.v2.routes import add_oip
from service.http.admission import Admission, AdmissionMiddleware
from service.http.bodies import BodyLimitMiddleware
from service.http.errors import install_error_handlers
from service.http.openapi import describe_truly
from service.http.origins import HostMiddleware, allowed_hosts
from service.inference.registry import ModelRegistry
from service.inference.request import ServingContext
from service.page.events import FeedTopic, add_events
from service.page.feed import Feed
from service.page.files import add_page
from service.repository.control import Control
from service.settings import Settings, split_list
from service.telemetry.aggregator import Reporter
from service.telemetry.request_log import RequestLogMiddleware

if TYPE_CHECKING:
    from service.api.v2.grpc.server import GRPCServer

GRACE = 5  # seconds that accepted calls over gRPC have to end in, after all requests over HTTP have ended


def create_app(
    settings: Settings,
    context: ServingContext,
    admission: Admission,
    control: Control,
    reporter: Reporter,
    feed: Feed[FeedTopic],
) -> FastAPI:
    """Builds the application.

    Args:
        context: what answers.
        admission: checks API keys, origins and the requests in flight.
        control: what loads and unloads models.
        reporter: hands in what is answered.
        feed: what the page follows; a server closes it before it waits for its connections to end.
    """
    models, guard, reports = context.models, admission.guard, Reports()
    version = next((engine.manifest.version for engine in models), "0")
    grpc_server = _grpc_server(settings, models, control, admission, reporter)
    lifespan = _lifespan(models, control, reporter, feed, grpc_server)
    app = FastAPI(title="AddNorm", version=version, lifespan=lifespan, openapi_url=None)
    _add_middleware(app, settings, context, admission)
    add_inference(app, context)
    if settings.peers:
        add_exchange(app, models)  # before what names layers
    add_statistics(app, models, guard, reports)
    add_embeddings(app, context)
    add_ranking(app, context)
    add_oip(app, models, settings, reporter, reports)
    add_repository(app, control, guard, settings.model_control)
    add_health(app, models, reporter.sink)
    add_traffic(app, models, reporter)
    add_page(app)
    add_events(app, models, feed)
    describe_truly(app)
    return app


def _add_middleware(app: FastAPI, settings: Settings, context: ServingContext, admission: Admission) -> None:
    """From the inmost on."""
    app.add_middleware(InferMiddleware, models=context.models, max_bytes=context.max_bytes)
    app.add_middleware(BodyLimitMiddleware, max_bytes=context.max_bytes)
    if not admission.is_open:
        app.add_middleware(AdmissionMiddleware, admission=admission)
    if (hosts := allowed_hosts(settings)) is not None:
        app.add_middleware(HostMiddleware, hosts=hosts)
    install_error_handlers(app)
    app.add_middleware(RequestLogMiddleware, request_log=context.request_log)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=split_list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Server-Timing", "X-Request-ID", "Retry-After"],
        )


def _grpc_server(
    settings: Settings, models: ModelRegistry, control: Control, admission: Admission, reporter: Reporter
) -> "GRPCServer | None":
    """What answers over gRPC, where the settings ask for it; its library is loaded only then."""
    if settings.grpc_port is None:
        return None
    from service.api.v2.grpc.server import GRPCServer

    return GRPCServer(settings, models, control, admission, reporter, shared=settings.workers != 1)


def _lifespan(
    models: ModelRegistry,
    control: Control,
    reporter: Reporter,
    feed: Feed[FeedTopic],
    grpc_server: "GRPCServer | None",
) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        control.start()
        reporter.start()
        if grpc_server is not None:
            await grpc_server.start()
        yield
        feed.close()
        if grpc_server is not None:
            await grpc_server.stop(GRACE)
        await models.close()
        await control.close()
        reporter.stop()
        await run_in_threadpool(reporter.request_log.close)

    return lifespan

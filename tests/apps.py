"""What the tests serve: applications over models of theirs, with defaults for the rest."""

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.http.admission import Admission
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.inference.request import ServingContext
from service.norm_stats.pool import CollectorPool
from service.page.events import FeedTopic, make_feed
from service.page.feed import Feed
from service.process import make_reporter, server_config
from service.repository.catalog import Catalog
from service.repository.control import Control, LocalParticipant
from service.settings import Settings
from service.telemetry.aggregator import Aggregator, Reporter


def make_app(
    settings: Settings,
    models: ModelRegistry | None = None,
    control: Control | None = None,
    reporter: Reporter | None = None,
    feed: Feed[FeedTopic] | None = None,
) -> FastAPI:
    """An application of one process; over the artifact that the settings name where no models are given."""
    models = models or ModelRegistry(Engine(settings))
    reporter = reporter or reporter_of(settings, models)
    context = ServingContext(models, settings.max_body_bytes, reporter.request_log)
    admission = Admission(settings, reporter.request_log.counters)
    control, feed = control or control_of(settings, models), feed or make_feed(models, reporter.sink)
    return create_app(settings, context, admission, control, reporter, feed)


def make_config(settings: Settings, models: ModelRegistry, control: Control | None = None) -> uvicorn.Config:
    """What uvicorn runs, as `addnorm serve` has it."""
    sink = Aggregator().open()
    return server_config(settings, models, control or control_of(settings, models), sink, make_feed(models, sink))


def reporter_of(settings: Settings, models: ModelRegistry) -> Reporter:
    """Counts what the models answer, for an aggregator of its own."""
    return make_reporter(settings, models, Aggregator().open())


def control_of(settings: Settings, models: ModelRegistry) -> LocalParticipant:
    """Serves these models as they are, for as long as nobody asks for others."""
    catalog = Catalog.of(engine.manifest for engine in models)
    return LocalParticipant(settings, catalog, models, CollectorPool(settings))

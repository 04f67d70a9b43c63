"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service.catalog import Catalog
from service.collectors import Collectors
from service.control import Control
from service.engine import Engine
from service.errors import install_error_handlers
from service.keys import ApiKeys
from service.limits import BodyLimit
from service.loading import Loader
from service.models import Models
from service.oip.infer import InferRoute
from service.oip.routes import add_oip
from service.routes.embeddings import add_embeddings
from service.routes.health import add_health
from service.routes.inference import add_inference
from service.routes.repository import add_repository
from service.routes.statistics import add_statistics
from service.settings import Settings


def create_app(settings: Settings, models: Models | None = None, control: Control | None = None) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; the artifact that the settings name where it is not given.
        control: what loads and unloads models; where it is not given, nothing does.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    models = models or Models(Engine(settings))
    control = control or Loader(
        settings, Catalog.of(engine.manifest for engine in models), models, Collectors(settings)
    )
    version = next((engine.manifest.version for engine in models), "0")
    app = FastAPI(title="AddNorm", version=version, lifespan=_lifespan(models, control))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    install_error_handlers(app)
    add_inference(app, models, settings)
    add_statistics(app, models, ApiKeys.of(settings))
    add_embeddings(app, models, settings)
    add_oip(app, models, settings)
    add_repository(app, control, ApiKeys.of(settings))
    add_health(app, models)
    return app


def create_front(settings: Settings, models: Models, control: Control | None = None) -> InferRoute:
    """The application behind its fast route: what a server runs."""
    return InferRoute(create_app(settings, models, control), models, settings.max_body_bytes)


def _lifespan(models: Models, control: Control) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        control.start()
        yield
        await models.close()
        await control.close()

    return lifespan

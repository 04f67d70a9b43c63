"""The application: everything that can be asked, over the models that answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from service.engine import Engine
from service.errors import install_error_handlers
from service.keys import ApiKeys
from service.limits import BodyLimit
from service.models import Models
from service.oip.infer import InferRoute
from service.oip.routes import add_oip
from service.routes.embeddings import add_embeddings
from service.routes.health import add_health
from service.routes.inference import add_inference
from service.routes.statistics import add_statistics
from service.settings import Settings


def create_app(settings: Settings, models: Models | None = None) -> FastAPI:
    """Builds the application.

    Args:
        models: what answers; loaded as the settings say where it is not given.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
    """
    models = models or Models(Engine(settings))
    app = FastAPI(title="AddNorm", version=models.default.manifest.version, lifespan=_lifespan(models))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    install_error_handlers(app)
    add_inference(app, models, settings)
    add_statistics(app, models, ApiKeys.of(settings))
    add_embeddings(app, models, settings)
    add_oip(app, models, settings)
    add_health(app, models)
    return app


def create_front(settings: Settings, models: Models) -> InferRoute:
    """The application behind its fast route: what a server runs."""
    return InferRoute(create_app(settings, models), models, settings.max_body_bytes)


def _lifespan(models: Models) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await models.close()

    return lifespan

"""Whether the service lives, and is ready."""

from fastapi import FastAPI

from service.ledger import Owner
from service.models import Models
from service.routes.common import NOT_LOADED, identity
from service.schemas import Live, Ready


def add_health(app: FastAPI, models: Models, owner: Owner) -> None:
    @app.get("/health/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @app.get("/health/ready", responses=NOT_LOADED)
    def ready() -> Ready:
        """The default model is loaded, verified against its canary, and runs on this provider; 503 when stopping."""
        owner.check_ready()
        engine = models.default
        collector = engine.collector
        versions = {name: models.versions(name) for name in models.names()}
        return Ready(**identity(engine), workers=collector.workers, statistics=collector.storage(), models=versions)

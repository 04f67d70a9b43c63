"""Whether the service lives, and is ready."""

from fastapi import FastAPI

from service.ledger import Owner
from service.models import Models
from service.routes.common import STOPPING, identity
from service.schemas import Live, Ready


def add_health(app: FastAPI, models: Models, owner: Owner) -> None:
    @app.get("/health/live")
    async def live() -> Live:
        """The process answers."""
        return Live()

    @app.get("/health/ready", responses=STOPPING)
    def ready() -> Ready:
        """The model is loaded, verified against its canary, and runs on this provider; 503 once the service stops."""
        owner.check_ready()
        engine = models.default
        collector = engine.collector
        return Ready(**identity(engine), workers=collector.workers, statistics=collector.storage())

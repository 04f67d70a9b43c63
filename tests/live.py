"""A real server in a thread, for clients that want a port."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from service.inference.registry import ModelRegistry
from service.repository.control import Control
from service.settings import Settings
from tests.apps import make_config


@dataclass(frozen=True)
class Live:
    """Where it listens, and what it serves."""

    address: str
    models: ModelRegistry

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@contextmanager
def listening(settings: Settings, models: ModelRegistry, control: Control | None = None) -> Iterator[Live]:
    """Serves as `addnorm serve` does, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(make_config(settings, models, control))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield Live(f"127.0.0.1:{listener.getsockname()[1]}", models)
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()

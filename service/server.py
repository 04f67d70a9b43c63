"""`addnorm serve`: the application in uvicorn, with a word on how to use it."""

import logging
import os
import signal
import socket

import uvicorn

from runtime.errors import ListenError
from runtime.session import logger as session_logger
from service.app import create_front
from service.engine import Engine
from service.settings import Settings

logger = logging.getLogger("addnorm.service")

BACKLOG = 2048  # connections that may wait to be accepted


class _Server(uvicorn.Server):
    """A uvicorn server that says what to try once it listens."""

    example: str

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            print(welcome(browsable(host, port), self.example), flush=True)


def serve(settings: Settings) -> None:
    """Loads the model and serves it until a signal ends the process.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
        ListenError: the address cannot be listened on.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would compete with the graph's
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    engine = Engine(settings)
    log_start(engine)
    config = uvicorn.Config(
        create_front(settings, engine),
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody asks who the client is
        timeout_graceful_shutdown=30,
    )
    listener = listen(settings.host, settings.port)
    server = _Server(config)
    server.example = example_body(engine)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)  # uvicorn raises it again once it has stopped: that is no failure
    server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket on the address, or a ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"{host} port {port} cannot be listened on ({error.strerror}): choose another.") from error


def log_start(engine: Engine) -> None:
    manifest, placement = engine.manifest, engine.placement
    logger.info("%s version %s on %s", manifest.name, manifest.version, placement.provider)
    if placement.reason:
        session_logger.info("no GPU, running on the CPU: %s", placement.reason)


def example_body(engine: Engine) -> str:
    """A request body that the served model understands."""
    if engine.manifest.inputs.kind == "text":
        return '{"inputs": "what is my account balance"}'
    return '{"inputs": [[[' + ", ".join(["0"] * engine.manifest.inputs.num_features) + "]]]}"


def browsable(host: str, port: int) -> str:
    """A URL that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def welcome(url: str, body: str) -> str:
    return f"""
AddNorm serves at {url} (API at {url}/docs). Try:

  curl {url}/predict -d '{body}'
  curl {url}/norm-stats

Stop with Ctrl+C."""

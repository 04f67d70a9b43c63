"""`addnorm serve`: one process or several that answer, with a word on how to use them."""

import gc
import logging
import os
import socket

from runtime.artifact import read_artifact
from runtime.manifest import Manifest
from runtime.session import Placement
from runtime.session import logger as session_logger
from service.collector import Collector
from service.engine import Engine
from service.listeners import listen, listen_shared
from service.logs import configure_logging
from service.models import Models
from service.process import Process
from service.scale import scaled
from service.settings import Settings
from service.tls import check_tls
from service.workers import Supervisor

logger = logging.getLogger("addnorm.service")


def serve(settings: Settings) -> None:
    """Loads the model and serves it until a signal ends the process.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
        ListenError: the address cannot be listened on.
        SettingError: a setting names what cannot be used.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would compete with the graph's
    configure_logging(settings)
    check_tls(settings)
    settings = scaled(settings)
    if settings.workers == 1:
        serve_alone(settings)
    else:
        serve_together(settings)


def serve_alone(settings: Settings) -> None:
    """Everything in this process."""
    engine = Engine(settings)
    log_start(engine.manifest, engine.placement)
    listener = listen(settings.host, settings.port)
    Process(settings, Models(engine), listener, lambda: greet(listener, engine.manifest, settings)).run()


def serve_together(settings: Settings) -> None:
    """Workers that answer, and this process that counts for them."""
    artifact = read_artifact(settings.model)
    collector = Collector(artifact, settings, settings.workers)
    listeners = listen_shared(settings.host, settings.port, settings.workers)

    def announce(placement: Placement) -> None:
        log_start(artifact.manifest, placement)
        greet(listeners[0], artifact.manifest, settings)

    gc.freeze()  # what was loaded by now stays shared: the workers' garbage collectors need not touch it
    Supervisor(settings, artifact, collector, listeners, announce).run()


def log_start(manifest: Manifest, placement: Placement) -> None:
    logger.info("%s version %s on %s", manifest.name, manifest.version, placement.provider)
    if placement.reason:
        session_logger.info("no GPU, running on the CPU: %s", placement.reason)


def greet(listener: socket.socket, manifest: Manifest, settings: Settings) -> None:
    """Says where to ask, and what."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    print(welcome(browsable(host, port, scheme), example_body(manifest)), flush=True)


def example_body(manifest: Manifest) -> str:
    """A request body that the served model understands."""
    if manifest.inputs.kind == "text":
        return '{"inputs": "what is my account balance"}'
    return '{"inputs": [[[' + ", ".join(["0"] * manifest.inputs.num_features) + "]]]}"


def browsable(host: str, port: int, scheme: str = "http") -> str:
    """A URL that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def welcome(url: str, body: str) -> str:
    return f"""
AddNorm serves at {url} (API at {url}/docs). Try:

  curl {url}/predict -d '{body}'
  curl {url}/norm-stats

Stop with Ctrl+C."""

"""`addnorm serve`: one process or several that answer, with a word on how to use them."""

import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import prod
from types import FrameType
from typing import TYPE_CHECKING, Any

from runtime.described import build_models
from runtime.graph.session import Placement
from runtime.graph.session import logger as session_logger
from runtime.manifest import Manifest, TensorInputs, version_order
from service.cpus import share_cpus
from service.fleet.host import check_exchange, courier_thread
from service.process import STOPS, Process
from service.repository.catalog import Catalog
from service.repository.control import load_all
from service.repository.loader import open_all, open_all_graphs
from service.settings import Settings, warn_of_unknown
from service.sockets import check_grpc, check_tls, listen, listen_shared
from service.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from service.workers.worker import Placements

logger = logging.getLogger("addnorm.service")

KEY = ' -H "Authorization: Bearer $KEY"'  # of curl; the key itself is told to nobody
FEW = 64  # numbers that an example may have


def serve(settings: Settings) -> None:
    """Loads the model and serves it until a signal ends the process.

    Raises:
        ArtifactError: the artifact cannot be served.
        DeviceError: the device cannot be had.
        ListenError: the address cannot be listened on.
        SettingError: a setting names what cannot be used.
    """
    stop_while_loading()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would compete with the graph's
    configure_logging(settings)
    warn_of_unknown(os.environ)
    check_tls(settings)
    check_grpc(settings)
    check_exchange(settings)
    settings = share_cpus(settings)
    if settings.workers == 1:
        serve_alone(settings)
    else:
        serve_together(settings)


def stop_while_loading() -> None:
    """Ends process 1 of a container at once on a signal: the kernel spares it what ends every other by default."""
    if os.getpid() == 1:
        for stop in STOPS:
            signal.signal(stop, lambda number, _: os._exit(128 + number))


def ignore_hangup(_number: int, _frame: FrameType | None) -> None:
    """By default it would end the process, and what was accepted."""
    logger.warning("SIGHUP is ignored, as it replaces one worker by another: restart the service, or run two workers")


NO_MODEL = """
AddNorm serves at {url} (API at {url}/docs), no model yet. Put NAME/VERSION/ into {directory}{then}

Stop with Ctrl+C."""
LOAD = """, and load it:

  curl -X POST {url}/v2/repository/models/NAME/load"""


def serve_alone(settings: Settings) -> None:
    """Everything in this process."""
    if hasattr(signal, "SIGHUP") and not os.isatty(0):  # not on Windows; of a terminal, it says that it is closed
        signal.signal(signal.SIGHUP, ignore_hangup)
    control = load_all(settings)
    for engine in control.models:
        log_start(engine.manifest.name, engine.manifest.version, engine.placement)
    listener = listen(settings.host, settings.port)
    process = Process(settings, control.models, control, listener, lambda: greet(listener, control.catalog, settings))
    with courier_thread(settings, control.collectors):
        process.run()


def serve_together(settings: Settings) -> None:
    """Workers that answer, and this process that counts for them."""
    from service.workers.supervisor import Supervisor

    catalog, collectors = open_all(settings)
    listeners = listen_shared(settings.host, settings.port, settings.workers)

    def announce(placements: "Placements") -> None:
        for artifact in catalog.artifacts():
            name, version = artifact.manifest.name, artifact.manifest.version
            if (name, version) in placements:
                log_start(name, version, placements[name, version])
        greet(listeners[0], catalog, settings)

    graphs = open_all_graphs(settings, catalog.artifacts())
    for _ in build_models():  # once for all workers
        pass
    gc.freeze()  # what was loaded by now stays shared: the workers' garbage collectors need not touch it
    gc.enable()
    Supervisor(settings, catalog, collectors, listeners, announce, graphs).run()


def log_start(name: str, version: str, placement: Placement) -> None:
    logger.info("%s version %s on %s in %s", name, version, placement.provider, placement.precision)
    if placement.reason:
        session_logger.info("no GPU, running on the CPU: %s", placement.reason)
    if placement.precision_fallback:
        session_logger.warning("no bf16, running in fp32: %s", placement.precision_fallback)


def greet(listener: socket.socket, catalog: Catalog, settings: Settings) -> None:
    """Says where to ask, and what."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_cert else "http"
    url, served = browsable(host, port, scheme), catalog.served
    if not served:
        then = LOAD.format(url=url) if settings.watch is None else f": it is served within {settings.watch:g} s or so."
        say(NO_MODEL.format(url=url, directory=settings.models, then=then))
        return
    default = next(iter(served.get(catalog.default_name, {}).values()), catalog.artifacts()[0]).manifest
    say(welcome(url, *example(default), describe(served), settings.api_key_for))


def say(text: str) -> None:
    """Prints it, if anybody takes it: a full disk or a closed pipe does not keep a service from answering."""
    try:
        print(text, flush=True)
    except OSError as error:
        logger.warning("standard output cannot be written (%s): the service answers all the same", error.strerror)
        with suppress(OSError):  # what is left of it would be tried again at the end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def describe(served: Mapping[str, Iterable[str]]) -> str:
    """The models and their versions, lowest first, in words."""
    models = ((name, sorted(versions, key=version_order)) for name, versions in served.items())
    return ", ".join(f"{name} (version {', '.join(versions)})" for name, versions in models)


def example(manifest: Manifest) -> tuple[str, str]:
    """A path and a request body that the served model understands."""
    path = "/embed" if manifest.task == "embedding" else "/predict"
    if manifest.task == "rerank":
        return "/rerank", '{"query": "how do i see my balance", "documents": ["Balances are in the app."]}'
    if manifest.inputs.kind == "features":
        return path, '{"inputs": [[[' + ", ".join(["0"] * manifest.inputs.num_features) + "]]]}"
    if isinstance(manifest.inputs, TensorInputs):
        return tensor_example(manifest.name, path, manifest.inputs)
    if manifest.inputs.pairs:
        return path, '{"inputs": [["how do i see my balance", "Balances are in the app."]]}'
    return path, '{"inputs": "what is my account balance"}'


def tensor_example(name: str, path: str, inputs: TensorInputs) -> tuple[str, str]:
    """Zeros, where they fit on a line."""
    sizes = [1 if size is None else size for size in inputs.tensors[0].shape]
    if len(inputs.tensors) > 1 or prod(sizes) > FEW:
        return f"/v2/models/{name}/infer", "@request.json"
    row: Any = 0
    for size in reversed(sizes):
        row = [row] * size
    return path, json.dumps({"inputs": [row]})


def browsable(host: str, port: int, scheme: str = "http") -> str:
    """A URL that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def welcome(url: str, path: str, body: str, models: str, keyed: str = "") -> str:
    """What there is, and how to ask.

    Args:
        keyed: what needs a key, as `api_key_for` says.
    """
    ask, read = (KEY if what in keyed.split(",") else "" for what in ("inference", "reads"))
    return f"""
AddNorm serves at {url} (API at {url}/docs): {models}. Try:

  curl {url}{path}{ask} -d '{body}'
  curl {url}/norm-stats{read}

Stop with Ctrl+C."""

"""One of several processes that answer on a port: engines whose collectors are in the parent process."""

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

from runtime.artifact import Artifact
from runtime.errors import AddNormError
from runtime.graph.session import Placement
from service.inference.engine import Graphs
from service.inference.registry import ModelRegistry
from service.process import Process
from service.repository.catalog import Catalog
from service.repository.change import FAILED, READY
from service.repository.loader import build, makers
from service.settings import Settings
from service.workers.channel import WorkerEnd
from service.workers.fork import SIGNALS
from service.workers.heartbeat import BEAT, Heartbeat
from service.workers.participant import WorkerParticipant, make_engine
from service.workers.proxies import RemoteCountSink

logger = logging.getLogger("addnorm.service")

ORPHANED = 5  # seconds that a worker without its parent has to end in
Placements = dict[tuple[str, str], Placement]  # where each version of each model runs


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker starts with.

    Attributes:
        graphs: of some of them, by digest.
        default_name: the model that answers requests that name none.
        whole: whether it is of no use without one of the artifacts.
    """

    artifacts: list[Artifact]
    graphs: Mapping[str, Graphs]
    default_name: str
    whole: bool

    @classmethod
    def of(cls, catalog: Catalog, graphs: dict[str, Graphs], whole: bool) -> Self:
        """What the catalog serves; graphs of what it does not any more are dropped."""
        artifacts = catalog.artifacts()
        for digest in graphs.keys() - {artifact.manifest.digest for artifact in artifacts}:
            del graphs[digest]
        return cls(artifacts, graphs, catalog.default_name, whole)


def work(
    settings: Settings,
    share: Assignment,
    worker_end: WorkerEnd,
    listener: socket.socket,
    lifeline: int,
    heartbeat: Heartbeat,
) -> None:
    """Answers until SIGTERM, or until the parent is gone; the body of a forked process.

    Once it answers it says READY, where it runs and what it cannot serve; or FAILED, and what keeps it from answering.

    Args:
        lifeline: a pipe whose other end the parent alone holds.
    """
    take_over_signals()
    threading.Thread(target=exit_with_parent, args=(lifeline, heartbeat), name="addnorm-lifeline", daemon=True).start()
    engines, failures = build(makers(share.artifacts, partial(make_engine, settings, worker_end, share.graphs)))
    share.artifacts.clear()  # the sessions have what they need of them
    try:
        if failures and (share.whole or not engines):
            raise next(iter(failures.values()))
        models = ModelRegistry(*engines.values(), default_name=share.default_name)
        placements = {(engine.manifest.name, engine.manifest.version): engine.placement for engine in models}
        control = WorkerParticipant(settings, worker_end, models)
        started = partial(worker_end.say, READY, placements, failures)
        process = Process(settings, models, control, listener, started, RemoteCountSink(worker_end))
    except AddNormError as error:
        worker_end.say(FAILED, error)
        sys.exit(2)
    process.run((signal.SIGTERM,))


def take_over_signals() -> None:
    """Undoes what the parent set up for itself; a terminal's Ctrl+C reaches all, and the parent passes it on."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for left_to_parent in (signal.SIGINT, signal.SIGHUP):
        signal.signal(left_to_parent, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def exit_with_parent(lifeline: int, heartbeat: Heartbeat) -> None:
    """Gives signs of life, and ends this process when the parent is gone: nobody would count what it answers."""
    while not select.select([lifeline], [], [], BEAT)[0]:  # nothing is ever written to it
        heartbeat.beat()
    logger.error("the process that keeps the statistics is gone: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHANED)
    os._exit(1)

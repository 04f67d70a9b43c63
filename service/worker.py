"""One of several processes that answer on a port: an engine whose collector is in the parent process."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial

from runtime.artifact import Artifact
from runtime.errors import AddNormError
from service.engine import Engine
from service.models import Models
from service.process import Process
from service.remote import RemoteCollector
from service.settings import Settings
from service.signals import SIGNALS

logger = logging.getLogger("addnorm.service")

READY, FAILED = "ready", "failed"  # what a worker says before it asks anything
ORPHANED = 5  # seconds that a worker without its parent has to end in


def work(
    settings: Settings, artifact: Artifact, collector: RemoteCollector, listener: socket.socket, lifeline: int
) -> None:
    """Answers until SIGTERM, or until the parent is gone; the body of a forked process.

    It says READY and where it runs once it answers, or FAILED and the error that keeps it from it.

    Args:
        lifeline: a pipe whose other end the parent alone holds.
    """
    take_over_signals()
    threading.Thread(target=follow, args=(lifeline,), name="addnorm-lifeline", daemon=True).start()
    try:
        engine = Engine(settings, collector, artifact)
        started = partial(collector.asks.send, (READY, (engine.placement,)))
        process = Process(settings, Models(engine), listener, started, collector)
    except AddNormError as error:
        collector.asks.send((FAILED, (error,)))
        sys.exit(2)
    process.run((signal.SIGTERM,))


def take_over_signals() -> None:
    """Undoes what the parent set up for itself; a terminal's Ctrl+C reaches all, and the parent passes it on."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for left_to_parent in (signal.SIGINT, signal.SIGHUP):
        signal.signal(left_to_parent, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def follow(lifeline: int) -> None:
    """Ends this process when the parent is gone: nobody would count what it answers."""
    os.read(lifeline, 1)  # nothing is ever written to it
    logger.error("the process that keeps the statistics is gone: this worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHANED)
    os._exit(1)

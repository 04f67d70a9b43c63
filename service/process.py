"""One process that answers HTTP: uvicorn over the application."""

import asyncio
import ctypes
import errno
import gc
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from runtime.described import build_soon
from service.api.inference import Embedding
from service.api.openai import OpenAIInference
from service.api.ranking import Reranking, Similarity
from service.app import create_app
from service.fastpath.cycle import Cached429
from service.fastpath.head_cache import HeadCache
from service.fastpath.protocol import Protocol
from service.fastpath.read_scheduler import ReadScheduler
from service.http.admission import Admission
from service.http.limits import Deadlines
from service.http.origins import allowed_hosts
from service.inference.registry import ModelRegistry
from service.inference.request import Prediction, ServingContext, Understand
from service.page.events import FeedTopic, make_feed
from service.page.feed import Feed
from service.repository.control import Control
from service.settings import Settings
from service.sockets import BACKLOG, has_left
from service.telemetry.aggregator import Aggregator, CountSink, Reporter
from service.telemetry.request_log import RequestLog
from service.telemetry.tracing import make_tracing

logger = logging.getLogger("addnorm.service")
# Objects that start a collection of the young ones, which takes a quarter of a millisecond, and how many of those start
# one of all that is not frozen yet: connections are among it.
YOUNG_OBJECTS, YOUNG_COLLECTIONS = 2_000, 100
SETUPS = 8  # connections that are set up in a round of the event loop; one takes as long as a refusal
REFUSAL_LOG = 10.0  # seconds between two log lines about connections that are refused
GRACE = 30  # seconds that accepted requests have to end in, once a signal stops the process

STOPS = (signal.SIGTERM, signal.SIGINT)
SHORT_WAYS: dict[bytes, Understand] = {
    b"/predict": Prediction,
    b"/embed": Embedding,
    b"/v1/embeddings": OpenAIInference,
    b"/rerank": Reranking,
    b"/similarity": Similarity,
}


def server_config(
    settings: Settings, models: ModelRegistry, control: Control, sink: CountSink, feed: Feed[FeedTopic]
) -> uvicorn.Config:
    """What uvicorn runs: the application, and the short ways to what runs a model.

    Args:
        sink: where this process hands in what it answers.
        feed: what the page follows.

    Raises:
        SettingError: a setting names what cannot be used.
    """
    reporter = make_reporter(settings, models, sink)
    context = ServingContext(models, settings.max_body_bytes, reporter.request_log)
    admission = Admission(settings, reporter.request_log.counters)
    age, requests = settings.connection_age, settings.connection_requests
    deadlines = Deadlines(settings.head_timeout, settings.body_timeout, age, requests)
    checked, hosts = None if admission.is_open else admission, allowed_hosts(settings)
    protocol = partial(
        Protocol, context, SHORT_WAYS, checked, hosts, HeadCache(), Cached429(), ReadScheduler(), deadlines
    )
    return uvicorn.Config(
        create_app(settings, context, admission, control, reporter, feed),
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        server_header=False,
        headers=[("x-content-type-options", "nosniff")],
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        backlog=BACKLOG,
        proxy_headers=False,  # nobody asks who the client is
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=None if settings.tls_client_ca is None else str(settings.tls_client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_REQUIRED,
    )


def make_reporter(settings: Settings, models: ModelRegistry, sink: CountSink) -> Reporter:
    """Reports what this process answers to the aggregator."""
    request_log = RequestLog(settings, make_tracing(settings))
    return Reporter(request_log, sink, lambda: (engine.batcher for engine in models), models.counted)


class Process:
    """A uvicorn server that says when it listens.

    Args:
        started: called once connections are accepted.
        sink: where it hands in what it answers; an aggregator of its own where it is not given.

    Raises:
        SettingError: a setting names what cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        control: Control,
        listener: socket.socket,
        started: Callable[[], None],
        sink: CountSink | None = None,
    ) -> None:
        self.aggregator = Aggregator() if sink is None else None
        sink = self.aggregator.open() if self.aggregator else sink
        assert sink is not None
        feed = make_feed(models, sink)
        self.listener = listener
        self.server = Server(server_config(settings, models, control, sink, feed))
        self.server.on_started, self.server.on_stop = started, self._begin_to_stop
        self.server.on_shutdown = feed.close
        # of several processes, the parent waits before it stops them
        self.server.drain_delay = settings.drain_delay if self.aggregator is not None else 0.0

    def run(self, signals: tuple[signal.Signals, ...] = STOPS) -> None:
        """Answers until one of `signals` ends it; requests that were accepted are answered first."""
        gc.freeze()  # what was loaded by now stays: collections that look through it would hold up answers for 20 ms
        gc.enable()
        gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS)
        trim_heap()
        for stop in signals:
            signal.signal(stop, self._stop)
        self.server.run(sockets=[self.listener])

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """Before uvicorn handles signals itself, and when it raises them again at its end: that is no failure."""
        self.server.should_exit = True

    def _begin_to_stop(self) -> None:
        if self.aggregator is not None:
            self.aggregator.stopping = True


def trim_heap() -> None:
    """Gives back what loading took and freed again, where the C library can: it lies below what is still in use."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


class Server(uvicorn.Server):
    """Accepts SETUPS connections in a round of its loop, where uvloop takes one; those whose clients left are dropped.

    The others wait in the kernel's queue: requests on open connections have their turn. What finds no place there is
    tried again by its client, after a second and after three.
    """

    on_started: Callable[[], None]
    on_stop: Callable[[], None]
    on_shutdown: Callable[[], None]
    drain_delay = 0.0  # seconds between the first signal and the stop
    stop_at = float("inf")  # on the monotonic clock
    next_refusal_log = 0.0  # on the same clock

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.twins: list[socket.socket] = []  # of the listening sockets
        self.accepting: set[asyncio.Task[Any]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            for listener in sockets or ():
                twin = listener.dup()
                self.twins.append(twin)
                asyncio.get_running_loop().add_reader(twin, self._accept, twin)
            self.on_started()
            build_soon(asyncio.get_running_loop())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for twin in self.twins:
            asyncio.get_running_loop().remove_reader(twin)
            self._accept(twin, self.config.backlog)  # what waits in a queue that is closed would be reset
            twin.close()
        if self.accepting:
            await asyncio.wait(self.accepting)  # to be told, as others are
        self.on_shutdown()  # streams that never end by themselves would be waited for
        await super().shutdown(sockets)

    def _accept(self, listener: socket.socket, setups: int = SETUPS) -> None:
        loop, begun = asyncio.get_running_loop(), 0
        for _ in range(self.config.backlog):
            try:
                connection, _ = listener.accept()
            except BlockingIOError:  # none waits
                return
            except OSError as error:
                self._log_refusal(error)
                return
            if has_left(connection):
                connection.close()
                continue
            connection.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection, ssl=self.config.ssl))
            self.accepting.add(task)
            task.add_done_callback(self.accepting.discard)
            begun += 1
            if begun == setups:
                return

    def _log_refusal(self, error: OSError) -> None:
        """Too many connections are open, for one: said once in a while."""
        now = time.monotonic()
        if error.errno in (errno.EMFILE, errno.ENFILE) and now >= self.next_refusal_log:
            self.next_refusal_log = now + REFUSAL_LOG
            logger.error("connections are refused (%s): raise the limit of open files, or add workers", error.strerror)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal makes the service not ready and starts `drain_delay`; the second ends the delay."""
        self.on_stop()
        if self.drain_delay and self.stop_at == float("inf"):
            self.stop_at = time.monotonic() + self.drain_delay
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self.stop_at
        return await super().on_tick(counter)

"""The gRPC server of a process, on a port of its own; its calls are answered in the event loop that answers HTTP."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, enable_server_reflection
from starlette.concurrency import run_in_threadpool

from runtime.errors import AddNormError, ListenError, UnknownModel, Unsupported
from runtime.words import listed, quoted
from service.api.v2.grpc.answers import Answers
from service.api.v2.grpc.call import Call, Caller, Method, Work
from service.api.v2.grpc.calls import Calls
from service.api.v2.grpc.errors import Context, abort
from service.api.v2.grpc.infer import infer
from service.api.v2.grpc.messages import (
    NOT_SERVED,
    PACKAGE,
    POOL,
    SERVICES,
    STATISTICS_PACKAGE,
    STREAM,
    InferRequest,
    message,
)
from service.http.admission import Admission, Subject
from service.inference.registry import ModelRegistry
from service.repository.control import Control
from service.settings import Settings
from service.telemetry.aggregator import Reporter

logger = logging.getLogger("addnorm.service")

INFERENCE, STATISTICS = f"{PACKAGE}.GRPCInferenceService", f"{STATISTICS_PACKAGE}.NormStatistics"
HEALTH = "grpc.health.v1.Health"
MOST_CALLS = 1024  # in flight in a process, beyond which grpc refuses; each has a thread that waits for its answer
METADATA = 1 << 14  # bytes
CONNECTION_AGE = (
    300.0  # seconds until a client is to connect anew, so that new workers get their share; grpc adds jitter
)
AGE_GRACE = 30_000  # ms that its calls have from then on
HOLDING, TELLING = 0.2, 0.05  # seconds in which calls are held before clients are told, and until they know
WATCH = 1.0  # seconds between two looks at what a client of Health.Watch follows
SERVING, NOT_SERVING, UNKNOWN = (
    HealthCheckResponse.SERVING,
    HealthCheckResponse.NOT_SERVING,
    HealthCheckResponse.SERVICE_UNKNOWN,
)


class GRPCServer:
    """Answers what HTTP answers, with the same engines, statistics, limits and counts.

    Args:
        shared: whether other processes of this service listen on the port, too.
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        control: Control,
        admission: Admission,
        reporter: Reporter,
        shared: bool,
    ) -> None:
        self.settings, self.models, self.admission, self.shared = settings, models, admission, shared
        self.answers = Answers(settings, models, control, admission, reporter)
        self.calls = Calls(admission, reporter.request_log)
        self.server: Any = None

    async def start(self) -> None:
        """Begins to answer.

        Raises:
            ListenError: the address is taken.
        """
        settings = self.settings
        self.calls.loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="addnorm-grpc")  # as many as were needed at a time
        self.server = grpc.server(threads, options=self.options(), maximum_concurrent_rpcs=MOST_CALLS)
        self.server.add_generic_rpc_handlers(self.handlers())
        if "reads" not in self.admission.need_key:
            enable_server_reflection((*SERVICES, HEALTH, SERVICE_NAME), self.server, pool=POOL)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.grpc_port}"
        try:
            if (credentials := tls_credentials(settings)) is None:
                self.server.add_insecure_port(address)
            else:
                self.server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ListenError(
                f"{settings.host} port {settings.grpc_port} cannot be listened on: choose another."
            ) from error
        self.server.start()
        logger.info("gRPC at %s", address)

    async def stop(self, grace: float) -> None:
        """Tells clients to go elsewhere (GOAWAY), and answers what was accepted.

        grpc cancels calls that come between its stop and the moment when their client knows of it; a client that waits
        for an answer sends none, so answers are held back until then.

        Args:
            grace: seconds that this may take.
        """
        if self.server is not None:
            self.calls.shared.held = []
            await asyncio.sleep(HOLDING)
            ended = self.server.stop(grace)
            await asyncio.sleep(TELLING)
            self.calls.shared.release()
            self.calls.stopped.set_result(None)
            await run_in_threadpool(ended.wait)

    def options(self) -> list[tuple[str, int]]:
        age = self.settings.connection_age or CONNECTION_AGE
        return [
            ("grpc.max_receive_message_length", self.settings.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", METADATA),
            ("grpc.absolute_max_metadata_size", METADATA),  # between the two, gRPC refuses some at random
            ("grpc.max_concurrent_streams", MOST_CALLS),
            ("grpc.max_connection_age_ms", max(1, round(1000 * age))),
            ("grpc.max_connection_age_grace_ms", AGE_GRACE),
            ("grpc.so_reuseport", int(self.shared)),
            ("grpc.enable_channelz", 0),
        ]

    def handlers(self) -> list[Any]:
        """The services, each with its methods."""
        ours = {
            name: self.unary(INFERENCE, name, subject, message(f"{PACKAGE}.{name}Request"), in_task(respond))
            for name, (subject, respond) in self.answers.methods().items()
        }
        start = partial(infer, self.models, self.answers.report)
        ours["ModelInfer"] = self.unary(INFERENCE, "ModelInfer", "inference", InferRequest, start)
        stream = self.calls.stream(Method(f"/{INFERENCE}/{STREAM}", "inference", InferRequest, start))
        ours[STREAM] = grpc.stream_stream_rpc_method_handler(stream, None, serialized)
        ours |= {name: self.unary(INFERENCE, name, "reads", Empty, refuse(name)) for name in NOT_SERVED}
        asked = message(f"{STATISTICS_PACKAGE}.NormStatsRequest")
        report = self.unary(STATISTICS, "Get", "reads", asked, in_task(self.answers.norm_statistics))
        watch = grpc.unary_stream_rpc_method_handler(self.watch, HealthCheckRequest.FromString, serialized)
        check = self.unary(HEALTH, "Check", "health", HealthCheckRequest, in_task(self.check))
        health = {"Check": check, "Watch": watch}
        services = {INFERENCE: ours, STATISTICS: {"Get": report}, HEALTH: health}
        return [grpc.method_handlers_generic_handler(name, each) for name, each in services.items()]

    def unary(self, service: str, name: str, subject: Subject, kind: Any, start: Callable[[Any, Call], Work]) -> Any:
        """The handler of a method; its messages are read by `Calls`."""
        handle = self.calls.unary(Method(f"/{service}/{name}", subject, kind, start))
        return grpc.unary_unary_rpc_method_handler(handle, None, serialized)

    async def check(self, request: Any, _caller: Caller) -> Any:
        """Health of the service, or of a model by its name."""
        status = await self.status(request.service)
        if status == UNKNOWN:
            raise UnknownModel(
                f"There is no model {quoted(request.service)} here, there is {listed(self.models.names())}."
            )
        return HealthCheckResponse(status=status)

    def watch(self, request: Any, context: Context) -> Iterator[Any]:
        """Health now, and whenever it changes, until the service stops."""
        try:
            self.admission.check("health", Caller(context).headers)
        except AddNormError as error:
            abort(context, f"/{HEALTH}/Watch", error)
        told, calls = None, self.calls
        assert calls.loop is not None
        while context.is_active():
            stopping = calls.stopped.done()
            coming = self.status(request.service)
            status = NOT_SERVING if stopping else asyncio.run_coroutine_threadsafe(coming, calls.loop).result()
            if status != told:
                told = status
                yield HealthCheckResponse(status=status)
            if stopping:
                return
            wait((calls.stopped,), WATCH)

    async def status(self, name: str) -> int:
        known = not name or name in SERVICES or self.models.versions(name)
        if not known:
            return int(UNKNOWN)
        return int(SERVING if await self.answers.is_ready() else NOT_SERVING)


def tls_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The files that HTTP uses; None where it has none."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    pair = settings.tls_key.read_bytes(), settings.tls_cert.read_bytes()
    client_ca = settings.tls_client_ca
    known = None if client_ca is None else client_ca.read_bytes()
    return grpc.ssl_server_credentials([pair], known, require_client_auth=known is not None)


def serialized(answer: Any) -> bytes:
    content: bytes = answer.SerializeToString()
    return content


def in_task(respond: Callable[[Any, Caller], Awaitable[Any]]) -> Callable[[Any, Call], Work]:
    """How a method starts whose answer is a coroutine's."""

    def start(request: Any, call: Call) -> Work:
        return call.run(respond(request, call.caller))

    return start


def refuse(name: str) -> Callable[[Any, Call], Work]:
    def start(_request: Any, _call: Call) -> Work:
        raise Unsupported(
            f"{name} is not supported: tensors travel in the messages, and settings are set at the start."
        )

    return start

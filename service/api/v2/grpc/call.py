"""One call: read, counted and answered in the event loop, while a thread of grpc's waits for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from google.protobuf.message import DecodeError, Message

from runtime.errors import DeadlineExceeded, InvalidInput, Unavailable
from service.api.v2.grpc.errors import Context, http_status
from service.http.admission import Admission, Subject
from service.telemetry.counters import CLIENT_CLOSED_REQUEST, Headers, Phases
from service.telemetry.request_log import RequestLog

METHOD = "GRPC"  # what logs and traces have in the place of an HTTP method
NO_DEADLINE = 1e7  # seconds from which on what grpc tells is none
STOPPING = "The service is stopping: ask another one."


class Caller:
    """Who asks, as far as an answer depends on it.

    Attributes:
        headers: the call's metadata, as HTTP headers are told.
        call: the request that is answered, of a stream the last.
        gone: whether nobody waits for an answer any more.
    """

    __slots__ = ("call", "context", "gone", "headers")

    def __init__(self, context: Context) -> None:
        self.context, self.gone = context, False
        self.call: Call | None = None
        self.headers: Headers = [
            (key.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for key, value in context.invocation_metadata() or ()
        ]

    def left(self) -> float | None:
        """Seconds until the call's deadline; None where it has none."""
        left: float | None = self.context.time_remaining()
        return None if left is None or left > NO_DEADLINE else left

    def timeout(self, asked: float | None = None) -> float | None:
        """Seconds until no answer is wanted any more; None where nobody says it.

        Raises:
            DeadlineExceeded: it is so by now.
        """
        left = self.left()
        if left is None:
            return asked
        if left <= 0:
            raise DeadlineExceeded("The call's deadline is over: give it more time.")
        return left if asked is None else min(left, asked)


class Work(Protocol):
    """What is done for a call; an asyncio.Task is it."""

    def cancel(self) -> Any:
        """The client left: what was not done is dropped."""


class Method(NamedTuple):
    """How a method is answered.

    Attributes:
        kind: the class of its requests.
        start: begins to answer a request of a call, which it ends later; or raises why not.
    """

    route: str
    subject: Subject
    kind: type[Message]
    start: Callable[[Any, "Call"], Work]


@dataclass(slots=True)
class CallContext:
    """What all calls share.

    Attributes:
        request_log: where calls are counted and written down.
        held: calls that wait until clients know that the service stops; None where none has to.
        stopped: set once calls are refused.
    """

    admission: Admission
    request_log: RequestLog
    held: "list[Call] | None" = None
    stopped: Future[Any] = field(default_factory=Future)

    def release(self) -> None:
        """Answers the calls that were held; no more are."""
        held, self.held = self.held or [], None
        for call in held:
            call.start()


class Call:
    """One request, which begins and ends in the event loop.

    Attributes:
        answer: what its thread waits for.
        phases: of an inference request, once it has run.
        over: whether it was answered, or its client left.
    """

    __slots__ = ("answer", "caller", "content", "method", "over", "phases", "request_id", "shared", "started", "work")

    def __init__(self, shared: CallContext, method: Method, content: bytes, caller: Caller) -> None:
        self.shared, self.method, self.content, self.caller = shared, method, content, caller
        self.answer: Future[Any] = Future()
        self.over = False
        self.work: Work | None = None
        self.phases: Phases | None = None

    def begin(self) -> None:
        """Counts the request, and has it answered, now or as soon as calls are held no longer."""
        self.started = time.perf_counter()
        self.request_id = self.shared.request_log.begin(self.caller.headers)
        if self.shared.held is not None and self.method.subject != "health":
            self.shared.held.append(self)
        else:
            self.start()

    def start(self) -> None:
        """Has the request answered."""
        shared, method = self.shared, self.method
        if self.over:
            return
        try:
            if shared.stopped.done() and method.subject != "health":
                raise Unavailable(STOPPING)
            shared.admission.check(method.subject, self.caller.headers)
            work = method.start(read(method.kind, self.content), self)
        except Exception as error:
            self.fail(error)
        else:
            self.work = None if self.over else work

    def run(self, answer: Awaitable[Any]) -> Work:
        """Ends the call with what comes of a coroutine."""
        task = asyncio.ensure_future(answer)
        task.add_done_callback(self._settle)
        return task

    def _settle(self, task: "asyncio.Future[Any]") -> None:
        if task.cancelled():
            self.leave()
        elif (error := task.exception()) is None:
            self.succeed(task.result())
        else:
            self.fail(error if isinstance(error, Exception) else Unavailable(STOPPING))

    def succeed(self, answer: Any) -> None:
        if not self.over:
            self._end(HTTPStatus.OK)
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if not self.over:
            self._end(http_status(error))
            self.answer.set_exception(error)

    def leave(self) -> None:
        """Nobody waits any more, if the call is not over: the client left, or its deadline is past."""
        if not self.over:
            work = self.work
            self._end(HTTPStatus.GATEWAY_TIMEOUT if self.caller.left() == 0 else CLIENT_CLOSED_REQUEST)
            if work is not None:
                work.cancel()
            self.answer.cancel()

    def _end(self, status: int) -> None:
        self.over, self.work = True, None
        log, caller = self.shared.request_log, self.caller
        log.end(self.request_id, METHOD, caller.headers, self.method.route, status, self.started, self.phases)


def read(kind: type[Message], content: bytes) -> Any:
    """A message of this kind; grpc itself would answer what is none as a defect of the service."""
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise InvalidInput("invalid_message", f"The message is no {kind.DESCRIPTOR.name} ({error}).") from None

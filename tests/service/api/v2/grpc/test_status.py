"""What becomes of errors: a status, a sentence, and when to come back. Without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from runtime.errors import (
    AddNormError,
    ArtifactError,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    Overloaded,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownModel,
    Unsupported,
)
from service.api.v2.grpc.call import Caller, Method
from service.api.v2.grpc.calls import Calls
from service.api.v2.grpc.messages import InferRequest, InferResponse
from service.api.v2.grpc.server import in_task
from service.http.admission import Admission
from service.settings import Settings
from service.telemetry.counters import CLIENT_CLOSED_REQUEST
from service.telemetry.request_log import RequestLog

ROUTE = "/inference.GRPCInferenceService/ModelInfer"


class Aborted(Exception):
    """What grpc raises."""


class Context:
    """A call as grpc tells of it."""

    def __init__(self, left: float | None = None) -> None:
        self.left, self.ended, self.trailing = left, list[Any](), dict[str, Any]()
        self.callbacks: list[Callable[[], None]] = []

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("x-request-id", "mine")]

    def time_remaining(self) -> float | None:
        return self.left

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def set_trailing_metadata(self, trailing: tuple[Any, ...]) -> None:
        self.trailing = dict(trailing)

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.ended = [code.name, details, self.trailing]
        raise Aborted


class Gone(Context):
    """A call that is over before it is looked at."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False


def make_calls(**settings: Any) -> Calls:
    log = RequestLog(Settings(**settings))
    return Calls(Admission(Settings(**settings), log.counters), log)


def handler(calls: Calls, respond: Callable[[Any, Caller], Awaitable[Message]]) -> Callable[[bytes, Any], Message]:
    """What grpc calls in one of its threads, within the event loop that runs."""
    calls.loop = asyncio.get_running_loop()
    return calls.unary(Method(ROUTE, "inference", InferRequest, in_task(respond)))


def end_of(calls: Calls, error: Exception) -> list[Any]:
    """Status, sentence and trailing metadata of a call that meets an error."""
    context = Context()

    async def ask() -> None:
        async def fail(_request: Any, _caller: Caller) -> Message:
            raise error

        with pytest.raises(Aborted):
            await asyncio.to_thread(handler(calls, fail), b"", context)

    asyncio.run(ask())
    return context.ended


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InvalidInput("invalid_tensor", "No."), "INVALID_ARGUMENT", 400),
        (InvalidInput("too_many_rows", "No."), "INVALID_ARGUMENT", 413),
        (TooLarge(5), "RESOURCE_EXHAUSTED", 413),
        (Unauthorized("No."), "UNAUTHENTICATED", 401),
        (Forbidden("key_not_allowed", "No."), "PERMISSION_DENIED", 403),
        (UnknownModel("No."), "NOT_FOUND", 404),
        (ArtifactError("No."), "FAILED_PRECONDITION", 409),
        (Unsupported("No."), "UNIMPLEMENTED", 501),
        (Unavailable("No."), "UNAVAILABLE", 503),
        (DeadlineExceeded("No."), "DEADLINE_EXCEEDED", 504),
    ],
)
def test_every_error_has_its_status_and_is_counted_as_over_http(error: AddNormError, code: str, status: int) -> None:
    calls = make_calls()
    assert end_of(calls, error)[:2] == [code, str(error)]
    assert calls.shared.request_log.counters.requests == {(ROUTE, status): 1}
    assert calls.shared.request_log.counters.in_flight == 0


def test_a_defect_is_logged_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    code, sentence, _ = end_of(make_calls(), ZeroDivisionError("secret"))
    assert code == "INTERNAL" and "secret" not in sentence and "its log has the details" in sentence
    assert ROUTE in caplog.text


def test_who_is_refused_for_now_is_told_when_to_come_back() -> None:
    code, _, trailing = end_of(make_calls(), Overloaded("Full.", 2.3))
    (info,) = Status.FromString(trailing["grpc-status-details-bin"]).details
    retry = RetryInfo()
    assert (code, trailing["retry-after"]) == ("RESOURCE_EXHAUSTED", "3")
    assert info.Unpack(retry) and retry.retry_delay.seconds == 3


def test_the_limit_of_requests_in_flight_holds_for_calls() -> None:
    calls, context = make_calls(max_in_flight=1), Context()

    async def two() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def wait(_request: Any, _caller: Caller) -> Message:
            begun.set()
            await go.wait()
            return InferResponse()

        handle = handler(calls, wait)
        first = asyncio.create_task(asyncio.to_thread(handle, b"", Context()))
        await begun.wait()
        with pytest.raises(Aborted):
            await asyncio.to_thread(handle, b"", context)
        go.set()
        assert await first == InferResponse()

    asyncio.run(two())
    assert context.ended[0] == "RESOURCE_EXHAUSTED" and "being answered already" in context.ended[1]


@pytest.mark.parametrize(("left", "status"), [(None, CLIENT_CLOSED_REQUEST), (0.0, 504)])
def test_a_call_that_is_left_is_counted_by_who_ended_it_and_its_work_is_dropped(
    left: float | None, status: int
) -> None:
    calls, context, dropped = make_calls(), Context(left), list[bool]()

    async def cancelled() -> None:
        begun = asyncio.Event()

        async def wait(_request: Any, _caller: Caller) -> Message:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                dropped.append(True)
            raise AssertionError

        call = asyncio.create_task(asyncio.to_thread(handler(calls, wait), b"", context))
        await begun.wait()
        await asyncio.to_thread(context.callbacks[0])
        with pytest.raises(Aborted):
            await call

    asyncio.run(cancelled())
    assert calls.shared.request_log.counters.requests == {(ROUTE, status): 1}
    assert (context.ended[0], dropped) == ("CANCELLED", [True])


def test_a_call_that_was_left_before_it_began_ends_too() -> None:
    calls = make_calls()

    async def ask() -> None:
        async def wait(_request: Any, _caller: Caller) -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        with pytest.raises(Aborted):
            await asyncio.to_thread(handler(calls, wait), b"", Gone())

    asyncio.run(ask())
    assert calls.shared.request_log.counters.requests == {(ROUTE, CLIENT_CLOSED_REQUEST): 1}
    assert calls.shared.request_log.counters.in_flight == 0


def test_calls_that_are_held_are_answered_when_they_are_released_but_for_those_that_left() -> None:
    calls, stays, leaves = make_calls(), Context(), Context()
    calls.shared.held = []

    async def ask() -> list[Any]:
        async def answer(_request: Any, _caller: Caller) -> Message:
            return InferResponse(id="7")

        handle = handler(calls, answer)
        asked = [asyncio.create_task(asyncio.to_thread(handle, b"", context)) for context in (stays, leaves)]
        while len(calls.shared.held or []) < 2:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(leaves.callbacks[0])
        calls.shared.release()
        return await asyncio.gather(*asked, return_exceptions=True)

    answered, left = asyncio.run(ask())
    assert answered == InferResponse(id="7") and isinstance(left, Aborted)
    assert calls.shared.request_log.counters.requests == {(ROUTE, 200): 1, (ROUTE, CLIENT_CLOSED_REQUEST): 1}


def test_the_nearer_of_deadline_and_timeout_counts() -> None:
    assert Caller(Context()).timeout() is None and Caller(Context()).timeout(2.0) == 2.0
    assert Caller(Context(1.5)).timeout(2.0) == 1.5 and Caller(Context(1e9)).timeout(2.0) == 2.0
    with pytest.raises(DeadlineExceeded):
        Caller(Context(-0.1)).timeout()


@pytest.mark.parametrize("long", ["a" * 200_000, "é\n%" * 50_000, "\udcff" * 50_000])
def test_a_long_sentence_fits_into_trailers(long: str) -> None:
    """Beyond some KiB clients would read RESOURCE_EXHAUSTED in its place."""
    code, told, _ = end_of(make_calls(), UnknownModel(f"There is no model {long}."))
    assert code == "NOT_FOUND" and told.startswith("There is no model ") and told.endswith("…")
    assert 1900 < len(quote(told, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")) < 2020

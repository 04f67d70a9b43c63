"""The handlers of methods, which run in grpc's threads: each hands its call to the event loop, and waits.

grpc's own server for event loops hands on one call after the other, so that batches had one row; this one answers twice
as many (docs/architecture.md).
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from runtime.errors import InvalidInput
from service.api.v2.grpc.call import STOPPING, Call, CallContext, Caller, Method, read
from service.api.v2.grpc.errors import LEFT, Context, abort, sentence
from service.api.v2.grpc.messages import StreamResponse
from service.http.admission import Admission
from service.telemetry.logging import REQUEST_ID
from service.telemetry.request_log import RequestLog


class Calls:
    """Makes handlers.

    Args:
        request_log: where calls are counted and written down.

    Attributes:
        loop: where calls are answered; known once the server starts.
        stopped: set once calls are refused.
    """

    def __init__(self, admission: Admission, request_log: RequestLog) -> None:
        self.shared = CallContext(admission, request_log)
        self.stopped = self.shared.stopped
        self.loop: asyncio.AbstractEventLoop | None = None

    def ask(self, method: Method, content: bytes, caller: Caller) -> Any:
        """The answer to one request; called in a thread of grpc's.

        Raises:
            Exception: why there is none.
            CancelledError: the client left.
        """
        assert self.loop is not None
        caller.call = call = Call(self.shared, method, content, caller)
        self.loop.call_soon_threadsafe(call.begin)
        if caller.gone:
            self.leave(caller)
        try:
            return call.answer.result()
        except Exception:
            REQUEST_ID.set(call.request_id)  # for the log
            raise

    def watched(self, context: Context) -> Caller:
        """Who asks, whose call is dropped as soon as nobody waits for it."""
        caller = Caller(context)
        if not context.add_callback(partial(self.leave, caller)):
            caller.gone = True
        return caller

    def leave(self, caller: Caller) -> None:
        """The call is over for grpc; called in a thread of grpc's."""
        caller.gone, call = True, caller.call
        if call is not None and not call.over and self.loop is not None:
            with suppress(RuntimeError):  # the service has stopped
                self.loop.call_soon_threadsafe(call.leave)

    def unary(self, method: Method) -> Callable[[bytes, Context], Message]:
        """The handler of a method with one request and one answer."""

        def handle(content: bytes, context: Context) -> Message:
            try:
                answer: Message = self.ask(method, content, self.watched(context))
            except CancelledError:
                context.abort(grpc.StatusCode.CANCELLED, LEFT)
            except Exception as error:
                abort(context, method.route, error)
            return answer

        return handle

    def stream(self, method: Method) -> Callable[[Iterator[bytes], Context], Iterator[Message]]:
        """The handler of a method that answers each request of a stream, in their order; an error ends no stream."""

        def handle(contents: Iterator[bytes], context: Context) -> Iterator[Message]:
            caller = self.watched(context)
            for content in self.until_stopped(contents, context):
                try:
                    yield StreamResponse(infer_response=self.ask(method, content, caller))
                except CancelledError:
                    context.abort(grpc.StatusCode.CANCELLED, LEFT)
                except Exception as error:
                    told = StreamResponse(error_message=sentence(error, method.route))
                    with suppress(InvalidInput):
                        told.infer_response.id = read(method.kind, content).id
                    yield told

        return handle

    def until_stopped(self, contents: Iterator[bytes], context: Context) -> Iterator[bytes]:
        """The requests of a stream, which is ended where the service stops before."""
        reader = ThreadPoolExecutor(1)  # which ends with the call, at the latest
        try:
            while True:
                coming: Future[Any] = reader.submit(next, contents, None)
                wait((coming, self.stopped), return_when=FIRST_COMPLETED)
                if not coming.done():
                    context.abort(grpc.StatusCode.UNAVAILABLE, STOPPING)
                if (content := coming.result()) is None:
                    return
                yield content
        finally:
            reader.shutdown(wait=False, cancel_futures=True)

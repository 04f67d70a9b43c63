"""What every way to ask for inference shares: errors become answers, and a request is counted once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from runtime.batch import EncodedBatch
from runtime.errors import AddNormError, InvalidInput
from runtime.inputs import EncodedInput
from service.engine import Engine
from service.errors import defect_response, domain_response, invalid_request
from service.limits import TooLarge

T = TypeVar("T")

WATCH_AFTER = 0.02  # seconds a request waits before its connection is watched: shorter waits are not worth a task


async def answered(work: Awaitable[T], path: str, route: str) -> T | Response:
    """What `work` gives, or the response that says why there is nothing.

    Raises:
        ClientDisconnect: the client left before.
    """
    try:
        return await work
    except ClientDisconnect:
        raise
    except Exception as error:
        return failure(error, path, route)


def failure(error: Exception, path: str, route: str) -> Response:
    """The response that says why there is nothing else; logs call `path` by its route."""
    if isinstance(error, TooLarge):
        return error.response(path)
    if isinstance(error, ValidationError):
        return domain_response(invalid_request(error), path)
    if isinstance(error, AddNormError):
        return domain_response(error, path)
    return defect_response("POST", route, error, path)


async def run_counted(
    engine: Engine,
    name: str,
    started: float,
    encode: Callable[[], list[EncodedInput]],
    write: Callable[[list[EncodedInput], EncodedBatch], T],
    receive: Receive,
    timeout: float | None = None,
) -> T:
    """Encodes, runs and writes one request, and counts it.

    Args:
        name: what its client calls the inputs.
        started: when its body was there (`time.perf_counter`).
        receive: tells when the client leaves; nothing is run for it then.
        timeout: seconds; the service's own limit where it is not given.

    Raises: what `encode`, `Engine.infer` and `write` raise; ClientDisconnect.
    """
    clock = time.perf_counter
    try:
        encoded = encode()
        read = clock() - started
        async with Watched(receive):
            answer = await engine.infer(encoded, timeout)
        ran = clock()
        written = write(encoded, answer.batch)
    except BaseException as error:
        engine.counts.fail(clock() - started)
        if isinstance(error, InvalidInput):
            raise error.about(name) from None
        raise
    ended = clock()
    engine.counts.answer(len(encoded), ended - started, read, answer.queue_seconds, answer.run_seconds, ended - ran)
    return written


class Watched:
    """Cancels what runs inside when the client leaves, and raises ClientDisconnect then.

    Most answers are there before watching would begin, and cost no task.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive, self.left = receive, False
        self.watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_later(WATCH_AFTER, self.begin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.timer.cancel()
        if self.watcher is not None:
            self.watcher.cancel()
        if self.left and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def begin(self) -> None:
        self.watcher = self.loop.create_task(self.watch())

    async def watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        assert self.task is not None
        self.task.cancel()

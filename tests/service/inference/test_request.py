import asyncio
import time
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtime.errors import InvalidInput, Overloaded, TooLarge, Unsupported
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.http.errors import answered
from service.inference.engine import Engine
from service.inference.request import run_counted


async def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooLarge(5), 413),
        (InvalidInput("no_inputs", "It is so."), 400),
        (Unsupported("It is so."), 501),
        (Overloaded("It is so.", 2.0), 429),
        (ZeroDivisionError(), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_answers(error: Exception, status: int):
    answer = asyncio.run(answered(failing(error), "/v2/models/a/infer", "/v2/models/{model}/infer"))
    assert isinstance(answer, Response) and answer.status_code == status


def test_client_that_left_gets_no_answer():
    with pytest.raises(ClientDisconnect):
        asyncio.run(answered(failing(ClientDisconnect()), "/embed", "/embed"))


async def run(engine: Engine, encode: Any, write: Any) -> Any:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    return await run_counted(engine, "words", time.perf_counter() - 1.0, encode, write, receive)


def test_answered_request_is_counted_with_its_parts(text_engine: Engine):
    def write(encoded: list[EncodedInput], batch: EncodedBatch) -> int:
        time.sleep(0.02)
        return len(encoded) + len(batch.classes)

    assert asyncio.run(run(text_engine, lambda: text_engine.inputs.encode(["hi", "snow"]), write)) == 4
    counts = text_engine.counts
    assert (counts.requests, counts.rows, counts.failed) == (1, 2, 0)
    assert counts.input_ns >= 1e9 and counts.output_ns >= 2e7 and counts.infer_ns > 0
    assert counts.total_ns >= counts.input_ns + counts.queue_ns + counts.infer_ns + counts.output_ns


def test_request_that_fails_is_counted_and_names_its_field(text_engine: Engine):
    with pytest.raises(InvalidInput, match=r"words\[1\] is empty"):
        asyncio.run(run(text_engine, lambda: text_engine.inputs.encode(["hi", ""]), lambda *_: None))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(text_engine, lambda: text_engine.inputs.encode(["hi"]), lambda *_: 1 / 0))
    assert (text_engine.counts.requests, text_engine.counts.failed) == (0, 2)
    assert text_engine.counts.failed_ns >= 2e9

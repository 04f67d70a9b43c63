import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from runtime.errors import InvalidInput, Overloaded, TooLarge, Unsupported
from runtime.graph.batch import EncodedBatch
from runtime.graph.inputs import EncodedInput
from service.http.errors import result_or_error
from service.inference.engine import Engine
from service.inference.request import Inference, run


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
    answer = asyncio.run(result_or_error(failing(error), "/v2/models/a/infer", "/v2/models/{model}/infer"))
    assert isinstance(answer, Response) and answer.status_code == status


def test_client_that_left_gets_no_answer():
    with pytest.raises(ClientDisconnect):
        asyncio.run(result_or_error(failing(ClientDisconnect()), "/embed", "/embed"))


class Counting(Inference[int]):
    """Is answered with the rows that were encoded and those that ran; it came a second ago."""

    def __init__(self, engine: Engine, texts: list[str], during: Callable[[], object] = lambda: None) -> None:
        super().__init__(engine, time.perf_counter() - 1.0, None)
        self.texts, self.during = texts, during

    @property
    def inputs_name(self) -> str:
        return "words"

    def encode(self) -> list[EncodedInput]:
        return self.engine.inputs.encode(self.texts)

    def write(self, batch: EncodedBatch) -> int:
        self.during()
        return len(self.encoded) + len(batch.classes)


async def stays() -> dict[str, Any]:
    await asyncio.sleep(60)
    return {"type": "http.disconnect"}


async def leaves() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_answered_request_is_counted_with_its_parts(text_engine: Engine):
    request = Counting(text_engine, ["hi", "snow"], during=lambda: time.sleep(0.02))
    assert asyncio.run(run(request, stays)) == 4
    counts, phases = text_engine.counts, request.phases
    assert (counts.requests, counts.rows, counts.failed) == (1, 2, 0)
    assert counts.input_ns >= 1e9 and counts.output_ns >= 2e7 and counts.infer_ns > 0
    assert counts.total_ns >= counts.input_ns + counts.queue_ns + counts.infer_ns + counts.output_ns
    assert phases.parse >= 1 and phases.tokenize > 0 and phases.serialize >= 0.02
    assert phases.total >= sum((phases.parse, phases.tokenize, phases.queue, phases.infer, phases.serialize))
    parts = (phases.parse + phases.tokenize, phases.infer, phases.serialize, phases.total)
    assert [1e9 * seconds for seconds in parts] == pytest.approx(
        [counts.input_ns, counts.infer_ns, counts.output_ns, counts.total_ns], abs=1
    )


def test_request_that_fails_is_counted_and_names_its_field(text_engine: Engine):
    with pytest.raises(InvalidInput, match=r"words\[1\] is empty"):
        asyncio.run(run(Counting(text_engine, ["hi", ""]), stays))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(run(Counting(text_engine, ["hi"], during=lambda: 1 / 0), stays))
    assert (text_engine.counts.requests, text_engine.counts.failed) == (0, 2)
    assert text_engine.counts.failed_ns >= 2e9


def test_request_of_a_client_that_left_is_counted_and_never_runs(text_engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.inference.request.WATCH_AFTER", 0.0)
    batcher = text_engine.batcher

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(batcher.executor, "notify", lambda _: None)
            with pytest.raises(ClientDisconnect):
                await run(Counting(text_engine, ["hi"]), leaves)
            task = asyncio.create_task(run(Counting(text_engine, ["hi"]), stays))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not batcher.queue.requests
        assert await run(Counting(text_engine, ["hi"]), stays) == 2

    asyncio.run(main())
    assert (text_engine.counts.requests, text_engine.counts.failed, batcher.counters.rows) == (1, 2, 1)

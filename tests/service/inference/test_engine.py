import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, DeadlineExceeded, InvalidInput, Overloaded
from runtime.graph.batch import EncodedBatch
from runtime.graph.packing import Tokens
from runtime.options import Device
from service.inference.engine import Engine, batch_tokens
from service.inference.registry import ModelRegistry
from service.inference.request import Prediction, ServingContext, run
from service.settings import Settings
from service.telemetry.request_log import RequestLog
from tests.service.batching.scenarios import Clock


def test_engine_needs_an_artifact(tmp_path: Path):
    with pytest.raises(ArtifactError, match="No artifact"):
        Engine(Settings(model=tmp_path / "nowhere"))


def test_starting_counts_nothing(text_artifact: Artifact):
    state = Engine(Settings(model=text_artifact.path, device="cpu")).collector.recorder.state()
    assert (state.requests, state.tokens) == (0, 0)
    assert not state.histograms.any()


async def predict(engine: Engine, *inputs: object) -> list[dict]:
    context = ServingContext(ModelRegistry(engine), 10_000, RequestLog(Settings()))
    body = await run(Prediction(context, json.dumps({"inputs": inputs}).encode()), asyncio.Event().wait)
    return json.loads(body)["predictions"]


def test_overflow_does_not_reach_its_neighbours_and_is_not_counted(feature_engine: Engine):
    good, bad = [[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]], [[3e38] * 4] * 2

    async def main() -> list[object]:
        alone = await predict(feature_engine, good)
        asked = [predict(feature_engine, item) for item in (good, bad, good, bad, good)]
        return [alone, *await asyncio.gather(*asked, return_exceptions=True)]

    alone, *answers = asyncio.run(main())
    for answer in answers[0::2]:
        assert answer[0]["score"] == pytest.approx(alone[0]["score"], abs=1e-5)
    for refusal in answers[1::2]:
        assert isinstance(refusal, InvalidInput) and "inputs[0] overflows" in str(refusal)
    assert feature_engine.collector.recorder.state().requests == 4


def test_overflow_is_named_in_its_request(feature_engine: Engine):
    with pytest.raises(InvalidInput, match=r"inputs\[1\] overflows"):
        asyncio.run(predict(feature_engine, [[1, 2, 3, 4]], [[3e38] * 4]))


def test_a_request_that_fails_in_its_batch_fails_alone_and_nothing_is_counted_twice(
    text_engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    run = text_engine.encoder.run

    def fragile(sequences: Sequence[Tokens]) -> EncodedBatch:
        if max(map(len, sequences)) > 3:
            raise ValueError("broken")
        return run(sequences)

    monkeypatch.setattr(text_engine.encoder, "run", fragile)

    async def main() -> list[object]:
        asked = [predict(text_engine, *texts) for texts in (["hi"], ["a b c d e f g"], ["hi"], ["hi", "hi"])]
        return await asyncio.gather(*asked, return_exceptions=True)

    good, bad, *also_good = asyncio.run(main())
    assert isinstance(bad, ValueError)
    assert [len(predictions) for predictions in (good, *also_good)] == [1, 1, 2]
    assert text_engine.collector.recorder.state().requests == 4


def test_a_request_past_the_settings_timeout_is_neither_run_nor_counted(text_artifact: Artifact):
    engine = Engine(Settings(model=text_artifact.path, device="cpu", timeout=1e-9))
    with pytest.raises(DeadlineExceeded):
        asyncio.run(predict(engine, "hi"))
    assert engine.collector.recorder.state().requests == 0


def test_more_than_the_settings_let_wait_is_refused(text_artifact: Artifact):
    engine = Engine(Settings(model=text_artifact.path, device="cpu", max_queue_tokens=1))
    engine.batcher.clock = Clock()  # so that no batch is overdue

    async def main() -> list[object]:
        return await asyncio.gather(*[predict(engine, "hi") for _ in range(3)], return_exceptions=True)

    first, *others = asyncio.run(main())
    assert first[0]["label"] in engine.manifest.labels
    assert [type(other) for other in others] == [Overloaded] * 2


@pytest.mark.parametrize(("asked", "tokens"), [(None, 512), (2048, 2048)])
def test_a_batch_on_the_cpu_takes_512_tokens_unless_told_otherwise(
    text_artifact: Artifact, asked: int | None, tokens: int
):
    engine = Engine(Settings(model=text_artifact.path, device="cpu", max_batch_tokens=asked))
    assert engine.batcher.max_batch_tokens == tokens


@pytest.mark.parametrize(
    ("device", "token_seconds", "tokens"),
    [("cpu", 1e-5, 512), ("cpu", 5e-4, 400), ("cpu", 2e-3, 100), ("cpu", 1e-2, 32), ("cuda", 1e-3, 1024)],
)
def test_a_batch_of_a_slow_model_takes_about_a_fifth_of_a_second(device: Device, token_seconds: float, tokens: int):
    assert batch_tokens(device, token_seconds) == tokens


def test_a_batch_takes_no_more_tokens_than_the_settings_say(text_artifact: Artifact):
    engine = Engine(Settings(model=text_artifact.path, device="cpu", max_batch_tokens=1))
    predictions = asyncio.run(predict(engine, "hi", "hi hi", "hi"))
    assert len(predictions) == 3
    assert engine.counts.executions == 3


def test_a_model_of_pairs_compares_no_single_texts(rerank_artifact: Artifact, text_engine: Engine):
    with pytest.raises(InvalidInput, match="order reads pairs of texts, expected a model of single ones"):
        Engine(Settings(model=rerank_artifact.path, device="cpu")).require_single_texts()
    text_engine.require_single_texts()

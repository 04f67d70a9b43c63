import asyncio
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput
from service.engine import Engine
from service.schemas import PredictRequest
from service.settings import Settings


def test_engine_needs_an_artifact(tmp_path: Path):
    with pytest.raises(ArtifactError, match="No artifact"):
        Engine(Settings(model=tmp_path / "nowhere"))


def test_starting_counts_nothing(text_artifact: Artifact):
    state = Engine(Settings(model=text_artifact.path, device="cpu")).collector.recorder.state()
    assert (state.requests, state.tokens) == (0, 0)
    assert not state.histograms.any()


async def predict(engine: Engine, *inputs: list[list[float]]) -> list[dict]:
    return (await engine.predict(PredictRequest(inputs=list(inputs))))[0]


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

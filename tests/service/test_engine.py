import asyncio
from pathlib import Path

import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError, InvalidInput
from service.engine import Engine
from service.settings import Settings


def test_engine_needs_an_artifact(tmp_path: Path):
    with pytest.raises(ArtifactError, match="No artifact"):
        Engine(Settings(model=tmp_path / "nowhere"))


def test_starting_counts_nothing(text_artifact: Artifact):
    state = Engine(Settings(model=text_artifact.path, device="cpu")).collector.recorder.state()
    assert (state.requests, state.tokens) == (0, 0)
    assert not state.histograms.any()


def test_overflow_does_not_reach_its_neighbours_and_is_not_counted(feature_engine: Engine):
    good, bad = [[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]], [[3e38] * 4] * 2

    async def main() -> list[object]:
        alone = await feature_engine.predict([good], 1, False)
        asked = [feature_engine.predict([item], 1, False) for item in (good, bad, good, bad, good)]
        return [alone, *await asyncio.gather(*asked, return_exceptions=True)]

    alone, *answers = asyncio.run(main())
    for answer in answers[0::2]:
        assert answer[0].score == pytest.approx(alone[0].score, abs=1e-5)
    for refusal in answers[1::2]:
        assert isinstance(refusal, InvalidInput) and "inputs[0] overflows" in str(refusal)
    assert feature_engine.collector.recorder.state().requests == 4


def test_overflow_is_named_in_its_request(feature_engine: Engine):
    with pytest.raises(InvalidInput, match=r"inputs\[1\] overflows"):
        asyncio.run(feature_engine.predict([[[1, 2, 3, 4]], [[3e38] * 4]], 1, False))

from pathlib import Path

import numpy as np
import pytest

from runtime.artifact import Artifact
from runtime.errors import ArtifactError
from service.engine import Engine, softmax
from service.settings import Settings


def test_softmax_matches_its_definition():
    logits = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)
    exponents = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(softmax(logits), exponents / exponents.sum(1, keepdims=True), rtol=1e-12)


def test_softmax_of_large_logits_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, -1e4]], dtype=np.float32)), [[0.5, 0.5, 0]])


def test_engine_needs_an_artifact(tmp_path: Path):
    with pytest.raises(ArtifactError, match="No artifact"):
        Engine(Settings(model=tmp_path / "nowhere"))


def test_starting_counts_nothing(text_artifact: Artifact):
    state = Engine(Settings(model=text_artifact.path, device="cpu")).recorder.state()
    assert (state.requests, state.tokens) == (0, 0)
    assert not state.histograms.any()

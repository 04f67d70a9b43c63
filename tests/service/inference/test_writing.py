"""Answers are written as they are described: the same as pydantic writes of the same predictions."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from runtime.artifact import Artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import InvalidInput
from runtime.graph.batch import EncodedBatch, best_classes
from runtime.graph.encoder import Encoder
from runtime.graph.inputs import EncodedInput
from runtime.manifest import Manifest
from service.inference.results import MANY, best_first, predictions
from service.inference.writing import PredictionWriter
from service.schemas.inference import PredictRequest, PredictResponse
from tests.helpers import random_sequences

LABELS = ['plain "quoted"', "back\\slash", "ümlaut \u2028", "}, ]", "line\nbreak", "", "a", "b"]


@pytest.fixture
def known(text_artifact: Artifact, text_encoder: Encoder, text_export) -> tuple:
    sequences = random_sequences(text_export[1], 5)
    encoded = [EncodedInput(tokens, truncated=index % 2 == 1) for index, tokens in enumerate(sequences)]
    return text_artifact, text_encoder.run(sequences), encoded


def expected(artifact: Artifact, batch: EncodedBatch, encoded: list[EncodedInput], request: PredictRequest) -> bytes:
    manifest = artifact.manifest
    rows = predictions(manifest, read_baseline(artifact), encoded, batch, request)
    return to_json({"model": manifest.name, "version": manifest.version, "predictions": rows})


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("norm_stats", [False, True])
@pytest.mark.parametrize("top_k", [1, 2, 3, 100])
@pytest.mark.parametrize("rows", [1, 5])
def test_answers_are_those_that_pydantic_writes(known, activation: str, norm_stats: bool, top_k: int, rows: int):
    artifact, whole, encoded = known
    artifact = replace(artifact, manifest=artifact.manifest.model_copy(update={"activation": activation}))
    batch = whole.split([rows, 5 - rows])[0] if rows < 5 else whole
    request = PredictRequest(inputs=["a"], top_k=top_k, norm_stats=norm_stats)
    written = PredictionWriter(artifact.manifest, read_baseline(artifact)).write(encoded[:rows], batch, request)
    assert written == expected(artifact, batch, encoded[:rows], request)
    PredictResponse.model_validate_json(written)


@settings(deadline=None, max_examples=60)
@given(
    activation=st.sampled_from(["softmax", "sigmoid"]),
    logits=st.lists(st.lists(st.floats(-80, 80, width=32), min_size=8, max_size=8), min_size=1, max_size=4),
    top_k=st.integers(1, 8),
)
def test_any_logits_and_any_labels_are_written_as_json(activation: str, logits: list[list[float]], top_k: int):
    """Ties, probabilities of 0 and 1, labels that JSON escapes."""
    values = np.array(logits, dtype=np.float32)
    rows = len(values)
    batch = EncodedBatch(
        values,
        values,
        np.ones((rows, 2), np.float32),
        np.empty((0, 2, 8), np.float32),
        np.ones(rows, np.int64),
        np.ones(rows, np.float32),
        *best_classes(values),
    )
    encoded = [EncodedInput(np.ones(1, np.int64), truncated=False)] * rows
    request = PredictRequest(inputs=["a"], top_k=top_k)
    manifest = Manifest.model_construct(name='a "model"', version="1", labels=LABELS, activation=activation, layers=[])
    written = PredictionWriter(manifest, None).write(encoded, batch, request)  # type: ignore[arg-type]
    found = predictions(manifest, None, encoded, batch, request)  # type: ignore[arg-type]
    assert json.loads(written) == {"model": 'a "model"', "version": "1", "predictions": found}
    assert [row["label"] for row in found] == [LABELS[place] for place in batch.classes]  # those that are counted


def test_a_variance_that_is_not_finite_is_an_error_and_no_infinity_in_json(known):
    artifact, batch, encoded = known
    statistics = batch.norm_statistics.copy()
    statistics[batch.lengths[0], 1] = 0  # 1/sigma of the second row's first token
    odd = replace(batch, norm_statistics=statistics)
    writer = PredictionWriter(artifact.manifest, read_baseline(artifact))
    json.loads(writer.write(encoded, odd, PredictRequest(inputs=["a"])), parse_constant=pytest.fail)
    with pytest.raises(InvalidInput, match=r"inputs\[1\] overflows the model"):
        writer.write(encoded, odd, PredictRequest(inputs=["a"], norm_stats=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([3, MANY - 1, MANY, 3 * MANY]), st.booleans())
def test_the_best_of_many_classes_are_those_of_a_full_sort(seed: int, count: int, classes: int, broken: bool):
    """In its order, ties too; whatever is not finite is left to the sort."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-6, 6, (4, classes)).astype(np.float32)  # many are equal
    if broken:
        logits[1, rng.integers(0, classes, 5)] = rng.choice([np.nan, np.inf, -np.inf], 5)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    found = best_first(logits, min(count, classes))
    if not np.isnan(logits).any():
        np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape

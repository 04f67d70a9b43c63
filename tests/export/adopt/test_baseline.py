from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import export.reference
from export.adopt.baseline import BATCH, fit_baseline, in_runs, run_all
from export.adopt.clusters import FEWEST
from runtime.artifact import Artifact
from runtime.drift.baseline import Baseline, read_baseline
from runtime.errors import ExportError
from runtime.graph.batch import EncodedBatch
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE, CLUSTERS
from tests.adopted import make_texts


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.reference, "DRAWS", 200)


@pytest.fixture(scope="module")
def encoder(embedding_artifact: Artifact) -> Encoder:
    return Encoder(embedding_artifact)


@pytest.fixture(scope="module")
def bare(embedding_artifact: Artifact) -> Artifact:
    """The artifact as it is before its baseline is fitted."""
    files = {name: held for name, held in embedding_artifact.files.items() if name not in (CLUSTERS, BASELINE)}
    manifest = embedding_artifact.manifest.model_copy(update={"clusters": None})
    return replace(embedding_artifact, manifest=manifest, files=files)


@pytest.fixture(scope="module")
def rows(embedding_artifact: Artifact, encoder: Encoder) -> list[EncodedBatch]:
    return run_all(encoder, tokens(embedding_artifact, make_texts()), lambda *_: None)


def tokens(artifact: Artifact, texts: list[str]) -> list[Any]:
    return [item.tokens for item in make_input_encoder(artifact).encode(texts)]


def fit(bare: Artifact, rows: list[EncodedBatch]) -> tuple[Artifact, Baseline]:
    artifact, baseline = fit_baseline(bare, rows)
    return artifact, read_baseline(replace(artifact, files=artifact.files | {BASELINE: baseline.to_json()}))


def test_every_text_is_run_in_company_and_answered_in_its_place(embedding_artifact: Artifact, encoder: Encoder):
    sequences, done = tokens(embedding_artifact, make_texts(70)), []
    found = run_all(encoder, sequences, lambda *both: done.append(both))
    assert done == [(BATCH, 70), (2 * BATCH, 70), (70, 70)]
    for sequence, row in zip(sequences, found, strict=True):
        alone = encoder.run([sequence])
        assert row.lengths.tolist() == [len(sequence)]
        np.testing.assert_allclose(row.embedding, alone.embedding, atol=1e-5)
        np.testing.assert_allclose(row.norm_statistics, alone.norm_statistics, rtol=1e-4, atol=1e-5)


def test_twenty_texts_are_a_baseline_without_a_verdict(bare: Artifact, rows: list[EncodedBatch]):
    artifact, baseline = fit(bare, rows[:20])
    assert baseline.reference is None
    assert baseline.state.requests == 20
    assert artifact.manifest.clusters is None and CLUSTERS not in artifact.files


@pytest.mark.parametrize(
    ("lengths", "runs"),
    [
        ([5] * 70, [32, 32, 6]),
        ([400, 400, 224, 1, 1], [3, 2]),
        ([8192, 8192, 10, 10], [1, 1, 2]),
        ([10, 8192, 10], [1, 1, 1]),
        ([1025], [1]),
    ],
    ids=str,
)
def test_runs_hold_few_texts_and_few_tokens(lengths: list[int], runs: list[int]):
    found = list(in_runs(range(len(lengths)), lengths))
    assert [place for run in found for place in run] == list(range(len(lengths)))
    assert [len(run) for run in found] == runs


@pytest.mark.parametrize(("count", "judged"), [(FEWEST - 1, False), (FEWEST, True)])
def test_three_hundred_texts_are_enough_for_a_verdict(
    count: int, judged: bool, bare: Artifact, rows: list[EncodedBatch]
):
    artifact, baseline = fit(bare, rows[:count])
    assert (baseline.reference is not None) == judged == (CLUSTERS in artifact.files)
    assert (artifact.manifest.clusters is not None) == judged


def test_the_fit_is_the_same_every_time(bare: Artifact, rows: list[EncodedBatch]):
    (first, one), (second, other) = fit_baseline(bare, rows), fit_baseline(bare, rows)
    assert first.files == second.files
    assert one.to_json() == other.to_json()


def test_ordinary_traffic_is_no_drift_and_other_traffic_is(bare: Artifact, rows: list[EncodedBatch]):
    """Texts of the same kind, which took no part in the fit; and texts of another kind."""
    artifact, baseline = fit(bare, rows)
    served = Encoder(artifact)
    assert baseline.reference is not None
    states = []
    for texts in (
        make_texts(400, seed=5),
        ["p p p p p p o o p p p p " + "p " * (number % 7) + "o " * (number // 7) for number in range(60)],
    ):
        batch = served.run(tokens(artifact, texts))
        states.append(baseline.reference.judge(baseline.reference.traffic(batch)).state)
    assert states[0] in ("ok", "mix_shift")
    assert states[1] == "drift"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_text_that_overflows_the_model_is_refused(value: float, bare: Artifact, rows: list[EncodedBatch]):
    spoilt = rows[7].norm_statistics.copy()
    spoilt[0, 2] = value
    with pytest.raises(ExportError, match=r"NaN or infinite norm statistics: nothing was written\.$"):
        fit_baseline(bare, [*rows[:7], replace(rows[7], norm_statistics=spoilt), *rows[8:20]])


def test_numbers_that_overflow_a_baseline_are_refused(bare: Artifact, rows: list[EncodedBatch]):
    """They are finite, and their squares are not in float32: as of a head with weights of 1e30."""
    large = [replace(row, norm_statistics=row.norm_statistics * np.float32(1e25)) for row in rows]
    with pytest.raises(ExportError, match=r"norm statistics that are too large for a baseline \(.*\): nothing was"):
        fit_baseline(bare, large)

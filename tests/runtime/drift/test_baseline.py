import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import Baseline, parse_baseline, read_baseline
from runtime.drift.detector import Reference
from runtime.errors import ArtifactError
from runtime.graph.batch import row_means, token_values
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import BASELINE
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState
from tests.helpers import TEXTS, rewrite


@pytest.mark.parametrize("kind", ["text", "feature"])
def test_json_round_trip_is_exact(request: pytest.FixtureRequest, kind: str):
    baseline = read_baseline(request.getfixturevalue(f"{kind}_artifact"))
    again = Baseline.from_json(baseline.to_json())
    assert again.to_json() == baseline.to_json()
    assert (again.state.requests, again.state.tokens) == (baseline.state.requests, baseline.state.tokens)
    np.testing.assert_array_equal(again.state.histograms, baseline.state.histograms)
    assert_equal(again.state.moments, baseline.state.moments)
    assert_equal(again.rows, baseline.rows)
    assert again.state.features.keys() == baseline.state.features.keys()
    for index, moments in baseline.state.features.items():
        assert_equal(again.state.features[index], moments)


@pytest.mark.parametrize("taken", [[float("nan"), 5], [1, 1e300], [-1e12, 5], [6, 5], [5], "55"])
def test_baseline_that_was_taken_at_no_time_is_refused(text_artifact: Artifact, taken: Any):
    content = json.loads(read_baseline(text_artifact).to_json())
    good, bad = (json.dumps(content | {"taken": span}).encode() for span in ([5, 6], taken))
    assert parse_baseline(good, text_artifact.manifest, "it").taken == (5, 6)
    with pytest.raises(ArtifactError, match="it is not a baseline of this version"):
        parse_baseline(bad, text_artifact.manifest, "it")


def assert_equal(found: Moments, expected: Moments) -> None:
    for name in Moments.__slots__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype


def test_baseline_is_the_validation_data(text_artifact: Artifact, text_encoder: Encoder):
    batch = text_encoder.run([item.tokens for item in make_input_encoder(text_artifact).encode(TEXTS)])
    values = token_values(batch.norm_statistics, text_artifact.manifest.layers)
    rows = row_means(values, batch.lengths)
    baseline = read_baseline(text_artifact)
    assert (baseline.state.requests, baseline.state.tokens) == (len(TEXTS), len(values))
    assert_close(baseline.state.moments, NormState.of(len(TEXTS), values).moments)
    assert_close(baseline.rows, Moments.of(rows, np.isfinite(rows)))


def assert_close(found: Moments, expected: Moments) -> None:
    np.testing.assert_array_equal(found.count, expected.count)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-4)


def test_z_scores_count_standard_deviations():
    rows = Moments.of(np.array([[1.0, 5.0], [3.0, 5.0]]), np.ones((2, 2), dtype=bool))
    baseline = Baseline(NormState.empty([]), rows)
    np.testing.assert_array_equal(baseline.z_scores(np.array([[4.0, 6.0], [2.0, 5.0]])), [[2, 0], [0, 0]])


TWO_COLUMNS = {name: [0, 0] for name in Moments.__slots__}
SPOILED = {
    "no layers": {"histograms": []},
    "fewer layers": {"histograms": [{}] * 4},
    "more layers": {"histograms": [{"0": 1}] * 12},
    "moments of fewer layers": {"moments": TWO_COLUMNS},
    "rows of fewer layers": {"rows": TWO_COLUMNS},
    "no moments": {"moments": {}},
    "no rows": {"rows": None},
    "features as a list": {"features": []},
    "histogram as a list": {"histograms": [[1]] * 10},
    "bucket without a number": {"histograms": [{"x": 1}] * 10},
    "bucket out of range": {"histograms": [{"99999": 1}] * 10},
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED.keys())
def test_baseline_of_other_layers_or_another_form_is_refused(
    text_artifact: Artifact, tmp_path: Path, change: dict[str, Any]
):
    content = json.loads(text_artifact.files[BASELINE])
    content |= change if "rows" in change else {"state": content["state"] | change}
    assert_refused(rewrite(tmp_path / "1", text_artifact, {BASELINE: json.dumps(content).encode()}))


@pytest.mark.parametrize("layers", [4, 6])
def test_reference_of_other_layers_is_refused(
    text_artifact: Artifact, reference: Reference, tmp_path: Path, layers: int
):
    columns = 2 * layers + 5
    other = replace(reference, variance=np.ones(columns), precision=np.ones((layers + 2, 2, 2)))
    content = json.loads(text_artifact.files[BASELINE]) | {"reference": other.to_dict()}
    assert_refused(rewrite(tmp_path / "1", text_artifact, {BASELINE: json.dumps(content).encode()}))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_baseline_that_is_none_is_refused(text_artifact: Artifact, tmp_path: Path, content: bytes):
    assert_refused(rewrite(tmp_path / "1", text_artifact, {BASELINE: content}))


def assert_refused(path: Path) -> None:
    artifact = read_artifact(path)
    with pytest.raises(ArtifactError) as caught:
        read_baseline(artifact)
    assert str(path / BASELINE) in str(caught.value)

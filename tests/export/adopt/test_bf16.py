"""What is adopted in bf16: directories and files answer as in float32, or are refused; `auto` goes on with float32.

OpenVINO computes in float32 where the processor has no bf16; what it makes of a graph is the same there.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import export.reference
import export.timing
from export.adopt.directory.adopter import adopt_directory
from export.adopt.lower import check_logits, recall
from export.adopt.onnx_file.adopter import adopt_file
from export.adopt.onnx_file.source import Hints
from export.adopt.texts import Texts
from export.precision import bf16
from export.precision.choice import Asked
from runtime.artifact import Artifact, read_artifact
from runtime.errors import ExportError
from runtime.graph import openvino_session
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.precision import TRIALS
from tests.adopted import MULTILABEL, RERANK, Recipe, make_inputs, make_texts, source_of
from tests.export.adopt.onnx_file.files import save, tiny

POSITIONS_APART = Recipe("deberta", "deberta-v2")  # its graph does not use the position ids
TEXTS = Texts(make_texts(60), None)


@pytest.fixture(scope="module", autouse=True)
def hurried() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        for module in (openvino_session, bf16):
            patch.setattr(module, "capabilities", lambda: ["BF16", "FP32"])
        yield


def compared(artifact: Artifact, texts: Texts = TEXTS) -> float:
    """The least cosine between what is served and the same artifact in float32."""
    sequences = [item.tokens for item in make_input_encoder(artifact).encode(texts.inputs)]
    exact = replace(artifact, manifest=artifact.manifest.model_copy(update={"precision": None}))
    ours, theirs = (Encoder(each).run(sequences).embedding for each in (artifact, exact))
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float((np.vecdot(ours, theirs) / norms).min())


@pytest.mark.parametrize("recipe", [MULTILABEL, POSITIONS_APART], ids=lambda recipe: recipe.model_type)
def test_a_directory_is_adopted(recipe: Recipe, shared_path: Path, tmp_path: Path):
    source, target, pooling = (
        source_of(recipe, shared_path),
        tmp_path / "mine" / "1",
        None if recipe.classes else "mean",
    )
    found = adopt_directory(source, TEXTS, target, pooling, asked=Asked("bf16"))
    artifact = read_artifact(found.artifact.path)
    measured = artifact.manifest.precision
    assert measured is not None and measured.kind == "bf16" and artifact.manifest.format == 5
    assert measured.mean_cosine is not None and measured.mean_cosine > 0.999
    assert measured.engine is not None and measured.engine.startswith("openvino ")
    assert measured.capabilities == ["BF16", "FP32"]
    assert list(measured.statistics_errors) == artifact.manifest.layer_names
    for error in measured.statistics_errors.values():
        assert 0 <= error.mean < 0.05 and 0 <= error.inverse_deviation < 0.05
    assert compared(artifact) > 0.999


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_a_file_is_adopted(precision: Any, tmp_path: Path):
    """Its positions are counted in the graph, and its vectors leave it by a Cast that OpenVINO takes out."""
    path, target = save(tmp_path, tiny()), tmp_path / "mine" / "1"
    artifact = adopt_file(path, TEXTS, target, Hints(pooling="mean"), asked=Asked(precision)).artifact
    if precision == "bf16":
        assert artifact.manifest.precision_kind == "bf16"
    assert artifact.manifest.training.get(TRIALS, {}).keys() == ({"bf16"} if precision == "auto" else set())
    assert compared(read_artifact(artifact.path)) > 0.999


def test_a_file_that_the_engine_does_not_run_stays_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise RuntimeError("OpenVINO does not support the following ONNX operations: RotaryEmbedding")

    monkeypatch.setattr("runtime.graph.openvino_session.OpenVinoSession.__init__", refuse)
    path, target = save(tmp_path, tiny()), tmp_path / "mine" / "1"
    with pytest.raises(
        ExportError, match=r"^The model does not run in bf16 \(.*RotaryEmbedding\)\): choose another\.$"
    ):
        adopt_file(path, TEXTS, target, Hints(pooling="mean"), asked=Asked("bf16"))
    assert not target.exists()
    artifact = adopt_file(path, TEXTS, target, Hints(pooling="mean"), asked=Asked("auto")).artifact
    assert artifact.manifest.precision is None
    assert "RotaryEmbedding" in artifact.manifest.training[TRIALS]["bf16"]["refused"]


def test_recall_is_the_share_of_the_nearest_that_stay():
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    assert recall(vectors, 3 * vectors) == 1.0
    assert recall(vectors[:10], vectors[:10]) is None
    moved = vectors + np.random.default_rng(1).standard_normal(vectors.shape).astype(np.float32)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (vectors, moved)]
    near = [np.argsort(-(each @ each.T) - 2 * -np.eye(60), axis=1)[:, :10] for each in unit]
    expected = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(*near, strict=True)])
    assert recall(vectors, moved) == pytest.approx(expected) and 0.2 < expected < 0.9


def test_a_rerankers_scores_may_not_move_far(rerank_artifact: Artifact):
    sequences = [item.tokens for item in make_input_encoder(rerank_artifact).encode(make_inputs(RERANK)[:8])]
    before = Encoder(rerank_artifact).run(sequences)
    for moved, refused in ((0.4, False), (0.6, True), (np.nan, True)):
        after = replace(before, logits=before.logits + np.float32(moved))
        if refused:
            with pytest.raises(ExportError, match="In bf16 the score of a pair moved by"):
                check_logits(before, after, "bf16")
        else:
            check_logits(before, after, "bf16")

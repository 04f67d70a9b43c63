"""A file whose graph would be served with other answers is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.adopt import parity
from export.adopt.norms.expose import OUTPUT
from export.adopt.onnx_file import adopter
from runtime.artifact import Artifact
from runtime.errors import ArtifactError, ExportError
from runtime.manifest import MODEL
from tests.export.adopt.norms.exports import in_half
from tests.export.adopt.onnx_file.files import (
    rename,
    replace_weight,
    save,
    tiny,
    weight,
    without_mask,
)
from tests.export.adopt.onnx_file.test_adopter import adopt


def not_finite() -> onnx.ModelProto:
    """One letter of the texts has no finite vector."""
    model = tiny()
    table = weight(model, "table").copy()
    table[4] = np.nan
    replace_weight(model, "table", table)
    return model


def without_norm() -> onnx.ModelProto:
    model = tiny()
    del model.graph.node[-1]
    return rename(model, "mixed", "last_hidden_state")


def named_as_statistics() -> onnx.ModelProto:
    return rename(tiny(), "last_hidden_state", OUTPUT)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (without_norm, "no norm that can be observed"),
        (without_mask, "each alone (the served graph does not reproduce its canary on CPUExecutionProvider ("),
        (not_finite, ""),
        (named_as_statistics, "rename it"),
    ],
)
def test_a_file_that_cannot_be_served_is_refused(make: Callable[[], onnx.ModelProto], words: str, tmp_path: Path):
    with pytest.raises(ExportError) as refused:
        adopt(save(tmp_path, make()))
    assert words in str(refused.value)
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)
    assert not (tmp_path / "mine").exists()


def test_the_cause_is_told_of_a_graph_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(artifact: Artifact, _: object) -> Artifact:
        raise ArtifactError(f"{artifact.path / MODEL} does not load (too wide): export it again.") from ValueError()

    monkeypatch.setattr(adopter, "with_plan", fail)
    message = r"model.onnx cannot be served \(the served graph does not load \(too wide\)\): export it again\.$"
    with pytest.raises(ExportError, match=message):
        adopt(save(tmp_path, tiny()))


@pytest.mark.parametrize("name", ["norm_statistics", "norm_statistics.0.mean", "addnorm.mask", "addnorm.pooled"])
def test_inner_values_may_be_named_as_what_is_added(name: str, tmp_path: Path):
    assert adopt(save(tmp_path, rename(tiny(), "mixed", name))).errors["embedding"] < 1e-5


@pytest.mark.parametrize("kind", ["embedding", "means", "inverse_deviations", "packed_against_alone"])
def test_a_graph_that_differs_from_its_file_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(parity.LIMITS, kind, -1.0)
    with pytest.raises(ExportError, match=rf"^The graph's {kind} differ from the file's by .*: nothing was written\.$"):
        adopt(save(tmp_path, tiny()))
    assert not (tmp_path / "mine").exists()


def test_lower_precision_is_judged_by_cosines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save(tmp_path, in_half(tiny().SerializeToString(), tmp_path))
    monkeypatch.setitem(parity.LIMITS, "embedding", -1.0)
    found = adopt(path)
    assert found.artifact.manifest.precision_kind == "fp16" and 0 <= found.errors["worst_cosine"] < 1e-4
    monkeypatch.setitem(parity.COSINES, "fp16", (1.5, 0.9))
    with pytest.raises(ExportError, match=r"The graph's mean_cosine differ from the file's by"):
        adopt(path, overwrite=True)

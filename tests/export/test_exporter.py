"""Every norm and placement trains, exports and answers; what does not agree is not written."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import export.exporter
from export.exporter import export_run
from export.graph import OPSET
from export.precision.choice import Asked
from model.data import load_dataset
from model.training.checkpoint import load_run
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError, DataError, ExportError
from runtime.graph.encoder import Encoder
from runtime.graph.texts import make_input_encoder
from runtime.manifest import MODEL
from tests.export.conftest import Exported

NORMS, PLACEMENTS = ("layer_norm", "rms_norm", "batch_norm", "none"), ("post", "pre")


@pytest.mark.parametrize(("norm", "placement"), list(itertools.product(NORMS, PLACEMENTS)))
def test_every_norm_and_placement_trains_exports_and_answers(
    norm: str, placement: str, exported_once: Callable[[str, str], Exported], tmp_path: Path
) -> None:
    directory, artifact, errors = exported_once(norm, placement)
    assert errors["logits"] <= 1e-4 and errors["packed_against_alone"] <= 1e-4
    assert [layer.name for layer in artifact.manifest.layers] == [name for name, _ in load_run(directory).model.norms()]
    assert artifact.manifest.training["test_accuracy"] > 0.5
    check_baseline(artifact)
    check_answers(artifact, directory, tmp_path)


def check_baseline(artifact: Artifact) -> None:
    layers = artifact.manifest.layers
    state = read_baseline(artifact).state
    assert (state.requests, state.tokens) == (358, 358 * 8)  # validation and test rows
    assert (state.histograms.sum(1) == state.tokens).all() and (state.moments.count == state.tokens).all()
    assert set(state.features) == {i for i, layer in enumerate(layers) if layer.kind == "batch_norm"}
    for moments in state.features.values():
        assert (moments.count == state.tokens).all() and (moments.variance > 0).all()


def check_answers(artifact: Artifact, directory: Path, data: Path) -> None:
    """The graph answers what the PyTorch weights answer."""
    inputs = load_dataset("digits", data).test.inputs[:20]
    sequences = [item.tokens for item in make_input_encoder(artifact).encode([x.tolist() for x in inputs])]
    found = Encoder(artifact).run(sequences).logits
    model, temperature = load_run(directory).model, artifact.manifest.training["temperature"]
    with torch.inference_mode():
        positions, segments = torch.arange(8).repeat(20, 1), torch.ones(20, 8, dtype=torch.int64)
        pooling = torch.kron(torch.eye(20), torch.full((1, 8), 1 / 8))
        expected = model(torch.from_numpy(np.stack(sequences)), positions, segments, pooling).logits
    np.testing.assert_allclose(found, expected.numpy() / temperature, atol=1e-4)


@pytest.fixture
def exported(exported_once: Callable[[str, str], Exported]) -> Artifact:
    return exported_once("layer_norm", "post").artifact


def test_graph_is_standard_onnx_without_local_paths(exported: Artifact) -> None:
    graph = onnx.load_from_string(exported.files[MODEL])
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == OPSET
    operators = {node.op_type for node in graph.graph.node}
    assert {"Attention", "Gelu", "LayerNormalization"} <= operators
    assert "Transpose" not in operators  # what takes heads apart and joins them is part of the Attention
    assert {node.domain for node in graph.graph.node} == {""}
    assert b"site-packages" not in exported.files[MODEL] and b".py" not in exported.files[MODEL]
    inputs = {
        item.name: [d.dim_param or d.dim_value for d in item.type.tensor_type.shape.dim] for item in graph.graph.input
    }
    packed = ["packs", "tokens"]
    assert inputs == {
        "features": [*packed, 8],
        "position_ids": packed,
        "segment_ids": packed,
        "pooling": ["rows", "packs*tokens"],
    }


def test_existing_version_is_kept_unless_overwriting(exported: Artifact, run_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(exported.path, tmp_path / "digits" / "1")
    before = (tmp_path / "digits" / "1" / "manifest.json").read_bytes()
    with pytest.raises(ArtifactError, match="exists already"):
        export_run(run_directory, tmp_path, "digits", "1", tmp_path)
    assert (tmp_path / "digits" / "1" / "manifest.json").read_bytes() == before
    written, errors = export_run(run_directory, tmp_path, "digits", "1", tmp_path, overwrite=True, asked=Asked("int8"))
    check_int8(read_artifact(tmp_path / "digits" / "1"), written, errors, run_directory)
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1"]


def check_int8(found: Artifact, written: Artifact, errors: dict[str, float], run_directory: Path) -> None:
    assert found.manifest == written.manifest
    assert found.manifest.precision_kind == "int8" and found.manifest.plan is not None
    assert found.manifest.precision is not None
    assert 1e-4 < errors["logits"] < 1.0
    assert [layer.name for layer in found.manifest.layers] == [
        name for name, _ in load_run(run_directory).model.norms()
    ]
    assert found.manifest.training["validation_accuracy"] == found.manifest.precision.accuracy["int8"]


def test_graph_that_disagrees_is_not_written(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export.exporter.to_onnx

    def altered(*args: object) -> onnx.ModelProto:
        proto = honest(*args)
        bias = next(item for item in proto.graph.initializer if item.name.endswith("head.1.bias"))
        values = onnx.numpy_helper.to_array(bias) + np.float32(5e-4)  # the canary lets it pass, verification does not
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        return proto

    monkeypatch.setattr(export.exporter, "to_onnx", altered)
    with pytest.raises(ExportError, match="logits differ"):
        export_run(run_directory, tmp_path, "digits", "1", tmp_path)
    assert not (tmp_path / "digits").exists()


def test_missing_run_and_changed_data_are_refused(run_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"recipe.json cannot be read"):
        export_run(tmp_path / "absent", tmp_path, "digits", "1", tmp_path)
    recipe = Path(shutil.copytree(run_directory, tmp_path / "run")) / "recipe.json"
    recipe.write_text(recipe.read_text().replace(load_run(run_directory).info.data_sha256, "0" * 64))
    with pytest.raises(DataError, match="is not, or is not split, as it was"):
        export_run(tmp_path / "run", tmp_path, "digits", "1", tmp_path)

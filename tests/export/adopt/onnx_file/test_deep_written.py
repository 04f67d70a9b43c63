"""The deep graph that is written: its weights lie in the served graph only; without a verification there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx.helper import make_node, make_tensor

from addnorm.commands.adopt import tell
from export.adopt.onnx_file import adopter
from export.adopt.onnx_file.deep import Watched
from runtime.artifact import read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.manifest import DEEP, MODEL, NO_DEEP
from tests.export.adopt.norms.exports import exported, in_integers
from tests.export.adopt.onnx_file.files import rename, save, tiny, weight
from tests.export.adopt.onnx_file.looks import ROOT, compare, deep_of, seen, with_norm
from tests.export.adopt.onnx_file.test_adopter import IDS, adopt

UNKNOWN = {  # what it gives cannot be told for sure
    "a weight that is computed": ROOT + "p = Exp(weight) last_hidden_state = Mul(n, p)",
    "a bias that is computed": ROOT + "w = Mul(n, weight) c = Cast <to = 1> (w) last_hidden_state = Add(c, bias)",
    "no weight": ROOT + "last_hidden_state = Identity(n)",
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_a_norm_whose_output_is_not_known_means_no_deep_graph(body: str, tmp_path: Path):
    adopted = adopt(save(tmp_path, with_norm(body)))
    artifact = read_artifact(adopted.artifact.path)
    assert DEEP not in artifact.files and "deep" not in adopted.errors and read_baseline(artifact).deep is None
    assert DeepGraph.of(artifact, Encoder(artifact)) is None
    reason = artifact.manifest.training[NO_DEEP]
    assert reason.endswith("is written as several operators, and which value it gives was not found.")
    assert f"no deep statistics: {reason}" in tell(adopted, 12)


def test_a_weight_that_the_graph_computes_cannot_be_verified(tmp_path: Path):
    body = "p = Exp(weight) last_hidden_state = LayerNormalization(mixed, p, bias)"
    artifact = adopt(save(tmp_path, with_norm(body))).artifact
    assert DEEP not in artifact.files and "computed by the graph" in artifact.manifest.training[NO_DEEP]


def test_an_output_that_differs_from_float64_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Watched, "expect", lambda _, x: x)
    artifact = adopt(save(tmp_path, tiny())).artifact
    assert DEEP not in artifact.files
    assert artifact.manifest.training[NO_DEEP].startswith("What leaves norm_00 is ")


def test_statistics_that_differ_from_those_served_are_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(DeepGraph, "difference", lambda *_: 2e-3)  # a start allows it
    reason = adopt(save(tmp_path, tiny())).artifact.manifest.training[NO_DEEP]
    assert reason == "What enters the norms has other statistics than those served, by 2.0e-03, allowed are 0.001."


def test_a_deep_graph_that_does_not_run_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> None:
        raise ArtifactError("It does not run.")

    monkeypatch.setattr(adopter, "DeepGraph", fail)
    artifact = adopt(save(tmp_path, tiny())).artifact
    assert DEEP not in artifact.files and artifact.manifest.training[NO_DEEP] == (
        "The graph that gives out what enters and leaves the norms does not run (ArtifactError: It does not run)."
    )


def number_by_number() -> onnx.ModelProto:
    """The tiny encoder, its word vectors not written as bytes."""
    model = tiny()
    table = next(item for item in model.graph.initializer if item.name == "table")
    values = weight(model, "table")
    table.CopyFrom(make_tensor("table", onnx.TensorProto.FLOAT, values.shape, values.ravel()))
    return model


def in_a_node() -> onnx.ModelProto:
    """The tiny encoder, its word vectors in a node."""
    model = tiny()
    table = next(item for item in model.graph.initializer if item.name == "table")
    unnamed = onnx.numpy_helper.from_array(weight(model, "table"))
    model.graph.node.insert(0, make_node("Constant", [], ["table"], value=unnamed))
    model.graph.initializer.remove(table)
    return model


@pytest.mark.parametrize("make", [tiny, number_by_number, in_a_node])
def test_weights_lie_in_the_served_graph_only(make: Callable[[], onnx.ModelProto], tmp_path: Path):
    artifact = adopt(save(tmp_path, make())).artifact
    outside = [item for item in onnx.load_from_string(artifact.files[DEEP]).graph.initializer if item.external_data]
    places = [{entry.key: entry.value for entry in item.external_data} for item in outside]
    assert [place["location"] for place in places] == [MODEL]
    start, length = (int(places[0][key]) for key in ("offset", "length"))
    assert artifact.files[MODEL][start : start + length] == weight(tiny(), "table").tobytes()
    deep_of(artifact)


def test_integers_are_shared_too(tmp_path: Path):
    content = in_integers(exported("bert", 14), tmp_path)
    artifact = adopt(save(tmp_path, content)).artifact
    initializers = onnx.load_from_string(artifact.files[DEEP]).graph.initializer
    assert sum(bool(item.external_data) for item in initializers) > 5
    assert all(len(item.raw_data) < 1024 for item in initializers)


def test_values_may_be_called_like_what_the_deep_graph_gives(tmp_path: Path):
    expected = adopt(save(tmp_path / "a", tiny())).artifact
    model = rename(rename(tiny(), "mixed", "norm_outputs"), "x", "norm_inputs")
    artifact = adopt(save(tmp_path / "b", model)).artifact
    compare(seen(deep_of(artifact), IDS), seen(deep_of(expected), IDS))

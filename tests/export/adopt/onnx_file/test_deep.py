"""The deep graph of a file: what it gives out against float64, one text at a time, and when there is none."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.helper import make_node, make_tensor

from addnorm.commands.adopt import tell
from export.adopt.adds import NormAdd, expect_adds
from export.adopt.onnx_file import adopter
from export.adopt.onnx_file.deep import Watched
from model.pretrained.watched import is_norm
from runtime.artifact import Artifact, read_artifact
from runtime.drift.baseline import read_baseline
from runtime.errors import ArtifactError
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder
from runtime.graph.packing import Tokens
from runtime.manifest import DEEP, MODEL, NO_DEEP
from tests.export.adopt.norms.exports import exported, fused, in_half, in_integers, served
from tests.export.adopt.onnx_file.files import rename, save, tiny, weight
from tests.export.adopt.onnx_file.test_adopter import IDS, adopt

Floats = NDArray[np.float64]
SQUARES = "s = Mul(mixed, mixed) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) "
CENTERED = "m = ReduceMean <axes = [-1]> (mixed) d = Sub(mixed, m) s = Mul(d, d) v = ReduceMean <axes = [-1]> (s) "
ROOT = CENTERED + "e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
NORMS = {  # how the tiny encoder's norm is written; how often what enters it was added, its kind, whether with a bias
    "LayerNorm": ("last_hidden_state = LayerNormalization(mixed, weight, bias)", 1, "layer_norm", True),
    "no bias": ("last_hidden_state = LayerNormalization(mixed, weight)", 1, "layer_norm", False),
    "decomposed": (ROOT + "w = Mul(n, weight) last_hidden_state = Add(w, bias)", 1, "layer_norm", True),
    "decomposed, no bias": (ROOT + "last_hidden_state = Mul(n, weight)", 1, "layer_norm", False),
    "fused": (
        "last_hidden_state = com.microsoft.SkipLayerNormalization <epsilon = 0.00001> (mixed, mixed, weight, bias)",
        2,
        "layer_norm",
        True,
    ),
    "RMSNorm": ("last_hidden_state = SimplifiedLayerNormalization <axis = -1> (mixed, weight)", 1, "rms_norm", False),
    "decomposed RMSNorm": (
        SQUARES + "i = Reciprocal(r) n = Mul(mixed, i) c = Cast <to = 1> (n) last_hidden_state = Mul(weight, c)",
        1,
        "rms_norm",
        False,
    ),
    "fused RMSNorm": (
        "last_hidden_state = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.00001> (mixed, mixed, weight)",
        2,
        "rms_norm",
        False,
    ),
}
UNKNOWN = {  # what it gives cannot be told for sure
    "a weight that is computed": ROOT + "p = Exp(weight) last_hidden_state = Mul(n, p)",
    "a bias that is computed": ROOT + "w = Mul(n, weight) c = Cast <to = 1> (w) last_hidden_state = Add(c, bias)",
    "no weight": ROOT + "last_hidden_state = Identity(n)",
}


def with_norm(body: str) -> onnx.ModelProto:
    """The tiny encoder with another norm at its end."""
    header = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> norm (float[b, t, 8] mixed) => '
    nodes = onnx.parser.parse_model(f"{header}(float[b, t, 8] last_hidden_state) {{ {body} }}").graph.node
    model = tiny()
    del model.graph.node[-1]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(make_tensor("eps", onnx.TensorProto.FLOAT, [], [1e-5]))
    return model


def deep_of(artifact: Artifact) -> DeepGraph:
    deep = DeepGraph.of(artifact, Encoder(artifact))
    assert deep is not None
    return deep


def seen(deep: DeepGraph, sequences: list[Tokens]) -> list[list[NDArray[Any]]]:
    """What enters and leaves the norms, text by text, in the order of the sequences; run as the service runs them."""
    found: dict[bytes, list[NDArray[Any]]] = {}
    for batch in deep.batches(sequences):
        ends = np.cumsum(batch.lengths)[:-1]
        ids = np.split(batch.values.reshape(-1)[batch.token_index], ends)
        rows = zip(*(np.split(values, ends) for values in deep.run(batch)[:2]), strict=True)
        found |= {own.tobytes(): list(row) for own, row in zip(ids, rows, strict=True)}
    return [found[sequence.tobytes()] for sequence in sequences]


def compare(found: list[list[NDArray[Any]]], expected: list[list[Floats]], error: float = 1e-5) -> None:
    for row, wanted in zip(found, expected, strict=True):
        for values, right in zip(row, wanted, strict=True):
            np.testing.assert_allclose(values, right, atol=error * np.abs(right).max(), rtol=0)


@pytest.mark.parametrize(("body", "times", "kind", "bias"), NORMS.values(), ids=NORMS)
def test_what_enters_and_leaves_a_norm_is_that_of_float64(body: str, times: int, kind: str, bias: bool, tmp_path: Path):
    model = with_norm(body)
    adopted = adopt(save(tmp_path, model))
    assert 0 <= adopted.errors["deep"] < 1e-5 and NO_DEEP not in adopted.artifact.manifest.training
    wide = {name: weight(model, name).astype(np.float64) for name in ("table", "positions", "weight", "bias")}
    expected = []
    for ids in IDS:
        words = wide["table"][ids] + wide["positions"][: len(ids)]
        x = times * (words + words.mean(0))
        d = x - x.mean(1, keepdims=True) if kind == "layer_norm" else x
        y = d / np.sqrt((d**2).mean(1, keepdims=True) + 1e-5) * wide["weight"]
        expected.append([x, y + wide["bias"] if bias else y])
    deep = deep_of(read_artifact(adopted.artifact.path))
    compare(seen(deep, IDS), expected)
    compare([row for ids in IDS for row in seen(deep, [ids])], expected)  # padding changes nothing


@torch.no_grad()
def reference(family: str, sequences: list[Tokens]) -> list[list[Floats]]:
    """What transformers' norms see and give in float64."""
    network = copy.deepcopy(served(family)).double()
    watched: list[tuple[torch.Tensor, torch.Tensor]] = []
    for module in network.modules():
        if is_norm(module):
            module.register_forward_hook(lambda _, inputs, output: watched.append((inputs[0][0], output[0])))
    rows = []
    for ids in sequences:
        watched.clear()
        network(torch.from_numpy(ids)[None], torch.ones((1, len(ids)), dtype=torch.int64))
        rows.append([torch.cat(values, -1).numpy() for values in zip(*watched, strict=True)])
    return rows


FILES: dict[str, tuple[str, int, Callable[[bytes, Path], bytes], float]] = {
    "decomposed": ("bert", 11, lambda content, _: content, 1e-5),
    "named": ("roberta", 17, lambda content, _: content, 1e-5),
    "RMSNorm": ("t5", 14, lambda content, _: content, 1e-5),
    "RMSNorm between casts": ("eurobert", 18, lambda content, _: content, 1e-5),
    "fused": ("bert", 14, fused, 1e-5),
    "half": ("bert", 14, in_half, 1e-2),
    "half, RMSNorm": ("eurobert", 14, in_half, 1e-2),
}


@pytest.mark.parametrize(("family", "opset", "change", "error"), FILES.values(), ids=FILES)
def test_what_all_norms_see_is_what_transformers_computes(
    family: str, opset: int, change: Callable[[bytes, Path], bytes], error: float, tmp_path: Path
):
    artifact = adopt(save(tmp_path, change(exported(family, opset), tmp_path))).artifact
    compare(seen(deep_of(artifact), IDS), reference(family, IDS), error)


ADDS = {
    "post": ("bert", 11, lambda content, _: content, [NormAdd(n, n - 1, n, "", "") for n in range(1, 5)]),
    "pre": ("t5", 14, lambda content, _: content, [NormAdd(n, n, n + 1, "", "") for n in range(4)]),
    "pre, between casts": (
        "eurobert",
        18,
        lambda content, _: content,
        [NormAdd(n, n, n + 1, "", "") for n in range(4)],
    ),
    "half": ("bert", 14, in_half, []),
    "fused": ("bert", 14, fused, []),
}


@pytest.mark.parametrize(("family", "opset", "change", "adds"), ADDS.values(), ids=ADDS)
def test_what_adds_add_is_measured_where_norms_see_both_sides(
    family: str, opset: int, change: Callable[[bytes, Path], bytes], adds: list[NormAdd], tmp_path: Path
):
    artifact = adopt(save(tmp_path, change(exported(family, opset), tmp_path))).artifact
    layers = artifact.manifest.layers
    assert [number for number, layer in enumerate(layers) if layer.add] == [add.norm for add in adds]
    deep, looks = deep_of(artifact), read_baseline(artifact).deep
    assert looks is not None and looks.fits(layers)
    for ids, (entered, left) in zip(IDS, reference(family, IDS), strict=True):
        (batch,) = deep.batches([ids])
        np.testing.assert_allclose(deep.run(batch)[2], expect_adds(entered, left, layers, adds), atol=2e-5)


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


def test_the_baseline_has_looked_at_all_texts(tmp_path: Path):
    artifact = adopt(save(tmp_path, tiny()), texts=40).artifact
    looks = read_baseline(artifact).deep
    assert looks is not None and looks.fits(artifact.manifest.layers) and looks.requests == 40
    assert not any(layer.add for layer in artifact.manifest.layers)


def test_texts_of_unlike_lengths_do_not_run_together(tmp_path: Path):
    deep = deep_of(adopt(save(tmp_path, tiny())).artifact)
    texts = [np.full(length, 5) for length in (200, 2, 3, 199)]
    batches = deep.batches(texts)
    assert [batch.values.shape for batch in batches] == [(2, 200), (2, 3)]
    packed: Any = SimpleNamespace(encoder=SimpleNamespace(padded=False))
    assert [batch.rows for batch in DeepGraph.batches(packed, texts)] == [4]

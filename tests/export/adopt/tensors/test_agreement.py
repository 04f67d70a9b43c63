"""Adopted networks answer as they did, and their statistics are those of PyTorch in float64."""

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from torch import nn

from export.adopt.tensors.adopter import adopt_tensors
from runtime.graph.batch import join
from runtime.graph.tensor_graph import TensorGraph
from runtime.graph.tensors import TensorEncoder
from runtime.manifest import Manifest, TensorInputs
from tests.export.adopt.onnx_file.files import few_draws
from tests.export.adopt.tensors.networks import CASES, RMSNorm, adopt, exported, make, rows_of

NORMS = (nn.LayerNorm, RMSNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
Seen = dict[str, NDArray[np.float64]]


def in_float64(name: str, rows: dict[str, NDArray[Any]]) -> tuple[list[NDArray[np.float64]], Seen]:
    """What PyTorch gives in float64, and what flows into each norm."""
    network, seen = make(name).double(), Seen()
    for path, module in network.named_modules():
        if isinstance(module, NORMS):
            module.register_forward_pre_hook(lambda _, inputs, path=path: seen.update({path: inputs[0].numpy()}))
    given = [torch.from_numpy(value) for value in rows.values()]
    with torch.no_grad():
        answers = network(*(value.double() if value.is_floating_point() else value for value in given))
    return [answer.numpy() for answer in (answers if isinstance(answers, tuple) else (answers,))], seen


def units(name: str, x: NDArray[np.float64], samples: int, kind: str = "") -> NDArray[np.float64]:
    """The units that are looked at [R, U, D], written for each case by hand."""
    match (name, x.ndim):
        case ("image", 4):
            taken = np.moveaxis(x[:, :, ::4, ::4], 1, -1).reshape(len(x), 4, -1)
        case ("groups", 4) if kind == "group_norm":
            taken = x.reshape(len(x), 2, -1)[:, [0, 0, 1, 1]]
        case ("groups", 4):
            taken = x.reshape(len(x), 6, -1)[:, [0, 1, 3, 4]]
        case ("patches", 4):
            taken = x.reshape(len(x), 16, -1)
        case ("series", 3) if x.shape[1] == 7:  # [R, time, D]
            taken = x[:, [0, 1, 3, 5]]
        case ("series", 3):  # [R, channels, time]
            taken = np.moveaxis(x, 1, -1)[:, [0, 1, 3, 5]]
        case _:
            taken = np.repeat(x[:, None], samples, axis=1)
    return taken


def served(manifest: Manifest, graph: TensorGraph, rows: dict[str, NDArray[Any]]) -> Any:
    assert isinstance(manifest.inputs, TensorInputs)
    return graph.run([item.tokens for item in TensorEncoder(manifest.inputs).encode_arrays(rows)])


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        *((name, 17) for name in CASES),
        ("image", 11),
        ("image", 23),
        ("groups", 11),
        ("groups", 20),
        ("patches", 13),
        ("patches", 22),
        ("series", 18),
    ],
)
def test_answers_and_statistics_are_those_of_float64(name: str, opset: int, tmp_path: Path):
    adopted = adopt(tmp_path, name, exported(name, opset)).artifact
    manifest, rows = adopted.manifest, rows_of(name, rows=5, seed=1)
    found = served(manifest, TensorGraph(adopted), rows)
    answers, seen = in_float64(name, rows)
    for output, expected in zip(CASES[name].outputs, answers, strict=True):
        np.testing.assert_allclose(found.outputs[output], expected, atol=2e-3 if name == "half" else 1e-5)
    observed = [path for path in seen if (name, path) != ("series", "group")]  # of free size
    assert [layer.name for layer in manifest.layers] == observed
    samples = manifest.layers[0].sampled
    assert samples is not None
    statistics = found.norm_statistics.reshape(5, samples, -1)
    features = iter(found.feature_moments)
    for place, layer in enumerate(manifest.layers):
        x = units(name, seen[layer.name], samples, layer.kind)
        if layer.kind == "batch_norm":
            mean, variance = next(features)
            np.testing.assert_allclose(mean, x.mean((0, 1)), atol=1e-5)
            np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-4)
            x = (x - layer.running_mean) / np.sqrt(np.array(layer.running_variance) + layer.eps)
        np.testing.assert_allclose(statistics[..., 2 * place], x.mean(-1), atol=1e-5)
        np.testing.assert_allclose(statistics[..., 2 * place + 1], 1 / np.sqrt(x.var(-1) + layer.eps), rtol=1e-4)


def test_a_file_of_one_row_is_run_row_by_row(tmp_path: Path):
    adopted = adopt(tmp_path, "image", exported("image", rows=1)).artifact
    assert isinstance(adopted.manifest.inputs, TensorInputs) and not adopted.manifest.inputs.together
    rows = rows_of("image", rows=4, seed=2)
    found = served(adopted.manifest, TensorGraph(adopted), rows)
    (answers,), seen = in_float64("image", rows)
    np.testing.assert_allclose(found.outputs["scores"], answers, atol=1e-5)
    x = units("image", seen["bn1"], 4)
    mean, variance = found.feature_moments[0]  # of all four runs together
    np.testing.assert_allclose(mean, x.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1)), rtol=1e-4)


def test_rows_of_unlike_shapes_run_beside_each_other(tmp_path: Path):
    adopted = adopt(tmp_path, "series").artifact
    graph, rng = TensorGraph(adopted), np.random.default_rng(0)
    series = [rng.normal(size=(1, steps, 2)).astype("f4") for steps in (7, 4, 7, 9)]
    assert isinstance(adopted.manifest.inputs, TensorInputs)
    encoder = TensorEncoder(adopted.manifest.inputs)
    rows = [encoder.encode_arrays({"series": each})[0].tokens for each in series]
    together, alone = graph.run(rows), [graph.run([row]) for row in rows]
    np.testing.assert_allclose(together.logits, np.concatenate([each.logits for each in alone]), atol=1e-6)
    expected = np.concatenate([each.norm_statistics for each in alone])
    np.testing.assert_allclose(together.norm_statistics, expected, rtol=1e-5, atol=1e-6)


def test_a_norm_that_was_folded_away_is_observed_behind_its_convolution(tmp_path: Path):
    adopted = adopt(tmp_path, "image", exported("image", folded=True), folded=True).artifact
    assert [(layer.kind, layer.running_mean) for layer in adopted.manifest.layers] == [("batch_norm", None)] * 2
    rows = rows_of("image", rows=6, seed=3)
    found = served(adopted.manifest, TensorGraph(adopted), rows)
    bn1, (_, seen) = make("image").bn1, in_float64("image", rows)
    x = units("image", seen["bn1"], 4)
    y = (x - bn1.running_mean.numpy()) / np.sqrt(bn1.running_var.numpy() + bn1.eps)
    y = y * bn1.weight.detach().numpy() + bn1.bias.detach().numpy()  # what the folded convolution gives
    np.testing.assert_allclose(found.feature_moments[0][0], y.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(found.feature_moments[0][1], y.var((0, 1)), rtol=1e-4)


def test_groups_of_rows_of_unlike_sizes_are_told(tmp_path: Path):
    unobserved = adopt(tmp_path, "series").artifact.manifest.unobserved
    reasons = {layer.name: "depends on the row" in layer.reason for layer in unobserved}
    assert reasons == {"group": True, "instance": True}


def test_layers_of_groups_say_what_they_are(tmp_path: Path):
    manifest = adopt(tmp_path, "groups").artifact.manifest
    assert manifest.format == 4
    assert [
        (layer.name, layer.kind, layer.unit, layer.units, layer.sampled, layer.d_model, layer.eps)
        for layer in manifest.layers
    ] == [
        ("group", "group_norm", "group", 2, 4, 192, 1e-4),
        ("instance", "instance_norm", "channel", 6, 4, 64, 1e-5),
    ]


def test_a_group_norm_that_is_one_operator_is_seen_likewise(tmp_path: Path):
    """As newer exporters write it, from opset 21 on."""
    x = make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 6, 4, 4])
    y = make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 6, 4, 4])
    nodes = [make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=3, epsilon=1e-3)]
    weights = [from_array(np.linspace(0.5, 1.5, 6, dtype="f4"), name) for name in ("scale", "bias")]
    model = make_model(
        make_graph(nodes, "group", [x], [y], weights), opset_imports=[make_opsetid("", 21)], ir_version=10
    )
    rows = np.random.default_rng(0).normal(2, 3, (12, 6, 4, 4)).astype("f4")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "rows.npz", x=rows)
    with few_draws():
        adopted = adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "net" / "1").artifact
    (layer,) = adopted.manifest.layers
    assert (layer.kind, layer.units, layer.sampled, layer.d_model, layer.eps) == ("group_norm", 3, 3, 32, 1e-3)
    found = served(adopted.manifest, TensorGraph(adopted), {"x": rows})
    groups = rows.reshape(12, 3, -1).astype("f8")
    statistics = found.norm_statistics.reshape(12, 3, 2)
    np.testing.assert_allclose(statistics[..., 0], groups.mean(-1), atol=1e-5)
    np.testing.assert_allclose(statistics[..., 1], 1 / np.sqrt(groups.var(-1) + 1e-3), rtol=1e-5)


def test_a_norm_of_one_channel_that_adds_little_is_exact(tmp_path: Path):
    """A unit of one number has no variance: what is added is all that its statistics hold."""
    network = nn.Sequential(
        nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1, eps=1e-10), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    rows = np.random.default_rng(0).normal(size=(12, 1, 8, 8)).astype("f4")
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(rows[:2]),), content, input_names=["x"], output_names=["y"], dynamo=False,
            dynamic_axes={"x": {0: "rows"}}, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(content.getvalue())
    np.savez(tmp_path / "rows.npz", x=rows)
    with few_draws():
        adopted = adopt_tensors(tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "m" / "net" / "1")
    assert adopted.errors["norm_statistics"] < 1e-5


def test_outputs_of_unlike_shapes_are_joined_row_by_row(tmp_path: Path):
    graph = TensorGraph(adopt(tmp_path, "table").artifact)
    assert isinstance(graph.manifest.inputs, TensorInputs)
    batch = graph.run([item.tokens for item in TensorEncoder(graph.manifest.inputs).encode_arrays(rows_of("table", 2))])
    parts = [replace(batch, outputs={"y": np.full((2, 2, size), float(size))}) for size in (3, 4)]
    found = join(parts).outputs
    assert found is not None and [row.shape for row in found["y"]] == [(2, 3), (2, 3), (2, 4), (2, 4)]

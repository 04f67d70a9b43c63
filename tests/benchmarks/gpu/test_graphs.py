"""Graphs travel without weights, and are right with those that are drawn again."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from benchmarks.gpu.batches import Batch, even, lay_out, ragged
from benchmarks.gpu.graphs import take_out
from benchmarks.gpu.network import Shape
from benchmarks.gpu.parity import check, errors, expect, make_network
from benchmarks.gpu.sessions import PLANS, Graph, content, make_weights, nodes_that_ran, open_session
from export.graph import ServedEncoder
from model.network.config import EncoderConfig
from model.network.encoder import Encoder
from runtime.graph.packing import pack

CPU = "CPUExecutionProvider"
SERVED = Path(__file__).parents[3] / "models" / "intents" / "1" / "model.onnx"
LIMITS = {"fp32": (1e-4, 1e-3), "fp16": (2e-2, 2e-2)}  # of answers, of statistics


def checked(graph: Graph) -> list[dict[str, Any]]:
    weights, batch = make_weights(graph.shape), ragged(graph.shape.vocab_size)
    entries, failed = check(graph, weights, expect(make_network(graph.shape, weights), batch), batch, "cpu", 1)
    assert not failed
    return entries


def right(entry: dict[str, Any]) -> bool:
    answers, statistics = LIMITS[entry["precision"]]
    return (
        max(entry["logits"], entry["embedding"]) < answers
        and max(entry["means"], entry["inverse_deviations"]) < statistics
        and entry["statistics_filled"]
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_with_weights_by_seed_is_right_and_runs_on_the_cpu(
    precision: str, tiny_graphs: dict[str, Graph]
) -> None:
    entries = checked(tiny_graphs[f"tiny-{precision}"])
    assert [entry["plan"] for entry in entries] == list(PLANS)
    assert all(right(entry) for entry in entries), entries
    for entry in entries:
        assert list(entry["assigned"]) == list(entry["ran"]) == [CPU]
        assert entry["assigned"][CPU]["MatMul"] == 2 * 4 + 1
        assert entry["ran"][CPU]["Attention"] == 2
    fused, unfused = (entry["ran"][CPU].get("SkipLayerNormalization", 0) for entry in entries)
    assert fused > unfused == 0


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_the_reference_is_the_network_that_is_exported(placement: str) -> None:
    shape = Shape(16, 2, 2, 24, num_classes=3, max_tokens=40, vocab_size=60, placement=placement)
    weights, batch = make_weights(shape), ragged(60)
    exported = Encoder(EncoderConfig(**asdict(shape), norm="layer_norm")).double().eval()
    exported.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    with torch.no_grad():
        theirs = ServedEncoder(exported)(*batch.tensors("cpu", torch.float64))
    ours = expect(make_network(shape, weights), batch)
    for found, name in zip(theirs, ("logits", "embedding", "norm_statistics"), strict=True):
        np.testing.assert_allclose(ours[name], found.numpy(), 1e-9, 1e-9)


def test_the_graph_is_the_one_that_is_served(tiny_graphs: dict[str, Graph]) -> None:
    ours, served = (
        [(node.op_type, len(node.output)) for node in onnx.load(path, load_external_data=False).graph.node]
        for path in (tiny_graphs["tiny-fp32"].path, SERVED)
    )
    assert ours == served


def test_files_hold_no_weights_and_every_parameter_is_listed(tiny_graphs: dict[str, Graph]) -> None:
    for graph in tiny_graphs.values():
        weights = make_weights(graph.shape)
        proto = onnx.load(graph.path, load_external_data=False)
        kept = [tensor for tensor in proto.graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
        assert all(numpy_helper.to_array(tensor).nbytes <= 64 for tensor in kept)
        assert {item.parameter for item in graph.initializers} == set(weights)
        blob = content(graph, weights)
        first = graph.initializers[0]
        stored = np.frombuffer(blob[first.offset : first.offset + first.length], first.dtype).reshape(first.shape)
        expected = weights[first.parameter].T if first.transposed else weights[first.parameter]
        np.testing.assert_array_equal(stored, expected.astype(first.dtype))


def test_without_statistics_answers_are_the_same(tiny_graphs: dict[str, Graph]) -> None:
    batch, found = ragged(60), []
    for name in ("tiny-fp32", "tiny-fp32-bare"):
        graph = tiny_graphs[name]
        opened = open_session(graph, content(graph, make_weights(graph.shape)), "cpu", "unfused", 1)
        found.append(opened.run(batch.feeds))
    assert set(found[0]) - set(found[1]) == {"norm_statistics"}
    np.testing.assert_array_equal(found[0]["logits"], found[1]["logits"])


def test_other_weights_are_refused(tiny_graphs: dict[str, Graph]) -> None:
    graph = tiny_graphs["tiny-fp32"]
    with pytest.raises(ValueError, match="export the graphs again"):
        content(graph, make_weights(replace(graph.shape, d_ff=64)))


def test_a_large_tensor_that_is_no_parameter_is_refused(tiny_graphs: dict[str, Graph]) -> None:
    proto = onnx.ModelProto()
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((20, 20), np.float32), "other"))
    with pytest.raises(ValueError, match="other, float32"):
        take_out(proto, make_weights(tiny_graphs["tiny-fp32"].shape))


def test_a_device_that_does_not_load_is_refused(tiny_graphs: dict[str, Graph]) -> None:
    graph = tiny_graphs["tiny-fp32"]
    with pytest.raises(Exception, match=r"CUDA"):
        open_session(graph, content(graph, make_weights(graph.shape)), "cuda", "default", 1)


def test_weights_depend_on_name_and_seed_alone() -> None:
    shape = Shape(8, 1, 1, 8, num_classes=2, max_tokens=4, vocab_size=9)
    first, longer, other = make_weights(shape), make_weights(replace(shape, num_layers=2)), make_weights(shape, 1)
    for name, values in first.items():
        np.testing.assert_array_equal(values, longer[name])
        assert not np.array_equal(values, other[name])


@pytest.mark.parametrize(("rows", "tokens"), [(1, 5), (3, 16), (8, 16), (2, 40)])
def test_even_batches_are_laid_out_as_the_service_does(rows: int, tokens: int) -> None:
    ours = even(rows, tokens, 60)
    sequences = np.split(ours.feeds["input_ids"].reshape(-1)[ours.token_index], rows)
    theirs = pack(sequences)
    np.testing.assert_array_equal(ours.feeds["input_ids"], theirs.values)
    np.testing.assert_array_equal(ours.token_index, theirs.token_index)
    for name in ("position_ids", "segment_ids", "pooling"):
        np.testing.assert_array_equal(ours.feeds[name], getattr(theirs, name))


def test_statistics_that_are_not_filled_show() -> None:
    batch: Batch = lay_out([2, 3], 4, 9)
    right = {"logits": np.ones((2, 2)), "embedding": np.ones((2, 3)), "norm_statistics": np.ones((2, 4, 4))}
    wrong = right | {"norm_statistics": np.zeros((2, 4, 4), np.float32)}
    assert errors(right, right, batch) == {"logits": 0, "embedding": 0, "means": 0, "inverse_deviations": 0}
    assert errors(wrong, right, batch)["inverse_deviations"] == 1


def test_a_profile_says_what_ran_where() -> None:
    events = [
        {"cat": "Session", "args": {}},
        {"cat": "Node", "args": {"op_name": "MatMul", "provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "args": {"op_name": "MatMul", "provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "args": {"op_name": "Attention", "provider": CPU}},
        {"cat": "Node", "args": {"op_name": "Attention"}},
    ]
    assert nodes_that_ran(events) == {"CUDAExecutionProvider": {"MatMul": 2}, CPU: {"Attention": 1}}

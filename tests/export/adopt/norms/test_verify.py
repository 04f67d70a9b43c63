"""A graph whose answers moved, or whose statistics are wrong, is refused by name."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from export.adopt.norms.verify import distance, verify
from runtime.errors import ExportError
from tests.export.adopt.norms.graphs import D, adopt, graph, tokens

ONE = "y = LayerNormalization(x, weight, bias)"


def change_weight(model: bytes) -> bytes:
    proto = onnx.load_from_string(model)
    (weight,) = (item for item in proto.graph.initializer if item.name == "layer.0.norm.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(1.001 * onnx.numpy_helper.to_array(weight), weight.name))
    return proto.SerializeToString()


def test_output_that_moved_is_refused():
    adopted = adopt(graph(ONE))
    with pytest.raises(ExportError, match=r"Output y moved by .*e-0[34] of its largest value, allowed are 1e-05"):
        verify(adopted.before, change_weight(adopted.after), adopted.norms, tokens())


def test_wrong_statistics_are_refused():
    adopted = adopt(graph(ONE))
    (norm,) = adopted.norms
    wrong = [replace(norm, match=norm.match._replace(eps=0.1))]
    with pytest.raises(ExportError, match=r"The statistics of layer.0.norm are .* from float64, allowed are 1e-03"):
        verify(adopted.before, adopted.after, wrong, tokens())


def test_batch_that_does_not_come_first_is_refused():
    model = graph("t = Transpose <perm = [1, 0, 2]> (x) y = LayerNormalization(t, weight)")
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", "tokens"])
    model.graph.input.append(ids)
    feeds = [batch | {"ids": np.zeros((3, 5), np.int64)} for batch in tokens()]
    with pytest.raises(ExportError, match=r"layer.0.norm, see \(5, 3\) tokens where \(3, 5\) went in"):
        adopt(model, feeds)


def test_graph_that_does_not_run_is_refused():
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot run the graph"):
        adopt(graph(ONE), tokens((3, 5, D + 1)))


def test_graph_that_does_not_load_is_refused():
    adopted = adopt(graph(ONE))
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot load the graph"):
        verify(adopted.before, adopted.after.replace(b"Concat", b"Concas"), adopted.norms, tokens())


def test_statistics_that_are_not_finite_are_refused():
    feeds = [{"x": np.full((1, 2, D), np.nan, np.float32)}]
    with pytest.raises(ExportError, match=r"The statistics of layer.0.norm are nan from float64"):
        adopt(graph(ONE), feeds)


def test_distance_is_relative_to_the_largest_value():
    old = np.array([1.0, -4.0, np.inf])
    assert distance(old, old) == 0
    assert distance(old, np.array([1.1, -4.0, np.inf])) == pytest.approx(0.025)
    assert distance(old, np.array([1.0, -4.0, np.nan])) == np.inf
    assert distance(old, old[:2]) == np.inf
    assert distance(np.array([1, 2]), np.array([1, 3])) == 0.5

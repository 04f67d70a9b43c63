"""Weights outside their graph, against the onnx library, and run without copies."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.external import ExternalWeights
from runtime.session import add_weights, open_session

FILE, HEADER = "weights", b"odd"  # a length that aligns nothing


def outside(values: np.ndarray, name: str, offset: int) -> TensorProto:
    """A tensor of `values` that lie in FILE."""
    tensor = numpy_helper.from_array(values, name)
    entries = {"location": FILE, "offset": str(offset), "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in entries.items())
    return tensor


def graph(*initializers: TensorProto) -> bytes:
    """Adds all initializers to x."""
    names = ["x"] + [f"sum_{number}" for number in range(len(initializers))]
    nodes = [
        helper.make_node("Add", [before, tensor.name], [after])
        for before, tensor, after in zip(names, initializers, names[1:], strict=False)
    ]
    shape = list(initializers[0].dims)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (names[0], names[-1])]
    made = helper.make_graph(nodes, "sum", values[:1], values[1:], list(initializers))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "int32", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 300), (2, 0)])
def test_weights_are_those_of_the_file(dtype: str, shape: tuple[int, ...]):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    weights = ExternalWeights.of(graph(outside(values, "w", len(HEADER))), {FILE: HEADER + values.tobytes()})
    found = weights.tensors["w"].numpy()
    assert (list(weights.tensors), found.dtype, found.shape) == (["w"], values.dtype, shape)
    np.testing.assert_array_equal(found, values)


def test_weights_in_the_graph_are_left_to_it():
    inside = numpy_helper.from_array(np.ones(4, dtype=np.float32), "inside")
    assert not ExternalWeights.of(graph(inside), {}).tensors


def test_dimensions_may_be_packed_or_not():
    """The library packs none, others do."""
    values = np.arange(600, dtype=np.float32).reshape(2, 300)
    tensor = outside(values, "w", 0).SerializeToString()
    apart, packed = b"\x08\x02\x08\xac\x02", b"\x0a\x03\x02\xac\x02"
    assert tensor.startswith(apart)
    tensor = packed + tensor[len(apart) :]
    body = b"\x2a" + bytes([len(tensor)]) + tensor  # an initializer of the graph
    weights = ExternalWeights.of(b"\x3a" + bytes([len(body)]) + body, {FILE: values.tobytes()})
    np.testing.assert_array_equal(weights.tensors["w"].numpy(), values)


def test_a_session_on_the_cpu_runs_on_the_weights_where_they_lie():
    values = np.arange(6000, dtype=np.float32).reshape(2, 3000)
    content = bytearray(HEADER + values.tobytes())
    model = graph(outside(values, "w", len(HEADER)))
    weights = ExternalWeights.of(model, {FILE: content})  # type: ignore[dict-item]
    session, _ = open_session(model, "cpu", threads=1, weights=weights)
    feeds = {"x": np.ones_like(values)}
    np.testing.assert_array_equal(session.run(None, feeds)[0], values + 1)
    content[len(HEADER) :] = (2 * values).tobytes()  # a copy would not notice
    np.testing.assert_array_equal(session.run(None, feeds)[0], 2 * values + 1)


def test_a_session_elsewhere_gets_copies():
    values = np.arange(6000, dtype=np.float32).reshape(2, 3000)
    model, options = graph(outside(values, "w", 0)), ort.SessionOptions()
    weights = ExternalWeights.of(model, {FILE: values.tobytes()})  # lives until the session has its copies
    add_weights(options, weights, share=False)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": np.zeros_like(values)})[0], values)


@pytest.mark.parametrize(
    ("model", "content"),
    [
        (b"no graph", b""),
        (b"\x3a\x05", b""),  # shorter than it says
        (b"\x3f", b""),  # no kind of field
        (b"\xff", b""),  # an integer without an end
        (graph(outside(np.ones(4, dtype=np.float32), "w", 0)), b"short"),
        (graph(outside(np.ones(4, dtype=np.float32), "w", 99)), b"short"),
        (graph(outside(np.ones(4, dtype=bool), "w", 0)), b"a type that no network's weights have"),
    ],
)
def test_what_does_not_fit_is_an_error(model: bytes, content: bytes):
    with pytest.raises((ValueError, LookupError)):
        ExternalWeights.of(model, {FILE: content})

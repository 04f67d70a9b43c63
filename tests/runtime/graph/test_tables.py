"""Tables that both graphs read are one; others stay each graph's own."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.weights import share_weights
from runtime.artifact import Artifact
from runtime.graph import encoder as encoder_module
from runtime.graph import tables
from runtime.graph.deep import DeepGraph
from runtime.graph.encoder import Encoder, canary_sequences
from runtime.graph.packing import pack
from runtime.graph.session import open_session
from runtime.graph.tables import shared_tables
from runtime.manifest import DEEP, MODEL

TABLE = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SHARED_BYTES", 1024)


def lookup(name: str = "table", table: np.ndarray = TABLE, product: bool = False) -> onnx.ModelProto:
    """Looks up rows of a table; multiplies by it, too, where it is asked for."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Gather", [name, "ids"], ["rows"])]
    outputs = [value("rows", TensorProto.FLOAT, ["n", 8])]
    if product:
        nodes.append(helper.make_node("MatMul", [name, "square"], ["product"]))
        outputs.append(value("product", TensorProto.FLOAT, [64, 8]))
    square = numpy_helper.from_array(np.eye(8, dtype=np.float32), "square")
    weights = [numpy_helper.from_array(table, name)] + ([square] if product else [])
    graph = helper.make_graph(nodes, "g", [value("ids", TensorProto.INT64, ["n"])], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def artifact_of(text_artifact: Artifact, served: bytes, deep: bytes) -> Artifact:
    return replace(text_artifact, files=text_artifact.files | {MODEL: served, DEEP: deep})


def test_a_table_in_the_served_file_is_shared(text_artifact: Artifact):
    served = lookup().SerializeToString()
    found = shared_tables(artifact_of(text_artifact, served, share_weights(lookup(), served)))
    assert list(found) == ["table"]
    np.testing.assert_array_equal(found["table"].numpy(), TABLE)


@pytest.mark.parametrize(
    ("served", "deep"),
    [
        (lookup("other"), lookup()),  # another name
        (lookup(table=TABLE + 1), lookup()),  # another content: the deep graph has its own
        (lookup(product=True), lookup()),  # arranged anew for a product
        (lookup(), lookup(product=True)),
        (lookup(table=TABLE.reshape(32, 16)), lookup()),  # another shape
    ],
)
def test_others_are_not(text_artifact: Artifact, served: onnx.ModelProto, deep: onnx.ModelProto):
    content = served.SerializeToString()
    assert shared_tables(artifact_of(text_artifact, content, share_weights(deep, content))) == {}


def test_an_initializer_that_is_not_understood_leaves_the_others_shared(text_artifact: Artifact):
    served, deep = lookup(), lookup()
    served.graph.initializer.append(TensorProto(dims=[1]))  # no name, no type
    deep.graph.initializer.append(TensorProto(name="odd", external_data=[{"key": "location", "value": MODEL}]))
    content = served.SerializeToString()
    both = artifact_of(text_artifact, content, share_weights(lookup(), content))
    assert list(shared_tables(both)) == ["table"]
    odd = onnx.load_from_string(both.files[DEEP])
    odd.graph.initializer.append(deep.graph.initializer[-1])
    assert list(shared_tables(replace(both, files=both.files | {DEEP: odd.SerializeToString()}))) == ["table"]


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 1_000_000, b"\x3a\x80", b"no protobuf at all"])
def test_malformed_files_share_nothing(content: bytes, text_artifact: Artifact):
    """At once: a number has ten bytes at most."""
    served = lookup().SerializeToString()
    deep = share_weights(lookup(), served)
    for files in ((content, deep), (served, content), (content, content)):
        assert shared_tables(artifact_of(text_artifact, *files)) == {}


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_graphs_share_the_table_or_nothing(text_artifact: Artifact, data: st.DataObject):
    served = bytearray(lookup().SerializeToString())
    deep = bytearray(share_weights(lookup(), bytes(served)))
    damaged = data.draw(st.sampled_from([served, deep]))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    found = shared_tables(artifact_of(text_artifact, bytes(served), bytes(deep)))
    assert set(found) <= {"table"}


def test_without_a_deep_graph_there_is_none(text_artifact: Artifact):
    files = {name: content for name, content in text_artifact.files.items() if name != DEEP}
    assert shared_tables(replace(text_artifact, files=files)) == {}


@pytest.mark.parametrize("broken", [b"", b"\xff" * 20, b"\x3a\x7f", b"\x3a\x03\x2a\x01\x0b", b"no graph at all"])
def test_what_is_no_graph_shares_nothing(text_artifact: Artifact, broken: bytes):
    served = lookup().SerializeToString()
    assert shared_tables(artifact_of(text_artifact, served, broken)) == {}
    assert shared_tables(artifact_of(text_artifact, broken, share_weights(lookup(), served))) == {}


def test_both_sessions_read_the_table_itself():
    """What is written into it afterwards, both give out: neither has a copy."""
    served = lookup().SerializeToString()
    table = TABLE.copy()
    shared = {"table": ort.OrtValue.ortvalue_from_numpy(table)}
    sessions = [
        open_session(served, "cpu", 1, tables=shared)[0],
        open_session(share_weights(lookup(), served), "cpu", 1, weights={MODEL: served}, tables=shared)[0],
    ]
    table[3] = -1
    for session in sessions:
        np.testing.assert_array_equal(session.run(None, {"ids": np.array([3])})[0], np.full((1, 8), -1, np.float32))


def test_answers_are_the_same_bit_for_bit(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    def answers() -> list[np.ndarray]:
        encoder = Encoder(text_artifact)
        deep = DeepGraph(text_artifact, encoder)
        batch = pack(canary_sequences(text_artifact))
        served = encoder.run_packed(batch)
        return [served.logits, served.embedding, served.norm_statistics, *deep.run(batch)]

    assert shared_tables(text_artifact)
    shared = answers()
    monkeypatch.setattr(encoder_module, "shared_tables", lambda _: {})
    for found, expected in zip(shared, answers(), strict=True):
        np.testing.assert_array_equal(found, expected)

"""Which Adds of a graph belong to its norms; graphs as other people's networks give them."""

import numpy as np
import onnx
import pytest

from export.adopt.adds import NormAdd, Placement, find_adds, measure_adds
from runtime.graph.session import open_session

POST = """
    embedded = Add(words, types)
    n0 = LayerNormalization(embedded, w)
    f0 = MatMul(n0, m)
    u0 = Add(f0, w)
    s1 = Add(u0, n0)
    n1 = LayerNormalization(s1, w)
    u1 = Gelu(n1)
    s2 = Add(n1, u1)
    n2 = LayerNormalization(s2, w)
    projected = MatMul(n2, m)
    u3 = Tanh(projected)
    s3 = Add(projected, u3)
    n3 = LayerNormalization(s3, w)
    norm_inputs = Concat <axis = -1> (embedded, s1, s2, s3)
    norm_outputs = Concat <axis = -1> (n0, n1, n2, n3)
"""
PRE = """
    n0 = LayerNormalization(words, w)
    u0 = Tanh(n0)
    s1 = Add(u0, words)
    n1 = LayerNormalization(s1, w)
    u1 = MatMul(n1, m)
    other = Add(s1, types)
    scaled = Add(s1, w)
    s2 = Add(s1, u1)
    n2 = LayerNormalization(s2, w)
    norm_inputs = Concat <axis = -1> (words, s1, s2)
    norm_outputs = Concat <axis = -1> (n0, n1, n2)
"""


def graph(nodes: str) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g (float[P, S, 4] words, float[P, S, 4] types)'
        " => (float[P, S, F] norm_inputs, float[P, S, F] norm_outputs) {" + nodes + "}"
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4,)), ("m", (4, 4))):
        weight = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    return proto


@pytest.mark.parametrize(
    ("nodes", "placement", "expected"),
    [
        (POST, "post", [NormAdd(1, 0, 1, "n0", "u0"), NormAdd(2, 1, 2, "n1", "u1")]),
        (PRE, "pre", [NormAdd(0, 0, 1, "words", "u0"), NormAdd(1, 1, 2, "s1", "u1")]),
        (PRE, "post", []),
        (POST.replace("u1 = Gelu(n1)", "u1 = Gelu(words)"), "post", [NormAdd(1, 0, 1, "n0", "u0")]),
    ],
    ids=["post", "pre", "pre for post", "no update"],
)
def test_an_add_is_found_by_what_is_computed_from_what(nodes: str, placement: Placement, expected: list[NormAdd]):
    """Sums of embeddings, of biases, and of what no norm sees are none."""
    assert find_adds(graph(nodes), placement) == expected


@pytest.mark.parametrize(("nodes", "placement"), [(POST, "post"), (PRE, "pre")], ids=["post", "pre"])
def test_an_add_is_measured_by_its_ratio_and_cosine(nodes: str, placement: Placement):
    proto = graph(nodes)
    adds = find_adds(proto, placement)
    measure_adds(proto, adds)
    onnx.checker.check_model(proto, full_check=True)
    watched = [name for add in adds for name in (add.x, add.update)]
    inner = [name for name in watched if name != "words"]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in inner)
    rng = np.random.default_rng(1)
    given = {name: rng.standard_normal((2, 3, 4)).astype(np.float32) for name in ("words", "types")}
    session, _ = open_session(proto.SerializeToString(), "cpu", 1)
    found, *values = session.run(["adds", *inner], given)
    seen = given | dict(zip(inner, values, strict=True))
    for number, add in enumerate(adds):
        x, update = seen[add.x].astype(np.float64), seen[add.update]
        sizes = [np.linalg.norm(each, axis=-1) for each in (x, update)]
        np.testing.assert_allclose(found[..., 2 * number], sizes[1] / sizes[0], rtol=1e-5)
        np.testing.assert_allclose(found[..., 2 * number + 1], (x * update).sum(-1) / np.prod(sizes, 0), atol=1e-5)
    assert found.shape == (2, 3, 2 * len(adds))

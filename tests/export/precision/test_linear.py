"""Which layers are lowered, in graphs as other people's encoders give them; and the finer steps that those need."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from export.precision.fp16 import to_fp16
from export.precision.int8 import outlier_divisor, to_int8, to_steps
from export.precision.lower import with_shared_weights
from runtime.graph.packing import PackedBatch, pack
from runtime.graph.session import open_session
from runtime.precision import LowPrecision

RNG = np.random.default_rng(0)
WIDTH, WORDS = 32, 40
# added: no bias follows it, but a sum; twice: one weight used twice; table: of weights alone; pooled: of rows
WEIGHTS = {
    name: RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 6
    for name in ("biased", "added", "twice", "table", "pooled")
}
OTHERS = {
    "words": RNG.standard_normal((WORDS, WIDTH)).astype(np.float32),
    "bias": RNG.standard_normal(WIDTH).astype(np.float32),
    "positions": RNG.standard_normal((1, 1, WIDTH)).astype(np.float32),
}
NODES = """
    a = Gather(words, input_ids)
    b = MatMul(a, biased)
    c = Add(b, bias)
    d = MatMul(c, added)
    e = Add(d, c)
    f = MatMul(e, twice)
    f_more = Add(f, bias)
    g = MatMul(f_more, twice)
    g_more = Add(g, bias)
    h = MatMul(positions, table)
    tokens = Add(g_more, h)
    shape = Constant <value_ints = [-1, 32]> ()
    rows = Reshape(tokens, shape)
    mean = MatMul(pooling, rows)
    embedding = MatMul(mean, pooled)
"""


def make_graph(**changes: NDArray[Any]) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g '
        "(int64[P, S] input_ids, int64[P, S] segment_ids, float[R, N] pooling) "
        "=> (float[R, 32] embedding, float[P, S, 32] tokens) {" + NODES + "}"
    )
    for name, values in (WEIGHTS | OTHERS | changes).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return proto


BATCHES = [pack([RNG.integers(0, WORDS, length) for length in (3, 9, 1, 14)]) for _ in range(4)]
SAMPLES = [[RNG.integers(0, WORDS, 12) for _ in range(8)] for _ in range(4)]


def feeds(batch: PackedBatch) -> dict[str, Any]:
    return {"input_ids": batch.values, "segment_ids": batch.segment_ids, "pooling": batch.pooling}


ENCODER: Any = SimpleNamespace(pooling="mean", feeds=feeds)


def lowered(proto: onnx.ModelProto, kind: LowPrecision, fine: bool = True) -> onnx.ModelProto:
    return to_fp16(proto) if kind == "fp16" else to_int8(proto, ENCODER, SAMPLES, fine)


def tokens(proto: onnx.ModelProto) -> NDArray[np.float32]:
    """What every valid token becomes, over all batches [N, D]."""
    session, _ = open_session(proto.SerializeToString(), "cpu", 1)
    found = [session.run(["tokens"], feeds(batch))[0].reshape(-1, WIDTH)[batch.token_index] for batch in BATCHES]
    return np.concatenate(found)


def error(found: onnx.ModelProto, expected: onnx.ModelProto) -> float:
    """Root mean square of the difference, over that of the values."""
    before, after = tokens(expected), tokens(found)
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_layers_of_tokens_are_lowered_with_and_without_a_bias(kind: LowPrecision):
    before = make_graph()
    after = lowered(before, kind)
    types = {item.name: item.data_type for item in after.graph.initializer}
    linear, low = {
        "fp16": ("MatMul", onnx.TensorProto.FLOAT16),
        "int8": ("MatMulIntegerToFloat", onnx.TensorProto.INT8),
    }[kind]
    used = [node.input[1].split(".")[0] for node in after.graph.node if node.op_type == linear]
    in_low = [name for name in used if any(key.startswith(f"{name}.") and types[key] == low for key in types)]
    assert in_low == ["biased", "added", "twice", "twice"]
    assert types["table"] == types["pooled"] == onnx.TensorProto.FLOAT
    assert 0 < error(after, before) < {"fp16": 2e-3, "int8": 0.03}[kind]


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_weight_that_is_used_twice_is_kept_once(kind: LowPrecision):
    after = lowered(make_graph(), kind)
    shared = with_shared_weights(after)
    large = [item.name for item in shared.graph.initializer if item.name.startswith("twice.") and len(item.dims) == 2]
    assert len(large) == 1
    np.testing.assert_array_equal(tokens(shared), tokens(after))


def test_features_that_reach_far_do_not_take_the_steps_of_the_others():
    words = OTHERS["words"].copy()
    words[:, 3] *= 60
    before = make_graph(words=words, biased=WEIGHTS["biased"] * np.where(np.arange(WIDTH) == 3, 1e-2, 1)[:, None])
    assert error(lowered(before, "int8"), before) < error(lowered(before, "int8", fine=False), before) / 3


def test_outputs_of_very_different_size_have_steps_of_their_own():
    added = WEIGHTS["added"] * np.where(np.arange(WIDTH) == 5, 50, 1).astype(np.float32)
    steps, step = to_steps(added, 64, every_output=True)
    assert steps.dtype == np.int8 and step.shape == (WIDTH,) and np.abs(steps).max(0).tolist() == [64] * WIDTH
    np.testing.assert_array_less(np.abs(steps * step - added), step / 2 * 1.001 + np.zeros((WIDTH, 1)))
    coarse, one = to_steps(added, 64)
    assert one.shape == () and np.abs(np.delete(coarse, 5, axis=1)).max() < 10


@pytest.mark.parametrize(
    ("largest", "expected"),
    [([1, 1, 1, 8, 2], [1, 1, 1, 4, 1]), ([1, 1, 1, 1, 1], [1, 1, 1, 1, 1]), ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1])],
    ids=str,
)
def test_only_features_that_reach_farther_than_most_are_divided(largest: list[float], expected: list[float]):
    np.testing.assert_allclose(outlier_divisor(np.array(largest, np.float32)), expected)


@pytest.mark.parametrize("heads", ["joined", "apart"])
def test_attention_is_in_half_precision_once(heads: str):
    """Of a query, key and value that were one value, and of three."""
    split = (
        "q, k, v = Split <axis = 2, num_outputs = 3> (x)" if heads == "joined" else "q = Neg(x) k = Abs(x) v = Exp(x)"
    )
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g (float[P, S, 12] x, bool[P, 1, S, S] mask) => (float[P, S, E] y) {'
        + split.replace(" k =", "\n k =").replace(" v =", "\n v =")
        + "\n y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v, mask) }"
    )
    after = to_fp16(proto)
    assert [node.op_type for node in after.graph.node].count("Cast") == {"joined": 2, "apart": 4}[heads]
    given = {"x": RNG.standard_normal((2, 5, 12)).astype(np.float32), "mask": np.ones((2, 1, 5, 5), bool)}
    (y,), (expected,) = (open_session(p.SerializeToString(), "cpu", 1)[0].run(None, given) for p in (after, proto))
    assert 0 < np.abs(y - expected).max() < 2e-3 * np.abs(expected).max()

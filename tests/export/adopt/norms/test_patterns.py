"""A norm is found however it is written, and nothing else is taken for one."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.adopt.norms.find import find_norms, why_no_mean
from runtime.errors import ExportError
from tests.export.adopt.norms.graphs import D, adopt, graph

CENTERED = "m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) "
VARIANCE = CENTERED + "s = Pow(d, two) v = ReduceMean <axes = [-1]> (s) "
ROOT = VARIANCE + "e = Add(v, eps) r = Sqrt(e) "
SCALED = "w = Mul(n, weight) y = Add(w, bias)"
SQUARES = "s = Mul(x, x) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) "

LAYER_NORMS = {
    "as PyTorch writes it": ROOT + "n = Div(d, r) " + SCALED,
    "without weights": ROOT + "y = Div(d, r)",
    "without a bias": ROOT + "n = Div(d, r) y = Mul(weight, n)",
    "eps first": VARIANCE + "e = Add(eps, v) r = Sqrt(e) n = Div(d, r) " + SCALED,
    "a power for the root": VARIANCE + "e = Add(v, eps) r = Pow(e, half) n = Div(d, r) " + SCALED,
    "a power for the inverse root": VARIANCE + "e = Add(v, eps) r = Pow(e, minus_half) n = Mul(d, r) " + SCALED,
    "the reciprocal": ROOT + "i = Reciprocal(r) n = Mul(i, d) " + SCALED,
    "one over the root": ROOT + "i = Div(one, r) n = Mul(d, i) " + SCALED,
    "a product for the square": CENTERED
    + "s = Mul(d, d) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
    + SCALED,
    "subtracted twice": ROOT + "d2 = Sub(x, m) n = Div(d2, r) " + SCALED,
    "the negative mean added": "m = ReduceMean <axes = [-1]> (x) k = Neg(m) d = Add(x, k) s = Pow(d, two) "
    + "v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
    + SCALED,
    "the negative mean before": "m = ReduceMean <axes = [-1]> (x) k = Neg(m) d = Add(k, x) s = Mul(d, d) "
    + "v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
    + SCALED,
    "the root of the reciprocal": VARIANCE + "e = Add(v, eps) i = Reciprocal(e) r = Sqrt(i) n = Mul(d, r) " + SCALED,
    "the root of one over it": VARIANCE + "e = Add(v, eps) i = Div(one, e) r = Sqrt(i) n = Mul(d, r) " + SCALED,
    "squares of what has no sign": CENTERED
    + "a = Abs(d) s = Pow(a, two) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
    + SCALED,
    "with identities": CENTERED
    + "c = Identity(d) s = Pow(c, two) v = ReduceMean <axes = [2]> (s) e = Add(v, eps) "
    + "r = Sqrt(e) i = Identity(r) n = Div(d, i) j = Identity(n) w = Mul(j, weight) y = Add(w, bias)",
    "as Flax writes it": "m = ReduceMean <axes = [-1]> (x) s = Mul(x, x) q = ReduceMean <axes = [-1]> (s) "
    + "p = Mul(m, m) u = Sub(q, p) v = Max(u, zero) e = Add(v, eps) r = Sqrt(e) d = Sub(x, m) n = Div(d, r) "
    + SCALED,
}
KEPT = {  # what LayerNormalization cannot replace
    "mean less x": "m = ReduceMean <axes = [-1]> (x) d = Sub(m, x) s = Pow(d, two) v = ReduceMean <axes = [-1]> (s) "
    + "e = Add(v, eps) r = Sqrt(e) n = Div(d, r) "
    + SCALED,
    "as Keras writes it": ROOT
    + "i = Reciprocal(r) g = Mul(i, weight) a = Mul(x, g) b = Mul(m, g) c = Sub(bias, b) y = Add(a, c)",
    "cast twice": CENTERED
    + "h = Cast <to = 11> (d) s = Mul(h, h) v = ReduceMean <axes = [-1]> (s) w0 = Cast <to = 1> (v) e = Add(w0, eps) "
    + "r0 = Sqrt(e) r = Cast <to = 11> (r0) n0 = Div(h, r) n = Cast <to = 1> (n0) "
    + SCALED,
}
SUMS = (  # as JAX writes it
    "t = ReduceSum <keepdims = 0> (x, last) m0 = Mul(t, eighth) m = Unsqueeze(m0, last) s = Mul(x, x) "
    "u = ReduceSum <keepdims = 0> (s, last) q = Mul(u, eighth) p = Mul(m0, m0) w0 = Sub(q, p) v0 = Max(zero, w0) "
    "v = Unsqueeze(v0, last) e = Add(v, eps) r = Sqrt(e) d = Sub(x, m) n = Div(d, r) "
)
SQUARE_SUMS = (
    CENTERED + "s = Mul(d, d) u = ReduceSum <keepdims = 1> (s, last) q = Mul(u, eighth) e = Add(q, eps) r = Sqrt(e) "
    "n = Div(d, r) "
)
SUMS_OF_SQUARES = (
    CENTERED + "u = ReduceSumSquare <axes = [-1]> (d) q = Mul(u, eighth) e = Add(q, eps) r = Sqrt(e) n = Div(d, r) "
)
SQUEEZED = VARIANCE + "z = Squeeze(v, last) w0 = Unsqueeze(z, last) e = Add(w0, eps) r = Sqrt(e) n = Div(d, r) "
RMS_NORMS = {
    "the reciprocal": SQUARES + "r = Sqrt(e) i = Reciprocal(r) n = Mul(x, i) y = Mul(n, weight)",
    "a quotient": SQUARES + "r = Sqrt(e) n = Div(x, r) y = Mul(weight, n)",
    "a power": "s = Pow(x, two) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) r = Pow(e, minus_half) "
    + "n = Mul(x, r) y = Mul(n, weight)",
    "a sum of squares": "u = ReduceSumSquare <axes = [-1]> (x) v = Mul(eighth, u) e = Add(v, eps) r = Sqrt(e) "
    + "n = Div(x, r) y = Mul(n, weight)",
    "the root of the reciprocal": SQUARES + "i = Reciprocal(e) r = Sqrt(i) n = Mul(r, x) y = Mul(n, weight)",
    "the operator of ONNX Runtime": "y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.00001> (x, weight)",
}
FUSED = {
    "SkipLayerNormalization": "layer_norm",
    "SkipSimplifiedLayerNormalization": "rms_norm",
}


@pytest.mark.parametrize("body", LAYER_NORMS.values(), ids=LAYER_NORMS)
@pytest.mark.parametrize("opset", [11, 17])
def test_layer_norm_is_replaced_however_it_is_written(body: str, opset: int):
    adopted = adopt(graph(body, opset))
    (norm,) = adopted.norms
    assert (norm.kind, norm.d_model, norm.eps, norm.written) == ("layer_norm", D, 1e-5, "decomposed")
    assert norm.name == ("layer.0.norm" if "weight" in body else "norm_00") and not adopted.unobserved
    operators = [node.op_type for node in onnx.load_from_string(adopted.after).graph.node]
    assert operators.count("LayerNormalization") == 1 and "ReduceMean" not in operators
    assert adopted.agreement.statistics[norm.name] < 1e-5 and adopted.agreement.outputs < 1e-5


@pytest.mark.parametrize(
    "body",
    [SUMS, SQUARE_SUMS, SUMS_OF_SQUARES, SQUEEZED],
    ids=["as JAX writes it", "centered", "sums of squares", "squeezed"],
)
def test_means_may_be_written_as_sums(body: str):
    adopted = adopt(graph(body + SCALED))
    (norm,) = adopted.norms
    assert (norm.name, norm.kind, norm.d_model, norm.eps) == ("layer.0.norm", "layer_norm", D, 1e-5)
    assert adopted.agreement.statistics["layer.0.norm"] < 1e-5 and adopted.agreement.outputs < 1e-5


@pytest.mark.parametrize(
    ("factor", "why"),
    [("seventh", "unbiased deviation"), ("half", "its mean is not over all its features")],
)
@pytest.mark.parametrize(
    "body", [SUMS, SQUARE_SUMS, SUMS_OF_SQUARES], ids=["as JAX writes it", "centered", "sums of squares"]
)
def test_a_sum_that_is_divided_by_another_number_is_no_mean_of_the_features(body: str, factor: str, why: str):
    written = body.replace("q = Mul(u, eighth)", f"q = Mul(u, {factor})")
    with pytest.raises(ExportError, match="no norm that can be observed"):
        adopt(graph(written + SCALED))
    model = ir.from_proto(graph(written + SCALED))
    norms, (unobserved,) = find_norms(model)
    assert not norms and why in unobserved.reason


@pytest.mark.parametrize("d_model", [1, 8, 312, 384, 768, 1024])
@pytest.mark.parametrize("written", [np.float32, np.float16])
def test_the_number_that_a_sum_is_divided_by_may_be_rounded(d_model: int, written: type) -> None:
    assert why_no_mean(1 / float(written(1 / d_model)) - d_model, d_model) == ""
    if d_model > 1:
        assert "unbiased" in why_no_mean(1 / float(written(1 / (d_model - 1))) - d_model, d_model)
    assert "not over all its features" in why_no_mean(d_model, d_model)


@pytest.mark.parametrize("body", KEPT.values(), ids=KEPT)
def test_layer_norm_that_cannot_be_replaced_is_observed_from_beside(body: str):
    adopted = adopt(graph(body))
    (norm,) = adopted.norms
    assert (norm.name, norm.kind, norm.d_model, norm.eps) == ("layer.0.norm", "layer_norm", D, 1e-5)
    assert adopted.agreement.statistics["layer.0.norm"] < 1e-5 and adopted.agreement.outputs == 0


@pytest.mark.parametrize("body", RMS_NORMS.values(), ids=RMS_NORMS)
def test_rms_norm_is_found_however_it_is_written(body: str):
    adopted = adopt(graph(body))
    (norm,) = adopted.norms
    assert (norm.name, norm.kind, norm.d_model, norm.eps) == ("layer.0.norm", "rms_norm", D, 1e-5)
    assert adopted.agreement.statistics["layer.0.norm"] < 1e-5 and adopted.agreement.outputs == 0


@pytest.mark.parametrize("operator", FUSED)
@pytest.mark.parametrize("added", ["", "bias"])
def test_fused_sum_becomes_an_add_again(operator: str, added: str):
    inputs = {"SkipLayerNormalization": "x, t, weight, bias", "SkipSimplifiedLayerNormalization": "x, t, weight"}
    body = (
        f"t = Tanh(x) z, , , u = com.microsoft.{operator} ({inputs[operator]}{', ' * bool(added)}{added}) y = Add(z, u)"
    )
    adopted = adopt(graph(body))
    (norm,) = adopted.norms
    assert (norm.name, norm.kind, norm.written, norm.eps) == ("layer.0.norm", FUSED[operator], operator, 1e-12)
    assert operator not in {node.op_type for node in onnx.load_from_string(adopted.after).graph.node}
    assert adopted.agreement.statistics["layer.0.norm"] < 1e-5 and adopted.agreement.outputs < 1e-5


def test_norm_of_a_norm_sees_what_took_its_place():
    first = ROOT + "n = Div(d, r) w = Mul(n, weight) z = Add(w, bias) "
    adopted = adopt(graph(first + "y = LayerNormalization <axis = 2> (z, weight)"))
    assert [norm.name for norm in adopted.norms] == ["layer.0.norm", "layer.0.norm:2"]
    second = "s2 = Mul(z, z) v2 = ReduceMean <axes = [-1]> (s2) e2 = Add(v2, eps) r2 = Sqrt(e2) y = Div(z, r2)"
    adopted = adopt(graph(first + second))
    assert [norm.kind for norm in adopted.norms] == ["layer_norm", "rms_norm"]
    assert b".before" not in adopted.after


NOT_NORMS = {
    "nothing": "y = Tanh(x)",
    "a root of something else": "a = Abs(x) b = Add(a, eps) y = Sqrt(b)",
    "an L2 normalization": "l = ReduceL2 <axes = [-1]> (x) y = Div(x, l)",
    "a softmax": "y = Softmax <axis = -1> (x)",
}


@pytest.mark.parametrize("body", NOT_NORMS.values(), ids=NOT_NORMS)
def test_graph_without_norms_has_none(body: str):
    assert find_norms(ir.from_proto(graph(body))) == ([], [])

"""Norms that are written in a way that is not known are listed, and what is no norm is not."""

import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.adopt.norms import unknown
from export.adopt.norms.find import find_norms
from export.adopt.norms.patterns import recognize
from export.adopt.norms.unknown import all_norms
from tests.export.adopt.norms.graphs import D, graph, tokens
from tests.export.adopt.norms.test_patterns import CENTERED, ROOT, VARIANCE

DIVIDED = "n = Div(d, r) y = Mul(n, weight)"
UNKNOWN = {
    "eps as the least": VARIANCE + "e = Max(v, eps) r = Sqrt(e) " + DIVIDED,
    "eps as a bound": VARIANCE + "t = Squeeze(eps) e = Clip(v, t) r = Sqrt(e) " + DIVIDED,
    "eps in a Sum": VARIANCE + "e = Sum(v, eps) r = Sqrt(e) " + DIVIDED,
    "less a negative eps": VARIANCE + "t = Neg(eps) e = Sub(v, t) r = Sqrt(e) " + DIVIDED,
    "a mean of one": VARIANCE + "e = Add(v, eps) a = Mean(e) r = Sqrt(a) " + DIVIDED,
    "powers of e": VARIANCE
    + "e = Add(v, eps) l = Log(e) h = Mul(l, minus_half) r = Exp(h) n = Mul(d, r) y = Mul(n, weight)",
    "a length": CENTERED + "l = ReduceL2 <axes = [-1]> (d) r = Add(l, eps) " + DIVIDED,
    "a length, then a weight": "l = ReduceL2 <axes = [-1]> (x) r = Max(l, eps) n = Div(x, r) y = Mul(n, weight)",
    "a length, then a number and a weight": "l = ReduceL2 <axes = [-1]> (x) r = Max(l, eps) n = Div(x, r) "
    "k = Mul(n, two) y = Mul(k, weight)",
    "eps outside the root": "s = Mul(x, x) v = ReduceMean <axes = [-1]> (s) q = Sqrt(v) r = Add(q, eps) n = Div(x, r) "
    "y = Mul(n, weight)",
    "sums of products": CENTERED
    + 'u = Einsum <equation = "bsd,bsd->bs"> (d, d) q = Unsqueeze(u, last) v = Mul(q, eighth) '
    "e = Add(v, eps) r = Sqrt(e) " + DIVIDED,
    "a product with ones": CENTERED + "s = Mul(d, d) v = MatMul(s, average) e = Add(v, eps) r = Sqrt(e) " + DIVIDED,
    "features that are counted": CENTERED + "s = Mul(d, d) u = ReduceSum <keepdims = 1> (s, last) z = Size(weight) "
    "c = Cast <to = 1> (z) v = Div(u, c) e = Add(v, eps) r = Sqrt(e) " + DIVIDED,
    "the operator": "n = LpNormalization <axis = -1, p = 2> (x) y = Sin(n)",
    "and a product with weights": "n = LpNormalization (x) y = MatMul(n, average)",
    "and a gate": "n = LpNormalization (x) t = Tanh(x) y = Mul(n, t)",
}
NO_NORMS = {
    "a softmax that is written out": "m = ReduceMax <axes = [-1]> (x) d = Sub(x, m) p = Exp(d) "
    "u = ReduceSum <keepdims = 1> (p, last) y = Div(p, u)",
    "shares": "a = Abs(x) u = ReduceSum <keepdims = 1> (a, last) s = Div(a, u) y = Mul(x, s)",
    "a vector of length 1": "l = ReduceL2 <axes = [-1]> (x) r = Max(l, eps) n = Div(x, r) y = Identity(n)",
    "the operator": "n = LpNormalization <axis = -1, p = 2> (x) y = Identity(n)",
    "a gate": "s = Mul(x, x) v = ReduceMean <axes = [-1]> (s) g = Sigmoid(v) y = Mul(x, g)",
    "other values' squares": "t = Tanh(x) s = Mul(t, t) v = ReduceMean <axes = [-1]> (s) r = Sqrt(v) "
    "e = Add(r, eps) y = Div(x, e)",
    "a length of another kind": "n = LpNormalization <axis = -1, p = 1> (x) y = Sin(n)",
    "a length over tokens": "n = LpNormalization <axis = 1, p = 2> (x) y = Sin(n)",
    "a length over tokens, from the end": "n = LpNormalization <axis = -2, p = 2> (x) y = Sin(n)",
    "squares over tokens": "l = ReduceL2 <axes = [-2]> (x) r = Max(l, eps) n = Div(x, r) y = Mul(n, weight)",
    "cosine attention": "n = LpNormalization (x) q = Mul(n, two) t = Tanh(x) l = ReduceL2 <axes = [-1]> (t) "
    "r = Max(l, eps) k = Div(t, r) m = Transpose <perm = [0, 2, 1]> (k) a = MatMul(q, m) y = MatMul(a, x)",
    "tokens that are compared": "n = LpNormalization (x) "
    'c = Einsum <equation = "bsd,btd->bst"> (n, n) y = MatMul(c, x)',
    "tokens that are masked": "n = LpNormalization (x) b = ReduceMax <axes = [-1], keepdims = 0> (x) "
    "m = Unsqueeze(b, last) y = Mul(n, m)",
    "tokens that are masked by a choice": "n = LpNormalization (x) b = Greater(x, zero) y = Where(b, n, zero)",
    "a weight of length 1": "s = Mul(weight, weight) v = ReduceMean <axes = [-1]> (s) e = Add(v, eps) k = Add(e, eps) "
    "w = Div(weight, k) t = Mul(x, w) y = Sin(t)",
}


def norms_of(body: str, shape: str = f"batch, tokens, {D}", feeds: bool = True) -> tuple[list[str], list[str]]:
    """Names of norms, and reasons of those that are not observed."""
    model = graph(body, shape=shape)
    if "average" in body:
        average = np.full((D, D), 1 / D, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(average, "average"))
    norms, unobserved = find_norms(ir.from_proto(model), tokens()[0] if feeds else None)
    return [norm.name for norm in norms], [norm.reason for norm in unobserved]


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_norm_in_an_unknown_way_is_listed(body: str):
    name = "layer.0.norm" if "weight" in body else "norm_00"
    assert norms_of(body) == ([], [f"{name} is not observed: it is written in a way that is not known."])


@pytest.mark.parametrize("body", NO_NORMS.values(), ids=NO_NORMS)
def test_what_is_no_norm_is_not_listed(body: str):
    assert norms_of(body) == ([], [])


def test_vector_of_a_text_that_gets_length_1_is_no_norm():
    body = "l = ReduceL2 <axes = [-1]> (x) r = Max(l, eps) n = Div(x, r) "
    shape = f"batch, {D}"
    assert norms_of(body + "y = Sin(n)", shape, feeds=False) == ([], [])
    _, (reason,) = norms_of(body + "y = Mul(n, weight)", shape, feeds=False)
    assert "not known" in reason


def test_norms_that_are_known_are_not_listed_again():
    body = ROOT + "n = Div(d, r) z = Mul(n, weight) t = Mul(z, z) u = ReduceMean <axes = [-1]> (t) a = Add(u, eps) "
    found, unobserved = norms_of(body + "b = Sqrt(a) k = Div(z, b) y = Mul(k, z)")
    assert len(found) == 2 and not unobserved


def test_many_quotients_take_no_longer_than_their_nodes():
    steps = "".join(f"l{n} = ReduceL2 <axes = [-1]> (s{n}) s{n + 1} = Div(s{n}, l{n}) " for n in range(3000))
    model = ir.from_proto(graph(f"s0 = Tanh(x) {steps} y = Sin(s3000)"))
    start = time.process_time()
    assert len(all_norms(model.graph, recognize)) == 3000
    assert time.process_time() - start < 1.5  # .05 s; back through the graph from each it takes 5 s


def test_weights_of_products_are_not_read(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    monkeypatch.setattr(unknown, "constant", lambda value: read.append(value.name))
    assert norms_of("p = MatMul(x, average) t = Tanh(p) y = Div(x, t)") == ([], []) and not read

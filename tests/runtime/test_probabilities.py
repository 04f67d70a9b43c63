import numpy as np

from runtime.probabilities import softmax


def test_softmax_matches_its_definition():
    logits = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)
    exponents = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(softmax(logits), exponents / exponents.sum(1, keepdims=True), rtol=1e-12)


def test_softmax_of_large_logits_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, -1e4]], dtype=np.float32)), [[0.5, 0.5, 0]])

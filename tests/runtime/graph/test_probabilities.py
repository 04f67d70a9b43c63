import numpy as np

from runtime.graph.batch import best_classes, softmax


def test_softmax_matches_its_definition():
    logits = np.random.default_rng(0).normal(0, 3, (5, 4)).astype(np.float32)
    exponents = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(softmax(logits), exponents / exponents.sum(1, keepdims=True), rtol=1e-12)


def test_softmax_of_large_logits_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4, -1e4]], dtype=np.float32)), [[0.5, 0.5, 0]])


def test_best_classes_are_those_of_the_softmax():
    logits = np.random.default_rng(1).normal(0, 5, (20, 7)).astype(np.float32)
    classes, scores, evidence, entropies = best_classes(logits)
    np.testing.assert_allclose(evidence, np.log(np.exp(logits.astype(np.float64)).sum(1)), rtol=1e-6)
    assert classes == logits.argmax(1).tolist()
    likely = softmax(logits)
    assert scores == likely.max(1).tolist()
    np.testing.assert_allclose(entropies, -(likely * np.log(likely)).sum(1), rtol=1e-9, atol=1e-12)


def test_best_class_of_a_row_that_overflows_has_no_score():
    logits = np.array([[1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]], dtype=np.float32)
    assert [np.isnan(score) for score in best_classes(logits)[1]] == [False, True, True]

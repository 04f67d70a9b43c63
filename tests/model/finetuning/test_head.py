"""Multinomial logistic regression, against scikit-learn's."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from model.finetuning.head import fit_head, logistic_regression


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    vectors = rng.standard_normal((300, 5)) + np.eye(3, 5)[labels] + 7.0
    decay, scale = 1e-2, np.sqrt(np.square(vectors - vectors.mean(0)).mean())
    x = (vectors - vectors.mean(0)) / scale
    expected = LogisticRegression(C=1 / (decay * len(x)), tol=1e-8, max_iter=1000).fit(x, labels)
    found = logistic_regression(torch.from_numpy(vectors).float(), torch.from_numpy(labels), 3, decay)
    logits = found(torch.from_numpy(vectors).float()).detach().numpy()
    wanted = x @ expected.coef_.T + expected.intercept_
    assert np.allclose(logits - logits.mean(1, keepdims=True), wanted - wanted.mean(1, keepdims=True), atol=1e-2)


def test_the_decay_is_chosen_by_validation() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    vectors = torch.from_numpy(rng.standard_normal((40, 30)) + labels[:, None] * np.eye(30)[0] * 3).float()
    head = torch.nn.Linear(30, 2)
    fit_head(vectors[:20], labels[:20], vectors[20:], labels[20:], head)
    assert float((head(vectors[20:]).argmax(1).numpy() == labels[20:]).mean()) > 0.7

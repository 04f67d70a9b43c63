"""Multinomial logistic regression, against scikit-learn's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from model.data import Dataset, Split
from model.finetuning.checkpoint import FineTunedEncoder, input_encoder
from model.finetuning.head import Vectors, embed_all, fit_head, logistic_regression
from model.pretrained.load import load_with_new_head
from model.pretrained.source import read_encoder
from runtime.manifest import PoolingKind


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
    train, held = Split([""] * 20, labels[:20]), Split([""] * 20, labels[20:])
    fitted = fit_head(Vectors(vectors[:20], vectors[20:]), Dataset("two", "made up", ["a", "b"], train, held, held))
    answers = fitted.head(vectors[20:]).argmax(1).numpy()
    assert fitted.accuracy == pytest.approx((answers == labels[20:]).mean()) and fitted.accuracy > 0.7
    assert fitted.loss > 0


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_vectors_of_both_poolings_are_those_of_each_alone(
    kind: PoolingKind, letters: Dataset, encoder_directory: Path
) -> None:
    source = read_encoder(encoder_directory, letters.labels)
    model, encoder = FineTunedEncoder(load_with_new_head(source)), input_encoder(source)
    both = embed_all(model, letters, encoder, ("mean", "cls"))
    alone = embed_all(model, letters, encoder, (kind,))[kind]
    assert torch.allclose(both[kind].train, alone.train, atol=1e-6)
    assert torch.allclose(both[kind].validation, alone.validation, atol=1e-6)
    assert not torch.allclose(both["mean"].train, both["cls"].train, atol=1e-2)

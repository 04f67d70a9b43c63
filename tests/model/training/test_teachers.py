import numpy as np
import pytest

from model.data import Dataset
from model.data.tokenizer import train_tokenizer
from model.training.examples import TaughtExamples
from model.training.recipe import Recipe
from model.training.teachers import LinearTeacher, teach
from runtime.graph.texts import TextEncoder


class Constant:
    """A teacher that always gives the same log-probabilities."""

    def __init__(self, *probabilities: float) -> None:
        self.log = np.log(probabilities)

    def scores(self, texts: list[str]) -> np.ndarray:
        return np.tile(self.log, (len(texts), 1))


def test_teach_multiplies_the_answers_of_teachers() -> None:
    found = teach([Constant(0.8, 0.2), Constant(0.5, 0.5)], ["a", "b"], temperature=1.0)
    np.testing.assert_allclose(found, [[0.8, 0.2], [0.8, 0.2]])


def test_temperature_softens() -> None:
    found = teach([Constant(0.8, 0.2)], ["a"], temperature=2.0)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]])


def test_linear_teacher_learns_two_and_more_classes(intents: Dataset) -> None:
    texts = [str(text) for text in intents.train.inputs]
    for classes in (2, 3):
        rows = np.flatnonzero(intents.train.labels < classes)
        teacher = LinearTeacher([texts[row] for row in rows], intents.train.labels[rows], seed=0)
        scores = teacher.scores([texts[row] for row in rows])
        assert scores.shape == (len(rows), classes)
        assert (scores.argmax(1) == intents.train.labels[rows]).mean() > 0.95


@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
def test_targets_mix_label_and_teacher_where_the_class_is_kept(intents: Dataset, weight: float) -> None:
    recipe = Recipe(variants=4, teacher_weight=weight, temperature=1.0)
    encoder = TextEncoder(train_tokenizer([str(text) for text in intents.train.inputs], 320), 48)
    examples = TaughtExamples(intents.train, recipe, encoder, 3, [Constant(0.5, 0.3, 0.2)])
    targets = examples.taught.float().numpy()
    size = len(intents.train)
    assert len(examples.texts) == len(targets) == 4 * size
    expected = weight * np.array([[0.5, 0.3, 0.2]]) + (1 - weight) * np.eye(3)[intents.train.labels]
    np.testing.assert_allclose(targets[:size], expected, atol=1e-3)
    taught_only = np.isclose(targets[size:], [[0.5, 0.3, 0.2]], atol=1e-3).all(1).mean()
    assert taught_only == 1 if weight == 1 else 0.2 < taught_only < 0.5

import random

import pytest

from model.training.augment import TextAugmenter
from model.training.recipe import Recipe

TEXTS = ["what is my balance", "tell me the balance of my account", "will it rain my friend"]
LABELS = [0, 0, 1]


def augmenter(taught: bool = False, **changes: float) -> TextAugmenter:
    nothing = {"crossover": 0, "mixing": 0, "word_dropout": 0, "word_replacement": 0}
    return TextAugmenter(TEXTS, LABELS, Recipe.model_validate(nothing | changes), taught)


def draws(augment: TextAugmenter, row: int, times: int = 200) -> set[str]:
    rng = random.Random(0)
    return {augment.draw(row, rng).text for _ in range(times)}


def test_crossover_goes_on_as_a_text_of_the_same_class() -> None:
    assert draws(augmenter(crossover=1), 0) == {
        "what is my balance",
        "what is my balance of my account",
        "what is my account",
    }


def test_crossover_never_leaves_its_class() -> None:
    assert draws(augmenter(crossover=1), 2) == {TEXTS[2]}


@pytest.mark.parametrize("taught", [True, False])
def test_mixing_leaves_the_class_only_under_a_teacher(taught: bool) -> None:
    augment, rng = augmenter(taught, mixing=1), random.Random(0)
    variants = [augment.draw(2, rng) for _ in range(100)]
    assert ("will it rain my balance" in {variant.text for variant in variants}) == taught
    assert all(variant.same_class != taught for variant in variants)


def test_word_dropout_keeps_order_and_at_least_one_word() -> None:
    for text in draws(augmenter(word_dropout=0.9), 1):
        original = iter(TEXTS[1].split())
        assert text and all(word in original for word in text.split())


def test_word_replacement_takes_words_of_the_training_texts() -> None:
    known = {word for text in TEXTS for word in text.split()}
    variants = draws(augmenter(word_replacement=0.5), 0)
    assert len(variants) > 50
    assert all(len(text.split()) == 4 and set(text.split()) <= known for text in variants)


def test_nothing_asked_changes_nothing_but_case() -> None:
    nothing = Recipe(crossover=0, word_dropout=0, word_replacement=0)
    augment = TextAugmenter(["Hello There"], [0], nothing, taught=False)
    assert augment.draw(0, random.Random(0)).text == "hello there"

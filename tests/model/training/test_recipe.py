"""What a recipe's defaults are, by how many rows there are."""

import pytest
from pydantic import ValidationError

from model.training.recipe import OF_SMALL, SMALL, FineTuning, Recipe


@pytest.mark.parametrize(("rows", "variants"), [(240, 64), (1000, 40), (2499, 17)])
def test_few_texts_have_more_variants_and_believe_the_teacher(rows: int, variants: int) -> None:
    small = Recipe().for_rows(rows)
    assert small.variants == variants
    assert {name: getattr(small, name) for name in OF_SMALL} == OF_SMALL


def test_what_is_asked_for_is_kept() -> None:
    asked = Recipe(variants=3, temperature=5.0).for_rows(100)
    assert (asked.variants, asked.temperature, asked.teacher_weight) == (3, 5.0, 1.0)


def test_many_texts_or_no_teacher_change_nothing() -> None:
    assert Recipe().for_rows(SMALL) == Recipe()
    alone = Recipe(linear_teacher=False)
    assert alone.for_rows(10) == alone


def test_a_floor_of_steps_makes_more_epochs_unless_epochs_are_asked_for() -> None:
    assert Recipe().with_enough_epochs(8).epochs == 375
    assert Recipe().with_enough_epochs(300).epochs == 20
    assert Recipe(epochs=3).with_enough_epochs(8).epochs == 3


def test_a_seed_is_one_that_scikit_learn_takes() -> None:
    assert Recipe(seed=2**32 - 1).seed == 2**32 - 1
    for kind in (Recipe, FineTuning):
        with pytest.raises(ValidationError, match="less than or equal to 4294967295"):
            kind(seed=20261127163000)

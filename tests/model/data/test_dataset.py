"""How rows are split: equal texts together, everything else as it always was."""

from pathlib import Path

import numpy as np
import pytest

from export.reference import MIN_REQUESTS, PER_CLASS
from model.data.dataset import Dataset, group_rows, held_out_rows, split_rows
from runtime.errors import DataError

DOCS = Path(__file__).parents[3] / "docs"
ENOUGH, EACH = 375, 15  # rows in all and of every class, from which on there is a verdict


def split(rows: list[tuple[str, str]], seed: int = 0) -> Dataset:
    return split_rows("set", "me", [text for text, _ in rows], [label for _, label in rows], seed)


def parts(dataset: Dataset) -> list[set[str]]:
    return [
        {str(text).strip().casefold() for text in part.inputs}
        for part in (dataset.train, dataset.validation, dataset.test)
    ]


def test_rows_without_repeated_texts_are_split_as_they_were_before_texts_stayed_together() -> None:
    """Or runs that were begun could not go on."""
    counts = {"a": 3, "b": 25, "c": 64, "d": 11}
    rows = [(f"{name} {i}", name) for name, count in counts.items() for i in range(count)]
    dataset = split(rows[::3] + rows[1::3] + rows[2::3])
    assert dataset.sha256 == "965f96d9785bad0d3e2b3438514f8d12d362a056a0e095eb56e1a95588888223"
    assert dataset.test.inputs == ["b 8", "b 12", "c 62", "c 41", "c 35", "c 1", "c 17", "c 23", "d 9"]


@pytest.mark.parametrize("seed", range(5))
def test_equal_texts_are_in_one_part(seed: int) -> None:
    texts = [f"Text {i % 200}" if i % 3 else f" text {i % 200} " for i in range(1000)]
    dataset = split([(text, str(i % 10)) for i, text in enumerate(texts)], seed)
    train, validation, test = parts(dataset)
    assert not (train & validation or train & test or validation & test)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [800, 100, 100]


def test_texts_are_equal_but_for_case_spaces_and_forms_of_characters() -> None:
    texts = ["Straße  one", " STRASSE one", "other", "ｓtrasse\tone"]
    assert group_rows(texts) == [0, 0, 2, 0]


def test_a_text_of_two_classes_is_trained_on_and_every_class_too() -> None:
    rows = [(f"{name} {i}", name) for name in "ab" for i in range(20)] + [("both", "a"), ("Both", "b")] * 3
    for seed in range(20):
        dataset = split(rows, seed)
        assert ["both" in part for part in parts(dataset)] == [True, False, False]
        assert {0, 1} == set(dataset.train.labels) == set(dataset.validation.labels) == set(dataset.test.labels)


def test_a_text_that_is_most_of_its_class_leaves_most_others_for_training() -> None:
    rows = [("ok", "a")] * 80 + [(f"a {i}", "a") for i in range(20)] + [(f"b {i}", "b") for i in range(20)]
    train, validation, test = parts(split(rows))
    assert [len(validation), len(test)] == [4, 4] and "ok" in train and len(train) == 33


@pytest.mark.parametrize("texts", ["abb", "abbcc", "abbccddeeff", "aabb", "abbbcccddd"])
def test_texts_that_are_repeated_are_held_out_where_there_are_no_others(texts: str) -> None:
    rows = [(f"{name} {text}", name) for name in ("one", "two") for text in texts]
    for seed in range(10):
        dataset = split(rows, seed)
        train, validation, test = parts(dataset)
        assert not (train & validation or train & test or validation & test)
        assert set(dataset.train.labels) == set(dataset.validation.labels) == {0, 1}
        assert bool(test) == (len(set(texts)) > 2)


def test_nothing_to_hold_out_is_refused() -> None:
    with pytest.raises(DataError, match="one text in each class"):
        split([("a", "one"), ("A", "one"), ("b", "two"), ("b ", "two")])


def test_as_many_rows_as_the_documents_say_give_a_verdict() -> None:
    """However they are spread over classes: the worst way is looked for, for 2 to 25 classes (more hold out more)."""
    held_out = np.array([sum(held_out_rows(rows)) for rows in range(2 * ENOUGH)], dtype=float)
    least = np.full(2 * ENOUGH, np.inf)  # rows held out at least, of so many rows in the classes so far
    least[0] = 0.0
    for classes in range(1, 26):
        grown = np.full_like(least, np.inf)
        for rows in range(EACH, len(least)):
            grown[rows:] = np.minimum(grown[rows:], least[:-rows] + held_out[rows])
        least = grown
        assert classes < 2 or least[ENOUGH:].min() >= MIN_REQUESTS
    assert held_out[EACH - 1] < PER_CLASS <= held_out[EACH:].min()


@pytest.mark.parametrize("name", ["own-data.md", "drift.md", "troubleshooting.md"])
def test_documents_say_the_same_number_of_rows(name: str) -> None:
    assert f"{ENOUGH} rows, {EACH} of each class" in (DOCS / name).read_text()

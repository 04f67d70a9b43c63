"""Tiny random encoders of other people's, adopted once for all processes of the tests."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from tests.helpers import once

TOPICS = ("abcd", "efgh", "ijkl", "mnop")  # every letter is a word of the tokenizer's
SUBJECTS = ["card", "loan", "rent"]
COUNT, MAX_TOKENS = 320, 24
PROMPTS = {"query": "a b ", "passage": "p "}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a tiny encoder is made of.

    Attributes:
        classes: logits of its head; 0 for an embedding model.
    """

    name: str
    model_type: str
    classes: int = 0


EMBEDDING = Recipe("letters", "bert")
RERANK = Recipe("order", "bert", 1)
MULTILABEL = Recipe("subjects", "distilbert", 3)


def make_texts(count: int = COUNT, most: int = 18, seed: int = 0) -> list[str]:
    """Texts of 2 to `most` letters, nearly all of one topic each."""
    rng = random.Random(seed)
    texts = []
    for number in range(count):
        topic = TOPICS[number % len(TOPICS)]
        words = [rng.choice(topic if rng.random() < 0.9 else "".join(TOPICS)) for _ in range(rng.randint(2, most))]
        texts.append(" ".join(words))
    return texts


def make_pairs(count: int = COUNT) -> list[list[str]]:
    return [list(pair) for pair in zip(make_texts(count, 9, 1), make_texts(count, 9, 2), strict=True)]


def make_inputs(recipe: Recipe) -> list[Any]:
    """The baseline's texts or pairs."""
    return make_pairs() if recipe == RERANK else make_texts()


def source_of(recipe: Recipe, shared_path: Path) -> Path:
    """The directory that is adopted, as transformers and sentence-transformers would have saved it."""
    return once(shared_path / "sources" / recipe.name, lambda path: save_source(recipe, path))


def save_source(recipe: Recipe, path: Path) -> None:
    import torch

    from tests.model.pretrained.networks import change, save_modules, save_network, write

    path.mkdir()
    with torch.random.fork_rng():
        save_network(path, recipe.model_type, recipe.classes, max_position_embeddings=MAX_TOKENS)
    if recipe == EMBEDDING:
        save_modules(path, "Transformer", "Pooling", "Normalize", pooling_mode_mean_tokens=True)
        write(path / "config_sentence_transformers.json", {"prompts": PROMPTS})
    elif recipe == MULTILABEL:
        labels = dict(enumerate(SUBJECTS))
        change(path, problem_type="multi_label_classification", id2label=labels)


def adopted_once(recipe: Recipe, shared_path: Path) -> Artifact:
    source = source_of(recipe, shared_path)
    return read_artifact(once(shared_path / "adopted" / recipe.name / "1", lambda path: adopt(recipe, source, path)))


def adopt(recipe: Recipe, source: Path, target: Path) -> None:
    """Adopts with few draws and rounds: calibration and speed have tests of their own."""
    import export.reference
    import export.timing
    from export.adopt.directory.adopter import adopt_directory
    from export.adopt.texts import Texts

    inputs = make_inputs(recipe)
    labels = [SUBJECTS[number % 3] for number in range(len(inputs))] if recipe == MULTILABEL else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 200)
        patch.setattr(export.timing, "ROUNDS", 2)
        adopt_directory(source, Texts(inputs, labels), target)

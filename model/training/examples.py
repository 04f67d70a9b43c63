"""What a training batch is made of: sequences and target distributions, for texts, taught texts and features."""

# R rows of a batch, C classes, V variants of every training text

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from model.data.dataset import Split
from model.data.tokenizer import BpeDropout
from model.training.augment import TextAugmenter
from model.training.batches import Examples
from model.training.recipe import Recipe, Schedule
from model.training.teachers import Teacher, teach
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import Tokens
from runtime.graph.texts import TextEncoder

TEACH_BATCH = 250


class EncodedExamples:
    """Sequences as they are, of floats or of a pretrained encoder's tokens, with smoothed labels."""

    def __init__(self, split: Split, recipe: Schedule, encoder: InputEncoder, classes: int) -> None:
        self.sequences = [item.tokens for item in encoder.encode(split.inputs)]
        self.targets = smoothed(split.labels, classes, recipe.label_smoothing)

    def draw(self, rows: Sequence[int], rng: random.Random) -> tuple[list[Tokens], Tensor]:
        return [self.sequences[row] for row in rows], self.targets[rows]


class _SplitTexts:
    """Encodes texts, differently at every call."""

    def __init__(self, recipe: Recipe, encoder: TextEncoder) -> None:
        self.bpe = BpeDropout(encoder.tokenizer, recipe.merge_dropout, recipe.seed)
        self.max_tokens = recipe.max_tokens

    def encode(self, text: str, rng: random.Random) -> Tokens:
        return np.array(self.bpe.encode(text, rng)[: self.max_tokens], dtype=np.int64)


class TextExamples(_SplitTexts):
    """A fresh variant of each text at every draw, with smoothed labels."""

    def __init__(self, split: Split, recipe: Recipe, encoder: TextEncoder, classes: int) -> None:
        super().__init__(recipe, encoder)
        texts = [str(text) for text in split.inputs]
        self.augmenter = TextAugmenter(texts, split.labels.tolist(), recipe, taught=False)
        self.targets = smoothed(split.labels, classes, recipe.label_smoothing)

    def draw(self, rows: Sequence[int], rng: random.Random) -> tuple[list[Tokens], Tensor]:
        texts = [self.augmenter.draw(row, rng).text for row in rows]
        return [self.encode(text, rng) for text in texts], self.targets[rows]


class TaughtExamples(_SplitTexts):
    """One of V variants of each text, labelled by teachers beforehand; variant 0 is the text itself.

    Where a variant surely keeps its class, the label counts with 1 - teacher_weight.
    """

    def __init__(
        self, split: Split, recipe: Recipe, encoder: TextEncoder, classes: int, teachers: Sequence[Teacher]
    ) -> None:
        super().__init__(recipe, encoder)
        self.size, self.variants = len(split), recipe.variants
        self.clean = recipe.clean
        texts = [str(text).lower() for text in split.inputs]
        augmenter = TextAugmenter(texts, split.labels.tolist(), recipe, taught=True)
        rng = random.Random(f"{recipe.seed}/variants")
        drawn = [augmenter.draw(row, rng) for _ in range(recipe.variants - 1) for row in range(len(texts))]
        self.texts = texts + [variant.text for variant in drawn]
        same_class = np.array([True] * len(texts) + [variant.same_class for variant in drawn])
        taught = self.teach(teachers, recipe.temperature, classes)
        label_weight = np.where(same_class, 1 - recipe.teacher_weight, 0.0).astype(np.float16)[:, None]
        taught *= 1 - label_weight
        taught[np.arange(len(taught)), np.tile(split.labels, recipe.variants)] += label_weight[:, 0]
        self.taught = torch.from_numpy(taught)

    def teach(self, teachers: Sequence[Teacher], temperature: float, classes: int) -> NDArray[np.float16]:
        """The teachers' probabilities [V * training texts, C]."""
        taught = np.empty((len(self.texts), classes), dtype=np.float16)
        starts = range(0, len(self.texts), TEACH_BATCH)
        for start in track(starts, description="asking the teachers", transient=True):
            texts = self.texts[start : start + TEACH_BATCH]
            taught[start : start + TEACH_BATCH] = teach(teachers, texts, temperature)
        return taught

    def draw(self, rows: Sequence[int], rng: random.Random) -> tuple[list[Tokens], Tensor]:
        size, clean = self.size, self.clean
        chosen = [row if rng.random() < clean else row + size * rng.randrange(self.variants) for row in rows]
        return [self.encode(self.texts[i], rng) for i in chosen], self.taught[chosen].float()


def make_examples(
    split: Split, recipe: Recipe, encoder: InputEncoder, classes: int, teachers: Sequence[Teacher]
) -> Examples:
    """The examples that fit the data and the teachers."""
    if not isinstance(encoder, TextEncoder):
        return EncodedExamples(split, recipe, encoder, classes)
    if teachers:
        return TaughtExamples(split, recipe, encoder, classes, teachers)
    return TextExamples(split, recipe, encoder, classes)


def smoothed(labels: NDArray[np.int64], classes: int, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al. 2016, arXiv:1512.00567): the label, mixed with the uniform distribution."""
    targets = torch.full((len(labels), classes), smoothing / classes)
    targets[torch.arange(len(labels)), torch.from_numpy(labels)] += 1 - smoothing
    return targets

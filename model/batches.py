"""Training batches: augmented, encoded and packed, each a pure function of the seed and the epoch."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from model.augment import TextAugmenter
from model.data.dataset import Dataset, Split
from model.recipe import Recipe
from model.tokenizer import BpeDropout
from runtime.inputs import FeatureEncoder, InputEncoder, TextEncoder
from runtime.packing import Tokens, pack


@dataclass(frozen=True, slots=True)
class Batch:
    """R packed sequences as tensors, in the order of `Encoder.forward`.

    Attributes:
        labels: class index [R].
        texts: the texts that were encoded, for a teacher with another tokenizer; empty for features.
    """

    values: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    pooling: Tensor
    labels: Tensor
    tokens: int
    texts: list[str]

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.values, self.position_ids, self.segment_ids, self.pooling


def make_encoder(dataset: Dataset, tokenizer: Tokenizer | None, max_tokens: int) -> InputEncoder:
    """The deterministic encoder, the same that serving uses."""
    if tokenizer is not None:
        return TextEncoder(tokenizer, max_tokens)
    return FeatureEncoder(np.shape(dataset.train.inputs[0])[-1], max_tokens)


class TrainingBatches:
    """Shuffled, augmented batches of the training split."""

    def __init__(self, split: Split, recipe: Recipe, encoder: InputEncoder) -> None:
        self.split, self.recipe, self.encoder = split, recipe, encoder
        self.steps = -(-len(split) // recipe.batch_size)
        if isinstance(encoder, TextEncoder):
            texts = [str(text) for text in split.inputs]
            self.augmenter = TextAugmenter(texts, split.labels.tolist(), recipe.crossover, recipe.word_dropout)
            self.bpe = BpeDropout(encoder.tokenizer, recipe.merge_dropout, recipe.seed)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        rng = random.Random(f"{self.recipe.seed}/{number}")
        order = np.random.default_rng((self.recipe.seed, number)).permutation(len(self.split))
        for start in range(0, len(order), self.recipe.batch_size):
            rows = order[start : start + self.recipe.batch_size]
            texts = [self.augmenter.draw(row, rng) for row in rows] if isinstance(self.encoder, TextEncoder) else []
            sequences = [self._ids(text, rng) for text in texts] or self._features(rows)
            yield to_batch(sequences, self.split.labels[rows], texts)

    def _ids(self, text: str, rng: random.Random) -> Tokens:
        return np.array(self.bpe.encode(text, rng)[: self.recipe.max_tokens], dtype=np.int64)

    def _features(self, rows: NDArray[np.int64]) -> list[Tokens]:
        return [item.tokens for item in self.encoder.encode([self.split.inputs[row] for row in rows])]


def evaluation_batches(split: Split, encoder: InputEncoder, batch_size: int = 256) -> Iterator[Batch]:
    """The split as it is, sorted by length so that packs fill well."""
    sequences = [item.tokens for item in encoder.encode(split.inputs)]
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield to_batch([sequences[row] for row in rows], split.labels[rows], [])


def to_batch(sequences: list[Tokens], labels: NDArray[np.int64], texts: list[str]) -> Batch:
    packed = pack(sequences)
    arrays = (packed.values, packed.position_ids, packed.segment_ids, packed.pooling, labels)
    values, position_ids, segment_ids, pooling, targets = (torch.from_numpy(array) for array in arrays)
    return Batch(values, position_ids, segment_ids, pooling, targets, packed.tokens, texts)

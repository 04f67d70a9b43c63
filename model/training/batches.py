"""Batches: packed sequences with their targets, in training a pure function of the seed and the epoch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.data.dataset import Split
from runtime.graph.inputs import InputEncoder
from runtime.graph.packing import Tokens, pack
from runtime.manifest import PoolingKind


@dataclass(frozen=True, slots=True)
class Batch:
    """R packed sequences as tensors.

    Attributes:
        inputs: values, position_ids, segment_ids and pooling, in the order of `Encoder.forward`.
        targets: class index [R], or target distributions [R, C].
        tokens: valid tokens in the batch.
    """

    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    targets: Tensor
    tokens: int


class Examples(Protocol):
    """Draws training examples by row, as a pure function of the generator's state."""

    def draw(self, rows: Sequence[int], rng: random.Random) -> tuple[list[Tokens], Tensor]:
        """Sequences, and target distributions [R, C]."""
        ...


def training_batches(
    examples: Examples, size: int, batch_size: int, seed: int, epoch: int, pooling: PoolingKind = "mean"
) -> Iterator[Batch]:
    """One epoch over `size` examples in shuffled batches; the last one may be of another size."""
    rng = random.Random(f"{seed}/{epoch}")
    order = np.random.default_rng((seed, epoch)).permutation(size).tolist()
    batches = count_batches(size, batch_size)
    for number in range(batches):
        stop = size if number == batches - 1 else (number + 1) * batch_size
        yield to_batch(*examples.draw(order[number * batch_size : stop], rng), pooling)


def count_batches(size: int, batch_size: int) -> int:
    """Batches of an epoch; a single example left over joins the last one, since BatchNorm cannot learn from one."""
    whole, left_over = divmod(size, batch_size)
    return max(whole + (left_over > 1), 1)


def evaluation_batches(
    split: Split, encoder: InputEncoder, pooling: PoolingKind = "mean", batch_size: int = 256
) -> Iterator[Batch]:
    """The split as it is, sorted by length so that packs fill well."""
    sequences = [item.tokens for item in encoder.encode(split.inputs)]
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield to_batch([sequences[row] for row in rows], torch.from_numpy(split.labels[rows]), pooling)


def to_batch(sequences: list[Tokens], targets: Tensor, pooling: PoolingKind = "mean") -> Batch:
    packed = pack(sequences, pooling=pooling)
    arrays = (packed.values, packed.position_ids, packed.segment_ids, packed.pooling)
    values, position_ids, segment_ids, weights = (torch.from_numpy(array) for array in arrays)
    return Batch((values, position_ids, segment_ids, weights), targets, packed.tokens)

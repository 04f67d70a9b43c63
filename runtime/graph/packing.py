"""Packing: several short sequences share one row of the batch and never see each other.

A padded batch computes every sequence at the length of the longest. Here sequences are laid end to end
in `packs` of a common width; `segment_ids` keep their attention apart, `position_ids` restart in every
segment, and a pooling matrix averages each segment's tokens. A padded batch with an attention mask is the
special case of one segment per pack. docs/architecture.md shows the layout and what it saves.
"""

# P packs, S tokens per pack, R rows (sequences), N valid tokens, F features

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.manifest import PoolingKind

# one sequence: token ids [n], or with their types [n, 2]; or features [n, F]
Tokens = NDArray[np.int64] | NDArray[np.float32]

Placed = tuple[list[int], list[int], int]  # the pack and the offset inside it of every sequence, and how many packs

# names of the dynamic dimensions that a graph's inputs and outputs begin with
PACKED, POOLED, ROWS = ("packs", "tokens"), ("rows", "packs*tokens"), ("rows",)

PACK_TOKENS = 24  # wider packs pay for attention between segments, narrower ones for padding
FEW_TOKENS = 64  # they share one pack, which has no padding at all
FULL, TRIES = 1.05, 6  # computed tokens over those of texts that are few enough, and widths that are tried for it
RUN_TOKENS = 64  # about what starting another run costs, as tokens that it could compute


@dataclass(slots=True)  # not frozen: that would cost each run two microseconds
class PackedBatch:
    """The four inputs of a packed graph, and where its valid tokens are.

    Attributes:
        values: token ids [P, S] or with types [P, S, 2] int64, or features [P, S, F] float32; zero where no token is.
        position_ids: [P, S] int64, restarting at 0 in every segment.
        segment_ids: [P, S] int64, row + 1, or 0 where no token is.
        pooling: [R, P * S] float32; row r holds the weights of sequence r's tokens, such as 1 / length.
        token_index: [N] position of every valid token in the flattened [P * S], row after row.
        lengths: [R] tokens per row.
    """

    values: Tokens
    position_ids: NDArray[np.int64]
    segment_ids: NDArray[np.int64]
    pooling: NDArray[np.float32]
    token_index: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return len(self.token_index)

    @property
    def full(self) -> bool:
        """Whether every place has a token; those of a single row are in order then."""
        return self.rows == 1 and self.segment_ids.size == self.tokens


def first_fit(lengths: Sequence[int], width: int) -> Placed:
    """Places sequences in packs of `width`, longest first, each in the first pack with room.

    Returns:
        The pack and the offset inside it of every sequence, and the number of packs.
    """
    packs, offsets = [0] * len(lengths), [0] * len(lengths)
    used: list[int] = []
    place = last = room = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[row]
        if length != last:  # packs too full for one are too full for the next that is as long
            place, last, room = 0, length, width - length
        while place < len(used) and used[place] > room:
            place += 1
        if place == len(used):
            used.append(0)
        packs[row], offsets[row] = place, used[place]
        used[place] += length
    return packs, offsets, len(used)


def fit(lengths: Sequence[int], step: int = 1) -> Placed:
    """Places sequences in packs of about the fastest width: of a few that are tried, the one with the least padding."""
    total = sum(lengths)
    wanted = 1 if total <= FEW_TOKENS else round(total / PACK_TOKENS)
    narrowest = round_up(max(-(-total // wanted), max(lengths)), step)
    least: float = math.inf
    best: Placed = [], [], 0
    for width in range(narrowest, narrowest + TRIES * step, step):
        packs, offsets, count = first_fit(lengths, width)
        computed = count * round_up(max(map(add, offsets, lengths)), step)
        if computed < least:
            least, best = computed, (packs, offsets, count)
        if least <= FULL * total:
            break
    return best


def round_up(width: int, step: int) -> int:
    return -(-width // step) * step


def pack(
    sequences: Sequence[Tokens], width: int | None = None, pooling: PoolingKind = "mean", step: int = 1
) -> PackedBatch:
    """Packs sequences into one batch.

    Args:
        sequences: R >= 1 arrays, token ids [n] or features [n, F], each with n >= 1.
        width: tokens per pack, by default about the fastest; a longer sequence widens all packs to its length.
        pooling: which tokens make up a sequence's vector.
        step: packs are as wide as a multiple of it.
    """
    if len(sequences) == 1 and len(sequences[0]) % step == 0:
        return pack_one(sequences[0], pooling)
    lengths = [len(sequence) for sequence in sequences]
    placed = first_fit(lengths, max(width, max(lengths))) if width else fit(lengths, step)
    return lay_out(sequences, *placed, pooling, step)


def pad(sequences: Sequence[Tokens], pooling: PoolingKind = "mean", step: int = 1) -> PackedBatch:
    """A batch with one sequence per pack, every pack as wide as the longest; arguments as `pack`."""
    rows = len(sequences)
    if rows == 1:
        return pack(sequences, pooling=pooling, step=step)
    return lay_out(sequences, range(rows), [0] * rows, rows, pooling, step)


def like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Groups of rows to pad together: of like lengths, so that their padding costs no more than another run would."""
    groups: list[list[int]] = []
    longest = padding = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        padding += longest - lengths[row]
        if not groups or padding > RUN_TOKENS:
            groups.append([])
            longest, padding = lengths[row], 0
        groups[-1].append(row)
    return groups


def to_batches(sequences: Sequence[Tokens], padded: bool) -> list[PackedBatch]:
    """Sequences as a graph of this kind runs them: packed in one batch, or padded in batches of like lengths."""
    if not padded:
        return [pack(sequences)]
    groups = like_lengths([len(sequence) for sequence in sequences])
    return [pad([sequences[place] for place in group]) for group in groups]


def lay_out(
    sequences: Sequence[Tokens],
    packs: Sequence[int],
    offsets: Sequence[int],
    num_packs: int,
    pooling: PoolingKind,
    step: int = 1,
) -> PackedBatch:
    """The batch in which every sequence lies at its offset in its pack."""
    lengths = [len(sequence) for sequence in sequences]
    span = round_up(max(map(add, offsets, lengths)), step)
    length_R = np.array(lengths, dtype=np.int64)
    start_R = np.array(packs, dtype=np.int64) * span + np.array(offsets, dtype=np.int64)
    row_N = np.repeat(np.arange(len(lengths)), length_R)
    position_N = np.arange(len(row_N)) - np.repeat(np.cumsum(length_R) - length_R, length_R)
    index_N = start_R[row_N] + position_N

    values = np.zeros((num_packs * span, *sequences[0].shape[1:]), dtype=sequences[0].dtype)
    values[index_N] = np.concatenate(sequences)
    position_ids, segment_ids = np.zeros((2, num_packs * span), dtype=np.int64)
    position_ids[index_N] = position_N
    segment_ids[index_N] = row_N + 1
    weights = np.zeros((len(lengths), num_packs * span), dtype=np.float32)
    weights[row_N, index_N] = token_weights(pooling, position_N, length_R[row_N])
    return PackedBatch(
        values=values.reshape(num_packs, span, *values.shape[1:]),
        position_ids=position_ids.reshape(num_packs, span),
        segment_ids=segment_ids.reshape(num_packs, span),
        pooling=weights,
        token_index=index_N,
        lengths=length_R,
    )


def token_weights(pooling: PoolingKind, position_N: NDArray[np.int64], length_N: NDArray[np.int64]) -> NDArray[Any]:
    """What each token weighs in its sequence's vector; for `max`, which the graph computes, all weigh something."""
    match pooling:
        case "cls":
            weights: NDArray[Any] = position_N == 0
        case "last":
            weights = position_N == length_N - 1
        case "weighted":
            weights = (position_N + 1) / (length_N * (length_N + 1) / 2)
        case _:
            weights = 1 / length_N
    return weights


def pack_one(sequence: Tokens, pooling: PoolingKind = "mean") -> PackedBatch:
    """A single sequence is its own pack; this takes a fifth of the time of the general way."""
    length = len(sequence)
    index_N = np.arange(length)
    position_ids = index_N[None]
    weights = np.empty((1, length), dtype=np.float32)
    weights[0] = 1 / length if pooling == "mean" else token_weights(pooling, index_N, np.full(length, length))
    return PackedBatch(
        values=sequence[None],
        position_ids=position_ids,
        segment_ids=np.ones_like(position_ids),
        pooling=weights,
        token_index=index_N,
        lengths=np.array([length]),
    )

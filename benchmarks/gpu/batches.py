"""Packed batches of random tokens, laid out as the service lays them out (runtime/graph/packing.py)."""

# P packs, S tokens per pack, R rows (sequences), N valid tokens

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PACK_TOKENS, FEW_TOKENS, FULL, TRIES = 24, 64, 1.05, 6  # as in runtime/graph/packing.py
INPUTS = ("input_ids", "position_ids", "segment_ids", "pooling")


@dataclass(frozen=True, slots=True)
class Batch:
    """A packed batch.

    Attributes:
        feeds: the graph's inputs by name: ids [P, S] int64 three times, pooling [R, P * S] float32.
        token_index: [N], where the valid tokens lie in the flattened [P * S].
    """

    feeds: dict[str, NDArray[Any]]
    token_index: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return int(self.feeds["pooling"].shape[0])

    @property
    def tokens(self) -> int:
        """Valid tokens: padding is not counted."""
        return len(self.token_index)

    @property
    def packs(self) -> tuple[int, int]:
        """P and S."""
        packs, width = self.feeds["input_ids"].shape
        return packs, width

    @property
    def fed_bytes(self) -> int:
        return sum(array.nbytes for array in self.feeds.values())

    def tensors(self, device: str, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
        """The inputs on `device`, in the network's order; pooling in `dtype`, where one is given."""
        tensors = [torch.from_numpy(self.feeds[name]).to(device) for name in INPUTS]
        return *tensors[:3], tensors[3].to(dtype or tensors[3].dtype)


def even(rows: int, tokens: int, vocab_size: int) -> Batch:
    """`rows` sequences of `tokens` tokens, in packs of the width that the service takes for them."""
    return lay_out([tokens] * rows, pack_width(rows, tokens), vocab_size)


def pack_width(rows: int, tokens: int) -> int:
    """As `fit` of runtime/graph/packing.py finds it, which needs packages that a GPU machine may lack."""
    total = rows * tokens
    if total <= FEW_TOKENS:
        return total
    narrowest = max(-(-total // round(total / PACK_TOKENS)), tokens)
    widths = [width // tokens * tokens for width in range(narrowest, narrowest + TRIES)]
    computed = {width: -(-rows // (width // tokens)) * width for width in widths}
    return next((width for width in widths if computed[width] <= FULL * total), min(widths, key=computed.__getitem__))


def ragged(vocab_size: int) -> Batch:
    """A few sequences of unlike lengths, one of a single token; packs have padding."""
    return lay_out([31, 1, 17, 9, 24, 5, 12], 32, vocab_size, seed=1)


def lay_out(lengths: Sequence[int], width: int, vocab_size: int, seed: int = 0) -> Batch:
    """Sequences of random tokens, each in the present pack where it has room, else in a new one."""
    starts, pack, used = list[int](), 0, 0
    for length in lengths:
        if used + length > width:
            pack, used = pack + 1, 0
        starts.append(pack * width + used)
        used += length
    size = (pack + 1) * width
    length_R, start_R = np.array(lengths), np.array(starts)
    row_N = np.repeat(np.arange(len(lengths)), length_R)
    position_N = np.arange(len(row_N)) - np.repeat(np.cumsum(length_R) - length_R, length_R)
    index_N = start_R[row_N] + position_N
    input_ids, position_ids, segment_ids = np.zeros((3, size), dtype=np.int64)
    input_ids[index_N] = np.random.default_rng(seed).integers(1, vocab_size, len(row_N))
    position_ids[index_N], segment_ids[index_N] = position_N, row_N + 1
    pooling = np.zeros((len(lengths), size), dtype=np.float32)
    pooling[row_N, index_N] = 1 / length_R[row_N]
    ids = (array.reshape(-1, width) for array in (input_ids, position_ids, segment_ids))
    return Batch(dict(zip(INPUTS, (*ids, pooling), strict=True)), index_N)

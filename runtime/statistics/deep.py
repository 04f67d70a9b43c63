"""Deep statistics: every feature of every norm, and what every Add adds, on a sample of the traffic.

They come from a second graph of the same network (export/deep.py). It shares the served graph's weights, and is run
beside it on a few requests, as often as a budget of time allows.
"""

# N valid tokens, A Adds, F features: the sum of the norms' d_model

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from random import Random
from typing import Self

import numpy as np
from numpy.typing import NDArray

from runtime.graph.packing import PackedBatch, Tokens, to_batches
from runtime.manifest import NormLayer
from runtime.statistics.moments import Moments

RunDeep = Callable[[PackedBatch], Sequence[NDArray[np.float32]]]  # what entered and left the norms, the Adds' numbers
Batches = Callable[[Sequence[Tokens]], Sequence[PackedBatch]]  # sequences as the deep graph runs them

ROWS = 4  # requests of one look; short texts fill about a pack
LOOK_TOKENS = 256  # of one look, but for a single longer request: a large network has 100 kB of features for each
# What a look costs the service for each second that it takes itself: it is merged, too, and leaves the caches without
# the served graph's weights. Measured over HTTP, between 1.8 and 3.3 (docs/benchmarks.md).
TOLL = 3.0
GUESS = 0.004  # seconds that a look is taken to cost before the first
BURST = 0.5  # seconds of budget that a quiet time can save up: a pause must not make the load after it dearer


@dataclass(frozen=True, slots=True)
class DeepState:
    """Sufficient statistics of sampled traffic; merging states in any order equals one pass over all of it.

    Attributes:
        requests: sampled inputs.
        tokens: their valid tokens.
        outputs: of every feature of every norm's output, layer by layer [F].
        largest: largest magnitude of every feature that entered a norm, at first tokens and at others [2, F].
        adds: of every Add's |F(x)| / |x| and cos(x, F(x)) [2A].
    """

    requests: int
    tokens: int
    outputs: Moments
    largest: NDArray[np.float64]
    adds: Moments

    @classmethod
    def empty(cls, layers: Sequence[NormLayer]) -> Self:
        features, adds = sum(layer.d_model for layer in layers), 2 * sum(layer.add for layer in layers)
        return cls(0, 0, Moments.empty(features), np.zeros((2, features)), Moments.empty(adds))

    @classmethod
    def of(
        cls,
        requests: int,
        inputs: NDArray[np.floating],
        outputs: NDArray[np.floating],
        adds: NDArray[np.floating],
        first: NDArray[np.bool_],
    ) -> Self:
        """The state of tokens of which `inputs` [N, F] entered the norms and `outputs` [N, F] left them.

        Args:
            adds: [N, 2A].
            first: [N], whether a token is its request's first.
        """
        magnitude = np.nan_to_num(np.abs(inputs), nan=0.0, posinf=0.0)
        largest = [magnitude[chosen].max(0, initial=0.0) for chosen in (first, ~first)]
        wide_outputs, wide_adds = outputs.astype(np.float64), adds.astype(np.float64)
        return cls(
            requests,
            len(inputs),
            Moments.of(wide_outputs, np.isfinite(wide_outputs)),
            np.stack(largest).astype(np.float64),
            Moments.of(wide_adds, np.isfinite(wide_adds)),
        )

    def fits(self, layers: Sequence[NormLayer]) -> bool:
        """Whether it is a state of a network with these layers."""
        empty = self.empty(layers)
        sizes = ((len(s.outputs.count), s.largest.shape, len(s.adds.count)) for s in (self, empty))
        return len(set(sizes)) == 1

    def merge(self, other: Self) -> Self:
        return type(self)(
            self.requests + other.requests,
            self.tokens + other.tokens,
            self.outputs.merge(other.outputs),
            np.maximum(self.largest, other.largest),
            self.adds.merge(other.adds),
        )

    @classmethod
    def merge_all(cls, parts: Sequence[Self]) -> Self:
        """Many parts (at least one) together, in one step."""
        return cls(
            sum(part.requests for part in parts),
            sum(part.tokens for part in parts),
            Moments.merge_all([part.outputs for part in parts]),
            np.max([part.largest for part in parts], axis=0),
            Moments.merge_all([part.adds for part in parts]),
        )


def measure(run: RunDeep, batch: PackedBatch) -> DeepState:
    """The state of a batch; a sequence that overflows the network is not counted."""
    inputs, outputs, adds = run(batch)
    first = batch.position_ids.reshape(-1)[batch.token_index] == 0
    finite = np.isfinite(inputs).all(1) & np.isfinite(outputs).all(1)
    if finite.all():
        return DeepState.of(batch.rows, inputs, outputs, adds, first)
    whole = np.logical_and.reduceat(finite, np.cumsum(batch.lengths) - batch.lengths)
    kept = np.repeat(whole, batch.lengths)
    return DeepState.of(int(whole.sum()), inputs[kept], outputs[kept], adds[kept], first[kept])


def measure_all(run: RunDeep, batches: Sequence[PackedBatch]) -> DeepState:
    """The state of several batches, at least one."""
    return reduce(DeepState.merge, (measure(run, batch) for batch in batches))


def in_packs(sequences: Sequence[Tokens]) -> list[PackedBatch]:
    """All of them in one packed batch."""
    return to_batches(sequences, padded=False)


class DeepSampler:
    """Looks deeply at as many requests as a budget of time allows.

    Time for it accrues as the clock runs, at most BURST seconds' worth or two looks', and is spent by looking: so under
    load the share of time that goes into it is the budget, and in quiet times nearly every request is seen.

    Args:
        run: the deep graph.
        budget: share of the time that may be spent, 0 to 1.
        clock: seconds, never going back.
        batches: how the deep graph takes sequences.
    """

    def __init__(
        self,
        run: RunDeep,
        budget: float,
        clock: Callable[[], float] = time.perf_counter,
        seed: int = 0,
        batches: Batches = in_packs,
    ) -> None:
        self.run, self.budget, self.clock, self.batches = run, budget, clock, batches
        self.random = Random(seed)
        self.spent = 0.0  # seconds, what looks cost beside their own time included
        self.accrued = clock()
        self.credit, self.cost = 0.0, GUESS

    @property
    def due(self) -> bool:
        """Whether there is time for a look."""
        now = self.clock()
        most = max(BURST * self.budget, 2 * self.cost)
        self.credit = min(self.credit + (now - self.accrued) * self.budget, most)
        self.accrued = now
        return self.budget > 0 and self.credit > self.cost

    def look(self, sequences: Sequence[Tokens]) -> DeepState:
        """Measures a random few of `sequences`."""
        started = self.clock()
        chosen = self.random.sample(sequences, min(ROWS, len(sequences)))
        while len(chosen) > 1 and sum(map(len, chosen)) > LOOK_TOKENS:
            chosen.pop()
        state = measure_all(self.run, self.batches(chosen))
        cost = TOLL * (self.clock() - started)
        self.spent += cost
        self.credit -= cost
        self.cost += 0.1 * (cost - self.cost)
        return state

"""Runs what a batcher gathered, and hands in what the norms saw.

It knows no engine: an engine that was replaced is gone, with its sessions, once the last who asked it has an answer.
"""

import time
from collections.abc import Sequence
from math import isnan

from runtime.batch import EncodedBatch, join
from runtime.deep import DeepSampler
from runtime.encoder import Encoder
from runtime.packing import Tokens
from service.collector import Statistics
from service.inference_counts import InferenceCounts


class Runner:
    """An encoder whose runs are counted.

    Args:
        collector: where it hands in what the norms saw.
        sampler: looks deeply at a few sequences; None looks at none.
        counts: of what was run.
    """

    def __init__(
        self, encoder: Encoder, collector: Statistics, sampler: DeepSampler | None, counts: InferenceCounts
    ) -> None:
        self.encoder, self.collector, self.sampler, self.counts = encoder, collector, sampler, counts

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Runs R >= 1 sequences, and counts them."""
        started = time.perf_counter()
        batch = self.encoder.run(sequences)
        ran = time.perf_counter()
        finite = not isnan(sum(batch.scores))
        if finite:
            self.collector.observe(batch, ran - started)
        packing, batch.stats_seconds = self.encoder.pack_seconds, time.perf_counter() - ran
        self.counts.run(len(sequences), packing, ran - started - packing, batch.stats_seconds)
        if finite or len(sequences) == 1:
            return batch
        # One that overflows must not reach its neighbours, and is not recorded.
        return join([self.run([sequence]) for sequence in sequences])

    def look_deeper(self, sequences: Sequence[Tokens]) -> None:
        """Looks deeply at a few of the sequences that were answered, if there is time for it."""
        if self.sampler is not None and self.sampler.due:
            spent = self.sampler.spent
            self.collector.observe_deep(self.sampler.look(sequences), self.sampler.spent - spent)

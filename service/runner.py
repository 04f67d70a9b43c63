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


class Runner:
    """An encoder whose runs are counted.

    Args:
        collector: where it hands in what the norms saw.
        sampler: looks deeply at a few sequences; None looks at none.
    """

    def __init__(self, encoder: Encoder, collector: Statistics, sampler: DeepSampler | None) -> None:
        self.encoder, self.collector, self.sampler = encoder, collector, sampler

    def run(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        started = time.perf_counter()
        batch = self.encoder.run(sequences)
        if isnan(sum(batch.scores)):
            return self._run_apart(sequences)
        self.collector.observe(batch, time.perf_counter() - started)
        return batch

    def look_deeper(self, sequences: Sequence[Tokens]) -> None:
        """Looks deeply at a few of the sequences that were answered, if there is time for it."""
        if self.sampler is not None and self.sampler.due:
            spent = self.sampler.spent
            self.collector.observe_deep(self.sampler.look(sequences), self.sampler.spent - spent)

    def _run_apart(self, sequences: Sequence[Tokens]) -> EncodedBatch:
        """Runs every sequence alone: one that overflows must not reach its neighbours, and is not counted."""
        batches = [self.encoder.run([sequence]) for sequence in sequences]
        for batch in batches:
            if not isnan(batch.scores[0]):
                self.collector.observe(batch, 0.0)
        return join(batches)

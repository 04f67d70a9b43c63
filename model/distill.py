"""Distillation: an ensemble of trained runs teaches one small encoder (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.batches import Batch, to_batch
from model.checkpoint import Run
from runtime.errors import DataError
from runtime.inputs import TextEncoder


class Ensemble:
    """Averages the class probabilities of several runs, each reading the batch's texts by its own tokenizer.

    Raises:
        DataError: a run knows other classes, or reads no text.
    """

    def __init__(self, runs: Sequence[Run], labels: list[str]) -> None:
        self.members = []
        for run in runs:
            if run.info.labels != labels or run.tokenizer is None:
                raise DataError(
                    f"A teacher trained on {run.info.dataset} cannot teach these classes: train it on the same data."
                )
            self.members.append((run.model, TextEncoder(run.tokenizer, run.info.encoder.max_tokens)))

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Mean class probabilities [R, C]."""
        total = torch.zeros(())
        for model, encoder in self.members:
            sequences = [item.tokens for item in encoder.encode(batch.texts)]
            total = total + model(*to_batch(sequences, batch.labels.numpy(), []).inputs).logits.softmax(1)
        return total / len(self.members)

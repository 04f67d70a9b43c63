"""Teachers: what knows the task well, but is too large or too slow to serve, labels texts for one small encoder.

Distillation, Hinton et al. 2015, arXiv:1503.02531: the student learns the teachers' probabilities, softened by a
temperature, on the training texts and on many variants of them that have no label of their own.
"""

# R texts, C classes

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from model.training.batches import to_batch
from model.training.checkpoint import Run
from model.training.device import CPU, to_device
from runtime.errors import DataError
from runtime.graph.batch import softmax
from runtime.graph.texts import TextEncoder


class Teacher(Protocol):
    """Gives unnormalized log-probabilities [R, C] for texts."""

    def scores(self, texts: list[str]) -> NDArray[np.float64]: ...


class LinearTeacher:
    """A linear SVM over TF-IDF of words, word pairs and characters: strong on short texts, fitted in seconds.

    Args:
        scale: factor from SVM margins to log-probabilities.
    """

    def __init__(self, texts: Sequence[str], labels: NDArray[np.int64], seed: int, scale: float = 4.0) -> None:
        self.scale = scale
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
        characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
        self.pipeline = make_pipeline(make_union(words, characters), LinearSVC(C=0.5, random_state=seed))
        self.pipeline.fit([text.lower() for text in texts], labels)

    def scores(self, texts: list[str]) -> NDArray[np.float64]:
        margins = self.pipeline.decision_function(texts)
        if margins.ndim == 1:  # two classes have one margin
            margins = np.stack([-margins, margins], axis=1)
        return self.scale * margins


class EncoderTeacher:
    """Trained runs, averaged: each reads a text by its own tokenizer, on `device`.

    Raises:
        DataError: a run knows other classes, or reads no text.
    """

    def __init__(self, runs: Sequence[Run], labels: list[str], device: torch.device = CPU) -> None:
        self.members, self.device = [], device
        for run in runs:
            if run.info.labels != labels or run.tokenizer is None:
                raise DataError(f"A run on {run.info.dataset} cannot teach these classes: train it on the same data.")
            self.members.append((run.model.to(device), TextEncoder(run.tokenizer, run.info.encoder.max_tokens)))

    @torch.inference_mode()
    def scores(self, texts: list[str]) -> NDArray[np.float64]:
        total = np.float64(0)
        for model, encoder in self.members:
            sequences = [item.tokens for item in encoder.encode(texts)]
            batch = to_device(to_batch(sequences, torch.empty(0)), self.device)
            total = total + model(*batch.inputs).logits.double().softmax(1).cpu().numpy()
        return np.log(total / len(self.members))


def teach(teachers: Sequence[Teacher], texts: list[str], temperature: float) -> NDArray[np.float64]:
    """Class probabilities [R, C]: the product of the teachers' answers, softened by `temperature`."""
    return softmax(np.sum([teacher.scores(texts) for teacher in teachers], axis=0) / temperature)

"""How an encoder is trained: every choice of a run, in one frozen model that serializes to JSON."""

import math
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.network.config import Architecture
from runtime.manifest import PoolingKind


class Schedule(BaseModel):
    """How weights are found, whatever the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Every random choice follows from it."""
    epochs: int = Field(20, ge=1, le=10**6)
    """Passes over the training data."""
    least_steps: int = Field(3000, ge=0, le=10**9)
    """Steps at least: a small file has more epochs; 0 where a number of epochs is asked for."""
    batch_size: int = Field(64, ge=2, le=10**6)
    """Sequences per step."""
    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak of the schedule: linear warm-up, then a cosine down to zero."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of all steps that warms up."""
    weight_decay: float = Field(0.05, ge=0)
    """AdamW, on matrices only."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Probability mass spread over all classes."""
    average_decay: float = Field(0.998, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is kept; 0 keeps the last weights."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of a gradient step."""
    max_tokens: int = Field(48, ge=1, le=512)
    """Longest sequence; longer ones are truncated."""

    @model_validator(mode="before")
    @classmethod
    def _epochs_that_are_asked_for_are_kept(cls, given: Any) -> Any:
        """So are those of runs from before there were least steps."""
        if isinstance(given, dict) and "epochs" in given and "least_steps" not in given:
            return given | {"least_steps": 0}
        return given

    def with_enough_epochs(self, epoch_steps: int) -> Self:
        """This schedule, with as many epochs of so many steps as `least_steps` takes."""
        return self.model_copy(update={"epochs": max(self.epochs, math.ceil(self.least_steps / epoch_steps))})


SMALL = 2500  # training texts; fewer are few, and other defaults are better (docs/training.md)
VARIANTS = 40_000  # of all training texts together, about, where they are few
MOST_VARIANTS = 64  # of each
OF_SMALL: dict[str, float] = {"mixing": 0.5, "word_replacement": 0.25, "teacher_weight": 1.0, "temperature": 1.0}


class Recipe(Schedule, Architecture):
    """An architecture and how its weights are found. The defaults are those of clinc150 (docs/training.md)."""

    vocab_size: int = Field(4000, ge=300, le=10**6)
    """Text: entries of the byte-pair vocabulary."""
    merge_dropout: float = Field(0.1, ge=0, lt=1)
    """Text: probability of skipping a byte-pair merge in training (BPE-dropout, arXiv:1910.13267)."""
    word_dropout: float = Field(0.15, ge=0, lt=1)
    """Text: probability of leaving out a word in training."""
    word_replacement: float = Field(0.05, ge=0, lt=1)
    """Text: probability of replacing a word by any other in training; 0.25 where few are taught."""
    crossover: float = Field(0.4, ge=0, le=1)
    """Text: probability that a text goes on, from a word on, as another text of its class does from the same word."""

    linear_teacher: bool = True
    """Text: whether a linear SVM over words and characters, fitted first, teaches the encoder."""
    variants: int = Field(8, ge=1, le=10**6)
    """Taught text: variants of every training text that the teachers label, the text itself included; where they
    are few, as many as make 40,000, 64 at most."""
    clean: float = Field(0.2, ge=0, le=1)
    """Taught text: least share of unchanged texts in an epoch."""
    mixing: float = Field(0.35, ge=0, le=1)
    """Taught text: probability of a crossover with a text of any class; 0.5 where they are few."""
    teacher_weight: float = Field(0.7, ge=0, le=1)
    """Taught text: weight of the teachers' answer where the label is known too; 1 where they are few."""
    temperature: float = Field(2.0, gt=0)
    """Taught text: divides the teachers' log-probabilities; 1 where they are few."""

    def for_rows(self, rows: int) -> Self:
        """This recipe for so many training texts: where they are few, what was not asked for has other defaults.

        Then there are more variants of each, less like it, and what they are is left to the teacher.
        """
        if rows >= SMALL or not self.linear_teacher:
            return self
        most = max(self.variants, min(MOST_VARIANTS, math.ceil(VARIANTS / max(rows, 1))))
        small = {"variants": most, **OF_SMALL}
        return self.model_copy(update={name: small[name] for name in small.keys() - self.model_fields_set})


class FineTuning(Schedule):
    """How a pretrained encoder with a new head goes on learning."""

    epochs: int = Field(6, ge=1, le=10**6)
    """Passes over the training data."""
    least_steps: int = Field(300, ge=0, le=10**9)
    """Steps at least: a small file has more epochs; 0 where a number of epochs is asked for."""
    batch_size: int = Field(32, ge=2, le=10**6)
    """Sequences per step."""
    learning_rate: float = Field(2e-4, gt=0)
    """Peak of the schedule, of the last layer: linear warm-up, then a cosine down to zero."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW, on matrices only."""
    average_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is kept; 0 keeps the last weights."""
    max_tokens: int = Field(128, ge=1, le=10**6)
    """Longest sequence, special tokens included; longer ones are truncated."""

    pooling: PoolingKind | None = None
    """How token vectors become one; None: as the directory says, or the better of mean and cls by validation."""
    layer_decay: float = Field(0.9, gt=0, le=1)
    """What the learning rate is multiplied with from each layer to the one below (Howard & Ruder 2018)."""
    head_rate: float = Field(5.0, gt=0)
    """The head's learning rate, as a multiple of the last layer's."""
    frozen_layers: int = Field(0, ge=0, le=10**6)
    """Layers that keep their weights, from the lowest on; the embeddings do too where it is not 0."""
    head_only: bool = False
    """Fit the head on the frozen encoder, and be done: a minute."""

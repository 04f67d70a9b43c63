"""How an encoder is trained: every choice of a run, in one frozen model that serializes to JSON."""

from pydantic import Field

from model.network.config import Architecture


class Recipe(Architecture):
    """An architecture and how its weights are found. The defaults are those of clinc150 (docs/training.md)."""

    seed: int = Field(0, ge=0)
    """Every random choice follows from it."""
    epochs: int = Field(20, ge=1)
    """Passes over the training data."""
    batch_size: int = Field(64, ge=2)
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
    vocab_size: int = Field(4000, ge=300)
    """Text: entries of the byte-pair vocabulary."""
    merge_dropout: float = Field(0.1, ge=0, lt=1)
    """Text: probability of skipping a byte-pair merge in training (BPE-dropout, arXiv:1910.13267)."""
    word_dropout: float = Field(0.15, ge=0, lt=1)
    """Text: probability of leaving out a word in training."""
    word_replacement: float = Field(0.05, ge=0, lt=1)
    """Text: probability of replacing a word by any other in training."""
    crossover: float = Field(0.4, ge=0, le=1)
    """Text: probability that a text goes on, from a word on, as another text of its class does from the same word."""

    linear_teacher: bool = True
    """Text: whether a linear SVM over words and characters, fitted first, teaches the encoder."""
    variants: int = Field(8, ge=1)
    """Taught text: variants of every training text that the teachers label, the text itself included."""
    clean: float = Field(0.2, ge=0, le=1)
    """Taught text: least share of unchanged texts in an epoch."""
    mixing: float = Field(0.35, ge=0, le=1)
    """Taught text: probability of a crossover with a text of any class."""
    teacher_weight: float = Field(0.7, ge=0, le=1)
    """Taught text: weight of the teachers' answer where the label is known too."""
    temperature: float = Field(2.0, gt=0)
    """Taught text: divides the teachers' log-probabilities."""

"""What is judged beside the norms: the input before them, and after them the output, all layers and unlikeness."""

from service.schemas.base import Body
from service.schemas.verdict import LayerDrift


class InputState(Body):
    """Averages over requests."""

    tokens: float
    """Tokens of a request; a geometric mean."""
    token_length: float
    """Characters of a token."""


class InputStatistics(Body):
    """The input, as a layer before the first."""

    name: str
    live: InputState | None
    baseline: InputState
    drift: LayerDrift


class OutputState(Body):
    """Averages over requests."""

    surprise: float
    """-ln of the top probability, each clipped to 6 sigma around the baseline's average."""
    log_sum_exp: float
    """Log-sum-exp of the logits, clipped likewise."""


class OutputStatistics(Body):
    """The output head, as one more layer."""

    name: str
    live: OutputState | None
    baseline: OutputState
    drift: LayerDrift


class TogetherStatistics(Body):
    """What all layers share, judged after the output: it shows what moves each of them a little, such as noise."""

    name: str
    drift: LayerDrift


class UnlikenessState(Body):
    """How unlike the baseline's requests are, by how unsure the model is of them (docs/drift.md)."""

    average: float
    """Of (-ln p)^1.5 over requests, p being the share of the baseline that the model is as unsure of; 1.33 is usual. Of
    older artifacts (ln p)^2; 2 is usual."""


class UnlikenessStatistics(Body):
    """The unlikeness of requests, judged as a layer after the output."""

    name: str
    live: UnlikenessState | None
    baseline: UnlikenessState
    drift: LayerDrift

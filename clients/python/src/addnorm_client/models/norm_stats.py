# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from typing import Literal

from pydantic import Field

from addnorm_client.bodies import Body

from .deep import FeatureShift
from .layers import LayerDrift, LayerStatistics


class BaselineSource(Body):
    """What traffic is compared with."""

    requests: int
    source: Literal["validation", "live"]
    """validation: the artifact's own; live: a window of traffic that was made the baseline."""
    taken: str | None = None
    """Live: the end of that window; UTC, ISO 8601."""
    tokens: int


class InputState(Body):
    """Averages over requests."""

    token_length: float
    """Characters of a token."""
    tokens: float
    """Tokens of a request; a geometric mean."""


class OutputState(Body):
    """Averages over requests."""

    log_sum_exp: float
    """Log-sum-exp of the logits."""
    surprise: float
    """-ln of the top probability."""


class Overhead(Body):
    """What the statistics cost since this service started."""

    always_on: float
    """
    Time spent adding up what the graph says of every request / time spent serving. The graph's own share is not in
    it: docs/benchmarks.md.
    """
    deep: float
    """What looking deeply at a sample cost / time passed, over all workers; a look is charged thrice its own time."""
    deep_budget: float
    """The most that `deep` may be."""


class Verdict(Body):
    """Whether the traffic still looks as it did in training."""

    features: list[FeatureShift]
    """Drift: the features of that layer's output that moved most; empty where too few requests were looked at."""
    first_layer: str | None = None
    """Where drift shows first, in network order: input, a norm or output."""
    sentence: str
    since: str | None = None
    """Drift and mix shift: when the stretch of time began that ends now and is judged so throughout; UTC, ISO 8601."""
    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]


class Window(Body):
    """The traffic that `live` is about, in whole time buckets."""

    start: str = Field(..., alias="from")
    """UTC, ISO 8601."""
    requests: int
    end: str = Field(..., alias="to")
    tokens: int


class InputStatistics(Body):
    """The input, as a layer before the first."""

    baseline: InputState
    drift: LayerDrift
    live: InputState | None = None
    name: str


class OutputStatistics(Body):
    """The output head, as one more layer."""

    baseline: OutputState
    drift: LayerDrift
    live: OutputState | None = None
    name: str


class NormStatsResponse(Body):
    baseline: BaselineSource
    input: InputStatistics | None = None
    """None where the baseline cannot judge."""
    layers: list[LayerStatistics]
    """In network order."""
    model: str
    output: OutputStatistics | None = None
    """None where the baseline cannot judge."""
    overhead_ratio: Overhead | None = None
    """None for merged states."""
    requests: int
    """Inputs answered since then; a request of three texts counts three."""
    since: str
    """When counting began, UTC, ISO 8601."""
    tokens: int
    """Valid tokens that entered every norm."""
    verdict: Verdict
    version: str
    window: Window


class LayerResponse(Body):
    baseline: BaselineSource
    layer: LayerStatistics
    model: str
    overhead_ratio: Overhead | None = None
    """None for merged states."""
    requests: int
    """Inputs answered since then; a request of three texts counts three."""
    since: str
    """When counting began, UTC, ISO 8601."""
    tokens: int
    """Valid tokens that entered every norm."""
    verdict: Verdict
    version: str
    window: Window

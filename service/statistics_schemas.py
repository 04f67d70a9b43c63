"""The bodies of the statistics endpoints."""

from typing import Literal

from pydantic import ConfigDict, Field

from runtime.manifest import LayerKind
from service.schemas import Body


class Summary(Body):
    """A distribution over tokens: everything exact but the quantiles, which are within 0.8 %."""

    mean: float
    std: float
    min: float
    max: float
    p01: float
    p50: float
    p99: float


class FeatureMoments(Body):
    """Moments of every feature of a BatchNorm's input, over tokens."""

    mean: list[float]
    variance: list[float]


class LayerState(Body):
    """What entered a norm: the distribution over tokens of each token's mean and variance over its features."""

    tokens: int
    mean: Summary | None
    """None while no token was seen."""
    variance: Summary | None
    residual_norm: float | None
    """Root mean square length of the token vectors."""
    saturated: float | None
    """Share of tokens whose variance is at most eps."""
    not_finite: int
    """Tokens with a NaN or infinite mean or variance; they are left out of everything else."""
    features: FeatureMoments | None = None
    """BatchNorm only."""


class LayerDrift(Body):
    """Whether a layer departs from the validation data (docs/drift.md)."""

    state: Literal["ok", "drift", "insufficient_data"]
    score: float | None = None
    """Distance of the window from the validation data, given its size and its topics."""
    threshold: float | None = None
    """The score above which the layer departs."""
    effect: float | None = None
    """The same distance in sigma of single requests; below 0.1 it is never drift."""
    mean_shift: float | None = None
    """Average token mean, live minus baseline, in baseline sigma."""
    log_variance_ratio: float | None = None
    """ln(live / baseline) of the average token variance."""
    wasserstein: float | None = None
    """Area between the distribution functions, in baseline sigma."""
    psi: float | None = None
    """Population stability index over baseline deciles."""


class LayerStatistics(Body):
    """One normalization layer, live and as it was on the validation data."""

    name: str
    kind: LayerKind
    placement: Literal["post", "pre"]
    d_model: int
    eps: float
    live: LayerState
    baseline: LayerState
    drift: LayerDrift
    running: FeatureMoments | None = None
    """BatchNorm only: the moments it normalizes with."""


class Volume(Body):
    requests: int
    tokens: int


class Window(Body):
    """The traffic that `live` is about, in whole time buckets."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    start: str = Field(alias="from")
    """UTC, ISO 8601."""
    end: str = Field(alias="to")
    requests: int
    tokens: int


class Verdict(Body):
    """Whether the traffic still looks as it did in training."""

    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]
    sentence: str
    since: str | None
    """Drift and mix shift: when the stretch of time began that ends now and is judged so throughout; UTC, ISO 8601."""
    first_layer: str | None
    """Where drift shows first, in network order."""


class OutputState(Body):
    """Averages over requests."""

    surprise: float
    """-ln of the top probability."""
    log_sum_exp: float
    """Log-sum-exp of the logits."""


class OutputStatistics(Body):
    """The output head, as one more layer."""

    name: str
    live: OutputState | None
    baseline: OutputState
    drift: LayerDrift


class NormStatsHead(Body):
    model: str
    version: str
    requests: int
    """Inputs answered since then; a request of three texts counts three."""
    tokens: int
    """Valid tokens that entered every norm."""
    since: str
    """When counting began, UTC, ISO 8601."""
    baseline: Volume
    window: Window
    verdict: Verdict


class NormStatsResponse(NormStatsHead):
    layers: list[LayerStatistics]
    """In network order."""
    output: OutputStatistics | None
    """None where the baseline cannot judge."""


class LayerResponse(NormStatsHead):
    layer: LayerStatistics


class LayerComparison(Body):
    """How far one layer's traffic lies from that of another window."""

    name: str
    mean_shift: float | None
    log_variance_ratio: float | None
    wasserstein: float | None
    psi: float | None


class CompareResponse(Body):
    """One window of traffic against an earlier or longer one."""

    model: str
    version: str
    window: Window
    against: Window
    layers: list[LayerComparison]
    """In network order; null where one of the windows saw no token."""

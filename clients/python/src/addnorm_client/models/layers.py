# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from typing import Literal

from addnorm_client.bodies import Body

from .deep import DeepStatistics, FeatureMoments, FeatureShift


class Summary(Body):
    """
    A distribution over tokens: everything exact but the quantiles, which are within 0.8 %.

    Extremes and outer quantiles are withheld (null) where fewer than 30 requests are behind them: they would tell too
    much of single ones.
    """

    max: float | None = None
    mean: float
    min: float | None = None
    p01: float | None = None
    p50: float
    p99: float | None = None
    std: float


class Distribution(Body):
    """Shares of tokens in bins of equal width that leave out the outermost 0.2 % at each end."""

    baseline: list[float]
    edges: list[float]
    """One more than there are bins."""
    live: list[float] | None = None
    """Withheld (null) below 30 requests."""


class LayerDrift(Body):
    """Whether a layer departs from the validation data (docs/drift.md)."""

    effect: float | None = None
    """The same distance in sigma of single requests; below 0.1 it is never drift."""
    log_variance_ratio: float | None = None
    """ln(live / baseline) of the average token variance."""
    mean_shift: float | None = None
    """Average token mean, live minus baseline, in baseline sigma."""
    psi: float | None = None
    """Population stability index over baseline deciles."""
    score: float | None = None
    """Distance of the window from the validation data, given its size and its topics."""
    state: Literal["ok", "drift", "insufficient_data"]
    threshold: float | None = None
    """The score above which the layer departs."""
    wasserstein: float | None = None
    """Area between the distribution functions, in baseline sigma."""


class LayerState(Body):
    """What entered a norm: the distribution over tokens of each token's mean and variance over its features."""

    features: FeatureMoments | None = None
    """BatchNorm only; withheld below 30 requests."""
    mean: Summary | None = None
    """None while no token was seen."""
    not_finite: int
    """
    Tokens whose mean or variance is NaN, infinite or absurd (a million times the largest of the validation data).

    They are left out of everything else.
    """
    residual_norm: float | None = None
    """Root mean square length of the token vectors."""
    saturated: float | None = None
    """Share of tokens whose variance is at most eps."""
    tokens: int
    variance: Summary | None = None


class Distributions(Body):
    """Of the tokens' means and variances."""

    mean: Distribution
    variance: Distribution


class LayerStatistics(Body):
    """One normalization layer, live and as it was on the validation data."""

    baseline: LayerState
    d_model: int
    deep: DeepStatistics | None = None
    """None where the artifact has no deep graph."""
    distributions: Distributions | None = None
    """Where one layer is asked for."""
    drift: LayerDrift
    eps: float
    kind: Literal["layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "none"]
    live: LayerState
    name: str
    placement: Literal["post", "pre"]
    running: FeatureMoments | None = None
    """BatchNorm only: the moments it normalizes with."""
    shifted: list[FeatureShift] | None = None
    """BatchNorm only: the features of its input that moved most, furthest first; none below 30 requests."""
    unit: Literal["token", "pixel", "sample", "group", "channel"]
    """What has a mean and a variance of its own; `tokens` counts those that were looked at."""

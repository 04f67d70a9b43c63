"""The bodies of the deep statistics: features and Adds, on a sample of the traffic (docs/statistics.md)."""

from typing import Literal

from service.schemas.base import Body


class FeatureMoments(Body):
    """Moments of every feature over tokens, in the order of the features."""

    mean: list[float]
    variance: list[float]


class FeatureSize(Body):
    """One feature of a norm's output, and how large it is beside the others."""

    feature: int
    mean: float
    std: float
    ratio: float
    """Its root mean square / that of the median feature."""


class FeatureShift(Body):
    """One feature of a norm's output that is not where it was in the baseline."""

    feature: int
    live: float
    """Average over tokens."""
    baseline: float
    shift: float
    """Their difference in the baseline's standard deviations of tokens."""


class Activation(Body):
    """The largest magnitude that one feature had where it entered a norm."""

    feature: int
    value: float
    position: Literal["first", "other"]
    """Whether it was met at a request's first token or at another one."""


class Spread(Body):
    mean: float
    std: float


class Update(Body):
    """How much an Add's sublayer F changes what it is added to."""

    ratio: Spread
    """|F(x)| / |x|."""
    cosine: Spread
    """Of the angle between F(x) and x: below 0 the update takes back, above 0 it strengthens."""


class DeepLayer(Body):
    """What left a norm, feature by feature, and what entered it."""

    outliers: list[FeatureSize]
    """The largest features of its output."""
    dead: int
    """Features of its output that hardly move: standard deviation below a thousandth of the median feature's."""
    int8_levels: float | None
    """int8 levels that one standard deviation of the median feature spans if one scale serves the whole output; with
    few, the largest features cost the others their precision."""
    largest: list[Activation]
    """Of the features that entered the norm, those with the largest magnitude."""
    update: Update | None
    """Of the Add that belongs to this norm: before a post norm, after a pre norm's sublayer."""


class DeepStatistics(Body):
    """Sampled beside the served traffic; withheld (null) where fewer than 30 requests were looked at."""

    requests: int
    tokens: int
    live: DeepLayer | None
    baseline: DeepLayer
    shifted: list[FeatureShift]
    """The features of the norm's output that moved most, furthest first."""
    features: FeatureMoments | None = None
    """Every feature of the norm's output; where one layer is asked for."""

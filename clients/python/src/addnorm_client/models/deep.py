# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from typing import Literal

from addnorm_client.bodies import Body


class Activation(Body):
    """The largest magnitude that one feature had where it entered a norm."""

    feature: int
    position: Literal["first", "other"]
    """Whether it was met at a request's first token or at another one."""
    value: float


class FeatureSize(Body):
    """One feature of a norm's output, and how large it is beside the others."""

    feature: int
    mean: float
    ratio: float
    """Its root mean square / that of the median feature."""
    std: float


class Spread(Body):
    mean: float
    std: float


class FeatureMoments(Body):
    """Moments of every feature over tokens, in the order of the features."""

    mean: list[float]
    variance: list[float]


class FeatureShift(Body):
    """One feature of a norm's output that is not where it was in the baseline."""

    baseline: float
    feature: int
    live: float
    """Average over tokens."""
    shift: float
    """Their difference in the baseline's standard deviations of tokens."""


class Update(Body):
    """How much an Add's sublayer F changes what it is added to."""

    cosine: Spread
    """Of the angle between F(x) and x: below 0 the update takes back, above 0 it strengthens."""
    ratio: Spread
    """|F(x)| / |x|."""


class DeepLayer(Body):
    """What left a norm, feature by feature, and what entered it."""

    dead: int
    """Features of its output that hardly move: standard deviation below a thousandth of the median feature's."""
    int8_levels: float | None = None
    """
    int8 levels that one standard deviation of the median feature spans if one scale serves the whole output; with
    few, the largest features cost the others their precision.
    """
    largest: list[Activation]
    """Of the features that entered the norm, those with the largest magnitude."""
    outliers: list[FeatureSize]
    """The largest features of its output."""
    update: Update | None = None
    """Of the Add that belongs to this norm: before a post norm, after a pre norm's sublayer."""


class DeepStatistics(Body):
    """Sampled beside the served traffic; withheld (null) where fewer than 30 requests were looked at."""

    baseline: DeepLayer
    features: FeatureMoments | None = None
    """Every feature of the norm's output; where one layer is asked for."""
    live: DeepLayer | None = None
    requests: int
    shifted: list[FeatureShift]
    """The features of the norm's output that moved most, furthest first."""
    tokens: int

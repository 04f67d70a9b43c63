"""The bodies of the statistics endpoints."""

from typing import Literal

from pydantic import ConfigDict, Field

from runtime.manifest import LayerKind, Unit
from service.schemas.base import Body
from service.schemas.deep import DeepStatistics, FeatureMoments, FeatureShift
from service.schemas.input_statistics import InputStatistics, OutputStatistics, TogetherStatistics, UnlikenessStatistics
from service.schemas.verdict import LayerDrift, Verdict


class Summary(Body):
    """A distribution over tokens: everything exact but the quantiles, which are within 0.8 %.

    Extremes and outer quantiles are withheld (null) where fewer than 30 requests are behind them: they would tell too
    much of single ones.
    """

    mean: float
    std: float
    min: float | None
    max: float | None
    p01: float | None
    p50: float
    p99: float | None


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
    """Tokens whose mean or variance is NaN, infinite or absurd (a million times the largest of the validation data).

    They are left out of everything else.
    """
    features: FeatureMoments | None = None
    """BatchNorm only; withheld below 30 requests."""


class Distribution(Body):
    """Shares of tokens in bins of equal width that leave out the outermost 0.2 % at each end."""

    edges: list[float]
    """One more than there are bins."""
    live: list[float] | None
    """Withheld (null) below 30 requests."""
    baseline: list[float]


class Distributions(Body):
    """Of the tokens' means and variances."""

    mean: Distribution
    variance: Distribution


class LayerStatistics(Body):
    """One normalization layer, live and as it was on the validation data."""

    name: str
    kind: LayerKind
    placement: Literal["post", "pre"]
    unit: Unit
    """What has a mean and a variance of its own; `tokens` counts those that were looked at."""
    d_model: int
    eps: float
    live: LayerState
    baseline: LayerState
    drift: LayerDrift
    running: FeatureMoments | None = None
    """BatchNorm only: the moments it normalizes with."""
    shifted: list[FeatureShift] | None = None
    """BatchNorm only: the features of its input that moved most, furthest first; none below 30 requests."""
    deep: DeepStatistics | None = None
    """None where the artifact has no deep graph."""
    distributions: Distributions | None = None
    """Where one layer is asked for."""


class BaselineSource(Body):
    """What traffic is compared with."""

    source: Literal["validation", "live"]
    """validation: the artifact's own; live: a window of traffic that was made the baseline."""
    requests: int
    tokens: int
    taken: str | None
    """Live: the end of that window; UTC, ISO 8601."""


class FleetReplica(Body):
    """Another replica of this service."""

    name: str
    """Host and port."""
    since: str
    """When it began to count; UTC, ISO 8601."""
    heard: str
    """When it was last heard of."""
    age_seconds: float
    clock_offset_seconds: float | None
    """Seconds that its clock is ahead."""


class FleetStatus(Body):
    """Whose statistics these are, where several replicas count."""

    scope: Literal["fleet", "replica"]
    """fleet: of all replicas; replica: of the one that answers."""
    replicas: int
    """Replicas that count, this one and silent ones included."""
    silent: int
    """Of these, those that were not heard of for five seconds; what they counted until then stays."""
    oldest_push_seconds: float | None
    """Since when the most silent of the others was heard of; None where there is no other."""
    others: list[FleetReplica]
    trouble: str
    """What keeps replicas from being heard, in a sentence each; empty where nothing does."""


class Overhead(Body):
    """What the statistics cost since this service started."""

    always_on: float
    """Time spent adding up what the graph says of every request / time spent serving. The graph's own share is not in
    it: docs/benchmarks.md."""
    deep: float
    """What looking deeply at a sample cost / time passed, over all workers; a look is charged thrice its own time."""
    deep_budget: float
    """The most that `deep` may be."""


class Window(Body):
    """The traffic that `live` is about, in whole time buckets."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    start: str = Field(alias="from")
    """UTC, ISO 8601."""
    end: str = Field(alias="to")
    requests: int
    tokens: int


class NormStatsHead(Body):
    model: str
    version: str
    requests: int
    """Inputs answered since then; a request of three texts counts three."""
    tokens: int
    """Valid tokens that entered every norm."""
    since: str
    """When counting began, UTC, ISO 8601."""
    baseline: BaselineSource
    window: Window
    verdict: Verdict
    overhead_ratio: Overhead | None
    """None for merged states."""
    fleet: FleetStatus | None = None
    """Whose traffic it is; only where several replicas count."""


class NormStatsResponse(NormStatsHead):
    input: InputStatistics | None
    """None where the baseline cannot judge."""
    layers: list[LayerStatistics]
    """In network order."""
    output: OutputStatistics | None
    """None where the baseline cannot judge."""
    all_layers: TogetherStatistics | None = None
    """None likewise, and where the artifact is older."""
    unlikeness: UnlikenessStatistics | None = None
    """None likewise, and where the artifact is older."""


class LayerResponse(NormStatsHead):
    layer: LayerStatistics

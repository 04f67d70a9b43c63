# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from typing import Literal

from pydantic import Field

from addnorm_client.bodies import Body

from .deep import FeatureShift
from .layers import LayerDrift, LayerStatistics
from .repository import FleetStatus


class TogetherStatistics(Body):
    """What all layers share, judged after the output: it shows what moves each of them a little, such as noise."""

    drift: LayerDrift
    name: str


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
    """Log-sum-exp of the logits, clipped likewise."""
    surprise: float
    """-ln of the top probability, each clipped to 6 sigma around the baseline's average."""


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


class UnlikenessState(Body):
    """How unlike the baseline's requests are, by how unsure the model is of them (docs/drift.md)."""

    average: float
    """
    Of (-ln p)^1.5 over requests, p being the share of the baseline that the model is as unsure of; 1.33 is usual. Of
    older artifacts (ln p)^2; 2 is usual.
    """


class UnlikeClass(Body):
    """A predicted class that unlike requests fall into."""

    name: str
    """Its label; cluster 0, cluster 1, ... of a model without classes."""
    requests: int
    unlike: float
    """About the share of them that is unlike the baseline's requests of that class."""


class Episode(Body):
    """A stretch of time that was judged alike throughout."""

    start: str = Field(..., alias="from")
    """UTC, ISO 8601."""
    state: Literal["mix_shift", "drift"]
    end: str = Field(..., alias="to")


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


class UnlikenessStatistics(Body):
    """The unlikeness of requests, judged as a layer after the output."""

    baseline: UnlikenessState
    drift: LayerDrift
    live: UnlikenessState | None = None
    name: str


class Verdict(Body):
    """Whether the traffic still looks as it did in training."""

    alert: bool = False
    """Whether traffic is in drift now, by all that is known of the last day: what an operator should be called for."""
    classes: list[UnlikeClass] | None = None
    """Drift: the predicted classes that most of the unlike requests fall into; the most first."""
    effective_requests: float | None = None
    """How many requests tell as much, each asked once: repeats are no evidence of their own."""
    episodes: list[Episode] | None = None
    """Drift and mix shifts of the last day, oldest first."""
    estimated_accuracy: float | None = None
    """Share of right answers on topics that the model knows, by how sure it is; None where over 40 % are unlike."""
    features: list[FeatureShift]
    """Drift: the features of that layer's output that moved most; empty where too few requests were looked at."""
    first_layer: str | None = None
    """Where drift shows first, in network order: input, a norm or output."""
    most_repeated: float | None = None
    """About the share of the input that was asked most often; the input itself is not kept."""
    sentence: str
    since: str | None = None
    """Drift and mix shift: when the last stretch of time that was so began; UTC, ISO 8601."""
    since_between: list[str] | None = None
    """Two times between which it began, surely enough (95 %)."""
    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]
    strongest: str | None = None
    """Where it shows most: one of these, all layers, or unlikeness."""
    unlike: float | None = None
    """About the share of requests that are unlike the baseline: the model is unsure of them, as it is of new topics."""
    until: str | None = None
    """When it ended, where it was over before the window was."""
    would_show: float | None = None
    """The smallest share of such requests that this window would have shown as drift in nine cases of ten."""


class NormStatsResponse(Body):
    all_layers: TogetherStatistics | None = None
    """None likewise, and where the artifact is older."""
    baseline: BaselineSource
    fleet: FleetStatus | None = None
    """Whose traffic it is; only where several replicas count."""
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
    unlikeness: UnlikenessStatistics | None = None
    """None likewise, and where the artifact is older."""
    verdict: Verdict
    version: str
    window: Window


class LayerResponse(Body):
    baseline: BaselineSource
    fleet: FleetStatus | None = None
    """Whose traffic it is; only where several replicas count."""
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

"""The verdict on a window of traffic, and on each of its layers."""

from typing import Literal

from pydantic import ConfigDict, Field

from service.schemas.base import Body
from service.schemas.deep import FeatureShift


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


class UnlikeClass(Body):
    """A predicted class that unlike requests fall into."""

    name: str
    """Its label; cluster 0, cluster 1, ... of a model without classes."""
    requests: int
    unlike: float
    """About the share of them that is unlike the baseline's requests of that class."""


class Episode(Body):
    """A stretch of time that was judged alike throughout."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    state: Literal["mix_shift", "drift"]
    start: str = Field(alias="from")
    """UTC, ISO 8601."""
    end: str = Field(alias="to")


class Verdict(Body):
    """Whether the traffic still looks as it did in training."""

    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]
    sentence: str
    since: str | None
    """Drift and mix shift: when the last stretch of time that was so began; UTC, ISO 8601."""
    since_between: list[str] | None = None
    """Two times between which it began, surely enough (95 %)."""
    until: str | None = None
    """When it ended, where it was over before the window was."""
    alert: bool = False
    """Whether traffic is in drift now, by all that is known of the last day: what an operator should be called for."""
    episodes: list[Episode] = Field(default_factory=list)
    """Drift and mix shifts of the last day, oldest first."""
    first_layer: str | None
    """Where drift shows first, in network order: input, a norm or output."""
    strongest: str | None = None
    """Where it shows most: one of these, all layers, or unlikeness."""
    features: list[FeatureShift]
    """Drift: the features of that layer's output that moved most; empty where too few requests were looked at."""
    unlike: float | None = None
    """About the share of requests that are unlike the baseline: the model is unsure of them, as it is of new topics."""
    would_show: float | None = None
    """The smallest share of such requests that this window would have shown as drift in nine cases of ten."""
    estimated_accuracy: float | None = None
    """Share of right answers on topics that the model knows, by how sure it is; None where over 40 % are unlike."""
    effective_requests: float | None = None
    """How many requests tell as much, each asked once: repeats are no evidence of their own."""
    most_repeated: float | None = None
    """About the share of the input that was asked most often; the input itself is not kept."""
    classes: list[UnlikeClass] = Field(default_factory=list)
    """Drift: the predicted classes that most of the unlike requests fall into; the most first."""

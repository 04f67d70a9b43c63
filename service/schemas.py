"""The bodies of the API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from runtime.manifest import LayerKind

Inputs = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Inputs",
            "description": "A text, a list of texts, or a list of float sequences [tokens][features].",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {
                    "type": "array",
                    "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                },
            ],
        }
    ),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class PredictRequest(_Body):
    """What to classify."""

    inputs: Inputs
    top_k: int = Field(1, ge=1, strict=True)
    """Classes to return for each input, best first; more than there are returns all."""
    norm_stats: bool = Field(False, strict=True)
    """Whether to add, for every normalization layer, how far this input lies from the validation data."""


class Candidate(_Body):
    """One class and its probability."""

    label: str
    score: float


class LayerDeviation(_Body):
    """What one input's tokens looked like where they entered a norm, averaged over its tokens."""

    name: str
    mean: float
    variance: float
    mean_z: float
    """Standard deviations of validation requests that the mean lies from their average."""
    variance_z: float
    """The same for the variance."""


class Prediction(_Body):
    """The answer for one input."""

    label: str
    score: float
    """Probability of the label."""
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the input was longer than the model reads."""
    top: list[Candidate]
    norm_stats: list[LayerDeviation] | None = None


class PredictResponse(_Body):
    model: str
    version: str
    predictions: list[Prediction]


class Summary(_Body):
    """A distribution over tokens: everything exact but the quantiles, which are within 0.8 %."""

    mean: float
    std: float
    min: float
    max: float
    p01: float
    p50: float
    p99: float


class FeatureMoments(_Body):
    """Moments of every feature of a BatchNorm's input, over tokens."""

    mean: list[float]
    variance: list[float]


class LayerState(_Body):
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


class LayerDrift(_Body):
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


class LayerStatistics(_Body):
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


class Volume(_Body):
    requests: int
    tokens: int


class Window(_Body):
    """The traffic that `live` is about, in whole time buckets."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    start: str = Field(alias="from")
    """UTC, ISO 8601."""
    end: str = Field(alias="to")
    requests: int
    tokens: int


class Verdict(_Body):
    """Whether the traffic still looks as it did in training."""

    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]
    sentence: str
    since: str | None
    """Drift and mix shift: when the stretch of time began that ends now and is judged so throughout; UTC, ISO 8601."""
    first_layer: str | None
    """Where drift shows first, in network order."""


class OutputState(_Body):
    """Averages over requests."""

    surprise: float
    """-ln of the top probability."""
    log_sum_exp: float
    """Log-sum-exp of the logits."""


class OutputStatistics(_Body):
    """The output head, as one more layer."""

    name: str
    live: OutputState | None
    baseline: OutputState
    drift: LayerDrift


class NormStatsHead(_Body):
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


class LayerComparison(_Body):
    """How far one layer's traffic lies from that of another window."""

    name: str
    mean_shift: float | None
    log_variance_ratio: float | None
    wasserstein: float | None
    psi: float | None


class CompareResponse(_Body):
    """One window of traffic against an earlier or longer one."""

    model: str
    version: str
    window: Window
    against: Window
    layers: list[LayerComparison]
    """In network order; null where one of the windows saw no token."""


class ModelResponse(_Body):
    """What is served, and where it really runs."""

    model: str
    version: str
    task: str
    labels: list[str]
    inputs: dict[str, Any]
    layers: list[str]
    provider: str
    """ONNX Runtime's execution provider in use."""
    device: str
    requested_device: str
    fallback_reason: str
    """Why `auto` fell back to the CPU; empty where it did not."""
    training: dict[str, Any]


class Live(_Body):
    status: Literal["live"] = "live"


class Ready(_Body):
    status: Literal["ready"] = "ready"
    model: str
    version: str
    provider: str
    device: str
    requested_device: str
    fallback_reason: str

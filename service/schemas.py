"""The bodies of the API, but for the statistics (service/statistics_schemas.py)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from runtime.manifest import Plan, PlanName
from runtime.plan import PlanSource

SEQUENCE = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
}
Inputs = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Inputs",
            "description": "A text, a list of texts, or a list of float sequences [tokens][features].",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                {"type": "array", "minItems": 1, "items": SEQUENCE},
            ],
        }
    ),
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class PredictRequest(Body):
    """What to classify."""

    inputs: Inputs
    top_k: int = Field(1, ge=1, strict=True)
    """Classes to return for each input, best first; more than there are returns all."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""
    norm_stats: bool = Field(False, strict=True)
    """Whether to add, for every normalization layer, how far this input lies from the validation data."""
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""


class Candidate(Body):
    """One class and its probability."""

    label: str
    score: float


class LayerDeviation(Body):
    """What one input's tokens looked like where they entered a norm, averaged over its tokens."""

    name: str
    mean: float
    variance: float
    mean_z: float
    """Standard deviations of validation requests that the mean lies from their average."""
    variance_z: float
    """The same for the variance."""


class Prediction(Body):
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


class PredictResponse(Body):
    model: str
    version: str
    predictions: list[Prediction]


class EmbedRequest(Body):
    """What to embed."""

    inputs: Inputs
    model: str | None = None
    """Its name; the default model where it is missing."""
    version: str | None = None
    """The highest where it is missing."""
    normalize: bool = Field(True, strict=True)
    """Whether they have length 1, so that their dot products are cosines; else they are as the graph gives them."""
    timeout: float | None = Field(None, gt=0, le=3600, strict=True)
    """Seconds after which no answer is wanted any more; the service's own limit where it is missing."""


class Embedded(Body):
    """The answer for one input."""

    embedding: list[float]
    tokens: int
    """Tokens that were read."""
    truncated: bool
    """Whether the input was longer than the model reads."""


class EmbedResponse(Body):
    model: str
    version: str
    embeddings: list[Embedded]


class PlanInUse(Body):
    """Which of ONNX Runtime's graph optimizations the session goes without, and why."""

    name: PlanName
    """default: all are on; unfused: Add and LayerNormalization stay apart."""
    source: PlanSource
    """measured: by export, for this provider and release of ONNX Runtime; rule: by what is known of them."""
    measured: Plan | None
    """What export measured."""


class ModelResponse(Body):
    """One model that is served, and where it really runs."""

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
    precision: dict[str, Any]
    """`kind`: fp32, int8 or fp16; of the lower ones, what export measured against float32."""
    plan: PlanInUse


class Live(Body):
    status: Literal["live"] = "live"


class Ready(Body):
    """Where the default model runs, and where its statistics are kept; and which models there are."""

    status: Literal["ready"] = "ready"
    model: str
    version: str
    provider: str
    device: str
    requested_device: str
    fallback_reason: str
    workers: int
    """Processes that answer on this port; the statistics are of all of them."""
    statistics: Literal["memory", "disk", "disk_failing"]
    """disk_failing: they cannot be written, and stay in memory until they can."""
    models: dict[str, list[str]]
    """Every model that is loaded, with its versions, lowest first."""


class IndexRequest(Body):
    """What to list; as the repository extension of the Open Inference Protocol has it."""

    ready: bool = Field(False, strict=True)
    """Whether to list only what answers."""


class IndexEntry(Body):
    """A version of a model."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str
    """Why it is not served; or, beside READY, why what lies there now could not take its place."""


class LoadParameters(Body):
    version: str | Annotated[int, Field(strict=True)] | None = None
    """The version to load beside those that are served; the highest ones where it is missing."""


class LoadRequest(Body):
    """How to load a model."""

    parameters: LoadParameters = LoadParameters()


class UnloadParameters(Body):
    unload_dependents: bool = Field(False, strict=True)
    """No model here depends on another."""


class UnloadRequest(Body):
    """How to unload a model."""

    parameters: UnloadParameters = UnloadParameters()

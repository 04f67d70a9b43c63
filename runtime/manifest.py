"""The manifest: what an artifact says about itself, and how it is verified."""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 1
MODEL, DEEP, TOKENIZER, BASELINE, CANARY, MANIFEST = (
    "model.onnx",
    "deep.onnx",
    "tokenizer.json",
    "baseline.json",
    "canary.json",
    "manifest.json",
)

LayerKind = Literal["layer_norm", "rms_norm", "batch_norm", "none"]
PrecisionKind = Literal["fp32", "int8", "fp16"]
PlanName = Literal["default", "unfused"]

PlanSource = Literal["measured", "rule"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NormLayer(_Model):
    """One normalization layer of the graph, in network order."""

    name: str
    """Path of the module in the network, for example `blocks.0.attention.norm`."""
    kind: LayerKind
    placement: Literal["post", "pre"]
    """post: the norm follows the residual sum; pre: it precedes the sublayer."""
    d_model: int = Field(ge=1)
    """Features per token."""
    eps: float = Field(gt=0)
    """Added to the variance, under the root."""
    add: bool = False
    """Whether an Add belongs to it: the one before a post norm, the one after a pre norm's sublayer."""
    running_mean: list[float] | None = None
    """BatchNorm: the mean of every feature in training [d_model]."""
    running_variance: list[float] | None = None
    """BatchNorm: the unbiased variance of every feature in training [d_model]."""


class TextInputs(_Model):
    """The model reads text, by the tokenizer beside it."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(ge=1)
    """Longer texts are truncated."""


class FeatureInputs(_Model):
    """The model reads float sequences [tokens, num_features]."""

    kind: Literal["features"] = "features"
    max_tokens: int = Field(ge=1)
    """Longer sequences are truncated."""
    num_features: int = Field(ge=1)


class Precision(_Model):
    """What lower precision saves and costs: measured at export, on the CPU, against the same network in float32."""

    kind: Literal["int8", "fp16"]
    accuracy: dict[PrecisionKind, float] = {}
    """On the validation data, of both."""
    agreement: float | None = None
    """Share of the validation data that both give the same label."""
    mean_deviation: float | None = None
    """How far a layer's mean moved at most, over the validation data; in standard deviations of its tokens' means."""
    variance_deviation: float | None = None
    """How far a layer's variance moved at most, likewise; relative."""
    packed_against_alone: float | None = None
    """Largest difference of a logit between validation inputs packed with others and alone."""
    speed: dict[str, float] = {}
    """Rows per second over those of float32, by batch size."""
    size: dict[PrecisionKind, int] = {}
    """Bytes of the graph, of both."""


class Plan(_Model):
    """The graph plan that was the fastest where the artifact was exported."""

    name: PlanName
    onnxruntime: str
    """The release that it was measured with."""
    provider: str
    """The execution provider, likewise."""
    speed: dict[PlanName, dict[str, float]] = {}
    """Rows per second over those of the default plan, by plan and batch size."""


class Manifest(_Model):
    """Everything a reader needs to serve the graph and to explain its answers."""

    format: Literal[1] = 1
    name: str
    version: str
    created: str
    """UTC, ISO 8601."""
    task: Literal["classification"] = "classification"
    labels: list[str] = Field(min_length=2)
    inputs: Annotated[TextInputs | FeatureInputs, Field(discriminator="kind")]
    d_model: int = Field(ge=1)
    """Width of the pooled embedding."""
    layers: list[NormLayer]
    """Layer l has columns 2l (mean) and 2l + 1 (1/sigma) of the output `norm_statistics`."""
    opset: int
    producer: dict[str, str]
    """Versions of the libraries that wrote the graph."""
    training: dict[str, Any]
    """Data, recipe, parameters and accuracy, as training reported them."""
    precision: Precision | None = None
    """None: float32 throughout."""
    plan: Plan | None = None
    """None: none was measured."""
    files: dict[str, str]
    """SHA-256 of every other file of the artifact."""
    sizes: dict[str, int] | None = None
    """Their sizes in bytes; None in artifacts that were exported before sizes were noted."""
    digest: str = ""
    """SHA-256 of this manifest with an empty digest and without what is None, as canonical JSON."""

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def precision_kind(self) -> PrecisionKind:
        return self.precision.kind if self.precision else "fp32"

    def sealed(self) -> "Manifest":
        """This manifest with its digest filled in."""
        return self.model_copy(update={"digest": self.compute_digest()})

    def compute_digest(self) -> str:
        """Leaves out fields that say nothing, so that a field added later spoils no older artifact's digest."""
        dumped = self.model_copy(update={"digest": ""}).model_dump(mode="json")
        content = {name: value for name, value in dumped.items() if value is not None}
        return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions: numbers by their value, above all other names."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)

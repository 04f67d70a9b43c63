"""The manifest: what an artifact says about itself, and how it is verified."""

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtime.described import Described
from runtime.names import check_printable
from runtime.precision import Plan, Precision, PrecisionKind

FORMAT = 5
MODEL, DEEP, TOKENIZER, BASELINE, CANARY, CLUSTERS, MANIFEST = (
    "model.onnx",
    "deep.onnx",
    "tokenizer.json",
    "baseline.json",
    "canary.json",
    "clusters.npy",
    "manifest.json",
)
NO_DEEP = "no_deep_statistics"  # in `training` of an adopted file without a deep graph: why it has none

LayerKind = Literal["layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm", "none"]
Task = Literal["classification", "embedding", "rerank"]
Activation = Literal["softmax", "sigmoid", "identity"]
PoolingKind = Literal["mean", "cls", "last", "weighted", "max"]
Dtype = Literal["float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
Unit = Literal["token", "pixel", "sample", "group", "channel"]


class _Model(Described, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
    unit: Unit = "token"
    """What has a mean and a variance of its own."""
    units: int | None = None
    """Of a row of tensors; None where that depends on the row."""
    sampled: int | None = None
    """How many are looked at, evenly over the row, some twice where there are fewer; None: all."""
    standardized: bool = False
    """Whether both are of features standardized by running moments; of a folded norm, by those of some usual rows."""

    def seen(self, samples: int) -> int:
        """How many different units so many samples are of."""
        return samples * min(self.units, self.sampled) // self.sampled if self.sampled and self.units else samples


class TextInputs(_Model):
    """The model reads text, by the tokenizer beside it."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(ge=1)
    """Longer texts are truncated."""
    special_tokens: bool = False
    """Whether the tokenizer adds tokens of its own, such as [CLS] and [SEP]."""
    pairs: bool = False
    """Whether an input is a pair of texts."""
    type_ids: bool = False
    """Whether the graph takes a fifth input `type_ids`: 1 for the tokens of a pair's second text."""
    vocabulary: int | None = None
    """Token ids that the graph knows; None: those of the tokenizer."""
    pooling: PoolingKind = "mean"
    """How the vectors of a text's tokens become one; weighted: by their position, the first having weight 1."""
    strip: bool = False
    """Whether space around a text is left out, as sentence-transformers does."""
    prompts: dict[str, str] = {}
    """Texts that are put before an input, by their names."""
    default_prompt: str | None = None
    """Name of the one that is used where a request names none."""


class FeatureInputs(_Model):
    """The model reads float sequences [tokens, num_features]."""

    kind: Literal["features"] = "features"
    max_tokens: int = Field(ge=1)
    """Longer sequences are truncated."""
    num_features: int = Field(ge=1)


class TensorSpec(_Model):
    """A tensor that the graph takes or gives."""

    name: str
    dtype: Dtype
    shape: list[int | None]
    """Of one row; None is any size."""


class TensorInputs(_Model):
    """The model reads tensors: images, rows of a table, time series."""

    kind: Literal["tensors"] = "tensors"
    tensors: list[TensorSpec] = Field(min_length=1)
    outputs: list[TensorSpec] = []
    """What the graph gives under its own names, as it was before it was adopted."""
    together: bool = True
    """Whether rows run together; a graph whose axis of rows is fixed runs one at a time."""
    max_tokens: ClassVar[int] = 1  # a row counts as one token, whatever its size


class Unobserved(_Model):
    """A normalization layer whose statistics are not among the graph's outputs."""

    name: str
    reason: str


class Manifest(_Model):
    """Everything a reader needs to serve the graph and to explain its answers."""

    format: Literal[1, 2, 3, 4, 5] = 2
    """1 is read as if it had the defaults; 2: what adopted encoders need; 3: networks that read tensors; 4: their
    GroupNorms and InstanceNorms; 5: bf16, and more about every lower precision."""
    name: str
    version: str
    created: str
    """UTC, ISO 8601."""
    graph: Literal["packed", "padded"] = "packed"
    """Whether several texts share a row of a batch, or each is padded to the longest of its batch."""
    task: Task = "classification"
    """rerank: the graph's only logit says how well a pair's second text answers the first."""
    labels: list[str]
    """Classes, in the order of the logits; none but for classification."""
    activation: Activation = "softmax"
    """What makes scores of logits; sigmoid: a text may have several labels; identity: scores are logits."""
    normalize: bool = True
    """Whether embeddings have length 1 unless a request wants them as the graph gives them."""
    inputs: Annotated[TextInputs | FeatureInputs | TensorInputs, Field(discriminator="kind")]
    d_model: int = Field(ge=1)
    """Width of the pooled embedding."""
    clusters: int | None = None
    """Clusters of embeddings that drift is judged by; None where there are labels, or too few texts for clusters."""
    layers: list[NormLayer]
    """Layer l has columns 2l (mean) and 2l + 1 (1/sigma) of the output `norm_statistics`."""
    unobserved: list[Unobserved] = []
    opset: int
    producer: dict[str, str]
    """Versions of the libraries that wrote the graph."""
    training: dict[str, Any]
    """Data, recipe, parameters and accuracy, as training reported them; of an adopted encoder, where it came from."""
    precision: Precision | None = None
    """None: float32 throughout."""
    plan: Plan | None = None
    """None: none was measured."""
    files: dict[str, str]
    """SHA-256 of every other file of the artifact."""
    sizes: dict[str, int] | None = None
    """Their sizes in bytes; None in artifacts that were exported before sizes were noted."""
    digest: str = ""
    """SHA-256 of this manifest as it is written, with an empty digest and without what is None, as canonical JSON."""

    @field_validator("name", "version")
    @classmethod
    def _can_be_printed(cls, name: str) -> str:
        return check_printable(name)

    @model_validator(mode="after")
    def _labels_fit_the_task(self) -> "Manifest":
        if (self.task == "classification") != bool(self.labels):
            raise ValueError("a classifier has labels, nothing else has")
        if self.task == "classification" and self.activation == "softmax" and len(self.labels) < 2:
            raise ValueError("a classifier has two labels or more")
        if self.task != "rerank" and self.activation == "identity":
            raise ValueError("scores that are logits are a reranker's")
        return self

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def precision_kind(self) -> PrecisionKind:
        return self.precision.kind if self.precision else "fp32"

    @property
    def num_classes(self) -> int:
        """Classes that drift is judged by: labels, or clusters."""
        return len(self.labels) or self.clusters or 1

    def sealed(self) -> "Manifest":
        """This manifest with its digest filled in."""
        return self.model_copy(update={"digest": compute_digest(self.model_dump(mode="json"))})


def compute_digest(content: dict[str, Any]) -> str:
    """The digest of a manifest as it is written. Fields that it was written without do not change it."""
    said = {name: value for name, value in content.items() if value is not None} | {"digest": ""}
    return sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def version_order(version: str) -> tuple[int, int, str]:
    """Sorts versions: numbers by their value, above all other names."""
    return (1, int(version), "") if version.isdecimal() else (0, 0, version)

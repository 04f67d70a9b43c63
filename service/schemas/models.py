"""Bodies about models: what is served, whether it is ready, and the repository's."""

from typing import Annotated, Any, Literal

from pydantic import Field

from runtime.precision import Plan, PlanName, PlanSource, PrecisionKind
from service.schemas.base import Body
from service.schemas.norm_stats import FleetStatus

InputLogKind = Literal["none", "scores", "texts"]


class PlanInUse(Body):
    """ONNX Runtime's graph optimizations that are switched off, and why."""

    name: PlanName
    """default: all are on; unfused: Add and LayerNormalization stay apart."""
    source: PlanSource
    """measured: by export, for this provider and release of ONNX Runtime; rule: by what is known of them."""
    measured: Plan | None
    """What export measured."""


class Unobserved(Body):
    """A normalization layer without statistics."""

    name: str
    reason: str


class ModelResponse(Body):
    """One model that is served, and where it really runs."""

    model: str
    version: str
    task: str
    labels: list[str]
    """Classes; none of an embedding model or a reranker."""
    activation: str
    """softmax; sigmoid of a reranker, or where a text may have several labels; identity where scores are logits."""
    normalize: bool
    """Whether embeddings have length 1 unless a request wants them otherwise."""
    inputs: dict[str, Any]
    layers: list[str]
    unobserved: list[Unobserved]
    """Normalization layers that have no statistics, each with the reason."""
    provider: str
    """ONNX Runtime's execution provider in use; CPU where OpenVINO computes."""
    device: str
    requested_device: str
    fallback_reason: str
    """Why `auto` fell back to the CPU; empty where it did not."""
    engine: str
    """What computes, and its release: onnxruntime, or openvino for bf16."""
    precision_in_use: PrecisionKind
    """That it computes in: the artifact's, or fp32 where there is no bf16."""
    precision_fallback: str
    """Why an artifact in bf16 runs in fp32; empty where it does not."""
    training: dict[str, Any]
    precision: dict[str, Any]
    """`kind`: fp32, int8, fp16 or bf16; of the lower ones, what export measured against float32."""
    plan: PlanInUse
    input_log: InputLogKind
    """What the service writes down of inputs of /predict and /embed, and of no others: nothing; scores and how
    usual they are, without texts; or single texts, too, but no pairs."""


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
    engine: str
    precision_in_use: PrecisionKind
    precision_fallback: str
    """Why an artifact in bf16 runs in fp32; empty where it does not."""
    workers: int
    """Processes that answer on this port; the statistics are of all of them."""
    statistics: Literal["memory", "disk", "disk_failing"]
    """disk_failing: they cannot be written, and stay in memory until they can."""
    models: dict[str, list[str]]
    """Every model that is loaded, with its versions, lowest first."""
    fleet: FleetStatus | None = None
    """The other replicas that share statistics; only where some are named."""


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

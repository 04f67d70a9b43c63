# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from typing import Any, Literal

from addnorm_client.bodies import Body


class Plan(Body):
    """The graph plan that was the fastest where the artifact was exported."""

    name: Literal["default", "unfused"]
    onnxruntime: str
    """The release that it was measured with."""
    provider: str
    """The execution provider, likewise."""
    speed: dict[Literal["default", "unfused"], dict[str, float]] = {}
    """Rows per second over those of the default plan, by plan and batch size."""


class Unobserved(Body):
    """A normalization layer without statistics."""

    name: str
    reason: str


class FleetReplica(Body):
    """Another replica of this service."""

    age_seconds: float
    clock_offset_seconds: float | None = None
    """Seconds that its clock is ahead."""
    heard: str
    """When it was last heard of."""
    name: str
    """Host and port."""
    since: str
    """When it began to count; UTC, ISO 8601."""


class IndexEntry(Body):
    """A version of a model."""

    name: str
    reason: str
    """Why it is not served; or, beside READY, why what lies there now could not take its place."""
    state: Literal["READY", "UNAVAILABLE"]
    version: str


class PlanInUse(Body):
    """ONNX Runtime's graph optimizations that are switched off, and why."""

    measured: Plan | None = None
    """What export measured."""
    name: Literal["default", "unfused"]
    """default: all are on; unfused: Add and LayerNormalization stay apart."""
    source: Literal["measured", "rule"]
    """measured: by export, for this provider and release of ONNX Runtime; rule: by what is known of them."""


class FleetStatus(Body):
    """Whose statistics these are, where several replicas count."""

    oldest_push_seconds: float | None = None
    """Since when the most silent of the others was heard of; None where there is no other."""
    others: list[FleetReplica]
    replicas: int
    """Replicas that count, this one and silent ones included."""
    scope: Literal["fleet", "replica"]
    """fleet: of all replicas; replica: of the one that answers."""
    silent: int
    """Of these, those that were not heard of for five seconds; what they counted until then stays."""
    trouble: str
    """What keeps replicas from being heard, in a sentence each; empty where nothing does."""


class ModelResponse(Body):
    """One model that is served, and where it really runs."""

    activation: str
    """softmax; sigmoid of a reranker, or where a text may have several labels; identity where scores are logits."""
    device: str
    engine: str
    """What computes, and its release: onnxruntime, or openvino for bf16."""
    fallback_reason: str
    """Why `auto` fell back to the CPU; empty where it did not."""
    input_log: Literal["none", "scores", "texts"]
    """
    What the service writes down of inputs of /predict and /embed, and of no others: nothing; scores and how
    usual they are, without texts; or single texts, too, but no pairs.
    """
    inputs: dict[str, Any]
    labels: list[str]
    """Classes; none of an embedding model or a reranker."""
    layers: list[str]
    model: str
    normalize: bool
    """Whether embeddings have length 1 unless a request wants them otherwise."""
    plan: PlanInUse
    precision: dict[str, Any]
    """`kind`: fp32, int8, fp16 or bf16; of the lower ones, what export measured against float32."""
    precision_fallback: str
    """Why an artifact in bf16 runs in fp32; empty where it does not."""
    precision_in_use: Literal["fp32", "int8", "fp16", "bf16"]
    """That it computes in: the artifact's, or fp32 where there is no bf16."""
    provider: str
    """ONNX Runtime's execution provider in use; CPU where OpenVINO computes."""
    requested_device: str
    task: str
    training: dict[str, Any]
    unobserved: list[Unobserved]
    """Normalization layers that have no statistics, each with the reason."""
    version: str


class Ready(Body):
    """Where the default model runs, and where its statistics are kept; and which models there are."""

    device: str
    engine: str
    fallback_reason: str
    fleet: FleetStatus | None = None
    """The other replicas that share statistics; only where some are named."""
    model: str
    models: dict[str, list[str]]
    """Every model that is loaded, with its versions, lowest first."""
    precision_fallback: str
    """Why an artifact in bf16 runs in fp32; empty where it does not."""
    precision_in_use: Literal["fp32", "int8", "fp16", "bf16"]
    provider: str
    requested_device: str
    statistics: Literal["memory", "disk", "disk_failing"]
    """disk_failing: they cannot be written, and stay in memory until they can."""
    status: Literal["ready"] = "ready"
    version: str
    workers: int
    """Processes that answer on this port; the statistics are of all of them."""

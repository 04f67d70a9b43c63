"""The precision that a graph computes in, and its plan: what export measured of them, as the manifest tells it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from runtime.described import Described

PrecisionKind = Literal["fp32", "int8", "fp16", "bf16"]
LowPrecision = Literal["int8", "fp16", "bf16"]
PrecisionChoice = Literal["fp32", "int8", "fp16", "bf16", "auto"]
PlanName = Literal["default", "unfused"]
PlanSource = Literal["measured", "rule"]

TRIALS = "precisions"  # in a manifest's `training`: what was measured of those that `auto` tried


class _Model(Described, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StatisticsError(_Model):
    """The largest errors of a layer's statistics over single tokens."""

    mean: float
    """In standard deviations of the token's features."""
    inverse_deviation: float
    """Relative."""


class Precision(_Model):
    """What lower precision saves and costs: measured at export, on the CPU, against the same network in float32."""

    kind: LowPrecision
    accuracy: dict[PrecisionKind, float] = {}
    """On the validation data, or on an adopted classifier's labelled texts, of both."""
    agreement: float | None = None
    """Share of the validation data, or of an adopted classifier's texts, that both give the same label."""
    mean_cosine: float | None = None
    """Of an adopted encoder: cosine between both's vectors of a text, on average over the texts."""
    worst_cosine: float | None = None
    """The least of these cosines."""
    recall: float | None = None
    """Of an embedding model: share of a text's ten nearest among the texts that are the same by both's vectors."""
    mean_deviation: float | None = None
    """How far a layer's mean moved at most, over the same data; in standard deviations of its tokens' means."""
    variance_deviation: float | None = None
    """How far a layer's variance moved at most, likewise; relative."""
    packed_against_alone: float | None = None
    """Largest difference between inputs packed with others and alone: of a logit, else of a vector at length 1."""
    speed: dict[str, float] = {}
    """Rows per second over those of float32, by batch size."""
    size: dict[PrecisionKind, int] = {}
    """Bytes of the graph, of both."""
    statistics_errors: dict[str, StatisticsError] = {}
    """By layer, against the adopted network in float64 where it was adopted."""
    engine: str | None = None
    """What computes in bf16, and its release; None where ONNX Runtime computes."""
    capabilities: list[str] = []
    """Of the processor that it was measured on, as the engine names them."""


class Plan(_Model):
    """The graph plan that was the fastest where the artifact was exported."""

    name: PlanName
    onnxruntime: str
    """The release that it was measured with."""
    provider: str
    """The execution provider, likewise."""
    speed: dict[PlanName, dict[str, float]] = {}
    """Rows per second over those of the default plan, by plan and batch size."""

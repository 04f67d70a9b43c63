# Made from the OpenAPI document by clients/python/generate_models.py: change that, or the service.

from addnorm_client.bodies import Body

from .norm_stats import Overhead


class Quantiles(Body):
    """How long something took: the mean exact, quantiles within a bucket's width, a factor of 1.6."""

    count: int
    mean: float | None = None
    """None while nothing was counted."""
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class ServedModel(Body):
    """A model that answers, and what its statistics cost."""

    device: str
    fallback_reason: str
    """Why `auto` fell back to the CPU; empty where it did not."""
    model: str
    overhead_ratio: Overhead
    provider: str
    version: str


class Now(Body):
    """What is so at this moment, over all workers."""

    in_flight: int
    """Requests that are being answered, this one among them."""
    queue_requests: int
    """Requests with inputs that wait to run."""
    queue_tokens: int
    resident_bytes: int
    """Memory in use by the workers; pages that they share are counted for each."""


class Total(Body):
    """Everything since the service started."""

    batches: int
    """Runs of a graph."""
    latency_seconds: dict[str, Quantiles]
    """Of answered inference requests, by phase: parse, tokenize, queue, infer, serialize, and total."""
    mean_batch_rows: float | None = None
    padding_ratio: float | None = None
    """Tokens computed / tokens of inputs; 1 is no padding at all."""
    predictions: int
    """Inference requests that were answered, whichever way they came."""
    protocols: dict[str, int]
    """All requests that ended, by protocol: http, grpc."""
    refusals: dict[str, int]
    """
    Requests that were not answered, by reason: invalid, unauthorized, too_large, overloaded, deadline, unavailable,
    abandoned (the client left) and defect.
    """
    requests: dict[str, dict[str, int]]
    """
    All requests, by route and status; 499 where the client left before its answer. Routes have names in the place of
    what clients choose, and `other` is what is none.
    """
    rows: int
    """Inputs that ran, whatever asked for them."""
    seconds: float
    """Length of the stretch."""
    tokens: int
    """Their tokens."""


class Recent(Body):
    """A stretch of time that ends now, and its rates."""

    batches: int
    """Runs of a graph."""
    latency_seconds: dict[str, Quantiles]
    """Of answered inference requests, by phase: parse, tokenize, queue, infer, serialize, and total."""
    mean_batch_rows: float | None = None
    padding_ratio: float | None = None
    """Tokens computed / tokens of inputs; 1 is no padding at all."""
    predictions: int
    """Inference requests that were answered, whichever way they came."""
    predictions_per_second: float
    protocols: dict[str, int]
    """All requests that ended, by protocol: http, grpc."""
    refusals: dict[str, int]
    """
    Requests that were not answered, by reason: invalid, unauthorized, too_large, overloaded, deadline, unavailable,
    abandoned (the client left) and defect.
    """
    rows: int
    """Inputs that ran, whatever asked for them."""
    rows_per_second: float
    seconds: float
    """Length of the stretch."""
    tokens: int
    """Their tokens."""
    tokens_per_second: float


class TrafficResponse(Body):
    """What the service answers, and how fast."""

    last_10s: Recent
    last_60s: Recent
    models: list[ServedModel]
    now: Now
    since: str
    """When counting began; UTC, ISO 8601."""
    total: Total
    workers: int
    """Processes that answer. Those that have ended stay counted; what another one counts shows up within 0.25 s."""

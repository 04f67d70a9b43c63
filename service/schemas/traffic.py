"""The body of GET /traffic."""

from service.schemas.base import Body
from service.schemas.norm_stats import Overhead


class Quantiles(Body):
    """How long something took: the mean exact, quantiles within a bucket's width, a factor of 1.6."""

    count: int
    mean: float | None
    """None while nothing was counted."""
    p50: float | None
    p95: float | None
    p99: float | None


class Counts(Body):
    """What was counted in a stretch of time."""

    seconds: float
    """Length of the stretch."""
    protocols: dict[str, int]
    """All requests that ended, by protocol: http, grpc."""
    predictions: int
    """Inference requests that were answered, whichever way they came."""
    rows: int
    """Inputs that ran, whatever asked for them."""
    tokens: int
    """Their tokens."""
    batches: int
    """Runs of a graph."""
    mean_batch_rows: float | None
    padding_ratio: float | None
    """Tokens computed / tokens of inputs; 1 is no padding at all."""
    refusals: dict[str, int]
    """Requests that were not answered, by reason: invalid, unauthorized, too_large, overloaded, deadline, unavailable,
    abandoned (the client left) and defect."""
    latency_seconds: dict[str, Quantiles]
    """Of answered inference requests, by phase: parse, tokenize, queue, infer, serialize, and total."""


class Recent(Counts):
    """A stretch of time that ends now, and its rates."""

    predictions_per_second: float
    rows_per_second: float
    tokens_per_second: float


class Total(Counts):
    """Everything since the service started."""

    requests: dict[str, dict[str, int]]
    """All requests, by route and status; 499 where the client left before its answer. Routes have names in the place of
    what clients choose, and `other` is what is none."""


class Now(Body):
    """What is so at this moment, over all workers."""

    in_flight: int
    """Requests that are being answered, this one among them."""
    queue_requests: int
    """Requests with inputs that wait to run."""
    queue_tokens: int
    resident_bytes: int
    """Memory in use by the workers; pages that they share are counted for each."""


class ServedModel(Body):
    """A model that answers, and what its statistics cost."""

    model: str
    version: str
    provider: str
    device: str
    fallback_reason: str
    """Why `auto` fell back to the CPU; empty where it did not."""
    overhead_ratio: Overhead


class TrafficResponse(Body):
    """What the service answers, and how fast."""

    since: str
    """When counting began; UTC, ISO 8601."""
    workers: int
    """Processes that answer. Those that have ended stay counted; what another one counts shows up within 0.25 s."""
    models: list[ServedModel]
    now: Now
    last_10s: Recent
    last_60s: Recent
    total: Total

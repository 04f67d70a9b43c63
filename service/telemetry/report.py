"""What GET /traffic answers: counts in words, with means, quantiles and rates."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.schemas.base import iso
from service.schemas.traffic import Counts, Now, Quantiles, Recent, ServedModel, Total, TrafficResponse
from service.telemetry.aggregator import Report, Stretch
from service.telemetry.counters import BOUNDS, PHASES, PROTOCOLS, Tally, protocol_of

# seconds between which a bucket's values are taken to lie; the first and the last are as wide as their neighbours
EDGES = np.array([BOUNDS[0] / 1.6, *BOUNDS, BOUNDS[-1] * 1.6])


def traffic_response(report: Report, models: list[ServedModel]) -> TrafficResponse:
    return TrafficResponse(
        since=iso(report.since),
        workers=report.workers,
        models=models,
        now=Now(**report.now._asdict()),
        last_10s=recent(report.recent[10]),
        last_60s=recent(report.recent[60]),
        total=Total(requests=by_route(report.total), **counts(report.seconds, report.total)),
    )


def counts(seconds: float, tally: Tally) -> dict[str, Any]:
    """The fields of Counts."""
    batches = int(tally.batch_rows.sum())
    fields = {
        "seconds": seconds,
        "protocols": by_protocol(tally),
        "predictions": int(tally.latencies[-1].sum()),
        "rows": tally.rows,
        "tokens": tally.tokens,
        "batches": batches,
        "mean_batch_rows": tally.rows / batches if batches else None,
        "padding_ratio": padding_ratio(tally),
        "refusals": dict(tally.refusals),
        "latency_seconds": {
            phase: quantiles(histogram, float(total))
            for phase, histogram, total in zip(PHASES, tally.latencies, tally.seconds, strict=True)
        },
    }
    assert fields.keys() == Counts.model_fields.keys()
    return fields


def recent(stretch: Stretch) -> Recent:
    fields = counts(*stretch)
    seconds = max(stretch.seconds, 1e-3)
    rates = {f"{name}_per_second": fields[name] / seconds for name in ("predictions", "rows", "tokens")}
    return Recent(**fields, **rates)


def padding_ratio(tally: Tally) -> float | None:
    """Tokens computed / tokens of inputs; None where none ran."""
    return tally.computed_tokens / tally.tokens if tally.tokens else None


def by_route(tally: Tally) -> dict[str, dict[str, int]]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (route, status), count in sorted(tally.requests.items()):
        found[route][str(status)] = count
    return dict(found)


def by_protocol(tally: Tally) -> dict[str, int]:
    found = dict.fromkeys(PROTOCOLS, 0)
    for (route, _), count in tally.requests.items():
        found[protocol_of(route)] += count
    return found


def quantiles(histogram: NDArray[np.int64], total: float) -> Quantiles:
    """A histogram over the latency buckets [BOUNDS + 1] in a few numbers."""
    count = int(histogram.sum())
    if not count:
        return Quantiles(count=0, mean=None, p50=None, p95=None, p99=None)
    p50, p95, p99 = (quantile(histogram, q) for q in (0.5, 0.95, 0.99))
    return Quantiles(count=count, mean=total / count, p50=p50, p95=p95, p99=p99)


def quantile(histogram: NDArray[np.int64], q: float) -> float:
    """The value below which a share `q` lies, taking logarithms to lie evenly within their bucket."""
    below = np.concatenate([[0], np.cumsum(histogram)]) / histogram.sum()
    bucket = int(np.searchsorted(below[1:], q))
    share = (q - below[bucket]) / (below[bucket + 1] - below[bucket])
    return float(EDGES[bucket] * (EDGES[bucket + 1] / EDGES[bucket]) ** share)

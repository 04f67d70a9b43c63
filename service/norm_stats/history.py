"""How a window of traffic looked slice by slice: what a map of layers over time is drawn from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from runtime.drift.detector import MIN_REQUESTS, Judgement, Reference
from runtime.manifest import Manifest
from runtime.statistics.fleet import FleetRecorder
from runtime.statistics.recorder import NormRecorder
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from service.norm_stats.ends import score_names
from service.schemas.base import iso
from service.schemas.windows import HistoryResponse, Slice

DAY = 86_400
LENGTHS = (10, 30, 60, 120, 300, 600, 900, 1800)  # seconds of a slice; multiples of the buckets that hold such a span
MOST, LEAST = 60, 6  # slices; the least where traffic is rare


class Part(NamedTuple):
    """Traffic of one slice, which begins at `start` (Unix seconds)."""

    start: int
    traffic: Traffic


def history(
    manifest: Manifest, reference: Reference | None, recorder: NormRecorder | FleetRecorder, span: Span | None
) -> HistoryResponse:
    """The span's slices, oldest first, each judged by itself; none where there is no reference to judge by.

    Args:
        span: None for all traffic; no more than the last day is known slice by slice.
    """
    now = recorder.clock()
    query = span or Span(recorder.since, now)
    if query.end > now - DAY:  # what is older holds no slices, and is answered as it was asked
        query = Span(max(query.start, now - DAY), query.end)
    seconds, buckets = recorder.history(query) if reference else (LENGTHS[0], [])
    length, parts = slices(query, seconds, buckets)
    return HistoryResponse(
        model=manifest.name,
        version=manifest.version,
        slice_seconds=length,
        start=iso(query.start // length * length),
        end=iso(query.end),
        rows=score_names(manifest, reference) if reference else [],
        slices=[describe(part, reference) for part in parts],
    )


def slices(span: Span, seconds: int, buckets: Sequence[tuple[int, Traffic]]) -> tuple[int, list[Part]]:
    """Length of a slice, and the slices that hold traffic: as short as can be judged, but at most MOST of them.

    Args:
        seconds: length of a bucket.
        buckets: number and traffic of each, oldest first.
    """
    width = span.end - span.start
    fits = [length for length in LENGTHS if length % seconds == 0 and width / length <= MOST] or [LENGTHS[-1]]
    for length in fits:
        parts = gather(length // seconds, seconds, buckets)
        judged = sum(int(part.traffic.counts.sum()) >= MIN_REQUESTS for part in parts)
        if 2 * judged >= len(parts) or width / length < 2 * LEAST:
            break
    return length, parts


def gather(count: int, seconds: int, buckets: Sequence[tuple[int, Traffic]]) -> list[Part]:
    """Joins every `count` buckets into one."""
    together: dict[int, list[Traffic]] = {}
    for number, traffic in buckets:
        together.setdefault(number // count, []).append(traffic)
    return [Part(place * count * seconds, Traffic.merge_all(traffics)) for place, traffics in together.items()]


def describe(part: Part, reference: Reference | None) -> Slice:
    counted, start = int(part.traffic.counts.sum()), iso(part.start)
    if reference is None or counted < MIN_REQUESTS:
        return Slice(start=start, requests=counted, state="insufficient_data", departures=None)
    judgement = reference.judge(part.traffic)
    return Slice(start=start, requests=counted, state=judgement.state, departures=departures(judgement))


def departures(judgement: Judgement) -> list[float]:
    """Every score in units of its threshold, at most 1 where it is too small an effect to be drift."""
    ratios = judgement.scores / np.maximum(judgement.thresholds, 1e-12)
    return [round(float(ratio), 3) for ratio in np.where(judgement.fired, ratios, np.minimum(ratios, 1.0))]

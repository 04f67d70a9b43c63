"""GET /metrics: the aggregator's report and a snapshot of every model's statistics, as Prometheus reads them.

Names and units follow the Prometheus and OpenMetrics conventions; docs/deployment.md has the table. Per-layer gauges
always say of which model and version they are, so that dashboards stay as they are when a second model is served.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from runtime.graph.session import Placement
from service.batching.batcher import ROW_BOUNDS
from service.norm_stats.interface import Snapshot
from service.telemetry.aggregator import Report
from service.telemetry.counters import BOUNDS, PHASES, REASONS, protocol_of
from service.telemetry.report import padding_ratio

MODEL = ("model", "version")


@dataclass(frozen=True, slots=True)
class ObservedModel:
    """One model that answers, and a snapshot of its statistics."""

    name: str
    version: str
    placement: Placement
    snapshot: Snapshot

    @property
    def labels(self) -> list[str]:
        return [self.name, self.version]


def render(report: Report, models: Sequence[ObservedModel], accept: str) -> tuple[bytes, str]:
    """The metrics, and their content type: OpenMetrics where the header `accept` asks for it, else Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceMetrics(report, models))
    encode, content_type = encoder_for(accept)
    return encode(registry), content_type


def encoder_for(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """What writes metrics as `accept` asks for them, and their content type; Prometheus text where that is unclear."""
    try:
        return choose_encoder(accept.replace('"', ""))  # a version in quotes is the same
    except Exception:  # such as a version that is none
        return choose_encoder("")


class ServiceMetrics(Collector):
    """All metrics of a service, at one moment."""

    def __init__(self, report: Report, models: Sequence[ObservedModel]) -> None:
        self.report, self.models = report, models

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not look for names that are there twice."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._batches()
        yield from self._places()
        yield from self._statistics()
        yield from self._fleet()
        yield from self._layers()
        yield from self._processes()

    def _requests(self) -> Iterator[Metric]:
        total, now = self.report.total, self.report.now
        help_text = "Requests by route, status and protocol, which is http or grpc."
        requests = CounterMetricFamily("addnorm_requests", help_text, labels=["route", "status", "protocol"])
        for (route, status), count in sorted(total.requests.items()):
            requests.add_metric([route, str(status), protocol_of(route)], count)
        yield requests
        help_text = "Requests that were not answered, by reason."
        rejections = CounterMetricFamily("addnorm_rejections", help_text, labels=["reason"])
        for reason in sorted(set(REASONS.values())):
            rejections.add_metric([reason], total.refusals[reason])
        yield rejections
        help_text = "Time that answered inference requests took, by phase."
        durations = HistogramMetricFamily("addnorm_request_duration_seconds", help_text, labels=["phase"])
        for phase, counts, seconds in zip(PHASES, total.latencies.tolist(), total.seconds.tolist(), strict=True):
            durations.add_metric([phase], buckets(BOUNDS, counts), seconds)
        yield durations
        yield GaugeMetricFamily("addnorm_requests_in_flight", "Requests that are being answered.", now.in_flight)

    def _batches(self) -> Iterator[Metric]:
        total, now = self.report.total, self.report.now
        yield GaugeMetricFamily("addnorm_queue_requests", "Requests with inputs that wait to run.", now.queue_requests)
        yield GaugeMetricFamily("addnorm_queue_tokens", "Tokens that wait to run.", now.queue_tokens)
        yield CounterMetricFamily("addnorm_rows", "Inputs that ran.", total.rows)
        yield CounterMetricFamily("addnorm_tokens", "Tokens of the inputs that ran.", total.tokens)
        help_text = "Tokens that were computed, padding among them."
        yield CounterMetricFamily("addnorm_computed_tokens", help_text, total.computed_tokens)
        rows = HistogramMetricFamily("addnorm_batch_rows", "Inputs that ran together.", labels=[])
        rows.add_metric([], buckets(ROW_BOUNDS, total.batch_rows.tolist()), total.rows)
        yield rows
        help_text = "Tokens computed / tokens of inputs in the last minute; 1 is no padding, NaN no input."
        lately = padding_ratio(self.report.recent[60].tally)
        yield GaugeMetricFamily("addnorm_batch_padding_ratio", help_text, math.nan if lately is None else lately)

    def _places(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("addnorm_workers", "Processes that answer.", self.report.workers)
        model = InfoMetricFamily("addnorm_model", "A model that answers.", labels=MODEL)
        provider = InfoMetricFamily("addnorm_provider", "Where a model runs.", labels=MODEL)
        help_text = "1 where the device `auto` fell back to the CPU, else 0."
        fallback = GaugeMetricFamily("addnorm_provider_fallback", help_text, labels=MODEL)
        help_text = "1 where an artifact in bf16 runs in fp32, because there is no bf16, else 0."
        in_fp32 = GaugeMetricFamily("addnorm_precision_fallback", help_text, labels=MODEL)
        for each in self.models:
            placement = each.placement
            model.add_metric(each.labels, {"precision": each.placement.precision})
            provider.add_metric(
                each.labels,
                {
                    "provider": placement.provider,
                    "device": placement.device,
                    "requested": placement.requested,
                    "engine": placement.engine,
                },
            )
            fallback.add_metric(each.labels, float(bool(placement.reason)))
            in_fp32.add_metric(each.labels, float(bool(placement.precision_fallback)))
        yield from (model, provider, fallback, in_fp32)

    def _statistics(self) -> Iterator[Metric]:
        help_text = "1 where the last hour departs from the baseline, else 0; 0 too where there is little to judge by."
        drift = GaugeMetricFamily("addnorm_drift", help_text, labels=MODEL)
        help_text = "1 where the last hour's topics are mixed otherwise than the baseline's, else 0."
        mix = GaugeMetricFamily("addnorm_mix_shift", help_text, labels=MODEL)
        help_text = "1 where traffic is in drift now, surely enough to call somebody, else 0."
        alert = GaugeMetricFamily("addnorm_drift_alert", help_text, labels=MODEL)
        help_text = "About the share of the last hour's requests that are unlike the baseline."
        unlike = GaugeMetricFamily("addnorm_unlike_requests_ratio", help_text, labels=MODEL)
        help_text = "Share of right answers in the last hour, as estimated by how sure the model is."
        accuracy = GaugeMetricFamily("addnorm_estimated_accuracy_ratio", help_text, labels=MODEL)
        requests = GaugeMetricFamily("addnorm_drift_window_requests", "Inputs of the last hour.", labels=MODEL)
        help_text = "Share of time that the statistics cost: always_on of serving, deep of all workers' time."
        overhead = GaugeMetricFamily("addnorm_statistics_overhead_ratio", help_text, labels=[*MODEL, "part"])
        help_text = "1 where statistics cannot be written to disk and stay in memory until they can, else 0."
        failing = GaugeMetricFamily("addnorm_statistics_disk_failing", help_text, labels=MODEL)
        for each in self.models:
            seen, status = each.snapshot, each.snapshot.status
            drift.add_metric(each.labels, float(seen.state == "drift"))
            mix.add_metric(each.labels, float(seen.state == "mix_shift"))
            alert.add_metric(each.labels, float(seen.alert))
            for gauge, value in ((unlike, seen.unlike), (accuracy, seen.accuracy)):
                if value is not None:
                    gauge.add_metric(each.labels, value)
            requests.add_metric(each.labels, seen.requests)
            failing.add_metric(each.labels, float(status.storage == "disk_failing"))
            overhead.add_metric([*each.labels, "always_on"], status.overhead.always_on)
            overhead.add_metric([*each.labels, "deep"], status.overhead.deep)
        yield from (drift, mix, alert, unlike, accuracy, requests, failing, overhead)

    def _fleet(self) -> Iterator[Metric]:
        """Only of a service that knows other replicas."""
        help_text = "Replicas that share their statistics, this one and silent ones included."
        replicas = GaugeMetricFamily("addnorm_fleet_replicas", help_text, labels=MODEL)
        help_text = "Replicas that were not heard of for five seconds."
        silent = GaugeMetricFamily("addnorm_fleet_silent_replicas", help_text, labels=MODEL)
        help_text = "Since when the most silent of the others was heard of."
        oldest = GaugeMetricFamily("addnorm_fleet_oldest_push_seconds", help_text, labels=MODEL)
        help_text = "1 where something keeps other replicas from being heard, else 0."
        trouble = GaugeMetricFamily("addnorm_fleet_trouble", help_text, labels=MODEL)
        for each in self.models:
            if (fleet := each.snapshot.status.fleet) is not None:
                replicas.add_metric(each.labels, fleet.replicas)
                silent.add_metric(each.labels, fleet.silent)
                oldest.add_metric(each.labels, fleet.oldest_push_seconds or 0.0)
                trouble.add_metric(each.labels, float(bool(fleet.trouble)))
        yield from (family for family in (replicas, silent, oldest, trouble) if family.samples)

    def _layers(self) -> Iterator[Metric]:
        told = {
            "mean": "Average over the last hour's tokens of their mean where they enter a norm.",
            "variance": "Average over the last hour's tokens of their variance where they enter a norm.",
            "score": "How far the last hour lies from the baseline, given its size and topics.",
            "threshold": "The drift score above which a layer departs from the baseline.",
        }
        for what, help_text in told.items():
            name = f"addnorm_layer_{what}" if what in ("mean", "variance") else f"addnorm_layer_drift_{what}"
            gauge = GaugeMetricFamily(name, help_text, labels=[*MODEL, "layer"])
            for each in self.models:
                for layer in each.snapshot.layers:
                    if (value := getattr(layer, what)) is not None:
                        gauge.add_metric([*each.labels, layer.name], value)
            yield gauge

    def _processes(self) -> Iterator[Metric]:
        help_text = "CPU time of all workers, those that have ended too."
        yield CounterMetricFamily("process_cpu_seconds", help_text, self.report.total.cpu_seconds)
        help_text = "Memory in use by the workers; pages that they share are counted for each."
        yield GaugeMetricFamily("process_resident_memory_bytes", help_text, self.report.now.resident_bytes)
        help_text = "When the service started, in Unix seconds."
        yield GaugeMetricFamily("process_start_time_seconds", help_text, self.report.since)


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """A histogram's buckets as Prometheus has them: each with all that is below its bound."""
    names = [*map(repr, map(float, bounds)), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))

"""Traces: a span for every request, and for every phase of a prediction, to an OpenTelemetry collector.

Spans are made once a request is over, from the times that were taken anyway: where tracing is off it costs nothing,
and the SDK is not even imported.
"""

import logging
import os
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runtime.errors import SettingError
from service.settings import Settings
from service.telemetry.counters import Headers, Phases
from service.telemetry.logging import REQUEST_ID

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("addnorm.service")

VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACES = "/v1/traces"
CLOSING = 2.0  # seconds that the last export may take
NEEDS = "needs the otel extra: install opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http, or leave it out"


def make_tracing(settings: Settings) -> "Tracing | None":
    """Tracing as the settings or the standard OTEL_* variables ask for it; None if they do not.

    Such variables may be set for everything on a platform: where they cannot be used, that is said and all goes on.

    Raises:
        SettingError: `otel_endpoint` is set, and it or an OTEL_* variable cannot be used, or the extra is missing.
    """
    given = {"otel_endpoint": settings.otel_endpoint} | {name: os.environ.get(name) for name in VARIABLES}
    name, url = next(((name, url) for name, url in given.items() if url), ("", ""))
    if not url or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        return open_tracing(settings.otel_endpoint, name, url)
    except SettingError as error:
        if settings.otel_endpoint is not None:
            raise
        logger.warning("no traces: %s", error)
        return None


def open_tracing(endpoint: str | None, name: str, url: str) -> "Tracing":
    """Tracing to `endpoint`, or where the variables say.

    Args:
        name: the setting or the variable that has the URL.

    Raises:
        SettingError: something of it cannot be used.
    """
    if not is_installed():
        raise SettingError(f"{name} {NEEDS}.")
    check_endpoint(name, url)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if endpoint is not None and not endpoint.endswith(TRACES):
        endpoint = endpoint.rstrip("/") + TRACES
    try:
        return Tracing(make_provider(OTLPSpanExporter(endpoint)))
    except (ValueError, RuntimeError) as error:
        said = str(error).rstrip(".")
        raise SettingError(f"An OTEL_* variable cannot be used ({said}): mend or unset it.") from error


def check_endpoint(name: str, url: str) -> None:
    """Raises SettingError where a collector cannot be asked at `url`, without telling it: it may have a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise SettingError(f"{name} is no URL of a collector: expected http://HOST:PORT or https://HOST:PORT.")


def is_installed() -> bool:
    try:
        return find_spec("opentelemetry.sdk") is not None and find_spec("opentelemetry.exporter.otlp") is not None
    except ModuleNotFoundError:
        return False


def make_provider(exporter: "SpanExporter", *, at_once: bool = False) -> "TracerProvider":
    """Makes spans; a separate thread exports them.

    Args:
        at_once: export each as it ends, for tests.
    """
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

    named: dict[str, Any] = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "addnorm"}
    provider = TracerProvider(resource=Resource.create(named | {"process.pid": os.getpid()}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
    return provider


class Tracing:
    """Makes spans of requests that are over."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.provider, self.tracer = provider, provider.get_tracer("addnorm")
        self._server, self._error, self._inside = SpanKind.SERVER, StatusCode.ERROR, set_span_in_context
        self._propagator = TraceContextTextMapPropagator()

    def record(
        self, method: str, headers: Headers, route: str, status: int, seconds: float, phases: Phases | None
    ) -> None:
        """The span of a request that took `seconds` and ends now, in its client's trace, and those of its phases."""
        end, offset = time.time_ns(), time.time() - time.perf_counter()
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "addnorm.request_id": REQUEST_ID.get().decode(),
        }
        span = self.tracer.start_span(
            f"{method} {route}",
            self._propagator.extract(carrier(headers)),
            self._server,
            attributes,
            start_time=end - int(1e9 * seconds),
        )
        if status >= 500:
            span.set_status(self._error)
        if phases is not None and span.is_recording():
            self._record_phases(self._inside(span), phases, phases.started + offset)
        span.end(end)

    def _record_phases(self, within: "Context", phases: Phases, started: float) -> None:
        """One after the other from Unix time `started` on; what the statistics took is the last part of `infer`."""
        _, parse, tokenize, queue, infer, serialize, _, stats = phases
        at = started
        for name, seconds in (
            ("parse", parse),
            ("tokenize", tokenize),
            ("queue", queue),
            ("infer", infer),
            ("serialize", serialize),
        ):
            span = self.tracer.start_span(name, within, start_time=int(1e9 * at))
            at += seconds
            if name == "infer":
                inner = self.tracer.start_span("stats", self._inside(span), start_time=int(1e9 * (at - stats)))
                inner.end(int(1e9 * at))
            span.end(int(1e9 * at))

    def close(self) -> None:
        """Exports what is left; a collector that does not answer cannot keep the process from its end."""
        last = threading.Thread(target=self.provider.shutdown, name="addnorm-traces", daemon=True)
        last.start()
        last.join(CLOSING)


def carrier(headers: Headers) -> dict[str, str]:
    """Those that say to which trace a request belongs."""
    wanted = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in wanted}

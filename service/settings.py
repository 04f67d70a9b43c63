"""Settings of the service: `ADDNORM_*` variables and the same-named options of `addnorm serve`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from runtime.options import Device, option_config

PACKAGED = Path(__file__).parent / "models"  # in a wheel (setup.py); in a clone and in an image it lies beside service/
EMBEDDED = (PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[1] / "models") / "intents" / "1"


class Settings(BaseSettings):
    """Every setting has a default that works; an option wins over a variable."""

    model_config = option_config("addnorm serve")

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one."""
    model: Path = EMBEDDED
    """Directory of the artifact to serve."""
    models: Path | None = None
    """Directory of a model repository, NAME/VERSION/ below it; all its models are served, in the place of `model`."""
    default_model: str | None = None
    """Model of the repository that answers requests that name none; else the first by name."""
    keep_versions: int = Field(2, ge=0)
    """How many of a model's highest versions are served, of a repository; 0 serves all."""
    watch: float | None = Field(None, gt=0, le=3600)
    """Seconds between two looks at the repository, to load what was put there; none loads when asked to."""
    device: Device = "auto"
    """auto, cpu, cuda or tensorrt; auto takes a GPU that works, else the CPU, and says so."""
    workers: int = Field(0, ge=0)
    """Processes that answer; 0 is one per CPU that the service may use, at most 8, and one where a GPU may be had."""
    threads: int = Field(0, ge=0)
    """Threads of one run of the graph on the CPU; 0 shares out the CPUs among the workers, at least 1 each."""
    max_rows: int = Field(128, ge=1)
    """Most inputs in one request."""
    max_body_bytes: int = Field(1 << 20, ge=1)
    """Largest request body, in bytes."""
    max_batch_tokens: int | None = Field(None, ge=1)
    """Most tokens that run together; None is 1024 on a GPU and 512 on a CPU: more run no faster there, take more memory
    and keep others waiting."""
    max_queue_tokens: int = Field(16384, ge=1)
    """Most tokens that may wait to run; what comes beyond is refused until they are fewer."""
    timeout: float | None = Field(None, gt=0, le=3600)
    """Seconds after which a request is given up, where it does not say itself; none waits as long as it takes."""
    max_in_flight: int | None = Field(None, ge=1)
    """Most requests that a worker answers at a time; predictions beyond are refused with 429. None takes all."""
    drain_delay: float = Field(0.0, ge=0, le=3600)
    """Seconds for which a service that is told to stop says that it is not ready, and still answers; then it stops."""
    state: Path | None = None
    """Directory where statistics are kept over restarts; none keeps them in memory only."""
    deep_budget: float = Field(0.02, ge=0, le=1)
    """Share of a worker's time that may go into looking deeply at a sample of the traffic; 0 looks at none."""
    api_keys: str = ""
    """Keys, separated by commas, one of which changes of state then need; none lets everybody."""
    api_keys_file: Path | None = None
    """A file with further such keys, one a line."""
    api_key_for: str = Field("", pattern="^(|(inference|reads|metrics|health)(,(inference|reads|metrics|health))*)$")
    """What else needs a key: any of inference, reads, metrics, health, separated by commas."""
    tls_cert: Path | None = None
    """A PEM file with the certificate (and those between it and its authority) for HTTPS; none serves HTTP."""
    tls_key: Path | None = None
    """A PEM file with the certificate's private key, without a password."""
    cors_origins: str = ""
    """Origins, separated by commas, whose pages may ask from a browser; * is all."""
    log_level: str = Field("info", pattern="^(critical|error|warning|info|debug)$")
    """critical, error, warning, info or debug."""
    log_format: Literal["text", "json"] = "text"
    """text or json: one line, or one object a line, for every message."""
    access_log: bool = False
    """Whether every request is logged, with its route, status and time; never what it says."""
    slow_request: float | None = Field(None, gt=0)
    """Seconds from which on a request is logged as slow; none logs none."""
    otel_endpoint: str | None = Field(None, pattern="^https?://")
    """URL of an OpenTelemetry collector that takes traces over HTTP; none leaves it to the OTEL_* variables."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.models is not None and "model" in self.model_fields_set:
            raise ValueError("Model names one artifact and models a directory of many: leave one of them out")
        return self

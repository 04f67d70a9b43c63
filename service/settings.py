"""Settings of the service: `ADDNORM_*` variables and the same-named options of `addnorm serve`."""

import logging
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from runtime.names import check_printable
from runtime.options import LATE, Device, Options, option_config
from runtime.words import quoted

PACKAGED = Path(__file__).parent / "models"  # in a wheel (setup.py); in a clone and in an image it lies beside service/
MODELS = PACKAGED if PACKAGED.is_dir() else Path(__file__).parents[1] / "models"
EMBEDDED = MODELS / "intents" / "1"
TWIN = MODELS / "intents-batchnorm" / "1"  # the same network with BatchNorm, so that their statistics can be compared

HOST = re.compile(r"(\*|(?:\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
ORIGIN = re.compile(r"\*|null|([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?", re.ASCII | re.I)
USUAL_PORTS = {"http": ":80", "https": ":443"}  # browsers leave them out
# Options of other commands, which may be variables, too. `api_key` of `addnorm stats` is left out: whoever sets it for
# the service means that requests need a key, and they do not.
OPTIONS = """
    activation attention_dropout average_decay baseline batch_size clean clip_norm crossover d_ff d_model data
    dataset document dropout epochs eps folded format frozen_layers full head_only head_rate id inputs label
    label_smoothing labels layer_decay learning_rate least_steps linear_teacher max_tokens merge_dropout min_cosine
    mixing norm normalize num_heads num_layers of one only out output overwrite placement pooling precision
    pretrained processes quick ray record_norms residual results run seed skip_bad source teacher_weight teachers
    temperature text text_pair tokenizer top_k variants version vocab_size warmup weight_decay word_dropout
    word_replacement
"""
OF_OTHERS = frozenset(OPTIONS.split())
# What Kubernetes sets in pods for a Service whose name begins with addnorm: ADDNORM_PEERS_SERVICE_HOST, for one.
SERVICE_LINK = re.compile(r"(\w+_)?service_(host|port(_\w+)?)|(\w+_)?port_\d+_(tcp|udp|sctp)(_\w+)?")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

logger = logging.getLogger("addnorm.service")


class Settings(Options):
    """Every setting has a default that works; an option wins over a variable."""

    model_config = option_config("addnorm serve") | LATE

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one."""
    grpc_port: int | None = Field(None, ge=1, le=65535)
    """TCP port for the Open Inference Protocol over gRPC, with the grpc extra; None offers none."""
    model: Path = EMBEDDED
    """Directory of the artifact to serve, or of NAME/VERSION/ with a single one; without one, the embedded model and
    its twin with BatchNorm are served."""
    name: str | None = None
    """Name that the served artifact answers by, instead of its manifest's; with `model` only."""
    models: Path | None = None
    """Directory of a model repository, NAME/VERSION/ below it; all its models are served, instead of `model`."""
    default_model: str | None = None
    """Model of the repository that answers requests without a model name; None takes the first by name."""
    keep_versions: int = Field(2, ge=0)
    """How many versions of each model of the repository are served, the highest first; 0 serves all."""
    model_control: Literal["none", "explicit"] = "none"
    """none or explicit: whether models may be loaded and unloaded over HTTP; explicit may start without a model."""
    watch: float | None = Field(None, gt=0, le=3600)
    """Seconds between two checks of the repository for new versions, and it may be empty at the start; None loads them
    on request only."""
    device: Device = "auto"
    """auto, cpu, cuda or tensorrt; auto takes a GPU that works, else the CPU, and says which."""
    allow_fp32: bool = False
    """Serve an artifact in bf16 in fp32 where the processor has no bf16, or the openvino extra is missing; else it is
    refused there."""
    workers: int = Field(0, ge=0, le=1024)
    """Worker processes; 0 is one per CPU that the service may use, at most 8, but one if a GPU may be used."""
    threads: int = Field(0, ge=0, le=1024)
    """Threads of one graph run on the CPU; 0 divides the CPUs among the workers, at least 1 each."""
    max_rows: int = Field(128, ge=1)
    """Maximum number of inputs in one request."""
    max_body_bytes: int = Field(1 << 20, ge=1)
    """Maximum size of a request body, in bytes."""
    max_batch_tokens: int | None = Field(None, ge=1)
    """Maximum number of tokens in a batch; None is 1024 on a GPU, and on a CPU what runs in 0.2 s, 32 to 512: more
    run no faster, take more memory and make others wait. A row of tensors counts as one token."""
    max_queue_tokens: int = Field(16384, ge=1)
    """Maximum number of tokens in the queue; further requests are refused with 429."""
    head_timeout: float = Field(10.0, gt=0, le=3600)
    """Seconds that a client has to begin its first request, and for the headers of each request."""
    body_timeout: float = Field(30.0, gt=0, le=3600)
    """Seconds that a client has for the body of a request."""
    connection_age: float | None = Field(None, gt=0, le=86400)
    """Seconds after which a connection is closed with its next answer, up to a tenth sooner or later, so that clients
    connect anew and other replicas get their share; None sets no limit over HTTP, and 300 over gRPC."""
    connection_requests: int | None = Field(None, ge=1)
    """Requests after which a connection over HTTP is closed, for the same reason; None sets no limit."""
    timeout: float | None = Field(None, gt=0, le=3600)
    """Seconds after which a request fails with 504, unless it names its own timeout; None sets no limit."""
    max_in_flight: int | None = Field(None, ge=1)
    """Maximum number of requests that a worker answers at a time; further predictions get 429. None sets no limit."""
    drain_delay: float = Field(0.0, ge=0, le=3600)
    """Seconds between the signal to stop and the stop; meanwhile the service is not ready, but still answers."""
    state: Path | None = None
    """Directory that keeps statistics over restarts; None keeps them in memory only."""
    peers: str = ""
    """Other replicas, separated by commas, whose statistics are added to this one's: http://HOST:PORT, or dns:NAME:PORT
    for all addresses of a name. They ask one another."""
    store: str | None = None
    """URL of a Redis or Valkey in which replicas share their statistics, redis://HOST:PORT, instead of `peers`."""
    deep_budget: float = Field(0.02, ge=0, le=1)
    """Share of a worker's time for deep statistics of a sample of the traffic; 0 turns them off."""
    api_keys: str = ""
    """API keys, separated by commas; if any is set, requests that change the state need one."""
    api_keys_file: Path | None = None
    """A file with more such keys, one per line."""
    inference_keys: str = ""
    """API keys, separated by commas, that may do everything but change the state."""
    inference_keys_file: Path | None = None
    """A file with more such keys, one per line."""
    api_key_for: str = Field("", pattern="^(|(inference|reads|metrics|health)(,(inference|reads|metrics|health))*)$")
    """What else needs an API key: any of inference, reads, metrics, health, separated by commas."""
    tls_cert: Path | None = None
    """A PEM file with the certificate for HTTPS and its intermediate certificates; None serves HTTP."""
    tls_key: Path | None = None
    """A PEM file with the certificate's private key, without a password."""
    tls_client_ca: Path | None = None
    """A PEM file with certificates: every client must show one that one of these has signed (mutual TLS)."""
    allowed_hosts: str = ""
    """Host names, separated by commas, that requests may be sent to; *.example.com has all below it, * is all. Where
    none is named: those of this machine if `host` is one of them, else all."""
    cors_origins: str = ""
    """Origins, separated by commas, whose pages may send requests from a browser; * is all, and null files and
    sandboxed frames, which any page can make."""
    log_level: str = Field("info", pattern="^(critical|error|warning|info|debug)$")
    """critical, error, warning, info or debug."""
    log_format: Literal["text", "json"] = "text"
    """text or json: one line per message, or one JSON object per line."""
    access_log: bool = False
    """Whether every request is logged, with its route, status and time, but never its content."""
    slow_request: float | None = Field(None, gt=0)
    """Seconds from which a request is logged as slow; None logs none."""
    input_log: Path | None = None
    """Directory for a log of inputs and answers, JSON lines that `addnorm score` reads; None keeps none."""
    input_log_share: float = Field(1.0, gt=0, le=1)
    """Share of the requests that are in it."""
    input_log_bytes: int = Field(64 << 20, ge=1 << 16)
    """Largest size of a process's files in it, in bytes; the oldest go first."""
    input_log_texts: bool = False
    """Whether texts are in it: their first 4,096 characters, without what `input_log_redact` matches."""
    input_log_redact: str = r"(?<!\S)\S+@\S+|\d(?:[\d-]| (?!\S+@\S)){3,}\d"  # takes time in proportion to the text
    """Regular expression of what is left out of texts: e-mail addresses and long numbers, by default."""
    otel_endpoint: str | None = Field(None, pattern="^https?://")
    """URL of an OpenTelemetry collector that takes traces over HTTP; None leaves it to the OTEL_* variables."""

    @property
    def artifacts(self) -> list[Path]:
        """What is served where no repository is."""
        return [self.model] if "model" in self.model_fields_set else [self.model, TWIN]

    @field_validator("input_log_redact")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"it is no regular expression ({error})") from error
        return pattern

    @field_validator("state", "input_log")
    @classmethod
    def _names_a_directory(cls, path: Path | None) -> Path | None:
        if path is not None and not str(path).strip():
            raise ValueError("it is blank: name a directory, or leave it out")
        return path

    @field_validator("name")
    @classmethod
    def _can_be_printed(cls, name: str | None) -> str | None:
        return name if name is None else check_printable(name)

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, listed: str) -> str:
        return ",".join(as_host(each.lower()) for each in split_list(listed))

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, listed: str) -> str:
        return ",".join(map(as_origin, split_list(listed)))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.models is not None and "model" in self.model_fields_set:
            raise ValueError("Model names one artifact and models a directory of many: leave one of them out")
        if self.models is not None and self.name is not None:
            raise ValueError("Name is for the one artifact of model, and models has many: leave one of them out")
        if self.peers and self.store:
            raise ValueError("Peers and store are two ways to share statistics: leave one of them out")
        if self.grpc_port == self.port:
            raise ValueError(f"Port and grpc_port are both {self.port}: give gRPC a port of its own")
        return self


def unknown_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """Those that begin as a setting and are none, each with the name that is probably meant."""
    for variable, value in sorted(variables.items()):
        name = variable.lower().removeprefix("addnorm_")
        if name == variable.lower() or not value or name in Settings.model_fields or name in OF_OTHERS:
            continue
        if SERVICE_LINK.fullmatch(name) or SERVICE_ADDRESS.match(value):
            continue
        from difflib import get_close_matches  # not at every start

        near = get_close_matches(name, Settings.model_fields, n=1)
        yield f"{variable} (is ADDNORM_{near[0].upper()} meant?)" if near else variable


def warn_of_unknown(variables: Mapping[str, str]) -> None:
    """Says which variables are ignored, so that a misspelt one does not pass for one that works."""
    if unknown := ", ".join(unknown_variables(variables)):
        logger.warning("Variables that are no settings of the service, and are ignored: %s", unknown)


def split_list(listed: str) -> list[str]:
    """What is listed between commas."""
    return [each.strip() for each in listed.split(",") if each.strip()]


def as_host(given: str) -> str:
    """A host as requests name it: without a port, an IPv6 address in brackets."""
    try:
        IPv6Address(given)
    except ValueError:
        host = given
    else:
        host = f"[{given}]"
    if found := HOST.fullmatch(host):
        return found[1]
    raise ValueError(f"{quoted(given)} is no host name: expected NAME, *.NAME, [IPV6] or *, without scheme or /")


def as_origin(given: str) -> str:
    """An origin as browsers write it; what follows the scheme of an extension may have capitals."""
    found = ORIGIN.fullmatch(given)
    if not found:
        raise ValueError(f"{quoted(given)} is no origin: expected SCHEME://HOST, SCHEME://HOST:PORT, null or *")
    scheme = (found[1] or "").lower()
    if scheme in USUAL_PORTS or not scheme:
        return given.lower().removesuffix("/").removesuffix(USUAL_PORTS.get(scheme, ""))
    return scheme + given[len(scheme) :].removesuffix("/")

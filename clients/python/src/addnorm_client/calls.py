"""What can be asked, as data: the same for both clients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote

from addnorm_client import bodies
from addnorm_client.models import (
    EmbedResponse,
    IndexEntry,
    LayerResponse,
    ModelResponse,
    NormStatsResponse,
    PredictResponse,
    Ready,
    RerankResponse,
    SimilarityResponse,
    TokenizeResponse,
    TrafficResponse,
)

LOADING = 300.0  # seconds in which a model is verified and answers

Answer = TypeVar("Answer")
Inputs: TypeAlias = str | Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[Sequence[float]]]
"""A text, several of them, pairs of texts, or float sequences [tokens][features]."""
Time: TypeAlias = datetime | float | str
"""A moment, Unix seconds or ISO 8601."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request.

    Attributes:
        read: makes the answer of a body.
        timeout: seconds after which no answer is wanted; the service is told.
        patience: seconds to wait for the answer, where they are not the client's own.
        repeatable: whether asking twice is as good as once, where the connection broke meanwhile.
        patient: whether it is asked again where the service refuses or is not there.
    """

    method: str
    path: str
    read: Callable[[bytes], Answer]
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    timeout: float | None = None
    patience: float | None = None
    repeatable: bool = True
    patient: bool = True


def predict(
    inputs: Inputs, top_k: int, norm_stats: bool, timeout: float | None, model: str | None, version: str | None
) -> Call[PredictResponse]:
    body = {"inputs": inputs, "top_k": top_k, "norm_stats": norm_stats} | given(model=model, version=version)
    return Call("POST", "/predict", bodies.one(PredictResponse), body=body, timeout=timeout)


def embed(inputs: Inputs, timeout: float | None, **options: Any) -> Call[EmbedResponse]:
    body = {"inputs": inputs} | given(**options)
    return Call("POST", "/embed", bodies.one(EmbedResponse), body=body, timeout=timeout)


def rerank(query: str, documents: Sequence[str], timeout: float | None, **options: Any) -> Call[RerankResponse]:
    body = {"query": query, "documents": documents} | given(**options)
    return Call("POST", "/rerank", bodies.one(RerankResponse), body=body, timeout=timeout)


def similarity(
    source: str, sentences: Sequence[str], timeout: float | None, **options: Any
) -> Call[SimilarityResponse]:
    body = {"source_sentence": source, "sentences": sentences} | given(**options)
    return Call("POST", "/similarity", bodies.one(SimilarityResponse), body=body, timeout=timeout)


def tokenize(inputs: Inputs, **options: Any) -> Call[TokenizeResponse]:
    return Call("POST", "/tokenize", bodies.one(TokenizeResponse), body={"inputs": inputs} | given(**options))


def norm_stats(query: dict[str, str]) -> Call[NormStatsResponse]:
    return Call("GET", "/norm-stats", bodies.one(NormStatsResponse), query)


def layer(name: str, query: dict[str, str]) -> Call[LayerResponse]:
    return Call("GET", f"/norm-stats/{quote(name, safe='')}", bodies.one(LayerResponse), query)


def state(query: dict[str, str]) -> Call[bytes]:
    return Call("GET", "/norm-stats/state", bodies.unread, query)


def model(name: str | None, version: str | None) -> Call[ModelResponse]:
    return Call("GET", "/model", bodies.one(ModelResponse), given(name=name, version=version))


def ready() -> Call[Ready]:
    """Asked once: whether it is ready now is what is to be known."""
    return Call("GET", "/health/ready", bodies.one(Ready), patient=False)


def traffic() -> Call[TrafficResponse]:
    return Call("GET", "/traffic", bodies.one(TrafficResponse))


def index(ready: bool) -> Call[list[IndexEntry]]:
    return Call("POST", "/v2/repository/index", bodies.several(IndexEntry), body={"ready": ready})


def load(name: str, version: str | None, patience: float) -> Call[None]:
    body = {"parameters": given(version=version)}
    return Call("POST", repository(name, "load"), bodies.nothing, body=body, patience=patience)


def unload(name: str, patience: float) -> Call[None]:
    """Not repeatable: what was unloaded is not there a second time."""
    return Call("POST", repository(name, "unload"), bodies.nothing, body={}, patience=patience, repeatable=False)


def window_query(
    window: str | None, start: Time | None, end: Time | None, model: str | None, version: str | None
) -> dict[str, str]:
    times = {name: written(time) for name, time in (("from", start), ("to", end)) if time is not None}
    return given(window=window, model=model, version=version) | times


def written(time: Time) -> str:
    """A moment as the service reads it; one without a zone is of this machine's."""
    return str(time.timestamp()) if isinstance(time, datetime) else str(time)


def repository(name: str, what: str) -> str:
    return f"/v2/repository/models/{quote(name, safe='')}/{what}"


def given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def headers(api_key: str | None) -> Mapping[bytes, bytes]:
    """What every request has; a key in UTF-8, as the service reads it, or in the bytes that a shell gave."""
    key = {b"Authorization": f"Bearer {api_key}".encode(errors="surrogateescape")} if api_key else {}
    return {b"User-Agent": b"addnorm"} | key

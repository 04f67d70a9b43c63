"""The client for asyncio."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import httpx

from addnorm_client import bodies, calls
from addnorm_client.calls import LOADING, Answer, Call, Inputs, Time
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
from addnorm_client.retries import Attempts, Retries


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited.

    It is to be closed (`async with`).
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: Retries = Retries(),  # noqa: B008 (it is frozen)
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, headers=calls.headers(api_key), transport=transport)
        self._timeout, self._retries = timeout, retries

    async def aclose(self) -> None:
        """Gives its connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def predict(
        self,
        inputs: Inputs,
        *,
        top_k: int = 1,
        norm_stats: bool = False,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> PredictResponse:
        """As `Client.predict`."""
        return await self._ask(calls.predict(inputs, top_k, norm_stats, timeout, model, version))

    async def embed(
        self,
        inputs: Inputs,
        *,
        normalize: bool | None = None,
        prompt_name: str | None = None,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> EmbedResponse:
        """As `Client.embed`."""
        named = {"normalize": normalize, "prompt_name": prompt_name, "model": model, "version": version}
        return await self._ask(calls.embed(inputs, timeout, **named))

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        raw_scores: bool = False,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> RerankResponse:
        """As `Client.rerank`."""
        named = {"top_n": top_n, "raw_scores": raw_scores, "model": model, "version": version}
        return await self._ask(calls.rerank(query, documents, timeout, **named))

    async def similarity(
        self,
        source_sentence: str,
        sentences: Sequence[str],
        *,
        prompt_name: str | None = None,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> SimilarityResponse:
        """As `Client.similarity`."""
        named = {"prompt_name": prompt_name, "model": model, "version": version}
        return await self._ask(calls.similarity(source_sentence, sentences, timeout, **named))

    async def tokenize(
        self, inputs: Inputs, *, prompt_name: str | None = None, model: str | None = None, version: str | None = None
    ) -> TokenizeResponse:
        """As `Client.tokenize`."""
        return await self._ask(calls.tokenize(inputs, prompt_name=prompt_name, model=model, version=version))

    async def norm_stats(
        self,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> NormStatsResponse:
        """As `Client.norm_stats`."""
        return await self._ask(calls.norm_stats(calls.window_query(window, start, end, model, version)))

    async def layer(
        self,
        name: str,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> LayerResponse:
        """As `Client.layer`."""
        return await self._ask(calls.layer(name, calls.window_query(window, start, end, model, version)))

    async def state(
        self,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> bytes:
        """As `Client.state`."""
        return await self._ask(calls.state(calls.window_query(window, start, end, model, version)))

    async def model(self, name: str | None = None, version: str | None = None) -> ModelResponse:
        """As `Client.model`."""
        return await self._ask(calls.model(name, version))

    async def ready(self) -> Ready:
        """As `Client.ready`."""
        return await self._ask(calls.ready())

    async def traffic(self) -> TrafficResponse:
        """As `Client.traffic`."""
        return await self._ask(calls.traffic())

    async def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """As `Client.index`."""
        return await self._ask(calls.index(ready))

    async def load(self, name: str, version: str | None = None, *, timeout: float = LOADING) -> None:
        """As `Client.load`."""
        await self._ask(calls.load(name, version, timeout))

    async def unload(self, name: str, *, timeout: float = LOADING) -> None:
        """As `Client.unload`."""
        await self._ask(calls.unload(name, timeout))

    async def _ask(self, call: Call[Answer]) -> Answer:
        attempts = Attempts(call, self._retries, self._timeout)
        while True:
            try:
                response = await self._http.request(**attempts.arguments())
            except httpx.RequestError as error:
                pause = attempts.failed(error)
            else:
                if response.is_success:
                    return bodies.read(response, call.read)
                pause = attempts.refused(response)
            await asyncio.sleep(pause)

"""The client for threads."""

import time
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


class Client:
    """Asks a running service; may be shared by threads, and is to be closed (`with`).

    Every method raises AddNormHTTPError where the service says why there is no answer, AddNormConnectionError where it
    cannot be reached or is too slow, and AddNormAnswerError where something else answers. What it refuses for now (429,
    503) and what found no connection is asked again, as `retries` says and no earlier than `Retry-After`; what lost its
    connection too, where twice does no harm.

    Args:
        url: where it listens.
        api_key: one of its keys, where it asks for them.
        timeout: seconds to wait for a connection, and for an answer where a method does not say.
        transport: what sends requests, in the place of the network.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        retries: Retries = Retries(),  # noqa: B008 (it is frozen)
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(base_url=url, headers=calls.headers(api_key), transport=transport)
        self._timeout, self._retries = timeout, retries

    def close(self) -> None:
        """Gives its connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def predict(
        self,
        inputs: Inputs,
        *,
        top_k: int = 1,
        norm_stats: bool = False,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> PredictResponse:
        """Classifies one input or several.

        Args:
            inputs: a text, texts, or float sequences [tokens][features], as `model()` says.
            top_k: classes to return of each, best first.
            norm_stats: whether to add how far each input lies from the validation data, layer by layer.
            timeout: seconds after which no answer is wanted; all attempts together.
            model: one that is loaded; the default model where it is missing.
            version: one of its versions; the highest where it is missing.
        """
        return self._ask(calls.predict(inputs, top_k, norm_stats, timeout, model, version))

    def embed(
        self,
        inputs: Inputs,
        *,
        normalize: bool | None = None,
        prompt_name: str | None = None,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> EmbedResponse:
        """The embedding of every input; of length 1 or not, as `normalize` or else the model says. Else as `predict`.

        Args:
            prompt_name: name of the text that is put before each input; the model's default where it is missing.
        """
        named = {"normalize": normalize, "prompt_name": prompt_name, "model": model, "version": version}
        return self._ask(calls.embed(inputs, timeout, **named))

    def rerank(
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
        """How well each document answers the query, best first; of a reranker."""
        named = {"top_n": top_n, "raw_scores": raw_scores, "model": model, "version": version}
        return self._ask(calls.rerank(query, documents, timeout, **named))

    def similarity(
        self,
        source_sentence: str,
        sentences: Sequence[str],
        *,
        prompt_name: str | None = None,
        timeout: float | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> SimilarityResponse:
        """The cosine of each sentence with the source sentence."""
        named = {"prompt_name": prompt_name, "model": model, "version": version}
        return self._ask(calls.similarity(source_sentence, sentences, timeout, **named))

    def tokenize(
        self, inputs: Inputs, *, prompt_name: str | None = None, model: str | None = None, version: str | None = None
    ) -> TokenizeResponse:
        """The tokens that the model reads of each input."""
        return self._ask(calls.tokenize(inputs, prompt_name=prompt_name, model=model, version=version))

    def norm_stats(
        self,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> NormStatsResponse:
        """Every normalization layer, live beside the baseline.

        Args:
            window: 5m, 1h, 24h or all (the default).
            start: when the window begins, in the place of `window`.
            end: when it ends; now where it is missing.
            model: one that is loaded; the default model where it is missing.
            version: one of its versions; the highest where it is missing.
        """
        return self._ask(calls.norm_stats(calls.window_query(window, start, end, model, version)))

    def layer(
        self,
        name: str,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> LayerResponse:
        """One layer, with all that is known of it. Else as `norm_stats`."""
        return self._ask(calls.layer(name, calls.window_query(window, start, end, model, version)))

    def state(
        self,
        window: str | None = None,
        *,
        start: Time | None = None,
        end: Time | None = None,
        model: str | None = None,
        version: str | None = None,
    ) -> bytes:
        """What the statistics are computed of, as a document: those of several hosts add up (`addnorm stats merge`).

        It is not read, so that it can be written to a file as it is. Else as `norm_stats`.
        """
        return self._ask(calls.state(calls.window_query(window, start, end, model, version)))

    def model(self, name: str | None = None, version: str | None = None) -> ModelResponse:
        """What is served, how it was made, and where it runs."""
        return self._ask(calls.model(name, version))

    def ready(self) -> Ready:
        """Whether the service is ready, asked once: raises AddNormHTTPError (503) where it is not."""
        return self._ask(calls.ready())

    def traffic(self) -> TrafficResponse:
        """What the service answers, and how fast."""
        return self._ask(calls.traffic())

    def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """Every model and version; with `ready`, only those that answer."""
        return self._ask(calls.index(ready))

    def load(self, name: str, version: str | None = None, *, timeout: float = LOADING) -> None:
        """Serves a model's highest versions as they lie on disk, or one version more.

        Args:
            timeout: seconds to wait until they answer.
        """
        self._ask(calls.load(name, version, timeout))

    def unload(self, name: str, *, timeout: float = LOADING) -> None:
        """Serves a model no more.

        It is not asked again after its connection was lost: what became of it, `index` says.
        """
        self._ask(calls.unload(name, timeout))

    def _ask(self, call: Call[Answer]) -> Answer:
        attempts = Attempts(call, self._retries, self._timeout)
        while True:
            try:
                response = self._http.request(**attempts.arguments())
            except httpx.RequestError as error:
                pause = attempts.failed(error)
            else:
                if response.is_success:
                    return bodies.read(response, call.read)
                pause = attempts.refused(response)
            time.sleep(pause)

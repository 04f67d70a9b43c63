"""Both clients against real servers."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from addnorm_client import AddNormHTTPError, AsyncClient, Client, Retries
from runtime.artifact import Artifact
from runtime.store.document import StateDocument
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.repository.control import load_all
from service.settings import Settings
from tests.clients.python.asking import Ask
from tests.conftest import settings_for
from tests.helpers import LABELS, publish
from tests.live import Live, listening

ONCE = Retries(attempts=1)


@pytest.fixture(scope="module")
def repository(text_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that loads and unloads, for those who have the key."""
    directory: Path = tmp_path_factory.mktemp("repository")
    for version in "12":
        publish(directory, "texts", version, text_artifact)
    settings = Settings(
        models=directory, device="cpu", workers=1, keep_versions=1, api_keys="secret", model_control="explicit"
    )
    control = load_all(settings)
    with listening(settings, control.models, control) as live:
        yield live


def test_predict_gives_typed_predictions(ask: Ask, live: Live):
    answer = ask(live.url, lambda client: client.predict(["what is my balance", "snow"], top_k=3, norm_stats=True))
    assert (answer.model, answer.version) == ("texts", "1")
    assert len(answer.predictions) == 2
    for prediction in answer.predictions:
        assert prediction.label in LABELS
        assert prediction.top[0].label == prediction.label
        assert sum(candidate.score for candidate in prediction.top) == pytest.approx(1)
        assert prediction.norm_stats[0].name == "embeddings.norm"


def test_predict_of_a_single_text_and_of_float_sequences(ask: Ask, live: Live):
    (prediction,) = ask(live.url, lambda client: client.predict("hi", timeout=30)).predictions
    assert prediction.norm_stats is None
    sequence = [[0.5, 1.0, -1.0, 2.0]] * 3
    answer = ask(live.url, lambda client: client.predict([sequence], model="signals", version="7"))
    assert (answer.model, answer.version, answer.predictions[0].tokens) == ("signals", "7", 3)


def test_embed_gives_vectors(ask: Ask, live: Live):
    vectors = [
        np.array(ask(live.url, lambda client, n=normalize: client.embed("snow", normalize=n)).embeddings[0].embedding)
        for normalize in (True, False)
    ]
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(vectors[1] / np.linalg.norm(vectors[1]), vectors[0], atol=1e-5)


def test_adopted_models_are_asked_what_they_answer(
    ask: Ask, embedding_artifact: Artifact, rerank_artifact: Artifact, text_artifact: Artifact
):
    settings = settings_for(text_artifact)
    engines = [
        Engine(settings.model_copy(update={"model": each.path})) for each in (embedding_artifact, rerank_artifact)
    ]
    with listening(settings, ModelRegistry(*engines)) as live:
        similar = ask(
            live.url, lambda client: client.similarity("a b", ["a b", "m n"], prompt_name="query", timeout=30)
        )
        assert similar.similarities[0] == pytest.approx(1, abs=1e-5) and similar.similarities[1] < 0.9999
        ranked = ask(live.url, lambda client: client.rerank("a", ["b", "a", "c"], top_n=2, model="order", timeout=30))
        assert [0 <= each.relevance_score <= 1 for each in ranked.results] == [True, True]
        raw = ask(live.url, lambda client: client.rerank("a", ["b", "a", "c"], raw_scores=True, model="order"))
        assert [each.index for each in raw.results][:2] == [each.index for each in ranked.results]
        (tokens,) = ask(live.url, lambda client: client.tokenize("a b", prompt_name="query")).tokens
        assert [token.text for token in tokens if not token.special] == ["a", "b", "a", "b"]
        plain, prompted = (
            ask(live.url, lambda client, name=name: client.embed("a", prompt_name=name)).embeddings[0].tokens
            for name in (None, "query")
        )
        assert (plain, prompted) == (3, 5)


def test_statistics_of_a_window_and_of_a_layer(ask: Ask, live: Live):
    ask(live.url, lambda client: client.predict("hi"))
    everything = ask(live.url, lambda client: client.norm_stats())
    recent = ask(live.url, lambda client: client.norm_stats("5m", model="texts", version="1"))
    since = ask(live.url, lambda client: client.norm_stats(start=datetime(2020, 1, 1, tzinfo=UTC), end=1e10))
    assert everything.window.requests >= recent.window.requests >= 1
    assert since.window.requests >= recent.window.requests
    name = everything.layers[-1].name
    layer = ask(live.url, lambda client: client.layer(name, window="1h"))
    assert layer.layer.name == name
    assert layer.layer.distributions is not None


def test_state_is_what_can_be_merged(ask: Ask, live: Live, text_artifact: Artifact):
    ask(live.url, lambda client: client.predict("hi"))
    state = ask(live.url, lambda client: client.state(model="texts"))
    document = StateDocument.from_json(state, "it").check(text_artifact.manifest, "it")
    assert document.state.requests >= 1


def test_model_ready_and_traffic(ask: Ask, live: Live):
    assert ask(live.url, lambda client: client.model()).labels == LABELS
    assert ask(live.url, lambda client: client.model("signals")).model == "signals"
    assert ask(live.url, lambda client: client.ready()).models == {"texts": ["1"], "signals": ["7"]}
    assert ask(live.url, lambda client: client.traffic()).now.in_flight >= 1


def test_models_are_listed_loaded_and_unloaded(ask: Ask, repository: Live):
    def states() -> dict[str, str]:
        entries = ask(repository.url, lambda client: client.index())
        return {entry.version: entry.state for entry in entries}

    ask(repository.url, lambda client: client.load("texts"), api_key="secret")
    assert states() == {"1": "UNAVAILABLE", "2": "READY"}
    ask(repository.url, lambda client: client.load("texts", "1"), api_key="secret")
    assert states() == {"1": "READY", "2": "READY"}
    ask(repository.url, lambda client: client.unload("texts"), api_key="secret")
    assert ask(repository.url, lambda client: client.index(ready=True)) == []
    with pytest.raises(AddNormHTTPError, match="not loaded") as raised:
        ask(repository.url, lambda client: client.ready())
    assert (raised.value.status, raised.value.code) == (503, "unavailable")
    ask(repository.url, lambda client: client.load("texts"), api_key="secret")


def test_change_without_a_key_is_refused(ask: Ask, repository: Live):
    for key in (None, "wrong"):
        with pytest.raises(AddNormHTTPError) as raised:
            ask(repository.url, lambda client: client.unload("texts"), api_key=key)
        assert (raised.value.status, raised.value.code) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        (lambda client: client.predict(""), 400, "empty_text"),
        (lambda client: client.predict([[[float("nan")] * 4]], model="signals"), 400, "not_finite"),
        (lambda client: client.predict(["hi"] * 9), 413, "too_many_rows"),
        (lambda client: client.embed("hi", model="none"), 404, "unknown_model"),
        (lambda client: client.layer("a/b c"), 404, "not_found"),
        (lambda client: client.layer("nope"), 404, "unknown_layer"),
        (lambda client: client.norm_stats("1y"), 400, "invalid_window"),
        (lambda client: client.load("texts"), 403, "model_control_off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusal_says_why(ask: Ask, live: Live, what: object, status: int, code: str):
    with pytest.raises(AddNormHTTPError) as raised:
        ask(live.url, what)
    error = raised.value
    assert (error.status, error.code) == (status, code)
    assert error.message.endswith(".")
    assert str(error) == f"{error.message} ({status} {code})"
    assert error.request_id


def test_full_service_says_when_to_come_back(ask: Ask, text_artifact: Artifact):
    settings = settings_for(text_artifact)
    models = ModelRegistry(Engine(settings))
    models.default.batcher.queue.tokens = settings.max_queue_tokens  # as if so many waited
    with listening(settings, models) as live, pytest.raises(AddNormHTTPError) as raised:
        ask(live.url, lambda client: client.predict("hi"), retries=ONCE)
    assert (raised.value.status, raised.value.code) == (429, "overloaded")
    assert raised.value.retry_after >= 1


def test_both_clients_have_the_same_methods():
    public = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert public == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    for name in public | {"__init__"}:
        one, other = (inspect.signature(vars(kind)[name]) for kind in (Client, AsyncClient))
        assert list(one.parameters) == list(other.parameters)
        assert [p.default for p in one.parameters.values()] == [p.default for p in other.parameters.values()]
        assert one.return_annotation == other.return_annotation


def test_importing_the_client_is_light():
    code = "import sys, addnorm_client; print(*(name for name in sys.modules if '.' not in name))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert {"addnorm_client", "httpx", "pydantic"} <= loaded
    assert not loaded & {"fastapi", "starlette", "uvicorn", "onnxruntime", "numpy", "tokenizers", "torch"}

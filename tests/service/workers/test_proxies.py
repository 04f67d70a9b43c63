import json
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.errors import AddNormError, InvalidInput, Overloaded, Unavailable, UnknownLayer
from runtime.graph.encoder import Encoder
from service.inference.engine import Engine
from service.norm_stats.collector import Collector
from service.norm_stats.interface import Asked
from service.norm_stats.pool import Collectors
from service.repository.rollout import Rollout
from service.settings import Settings
from service.telemetry.aggregator import Account, Ledger
from service.telemetry.counters import Traffic
from service.workers.channel import ASK, ASK_LEDGER, ASK_PARENT, COUNT, HAND_IN, Link
from service.workers.proxies import RemoteAccount, RemoteCollector
from tests.helpers import TEXTS, random_sequences

Ask = Callable[..., Any]
Remote = Callable[[Link], RemoteCollector]


@pytest.fixture
def collectors(text_artifact: Artifact) -> Collectors:
    collectors = Collectors(Settings(model=text_artifact.path), workers=2)
    collectors.open(text_artifact)
    return collectors


@pytest.fixture
def collector(collectors: Collectors, text_artifact: Artifact) -> Collector:
    return collectors[text_artifact.manifest.digest]


@pytest.fixture
def remote(text_artifact: Artifact) -> Callable[[Link], RemoteCollector]:
    """What a worker takes for the collector."""
    return lambda link: RemoteCollector(link.line, text_artifact.manifest.digest)


@pytest.fixture
def links() -> Iterator[list[Link]]:
    """To two workers."""
    links = [Link(2) for _ in range(2)]
    yield links
    for link in links:
        link.close_ours()


@pytest.fixture
def ask(collectors: Collectors, links: list[Link], remote: Remote) -> Ask:
    """Asks as a worker does, while the collector's process answers one question."""

    def answer(link: Link) -> None:
        question = link.question()
        assert question is not None
        for each in links:
            each.hand_in(collectors)
        method, of, arguments = question
        link.answer(collectors.get(of), method, arguments)

    def ask(link: Link, method: str, *arguments: object) -> Any:
        thread = threading.Thread(target=answer, args=(link,))
        thread.start()
        try:
            return getattr(remote(link), method)(*arguments)
        finally:
            thread.join()

    return ask


def test_every_worker_answers_for_all(
    text_encoder: Encoder, text_artifact: Artifact, text_export: Any, links: list[Link], remote: Remote, ask: Ask
):
    sequences = random_sequences(text_export[1], 30)
    here = Collector(text_artifact, Settings(model=text_artifact.path))
    for start, link in zip(range(0, 30, 10), (links[0], links[1], links[0]), strict=True):
        batch = text_encoder.run(sequences[start : start + 10])
        remote(link).observe(batch, 0.25)
        here.observe(batch, 0.25)
    expected = json.loads(here.all_layers(Asked()))
    for link in links:
        found = json.loads(ask(link, "all_layers", Asked()))
        assert (found["requests"], found["tokens"]) == (30, expected["tokens"])
        for layer, other in zip(found["layers"], expected["layers"], strict=True):
            assert layer["live"]["tokens"] == other["live"]["tokens"]
            assert layer["live"]["mean"] == pytest.approx(other["live"]["mean"])
            assert layer["live"]["variance"] == pytest.approx(other["live"]["variance"])
        assert json.loads(ask(link, "state", Asked()))["state"]["requests"] == 30
        layer = expected["layers"][1]
        one = json.loads(ask(link, "one_layer", Asked(), layer["name"]))["layer"]
        assert one["live"]["mean"] == pytest.approx(layer["live"]["mean"])
        link.close_theirs()


def test_errors_come_back_as_they_are(links: list[Link], ask: Ask):
    with pytest.raises(InvalidInput, match="window is 'yesterday'") as caught:
        ask(links[0], "all_layers", Asked("yesterday"))
    assert caught.value.code == "invalid_window"
    with pytest.raises(UnknownLayer, match="nowhere"):
        ask(links[1], "one_layer", Asked(), "nowhere")
    with pytest.raises(InvalidInput, match="at least 100"):
        ask(links[1], "take_baseline", Asked())
    with pytest.raises(InvalidInput) as caught:
        ask(links[1], "drop_baseline")
    assert caught.value.code == "no_live_baseline"
    assert ask(links[0], "storage") == "memory"
    for link in links:
        link.close_theirs()


def test_defect_of_the_collector_reaches_who_asked_and_stops_nobody(
    collector: Collector,
    links: list[Link],
    remote: Remote,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(collector, "storage", fail)
        patch.setattr(collector, "observe_deep", fail)
        remote(links[0])._hand_in("observe_deep", None, 0.0)
        with pytest.raises(RuntimeError, match="the collector has a defect"):
            ask(links[1], "storage")
    assert caplog.text.count("ZeroDivisionError: a defect") == 2
    assert ask(links[1], "storage") == "memory"
    for link in links:
        link.close_theirs()


def test_worker_without_its_collector_gives_no_uncounted_answer(
    text_encoder: Encoder, text_export: Any, remote: Remote
):
    link = Link(2)
    link.close_ours()
    batch = text_encoder.run(random_sequences(text_export[1], 1))
    with pytest.raises(Unavailable, match="is gone"):
        remote(link).observe(batch, 0.0)
    with pytest.raises(Unavailable, match="is gone"):
        remote(link).all_layers(Asked())
    link.close_theirs()


def test_worker_that_is_gone_asks_nothing(links: list[Link], collectors: Collectors):
    links[0].close_theirs()
    assert links[0].question() is None
    links[0].hand_in(collectors)
    assert links[0].inbox.ended
    links[1].close_theirs()


def test_every_method_that_crosses_over_is_one_of_the_collector():
    for method in (*HAND_IN, *ASK):
        assert callable(getattr(Collector, method)) and callable(getattr(RemoteCollector, method))
    assert all(callable(getattr(Rollout, method)) for method in ASK_PARENT)
    for method in (*COUNT, *ASK_LEDGER):
        assert callable(getattr(Account, method)) and callable(getattr(RemoteAccount, method))


def test_traffic_of_every_worker_is_counted_and_stays_when_it_ends(collectors: Collectors, text_engine: Engine):
    ledger = Ledger()
    links = [Link(2, ledger) for _ in range(2)]
    for requests, link in enumerate(links, start=1):
        traffic = Traffic()
        traffic.requests["/predict", 200] += requests
        RemoteAccount(link.line).count(*traffic.snapshot([text_engine.batcher]), {})
        link.hand_in(collectors)
        link.close_theirs()
    assert (ledger.report().total.requests["/predict", 200], ledger.report().workers) == (3, 2)
    links[1].close_ours()
    assert (ledger.report().total.requests["/predict", 200], ledger.report().workers) == (3, 1)
    links[0].close_ours()


def test_worker_learns_that_the_service_stops():
    ledger = Ledger()
    link = Link(1, ledger)

    def ask() -> None:
        def answer() -> None:
            method, _, arguments = link.question() or ("", "", ())
            link.answer(object(), method, arguments)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            RemoteAccount(link.line).check_ready()
        finally:
            thread.join()

    ask()
    ledger.stopping = True
    with pytest.raises(Unavailable, match="is stopping"):
        ask()
    link.close_theirs()
    link.close_ours()


def subclasses(kind: type[AddNormError]) -> list[type[AddNormError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in subclasses(below))]


@pytest.mark.parametrize("kind", subclasses(AddNormError))
def test_every_error_can_be_handed_over(kind: type[AddNormError]):
    arguments = {InvalidInput: ("a_code", TEXTS[0]), Overloaded: (TEXTS[0], 2.5)}.get(kind, (TEXTS[0],))
    error = pickle.loads(pickle.dumps(kind(*arguments)))
    assert (type(error), str(error), error.code) == (kind, TEXTS[0], kind(*arguments).code)
    assert getattr(error, "retry_after", 2.5) == 2.5

import json
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runtime.artifact import Artifact
from runtime.errors import AddNormError, Forbidden, InvalidInput, Overloaded, TooLarge, Unavailable, UnknownLayer
from runtime.graph.encoder import Encoder
from service.inference.engine import Engine
from service.norm_stats.collector import Collector
from service.norm_stats.interface import AllLayers, DropBaseline, MergeableState, OneLayer, TakeBaseline, WindowQuery
from service.norm_stats.pool import CollectorPool
from service.repository.catalog import Catalog
from service.settings import Settings
from service.telemetry.aggregator import Aggregator, ProcessCounts
from service.telemetry.counters import RequestCounters
from service.workers.channel import ASK, ASK_AGGREGATOR, ASK_PARENT, COUNT, HAND_IN, SupervisorEnd
from service.workers.proxies import RemoteCollector, RemoteCountSink
from tests.helpers import TEXTS, random_sequences

Ask = Callable[..., Any]
Remote = Callable[[SupervisorEnd], RemoteCollector]


@pytest.fixture
def collectors(text_artifact: Artifact) -> CollectorPool:
    collectors = CollectorPool(Settings(model=text_artifact.path), workers=2)
    collectors.open(text_artifact)
    return collectors


@pytest.fixture
def collector(collectors: CollectorPool, text_artifact: Artifact) -> Collector:
    return collectors[text_artifact.manifest.digest]


@pytest.fixture
def remote(text_artifact: Artifact) -> Callable[[SupervisorEnd], RemoteCollector]:
    """What a worker takes for the collector."""
    return lambda channel: RemoteCollector(channel.worker_end, text_artifact.manifest.digest)


@pytest.fixture
def channels() -> Iterator[list[SupervisorEnd]]:
    """To two workers."""
    channels = [SupervisorEnd(2) for _ in range(2)]
    yield channels
    for channel in channels:
        channel.close()


@pytest.fixture
def ask(collectors: CollectorPool, channels: list[SupervisorEnd], remote: Remote) -> Ask:
    """Asks as a worker does, while the collector's process answers one question."""

    def answer(channel: SupervisorEnd) -> None:
        question = channel.question()
        assert question is not None
        for each in channels:
            each.hand_in(collectors)
        method, of, arguments = question
        channel.answer(collectors.get(of), method, arguments)

    def ask(channel: SupervisorEnd, method: str, *arguments: object) -> Any:
        thread = threading.Thread(target=answer, args=(channel,))
        thread.start()
        try:
            return getattr(remote(channel), method)(*arguments)
        finally:
            thread.join()

    return ask


def test_every_worker_answers_for_all(
    text_encoder: Encoder,
    text_artifact: Artifact,
    text_export: Any,
    channels: list[SupervisorEnd],
    remote: Remote,
    ask: Ask,
):
    sequences = random_sequences(text_export[1], 30)
    here = Collector(text_artifact, Settings(model=text_artifact.path))
    for start, channel in zip(range(0, 30, 10), (channels[0], channels[1], channels[0]), strict=True):
        batch = text_encoder.run(sequences[start : start + 10])
        remote(channel).observe(batch, 0.25)
        here.observe(batch, 0.25)
    expected = json.loads(here.report(AllLayers(WindowQuery())))
    for channel in channels:
        found = json.loads(ask(channel, "report", AllLayers(WindowQuery())))
        assert (found["requests"], found["tokens"]) == (30, expected["tokens"])
        for layer, other in zip(found["layers"], expected["layers"], strict=True):
            assert layer["live"]["tokens"] == other["live"]["tokens"]
            assert layer["live"]["mean"] == pytest.approx(other["live"]["mean"])
            assert layer["live"]["variance"] == pytest.approx(other["live"]["variance"])
        assert json.loads(ask(channel, "report", MergeableState(WindowQuery())))["state"]["requests"] == 30
        layer = expected["layers"][1]
        one = json.loads(ask(channel, "report", OneLayer(WindowQuery(), layer["name"])))["layer"]
        assert one["live"]["mean"] == pytest.approx(layer["live"]["mean"])
        channel.close_worker_end()


def test_errors_come_back_as_they_are(channels: list[SupervisorEnd], ask: Ask):
    with pytest.raises(InvalidInput, match="window is 'yesterday'") as caught:
        ask(channels[0], "report", AllLayers(WindowQuery("yesterday")))
    assert caught.value.code == "invalid_window"
    with pytest.raises(UnknownLayer, match="nowhere"):
        ask(channels[1], "report", OneLayer(WindowQuery(), "nowhere"))
    with pytest.raises(InvalidInput, match="at least 100"):
        ask(channels[1], "report", TakeBaseline(WindowQuery()))
    with pytest.raises(InvalidInput) as caught:
        ask(channels[1], "report", DropBaseline())
    assert caught.value.code == "no_live_baseline"
    assert ask(channels[0], "status").storage == "memory"
    for channel in channels:
        channel.close_worker_end()


def test_defect_of_the_collector_reaches_who_asked_and_stops_nobody(
    collector: Collector,
    channels: list[SupervisorEnd],
    remote: Remote,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(collector, "status", fail)
        patch.setattr(collector, "observe_deep", fail)
        remote(channels[0])._hand_in("observe_deep", None, 0.0)
        with pytest.raises(RuntimeError, match="the collector has a defect"):
            ask(channels[1], "status")
    assert caplog.text.count("ZeroDivisionError: a defect") == 2
    assert ask(channels[1], "status").storage == "memory"
    for channel in channels:
        channel.close_worker_end()


def test_worker_without_its_collector_gives_no_uncounted_answer(
    text_encoder: Encoder, text_export: Any, remote: Remote
):
    channel = SupervisorEnd(2)
    channel.close()
    batch = text_encoder.run(random_sequences(text_export[1], 1))
    with pytest.raises(Unavailable, match="is gone"):
        remote(channel).observe(batch, 0.0)
    with pytest.raises(Unavailable, match="is gone"):
        remote(channel).report(AllLayers(WindowQuery()))
    channel.close_worker_end()


def test_worker_that_is_gone_asks_nothing(channels: list[SupervisorEnd], collectors: CollectorPool):
    channels[0].close_worker_end()
    assert channels[0].question() is None
    channels[0].hand_in(collectors)
    assert channels[0].inbox.ended
    channels[1].close_worker_end()


def test_every_method_that_crosses_over_is_one_of_the_collector():
    for method in (*HAND_IN, *ASK):
        assert callable(getattr(Collector, method)) and callable(getattr(RemoteCollector, method))
    assert all(callable(getattr(Catalog, method)) for method in ASK_PARENT)
    for method in (*COUNT, *ASK_AGGREGATOR):
        assert callable(getattr(ProcessCounts, method)) and callable(getattr(RemoteCountSink, method))


def test_traffic_of_every_worker_is_counted_and_stays_when_it_ends(collectors: CollectorPool, text_engine: Engine):
    aggregator = Aggregator()
    channels = [SupervisorEnd(2, aggregator) for _ in range(2)]
    for requests, channel in enumerate(channels, start=1):
        counters = RequestCounters()
        counters.requests["/predict", 200] += requests
        RemoteCountSink(channel.worker_end).count(*counters.snapshot([text_engine.batcher]), {})
        channel.hand_in(collectors)
        channel.close_worker_end()
    assert (aggregator.report().total.requests["/predict", 200], aggregator.report().workers) == (3, 2)
    channels[1].close()
    assert (aggregator.report().total.requests["/predict", 200], aggregator.report().workers) == (3, 1)
    channels[0].close()


def test_worker_learns_that_the_service_stops():
    aggregator = Aggregator()
    channel = SupervisorEnd(1, aggregator)

    def ask() -> None:
        def answer() -> None:
            method, _, arguments = channel.question() or ("", "", ())
            channel.answer(object(), method, arguments)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            RemoteCountSink(channel.worker_end).check_ready()
        finally:
            thread.join()

    ask()
    aggregator.stopping = True
    with pytest.raises(Unavailable, match="is stopping"):
        ask()
    channel.close_worker_end()
    channel.close()


def subclasses(kind: type[AddNormError]) -> list[type[AddNormError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in subclasses(below))]


@pytest.mark.parametrize("kind", subclasses(AddNormError))
def test_every_error_can_be_handed_over(kind: type[AddNormError]):
    named = ("a_code", TEXTS[0])
    special = {InvalidInput: named, Forbidden: named, Overloaded: (TEXTS[0], 2.5), TooLarge: (5,)}
    arguments = next((special[each] for each in kind.__mro__ if each in special), (TEXTS[0],))
    error = pickle.loads(pickle.dumps(kind(*arguments)))
    same = kind(*arguments)
    assert (type(error), str(error), error.code) == (kind, str(same), same.code)
    assert getattr(error, "retry_after", 2.5) == 2.5

"""A worker's part, with a parent that only says what is to be done."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError, Unavailable, UnknownModel
from service.inference.registry import ModelRegistry
from service.repository.change import DONE, DROP, LOAD, PREPARE, PREPARED, SERVE, SERVED
from service.settings import Settings
from service.workers.channel import SupervisorEnd
from service.workers.participant import WorkerParticipant, make_engine
from tests.helpers import publish


@pytest.fixture
def channel() -> Iterator[SupervisorEnd]:
    """To the worker."""
    channel = SupervisorEnd(2)
    yield channel
    channel.close()
    channel.close_worker_end()


@pytest.fixture
def participant(channel: SupervisorEnd, text_artifact: Artifact) -> WorkerParticipant:
    settings = Settings(device="cpu")
    return WorkerParticipant(
        settings, channel.worker_end, ModelRegistry(make_engine(settings, channel.worker_end, {}, text_artifact))
    )


def follow(
    participant: WorkerParticipant, channel: SupervisorEnd, *orders: tuple[Any, ...]
) -> list[tuple[str, tuple[Any, ...]]]:
    """What the worker says to each order."""

    async def main() -> list[tuple[str, tuple[Any, ...]]]:
        said = []
        participant.start()
        for order in orders:
            channel.order(*order)
            if order[0] != DROP:
                answer = await asyncio.to_thread(channel.question)
                assert answer is not None
                said.append((answer[0], answer[2]))
        await participant.close()
        return said

    return asyncio.run(main())


def test_prepared_engine_answers_when_the_parent_says_so(
    participant: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    digest = read_artifact(path).manifest.digest
    prepare = (PREPARE, 1, [read_artifact(path)])
    assert follow(participant, channel, prepare) == [(PREPARED, (1, {}))]
    assert participant.models.versions("texts") == ["1"]
    old = text_artifact.manifest.digest
    assert follow(participant, channel, (SERVE, 1, "texts", [digest, old], "texts")) == [(SERVED, (1,))]
    assert participant.models.versions("texts") == ["1", "2"] and participant.models.default.manifest.version == "2"
    assert follow(participant, channel, (SERVE, 2, "texts", [], "texts")) == [(SERVED, (2,))]
    assert participant.models.names() == []


def test_orders_never_wait_for_a_worker_and_are_small(channel: SupervisorEnd, text_artifact: Artifact):
    """The worker may wait for its parent to take observations: both would wait for ever."""
    channel.order(PREPARE, 1, [text_artifact])
    assert len(os.read(channel.worker_end.orders.fd, 1 << 20)) < 1024
    for _ in range(50):
        channel.order(SERVE, 1, "texts", ["f" * 64] * 1000, "texts")
    assert not channel.orders.flush()


def test_dropped_engine_is_prepared_anew(
    participant: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    artifact = read_artifact(path)
    follow(participant, channel, (PREPARE, 1, [artifact]), (DROP,))
    (path / "model.onnx").unlink()
    ((said, (number, failures)),) = follow(participant, channel, (PREPARE, 2, [artifact]))
    assert (said, number) == (PREPARED, 2) and isinstance(failures[artifact.manifest.digest], ArtifactError)


def test_artifact_that_changed_since_the_parent_read_it_is_told(
    participant: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    artifact = read_artifact(publish(tmp_path, "texts", "2", text_artifact))
    publish(tmp_path, "texts", "2", text_artifact, {"notes.txt": b"exported anew"})
    ((_, (_, failures)),) = follow(participant, channel, (PREPARE, 1, [artifact]))
    assert "changed while it was loaded: load it again" in str(failures[artifact.manifest.digest])


def ask_and(
    participant: WorkerParticipant, channel: SupervisorEnd, then: Callable[[int], None]
) -> BaseException | None:
    """How a client's wish ends of which the parent has heard; `then` is what happens to it, by its number."""

    async def main() -> BaseException | None:
        participant.start()
        asked = asyncio.create_task(participant.load("texts", "2"))
        said = await asyncio.to_thread(channel.question)
        assert said is not None and (said[0], said[2][1:]) == (LOAD, ("texts", "2"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        then(said[2][0])
        await asyncio.wait([asked], timeout=10)
        error = asked.exception()  # which it is not, where it waits
        await participant.close()
        return error

    return asyncio.run(main())


def test_who_asked_is_told_how_it_ended(participant: WorkerParticipant, channel: SupervisorEnd):
    assert ask_and(participant, channel, lambda number: channel.order(DONE, number, None)) is None
    error = ask_and(participant, channel, lambda number: channel.order(DONE, number, UnknownModel("There is none.")))
    assert isinstance(error, UnknownModel) and str(error) == "There is none."


def test_who_asked_is_told_while_an_engine_is_built(
    participant: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
):
    go_on = threading.Event()
    monkeypatch.setattr(participant, "_make", lambda _: go_on.wait(20))

    def give_up(number: int) -> None:
        channel.order(
            PREPARE, 1, [replace(text_artifact, manifest=text_artifact.manifest.model_copy(update={"digest": "1"}))]
        )
        channel.order(DONE, number, Unavailable("It takes too long."))

    error = ask_and(participant, channel, give_up)
    go_on.set()
    assert isinstance(error, Unavailable) and str(error) == "It takes too long."


def test_who_asked_learns_that_the_parent_is_gone(text_artifact: Artifact):
    settings, channel = Settings(device="cpu"), SupervisorEnd(2)
    models = ModelRegistry(make_engine(settings, channel.worker_end, {}, text_artifact))
    participant = WorkerParticipant(settings, channel.worker_end, models)
    error = ask_and(participant, channel, lambda _: channel.close())
    assert isinstance(error, Unavailable) and "is gone" in str(error)
    channel.close_worker_end()


def test_worker_that_cannot_follow_tells_who_waits_and_ends(participant: WorkerParticipant, channel: SupervisorEnd):
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        error = ask_and(participant, channel, lambda _: channel.order(SERVE, 1, "texts", ["of no artifact"], "texts"))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(error, Unavailable) and "has a defect" in str(error)
    assert signals == [signal.SIGTERM]
    assert participant.models.versions("texts") == ["1"]

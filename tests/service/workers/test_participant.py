"""A worker's part, with a parent that only says what is to be done."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError
from service.inference.registry import ModelRegistry
from service.repository.change import DROP, PREPARE, PREPARED, SERVE, SERVED
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
def follower(channel: SupervisorEnd, text_artifact: Artifact) -> WorkerParticipant:
    settings = Settings(device="cpu")
    return WorkerParticipant(
        settings, channel.worker_end, ModelRegistry(make_engine(settings, channel.worker_end, text_artifact))
    )


def follow(
    follower: WorkerParticipant, channel: SupervisorEnd, *orders: tuple[Any, ...]
) -> list[tuple[str, tuple[Any, ...]]]:
    """What the worker says to each order."""

    async def main() -> list[tuple[str, tuple[Any, ...]]]:
        said = []
        follower.start()
        for order in orders:
            channel.order(*order)
            if order[0] != DROP:
                answer = await asyncio.to_thread(channel.question)
                assert answer is not None
                said.append((answer[0], answer[2]))
        await follower.close()
        return said

    return asyncio.run(main())


def test_prepared_engine_answers_when_the_parent_says_so(
    follower: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    digest = read_artifact(path).manifest.digest
    prepare = (PREPARE, 1, [(path, digest)])
    assert follow(follower, channel, prepare) == [(PREPARED, (1, {}))]
    assert follower.models.versions("texts") == ["1"]
    old = text_artifact.manifest.digest
    assert follow(follower, channel, (SERVE, 1, "texts", [digest, old], "texts")) == [(SERVED, (1,))]
    assert follower.models.versions("texts") == ["1", "2"] and follower.models.default.manifest.version == "2"
    assert follow(follower, channel, (SERVE, 2, "texts", [], "texts")) == [(SERVED, (2,))]
    assert follower.models.names() == []


def test_dropped_engine_is_prepared_anew(
    follower: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    digest = read_artifact(path).manifest.digest
    follow(follower, channel, (PREPARE, 1, [(path, digest)]), (DROP,))
    (path / "model.onnx").unlink()
    ((said, (number, failures)),) = follow(follower, channel, (PREPARE, 2, [(path, digest)]))
    assert (said, number) == (PREPARED, 2) and isinstance(failures[digest], ArtifactError)


def test_artifact_that_changed_since_the_parent_read_it_is_told(
    follower: WorkerParticipant, channel: SupervisorEnd, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    ((_, (_, failures)),) = follow(follower, channel, (PREPARE, 1, [(path, "another")]))
    assert "changed while it was loaded: load it again" in str(failures["another"])

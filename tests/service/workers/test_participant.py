"""A worker's part, with a parent that only says what is to be done."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.artifact import Artifact, read_artifact
from runtime.errors import ArtifactError
from service.inference.registry import Models
from service.repository.change import DROP, PREPARE, PREPARED, SERVE, SERVED
from service.settings import Settings
from service.workers.channel import Link
from service.workers.participant import Follower, make_engine
from tests.helpers import publish


@pytest.fixture
def link() -> Iterator[Link]:
    """To the worker."""
    link = Link(2)
    yield link
    link.close_ours()
    link.close_theirs()


@pytest.fixture
def follower(link: Link, text_artifact: Artifact) -> Follower:
    settings = Settings(device="cpu")
    return Follower(settings, link.line, Models(make_engine(settings, link.line, text_artifact)))


def follow(follower: Follower, link: Link, *orders: tuple[Any, ...]) -> list[tuple[str, tuple[Any, ...]]]:
    """What the worker says to each order."""

    async def main() -> list[tuple[str, tuple[Any, ...]]]:
        said = []
        follower.start()
        for order in orders:
            link.order(*order)
            if order[0] != DROP:
                answer = await asyncio.to_thread(link.question)
                assert answer is not None
                said.append((answer[0], answer[2]))
        await follower.close()
        return said

    return asyncio.run(main())


def test_prepared_engine_answers_when_the_parent_says_so(
    follower: Follower, link: Link, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    digest = read_artifact(path).manifest.digest
    prepare = (PREPARE, 1, [(path, digest)])
    assert follow(follower, link, prepare) == [(PREPARED, (1, {}))]
    assert follower.models.versions("texts") == ["1"]
    old = text_artifact.manifest.digest
    assert follow(follower, link, (SERVE, 1, "texts", [digest, old], "texts")) == [(SERVED, (1,))]
    assert follower.models.versions("texts") == ["1", "2"] and follower.models.default.manifest.version == "2"
    assert follow(follower, link, (SERVE, 2, "texts", [], "texts")) == [(SERVED, (2,))]
    assert follower.models.names() == []


def test_dropped_engine_is_prepared_anew(follower: Follower, link: Link, text_artifact: Artifact, tmp_path: Path):
    path = publish(tmp_path, "texts", "2", text_artifact)
    digest = read_artifact(path).manifest.digest
    follow(follower, link, (PREPARE, 1, [(path, digest)]), (DROP,))
    (path / "model.onnx").unlink()
    ((said, (number, failures)),) = follow(follower, link, (PREPARE, 2, [(path, digest)]))
    assert (said, number) == (PREPARED, 2) and isinstance(failures[digest], ArtifactError)


def test_artifact_that_changed_since_the_parent_read_it_is_told(
    follower: Follower, link: Link, text_artifact: Artifact, tmp_path: Path
):
    path = publish(tmp_path, "texts", "2", text_artifact)
    ((_, (_, failures)),) = follow(follower, link, (PREPARE, 1, [(path, "another")]))
    assert "changed while it was loaded: load it again" in str(failures["another"])

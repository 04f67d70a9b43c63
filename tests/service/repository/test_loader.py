from dataclasses import replace

import pytest

from runtime.artifact import Artifact
from runtime.manifest import CANARY, DEEP, MODEL
from service.inference.engine import Engine
from service.repository import loader
from service.repository.loader import open_encoders
from tests.conftest import settings_for


def copies(*artifacts: Artifact) -> list[Artifact]:
    return [replace(artifact, files=dict(artifact.files)) for artifact in artifacts]


def test_graphs_are_opened_once_for_processes_that_are_forked(text_artifact: Artifact, embedding_artifact: Artifact):
    settings = settings_for(text_artifact).model_copy(update={"threads": 1})
    own, adopted = copies(text_artifact, embedding_artifact)
    encoders = open_encoders(settings, [own, adopted])
    assert encoders.keys() == {own.manifest.digest, adopted.manifest.digest}
    for artifact in (own, adopted):  # the deep graph takes its weights from there
        assert (MODEL in artifact.files) == (DEEP in artifact.files)
        encoder = encoders[artifact.manifest.digest]
        assert Engine(settings, artifact=artifact, encoder=encoder).encoder is encoder


def test_sessions_that_do_not_survive_a_fork_are_not_opened(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    settings = settings_for(text_artifact)
    assert open_encoders(settings.model_copy(update={"threads": 2}), copies(text_artifact)) == {}
    monkeypatch.setattr(loader, "may_use_gpu", lambda _: True)
    assert open_encoders(settings.model_copy(update={"threads": 1}), copies(text_artifact)) == {}


def test_a_graph_that_does_not_open_is_left_to_the_worker(text_artifact: Artifact, embedding_artifact: Artifact):
    broken, good = copies(text_artifact, embedding_artifact)
    broken.files[CANARY] = b"{}"
    settings = settings_for(text_artifact).model_copy(update={"threads": 1})
    assert open_encoders(settings, [broken, good]).keys() == {good.manifest.digest}
    assert MODEL in broken.files

import os
import sys
from dataclasses import replace

import pytest

from runtime.artifact import Artifact
from runtime.manifest import CANARY, DEEP, MODEL
from runtime.threads import NICE
from service.inference.engine import Engine
from service.repository import loader
from service.repository.loader import one_thread, open_all_graphs
from tests.conftest import settings_for


def copies(*artifacts: Artifact) -> list[Artifact]:
    return [replace(artifact, files=dict(artifact.files)) for artifact in artifacts]


def test_graphs_are_opened_once_for_processes_that_are_forked(text_artifact: Artifact, embedding_artifact: Artifact):
    settings = settings_for(text_artifact).model_copy(update={"threads": 1})
    own, adopted = copies(text_artifact, embedding_artifact)
    graphs = open_all_graphs(settings, [own, adopted])
    assert graphs.keys() == {own.manifest.digest, adopted.manifest.digest}
    for artifact in (own, adopted):
        opened = graphs[artifact.manifest.digest]
        assert MODEL not in artifact.files and (opened.deep is not None) == (DEEP in artifact.files)
        engine = Engine(settings, artifact=artifact, graphs=opened)
        assert engine.encoder is opened.encoder and (engine.sampler is not None) == (DEEP in artifact.files)


def test_no_deep_graph_is_opened_without_a_budget(text_artifact: Artifact):
    settings = settings_for(text_artifact).model_copy(update={"threads": 1, "deep_budget": 0})
    (opened,) = open_all_graphs(settings, copies(text_artifact)).values()
    assert opened.deep is None


def test_sessions_that_do_not_survive_a_fork_are_not_opened(text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    settings = settings_for(text_artifact)
    assert open_all_graphs(settings.model_copy(update={"threads": 2}), copies(text_artifact)) == {}
    monkeypatch.setattr(loader, "may_use_gpu", lambda _: True)
    assert open_all_graphs(settings.model_copy(update={"threads": 1}), copies(text_artifact)) == {}


def test_a_graph_that_does_not_open_is_left_to_the_worker(text_artifact: Artifact, embedding_artifact: Artifact):
    broken, good = copies(text_artifact, embedding_artifact)
    broken.files[CANARY] = b"{}"
    settings = settings_for(text_artifact).model_copy(update={"threads": 1})
    assert open_all_graphs(settings, [broken, good]).keys() == {good.manifest.digest}
    assert MODEL in broken.files


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
@pytest.mark.parametrize(("threads", "gives_way"), [(1, True), (2, False)])
def test_sessions_are_built_beside_answers_unless_they_have_threads(
    text_artifact: Artifact, threads: int, gives_way: bool
):
    """Those would inherit the priority."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with one_thread(settings_for(text_artifact).model_copy(update={"threads": threads})) as builder:
        found = builder.submit(os.getpriority, os.PRIO_PROCESS, 0).result()
    assert found == (min(19, own + NICE) if gives_way else own)

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from service.inference.engine import Engine
from tests.conftest import serve, settings_for


@pytest.fixture
def ranking(rerank_artifact: Artifact) -> Iterator[TestClient]:
    settings = settings_for(rerank_artifact)
    yield from serve(settings, Engine(settings))


@pytest.fixture
def embedding(embedding_artifact: Artifact) -> Iterator[TestClient]:
    settings = settings_for(embedding_artifact)
    yield from serve(settings, Engine(settings))

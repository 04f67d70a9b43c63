"""Fixtures: two tiny artifacts, exported once for all processes of the tests, and services over them."""

import os
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: each process of the tests has a core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ["ADDNORM_ALLOWED_HOSTS"] = "*"  # the test client calls the service by a name of its own

import hypothesis
import pytest
from starlette.testclient import TestClient

from runtime.artifact import Artifact
from runtime.graph.encoder import Encoder
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from tests.adopted import EMBEDDING, MULTILABEL, RERANK, adopted_once
from tests.apps import make_app
from tests.helpers import Export, make_feature_artifact, make_text_artifact
from tests.live import Live, listening

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(f"ADDNORM_{field.upper()}", raising=False)
    monkeypatch.setenv("ADDNORM_ALLOWED_HOSTS", "*")


@pytest.fixture(scope="session")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what takes long to make: all processes of the tests read it."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared"


@pytest.fixture(scope="session")
def text_export(shared_path: Path) -> Export:
    return make_text_artifact(shared_path / "models" / "texts" / "1")


@pytest.fixture(scope="session")
def feature_export(shared_path: Path) -> Export:
    return make_feature_artifact(shared_path / "models" / "signals" / "7")


@pytest.fixture(scope="session")
def text_artifact(text_export: Export) -> Artifact:
    """A LayerNorm encoder in the post placement that reads text."""
    return text_export[0]


@pytest.fixture(scope="session")
def feature_artifact(feature_export: Export) -> Artifact:
    """A BatchNorm encoder in the pre placement that reads sequences of 4 features."""
    return feature_export[0]


@pytest.fixture(scope="session")
def text_encoder(text_artifact: Artifact) -> Encoder:
    return Encoder(text_artifact)


@pytest.fixture(scope="session")
def feature_encoder(feature_artifact: Artifact) -> Encoder:
    return Encoder(feature_artifact)


@pytest.fixture
def text_engine(text_artifact: Artifact) -> Engine:
    return Engine(settings_for(text_artifact))


@pytest.fixture
def feature_engine(feature_artifact: Artifact) -> Engine:
    return Engine(settings_for(feature_artifact))


@pytest.fixture
def client(text_engine: Engine, text_artifact: Artifact) -> Iterator[TestClient]:
    """A service of the text artifact that has answered nothing yet."""
    yield from serve(settings_for(text_artifact), text_engine)


@pytest.fixture
def feature_client(feature_engine: Engine, feature_artifact: Artifact) -> Iterator[TestClient]:
    """A service of the feature artifact that has answered nothing yet."""
    yield from serve(settings_for(feature_artifact), feature_engine)


def settings_for(artifact: Artifact) -> Settings:
    return Settings(model=artifact.path, device="cpu", max_rows=8, max_body_bytes=20_000)


def serve(settings: Settings, engine: Engine) -> Iterator[TestClient]:
    with TestClient(make_app(settings, ModelRegistry(engine)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def live(text_artifact: Artifact, feature_artifact: Artifact) -> Iterator[Live]:
    """A real server over both artifacts, on a port of this machine."""
    settings = settings_for(text_artifact).model_copy(update={"max_body_bytes": 100_000})
    models = ModelRegistry(Engine(settings), Engine(settings.model_copy(update={"model": feature_artifact.path})))
    with listening(settings, models) as live:
        yield live


@pytest.fixture(scope="session")
def embedding_artifact(shared_path: Path) -> Artifact:
    """An adopted encoder of texts: its vectors are means over tokens, and of length 1."""
    return adopted_once(EMBEDDING, shared_path)


@pytest.fixture(scope="session")
def rerank_artifact(shared_path: Path) -> Artifact:
    """An adopted reranker, which reads pairs of texts with token types."""
    return adopted_once(RERANK, shared_path)


@pytest.fixture(scope="session")
def multilabel_artifact(shared_path: Path) -> Artifact:
    """An adopted classifier whose texts may have several labels."""
    return adopted_once(MULTILABEL, shared_path)

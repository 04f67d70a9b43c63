"""Schemathesis over every operation of the document, against real servers; `make fuzz` tries more, and other, cases."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from schemathesis import Case

from runtime.artifact import Artifact
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.repository.control import load_all
from service.settings import EMBEDDED, Settings
from tests.conftest import settings_for
from tests.helpers import TEXTS, publish
from tests.live import Live, listening
from tests.service.api.contract import BOUNDED, CHECKS, JUDGED, aim, is_another_operation, load

REPOSITORY = "^/v2/repository/"
schema = load()
ASKED, ANSWERED = set[str](), set[str]()  # operations, and those that were not only refused


@pytest.fixture(scope="module")
def fixed(text_artifact: Artifact, feature_artifact: Artifact, rerank_artifact: Artifact) -> Iterator[Live]:
    """A service of four models that nobody else asks, with traffic that can become a baseline."""
    settings = settings_for(text_artifact)
    paths = (feature_artifact.path, rerank_artifact.path, EMBEDDED)
    others = (settings.model_copy(update={"model": path}) for path in paths)
    models = ModelRegistry(Engine(settings), *map(Engine, others))
    with listening(settings, models) as live, httpx.Client(base_url=live.url, trust_env=False) as client:
        for number in range(13):
            asked = {"inputs": [f"{text} {number}" for text in TEXTS[:8]], "model": JUDGED["model"]}
            assert client.post("/predict", json=asked).status_code == 200
        assert client.post("/norm-stats/baseline", params=JUDGED).status_code == 200
        yield live


@pytest.fixture(scope="module")
def repository(text_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that loads and unloads."""
    directory: Path = tmp_path_factory.mktemp("repository")
    for version in "12":
        publish(directory, "texts", version, text_artifact)
    settings = Settings(
        models=directory,
        device="cpu",
        workers=1,
        keep_versions=1,
        max_body_bytes=20_000,
        model_control="explicit",
    )
    control = load_all(settings)
    with listening(settings, control.models, control) as live:
        yield live


def ask(live: Live, case: Case) -> None:
    """As it was made up, and again about what there is."""
    ASKED.add(case.operation.label)
    if not is_another_operation(case):
        case.call_and_validate(base_url=live.url, checks=CHECKS)
    aim(case)
    response = case.call_and_validate(base_url=live.url, checks=CHECKS)
    if response.status_code == 200:
        ANSWERED.add(case.operation.label)


@schema.exclude(path_regex=REPOSITORY).parametrize()
@BOUNDED
def test_operation_keeps_its_promises(case: Case, fixed: Live):
    ask(fixed, case)


@schema.include(path_regex=REPOSITORY).parametrize()
@BOUNDED
def test_operation_of_the_repository_keeps_its_promises(case: Case, repository: Live):
    ask(repository, case)


def test_every_operation_was_answered_and_not_only_refused():
    assert set() == ASKED - ANSWERED

import asyncio
from typing import Any, cast

import pytest

from runtime.artifact import Artifact
from runtime.errors import UnknownModel
from service.engine import Engine
from service.models import Models, version_order
from tests.conftest import settings_for


class Named:
    """As much of an engine as Models looks at."""

    def __init__(self, name: str, version: str) -> None:
        self.manifest = type("Manifest", (), {"name": name, "version": version})


def models(*names: tuple[str, str]) -> Models:
    return Models(*(cast(Engine, Named(*name)) for name in names))


def found(engine: Engine) -> tuple[str, str]:
    return engine.manifest.name, engine.manifest.version


def test_highest_version_answers_where_none_is_named():
    several = models(("a", "9"), ("a", "10"), ("b", "1"))
    assert found(several.default) == found(several.find("a")) == ("a", "10")
    assert found(several.find("b")) == ("b", "1")
    assert found(several.find("a", "9")) == ("a", "9")


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("c", None, "There is no model 'c' here, there is a, b."), ("a", "3", "There is no version '3' of a here")],
)
def test_unknown_model_is_told_which_there_are(name: str, version: str | None, message: str):
    with pytest.raises(UnknownModel, match=message):
        models(("a", "9"), ("b", "1")).find(name, version)


def test_versions_sort_by_number():
    assert sorted(["10", "beta", "9", "1"], key=version_order) == ["beta", "1", "9", "10"]


def test_all_models_start_and_close(text_artifact: Artifact, feature_artifact: Artifact):
    both = Models(Engine(settings_for(text_artifact)), Engine(settings_for(feature_artifact)))
    both.start()
    asyncio.run(both.close())
    assert all(engine.batcher.closed for engine in both)


def test_iterating_gives_every_engine():
    names: list[Any] = [("a", "1"), ("b", "1"), ("a", "2")]
    assert sorted(found(engine) for engine in models(*names)) == sorted(names)

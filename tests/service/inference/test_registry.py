import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtime.artifact import Artifact
from runtime.errors import Unavailable, UnknownModel
from runtime.manifest import version_order
from service.batching.batcher import BatchCounters
from service.batching.queue import Answer
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.telemetry.inference_counts import InferenceCounts
from tests.conftest import settings_for


class Named:
    """As much of an engine as Models looks at."""

    def __init__(self, name: str, version: str) -> None:
        self.manifest = type("Manifest", (), {"name": name, "version": version, "digest": f"{name}/{version}"})
        self.counts = InferenceCounts()
        self.batcher = SimpleNamespace(counters=BatchCounters())


def models(*names: tuple[str, str]) -> ModelRegistry:
    return ModelRegistry(*(cast(Engine, Named(*name)) for name in names))


def found(engine: Engine) -> tuple[str, str]:
    return engine.manifest.name, engine.manifest.version


def test_highest_version_answers_where_none_is_named():
    several = models(("a", "9"), ("a", "10"), ("b", "1"))
    assert found(several.default) == found(several.find("a")) == ("a", "10")
    assert found(several.find("b")) == ("b", "1")
    assert found(several.find("a", "9")) == ("a", "9")


def test_engine_that_was_replaced_stays_counted():
    several = models(("a", "1"))
    gone, comes = several.find("a"), cast(Engine, Named("a", "1"))
    several.replace("a", [comes])
    several.replace("a", [])
    for rows, engine in enumerate((gone, comes), start=1):
        engine.counts.answer(rows, *[0.5] * 5)
        engine.batcher.counters.rows += rows
    assert several.counted.changed()["a/1"].rows == 3
    assert [each.rows for each in several.counted.ran] == [1, 2]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("c", None, "There is no model 'c' here, there is a, b."), ("a", "3", "There is no version '3' of a here")],
)
def test_unknown_model_is_told_which_there_are(name: str, version: str | None, message: str):
    with pytest.raises(UnknownModel, match=message):
        models(("a", "9"), ("b", "1")).find(name, version)


def test_versions_sort_by_number():
    assert sorted(["10", "beta", "9", "1"], key=version_order) == ["beta", "1", "9", "10"]


def test_versions_of_a_model_are_replaced_in_one_step():
    several = models(("a", "1"), ("a", "2"), ("b", "1"))
    replacement = [cast(Engine, Named("a", "3")), several.find("a", "2")]
    several.replace("a", replacement)
    assert several.versions("a") == ["2", "3"] and several.default is replacement[0]
    assert several.find(version="2") is replacement[1]
    several.replace("c", [cast(Engine, Named("c", "1"))])
    assert several.names() == ["a", "b", "c"] and found(several.default) == ("a", "3")


def test_default_model_that_is_not_loaded_is_unavailable():
    several = models(("a", "1"), ("b", "1"))
    several.replace("a", [])
    for ask in (lambda: several.default.manifest, lambda: several.find().collector):
        with pytest.raises(Unavailable, match="The default model 'a' is not loaded: load it with POST /v2/"):
            ask()
    with pytest.raises(UnknownModel, match="There is no model 'a' here, there is b"):
        several.find("a")
    assert found(several.find("b")) == ("b", "1")
    several.replace("a", [cast(Engine, Named("a", "2"))])
    assert found(several.default) == ("a", "2")


def test_service_is_full_where_its_only_engine_is_and_is_the_default(text_engine: Engine):
    text_engine.batcher.queue.tokens = 1_000_000
    assert ModelRegistry(text_engine).full
    assert not ModelRegistry(text_engine, default_name="b").full, "what names no model is told that b is not loaded"
    assert not ModelRegistry(text_engine, cast(Engine, Named("a", "1"))).full


def test_default_model_can_be_named_and_may_be_missing():
    assert found(ModelRegistry(*models(("a", "1"), ("b", "1")), default_name="b").default) == ("b", "1")
    with pytest.raises(Unavailable):
        ModelRegistry(default_name="b").default  # noqa: B018


def submit(engine: Engine) -> asyncio.Future[Answer]:
    answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    engine.submit(engine.encode("hi"), answer)
    return answer


def test_replaced_engine_answers_who_holds_it_and_is_gone_then(text_artifact: Artifact):
    several = ModelRegistry(Engine(settings_for(text_artifact)))
    gone = weakref.ref(several.default)

    async def main() -> list[Any]:
        held = several.default
        waiting = [submit(held) for _ in range(20)]
        several.replace("texts", [Engine(settings_for(text_artifact))])
        late = await submit(held)
        del held
        return [late, *await asyncio.gather(*waiting)]

    gc.disable()  # no cycle keeps it
    try:
        assert len(asyncio.run(main())) == 21
        assert gone() is None
    finally:
        gc.enable()


def test_all_models_start_and_close(text_artifact: Artifact, feature_artifact: Artifact):
    both = ModelRegistry(Engine(settings_for(text_artifact)), Engine(settings_for(feature_artifact)))
    both.start()
    asyncio.run(both.close())
    assert all(engine.batcher.closed for engine in both)


def test_iterating_gives_every_engine():
    names: list[Any] = [("a", "1"), ("b", "1"), ("a", "2")]
    assert sorted(found(engine) for engine in models(*names)) == sorted(names)

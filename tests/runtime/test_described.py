"""Docstrings as descriptions, and validators that are built late."""

import asyncio
import importlib
import py_compile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pydantic import BaseModel, Field

from runtime.described import Described, build_models, build_soon, docstring, late_models


class Part(Described):
    size: int
    """Bytes,

    compressed.
    """
    bare: int = 0
    plain: int = Field(0, description="Its own.")
    """Not this."""


class Whole(Part):
    part: Part | None = Field(None, alias="piece")
    """What it is made of."""
    free: Any = None


def test_docstrings_are_descriptions():
    schema = Whole.model_json_schema()
    properties, part = schema["properties"], schema["$defs"]["Part"]["properties"]
    assert part["size"]["description"] == properties["size"]["description"] == "Bytes,\n\ncompressed."
    assert properties["piece"]["description"] == "What it is made of."
    assert part["plain"]["description"] == "Its own."
    assert "description" not in part["bare"]
    assert "description" not in properties["free"]


def test_class_without_source_has_no_descriptions():
    namespace: dict[str, Any] = {"__name__": "builtins", "Described": Described}
    exec("class Made(Described):\n    a: int\n    'Not to be found.'", namespace)
    assert docstring(namespace["Made"], "a") is None


def test_class_of_a_compiled_file_has_no_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, compiled = tmp_path / "source.py", tmp_path / "sourceless.pyc"
    source.write_text('from runtime.described import Described\n\n\nclass Made(Described):\n    a: int\n    """b"""\n')
    py_compile.compile(str(source), str(compiled))
    source.unlink()
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("sourceless").Made
    assert docstring(made, "a") is None
    assert "description" not in made.model_json_schema()["properties"]["a"]


def test_validator_is_built_when_it_is_used():
    class Late(Described):
        size: int

    assert not Late.__pydantic_complete__
    assert Late(size=1).size == 1
    assert Late.__pydantic_complete__


def test_all_that_is_late_can_be_built_step_by_step():
    class Outer(Described):
        part: Part

    class Inner(Outer):
        pass

    steps = sum(1 for _ in build_models())
    assert steps >= 2
    assert Outer.__pydantic_complete__
    assert Inner.__pydantic_complete__
    assert sum(1 for _ in build_models()) == 0


def test_a_loop_builds_what_is_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("runtime.described.PAUSE", 0.0)
    monkeypatch.setattr("runtime.described.gc.freeze", lambda: loop.stop())

    class Later(Described):
        part: Part

    loop = asyncio.new_event_loop()
    build_soon(loop)
    assert not Later.__pydantic_complete__
    loop.run_forever()
    loop.close()
    assert Later.__pydantic_complete__


def test_threads_that_use_a_model_first_all_build_it_well():
    for _ in range(20):

        class Shared(Part):
            more: int

        together = Barrier(4)

        def use(model: type[Shared] = Shared, together: Barrier = together) -> int:
            together.wait()
            return model.model_validate({"size": 1, "more": 2}).more

        with ThreadPoolExecutor(4) as threads:
            assert [each.result() for each in [threads.submit(use) for _ in range(4)]] == [2] * 4


def test_models_of_others_are_late_only_meanwhile():
    with late_models():

        class Foreign(BaseModel):
            a: int

    class Own(BaseModel):
        a: int

    assert not Foreign.__pydantic_complete__
    assert Own.__pydantic_complete__
    with pytest.raises(ValueError, match="valid integer"):
        Foreign.model_validate({"a": "x"})

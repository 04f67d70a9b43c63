"""What methods answer, without a server; test_calls.py has calls to one."""

import asyncio
from typing import Any

import pytest
from grpc_reflection.v1alpha.reflection import SERVICE_NAME
from pydantic import ValidationError

from runtime.errors import InvalidInput
from service.api.v2.grpc.answers import Answers
from service.api.v2.grpc.call import Caller
from service.api.v2.grpc.messages import POOL, SERVICES, message
from service.api.v2.grpc.parameters import MOST
from service.api.v2.grpc.server import HEALTH
from service.api.v2.metadata import EXTENSIONS
from service.http.admission import Admission
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.settings import Settings
from service.telemetry.counters import RequestCounters
from tests.service.api.v2.grpc.test_status import Context


class Loads:
    """Notes what is to be loaded and unloaded."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def load(self, name: str, version: str | None) -> None:
        self.asked.append((name, str(version)))

    async def unload(self, name: str) -> None:
        self.asked.append((name,))


def answers(models: ModelRegistry | None = None, **settings: Any) -> Answers:
    chosen = Settings(model_control="explicit", **settings)
    admission = Admission(chosen, RequestCounters())
    return Answers(chosen, models or ModelRegistry(), Loads(), admission, None)  # type: ignore[arg-type]


def change(what: str, **parameters: Any) -> list[tuple[str, ...]]:
    """What is asked of the repository by a message with these parameters, each as (field, value)."""
    asked = answers()
    request = message(f"inference.RepositoryModel{what.title()}Request")(model_name="a")
    for name, (field, value) in parameters.items():
        setattr(request.parameters[name], field, value)
    asyncio.run(getattr(asked, what)(request, Caller(Context())))
    return asked.control.asked  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("given", "version"),
    [(("string_param", "3"), "3"), (("int64_param", 3), "3"), (("bytes_param", b"3"), "3")],
)
def test_the_version_to_load_is_taken_as_over_http(given: tuple[str, Any], version: str):
    assert change("load", version=given) == [("a", version)]
    assert change("load") == [("a", "None")]
    assert change("unload", unload_dependents=("bool_param", True)) == [("a",)]


@pytest.mark.parametrize(
    ("what", "parameters", "words"),
    [
        ("load", {"version": ("bool_param", True)}, "parameters.version"),
        ("load", {"version": ("bytes_param", b"\xff")}, "parameters.version"),
        ("load", {"verzion": ("string_param", "1")}, "parameters.verzion"),
        ("load", {"config": ("string_param", "{}")}, "parameters.config"),
        ("load", {"file:1/model.onnx": ("bytes_param", b"x")}, "parameters.file:1/model.onnx"),
        ("unload", {"version": ("string_param", "1")}, "parameters.version"),
        ("unload", {"unload_dependents": ("string_param", "yes")}, "parameters.unload_dependents"),
    ],
)
def test_parameters_that_http_refuses_are_refused(what: str, parameters: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        change(what, **parameters)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])).startswith(words)


def test_parameters_without_end_are_refused_by_their_number():
    with pytest.raises(InvalidInput, match=f"{MOST + 1} parameters are there, expected at most {MOST}"):
        change("load", **{f"p{number}": ("bool_param", True) for number in range(MOST + 1)})


def test_a_model_that_is_not_there_is_not_ready(text_engine: Engine):
    def ready(models: ModelRegistry, **named: str) -> bool:
        asked = answers(models).model_ready(message("inference.ModelReadyRequest")(**named), Caller(Context()))
        return bool(asyncio.run(asked).ready)

    loaded = ModelRegistry(text_engine)
    assert ready(loaded) and ready(loaded, name="texts") and ready(loaded, name="texts", version="1")
    assert not ready(loaded, name="nope") and not ready(loaded, name="texts", version="2")
    assert not ready(ModelRegistry(default_name="texts"))


@pytest.mark.parametrize(("control", "more"), [("none", []), ("explicit", ["model_repository"])])
def test_the_repository_is_an_extension_where_models_are_loaded(control: Any, more: list[str]):
    asked = answers()
    asked.settings = Settings(model_control=control)
    found = asyncio.run(asked.server_metadata(None, Caller(Context())))
    assert list(found.extensions) == sorted([*EXTENSIONS, *more])


def test_every_service_that_reflection_lists_is_described():
    for name in (*SERVICES, HEALTH, SERVICE_NAME):
        assert POOL.FindServiceByName(name).methods
        assert POOL.FindFileContainingSymbol(name).name

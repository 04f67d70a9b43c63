"""Models whose fields have docstrings, at no cost where nobody asks for a description or validates with the model.

pydantic's own `use_attribute_docstrings` reads the source of every class when it is defined: a tenth of a start.
"""

import ast
import gc
import inspect
import sys
from asyncio import AbstractEventLoop
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler

BUILDING = RLock()
PAUSE = 0.02  # seconds between two that are built once the service answers


class Described(BaseModel):
    """A field's docstring is its description in JSON schemas; the validator is built when it is first used."""

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """What the first use calls, of two threads maybe: a class has no validator of its own while one builds it."""
        with BUILDING:
            return super().model_rebuild(**options)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        document = handler(core_schema)
        properties = handler.resolve_ref_schema(document).get("properties", {})
        for name, field in cls.model_fields.items():
            text = docstring(cls, name)
            for key in {name, field.alias, field.serialization_alias, field.validation_alias} & properties.keys():
                if text is not None:
                    properties[key].setdefault("description", text)
        return document


def build_models() -> Iterator[None]:
    """Builds the validators that are not built yet, one at each step; parts come first: they are declared before."""
    waiting: list[type[Described]] = [Described]
    for model in waiting:
        waiting += model.__subclasses__()
        if not model.__pydantic_complete__:
            model.model_rebuild()
            yield


def build_soon(loop: AbstractEventLoop) -> None:
    """Builds them in `loop`, a few ms at a time, so that nobody has to wait for them later."""
    steps = build_models()

    def build() -> None:
        if next(steps, steps) is None:
            loop.call_later(PAUSE, build)
        else:
            gc.freeze()  # they stay

    loop.call_later(PAUSE, build)


@contextmanager
def late_models() -> Iterator[None]:
    """Models that are declared meanwhile, those of libraries too, have their validators built at first use."""
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]


def docstring(model: type[BaseModel], field: str) -> str | None:
    """What stands below the declaration of a field, in `model` or in what it inherits from."""
    for declaring in model.__mro__:
        if field in inspect.get_annotations(declaring):
            return docstrings(declaring.__module__).get(declaring.__qualname__, {}).get(field)
    return None


@cache
def docstrings(module: str) -> dict[str, dict[str, str]]:
    """Of each class at the top of a module, by the name of the attribute; none where there is no source."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        tree = ast.parse(Path(file or "").read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):  # compiled: there are none to read
        return {}
    return {node.name: dict(of_class(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def of_class(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for statement, after in zip(node.body, node.body[1:], strict=False):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)

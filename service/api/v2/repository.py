"""The model repository, as the extension of the Open Inference Protocol has it: what there is, load, unload.

Bodies may be missing, and are JSON whatever their Content-Type, as in the protocol's own clients.
"""

from typing import Literal, TypeVar

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ValidationError

from runtime.errors import Forbidden
from service.http.admission import ChangeGuard
from service.http.errors import invalid_request
from service.http.openapi import GONE, GUARDED, error, json_body
from service.repository.control import Control
from service.schemas.models import IndexEntry, IndexRequest, LoadRequest, UnloadRequest

BAD = error(400, "The body cannot be used, or there is no model repository")
UNKNOWN = error(404, "No such model or version")
BROKEN = error(409, "What lies there cannot be served; nothing was changed")
FAILED = error(503, "A worker ended meanwhile, or the service is stopping; nothing was changed")
Read = TypeVar("Read", bound=BaseModel)


def add_repository(
    app: FastAPI, control: Control, guard: ChangeGuard, model_control: Literal["none", "explicit"]
) -> None:
    """Adds the routes.

    Args:
        model_control: whether models may be loaded and unloaded.
    """

    def allowed() -> None:
        if model_control != "explicit":
            message = "Models are not loaded over HTTP here: start the service with `--model-control explicit`."
            raise Forbidden("model_control_off", message)

    guarded = [Depends(guard), Depends(allowed)]

    @app.post("/v2/repository/index", responses=BAD | GONE, openapi_extra=json_body(IndexRequest, required=False))
    async def repository_index(request: Request) -> list[IndexEntry]:
        """Every model and version, and whether it answers."""
        asked = await read(request, IndexRequest)
        return [IndexEntry.model_validate(entry) for entry in await control.index(asked.ready)]

    @app.post(
        "/v2/repository/models/{name}/load",
        responses=BAD | GUARDED | UNKNOWN | BROKEN | FAILED,
        dependencies=guarded,
        openapi_extra=json_body(LoadRequest, required=False),
    )
    async def load(name: str, request: Request) -> dict[str, str]:
        """Serves a model's highest versions as they lie on disk, or one version more; no request is dropped."""
        version = (await read(request, LoadRequest)).parameters.version
        await control.load(name, None if version is None else str(version))
        return {}

    @app.post(
        "/v2/repository/models/{name}/unload",
        responses=BAD | GUARDED | UNKNOWN | FAILED,
        dependencies=guarded,
        openapi_extra=json_body(UnloadRequest, required=False),
    )
    async def unload(name: str, request: Request) -> dict[str, str]:
        """Serves a model no more; what was accepted is answered."""
        await read(request, UnloadRequest)
        await control.unload(name)
        return {}


async def read(request: Request, kind: type[Read]) -> Read:
    """The request's body, or an empty one."""
    try:
        return kind.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise invalid_request(error) from None

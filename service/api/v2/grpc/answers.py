"""All methods but inference: what the server and its models say, and the model repository."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.json_format import ParseDict
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from runtime.errors import Forbidden, Unavailable, UnknownModel
from service.api.norm_stats import Reports
from service.api.v2.grpc.call import Caller
from service.api.v2.grpc.messages import PACKAGE, POOL, message
from service.api.v2.grpc.parameters import parameters_of
from service.api.v2.metadata import model_config, model_metadata, model_statistics, server_metadata
from service.api.v2.schemas import StatisticsResponse
from service.http.admission import Admission, Subject
from service.inference.engine import Engine
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import AUTO, AllLayers, OneLayer, WindowQuery
from service.repository.control import Control
from service.schemas.models import LoadRequest, UnloadRequest
from service.settings import Settings
from service.telemetry.aggregator import Reporter

NOT_HERE = "Models are not loaded over gRPC here: start the service with `--model-control explicit`."
Respond = Callable[[Any, Caller], Awaitable[Any]]
Read = TypeVar("Read", bound=BaseModel)


class Answers:
    """Answers by the same functions as HTTP.

    Args:
        admission: says who may change something.
        reporter: has what all workers counted.
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        control: Control,
        admission: Admission,
        reporter: Reporter,
    ) -> None:
        self.settings, self.models, self.control = settings, models, control
        self.admission, self.reporter, self.reports = admission, reporter, Reports()

    def methods(self) -> Mapping[str, tuple[Subject, Respond]]:
        """What each method asks for, and what answers it."""
        return {
            "ServerLive": ("health", self.server_live),
            "ServerReady": ("health", self.server_ready),
            "ModelReady": ("reads", self.model_ready),
            "ServerMetadata": ("reads", self.server_metadata),
            "ModelMetadata": ("reads", self.model_metadata),
            "ModelConfig": ("reads", self.model_config),
            "ModelStatistics": ("reads", self.model_statistics),
            "RepositoryIndex": ("reads", self.repository_index),
            "RepositoryModelLoad": ("changes", self.load),
            "RepositoryModelUnload": ("changes", self.unload),
        }

    def find(self, name: str, version: str) -> Engine:
        return self.models.find(name or None, version or None)

    async def server_live(self, _request: Any, _caller: Caller) -> Any:
        return message(f"{PACKAGE}.ServerLiveResponse")(live=True)

    async def server_ready(self, _request: Any, _caller: Caller) -> Any:
        return message(f"{PACKAGE}.ServerReadyResponse")(ready=await self.is_ready())

    async def is_ready(self) -> bool:
        """Whether the service is not stopping."""
        try:
            await run_in_threadpool(self.reporter.sink.check_ready)  # a worker asks its parent
        except Unavailable:
            return False
        return True

    async def model_ready(self, request: Any, _caller: Caller) -> Any:
        try:
            self.find(request.name, request.version)
        except (UnknownModel, Unavailable):
            return message(f"{PACKAGE}.ModelReadyResponse")(ready=False)
        return message(f"{PACKAGE}.ModelReadyResponse")(ready=True)

    async def server_metadata(self, _request: Any, _caller: Caller) -> Any:
        return told("ServerMetadataResponse", server_metadata(self.settings))

    async def model_metadata(self, request: Any, _caller: Caller) -> Any:
        return told("ModelMetadataResponse", model_metadata(self.models, self.find(request.name, request.version)))

    async def model_config(self, request: Any, _caller: Caller) -> Any:
        config = model_config(self.find(request.name, request.version)).model_dump()
        return parsed("ModelConfigResponse", {"config": config})

    async def model_statistics(self, request: Any, _caller: Caller) -> Any:
        engines = list(self.models)
        if request.name:
            versions = [request.version] if request.version else self.models.versions(request.name)
            engines = [self.models.find(request.name, each) for each in versions or [None]]
        inferences = await self.reporter.inferences()
        found = StatisticsResponse(model_stats=[model_statistics(engine, inferences) for engine in engines])
        return told("ModelStatisticsResponse", found)

    async def repository_index(self, request: Any, _caller: Caller) -> Any:
        return parsed("RepositoryIndexResponse", {"models": await self.control.index(request.ready)})

    async def load(self, request: Any, caller: Caller) -> Any:
        self.check_change(caller)
        version = body_of(request, LoadRequest).parameters.version
        await self.control.load(request.model_name, None if version is None else str(version))
        return message(f"{PACKAGE}.RepositoryModelLoadResponse")()

    async def unload(self, request: Any, caller: Caller) -> Any:
        self.check_change(caller)
        body_of(request, UnloadRequest)
        await self.control.unload(request.model_name)
        return message(f"{PACKAGE}.RepositoryModelUnloadResponse")()

    def check_change(self, caller: Caller) -> None:
        self.admission.guard.keys.check_change(caller.headers)
        if self.settings.model_control != "explicit":
            raise Forbidden("model_control_off", NOT_HERE)

    async def norm_statistics(self, request: Any, _caller: Caller) -> Any:
        """The report that GET /norm-stats gives, as a Struct."""
        engine = self.find(request.model_name, request.model_version)
        start, end = getattr(request, "from") or None, request.to or None
        named = request.window or (AUTO if start is end is None else None)
        window = WindowQuery(named, start, end)
        query = OneLayer(window, request.layer) if request.layer else AllLayers(window)
        answer = await self.reports.answer(engine.collector, query)
        return ParseDict(json.loads(bytes(answer.body)), struct())

    async def report(self, engine: Engine) -> bytes:
        """The JSON of GET /norm-stats of the present."""
        answer = await self.reports.answer(engine.collector, AllLayers(WindowQuery(AUTO)))
        return bytes(answer.body)


def body_of(request: Any, kind: type[Read]) -> Read:
    """What the body of the same request over HTTP says."""
    return kind.model_validate({"parameters": parameters_of(request.parameters)})


def struct() -> Any:
    """An empty Struct of the pool of our messages."""
    return message("google.protobuf.Struct")()


def told(name: str, content: BaseModel) -> Any:
    """What HTTP answers with, as a message."""
    return parsed(name, content.model_dump())


def parsed(name: str, content: dict[str, Any]) -> Any:
    return ParseDict(content, message(f"{PACKAGE}.{name}")(), ignore_unknown_fields=True, descriptor_pool=POOL)

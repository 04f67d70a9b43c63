"""The normalization statistics of a model: of the default one, or of that which is named."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi import Query as Parameter
from fastapi.responses import Response
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from runtime.errors import UnknownModel
from service.http.admission import ChangeGuard
from service.http.bodies import JSONBytes
from service.http.openapi import GUARDED, NOT_LOADED_OR_GONE, ModelName, ModelVersion, error
from service.inference.registry import ModelRegistry
from service.norm_stats.interface import (
    AUTO,
    NAMES,
    VERSION,
    AllLayers,
    Comparison,
    DropBaseline,
    History,
    MergeableState,
    OneLayer,
    Query,
    Shared,
    Statistics,
    TakeBaseline,
    WindowQuery,
)
from service.norm_stats.pool import RETIRED
from service.schemas.norm_stats import LayerResponse, NormStatsResponse
from service.schemas.windows import BaselineResponse, CompareResponse, HistoryResponse

BAD_WINDOW = error(400, "No such window of time")
CONFLICT = error(409, "There is nothing to undo")
OF_MODEL = error(404, "No such model, version or layer") | NOT_LOADED_OR_GONE
ASKED = BAD_WINDOW | OF_MODEL
NAME = {"type": "string", "enum": list(NAMES)}
TIME = {
    "anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1e11}, {"type": "string", "format": "date-time"}]
}
WINDOW_OR_VERSION = {"anyOf": [NAME, {"type": "string", "pattern": f"^{VERSION}.+$"}]}
WindowName = Annotated[
    str | None,
    WithJsonSchema(NAME),
    Parameter(
        alias="window", description="auto (the last hour, or 1,000 requests where that is longer), 5m, 1h, 24h, all"
    ),
]
WindowStart = Annotated[
    str | None, WithJsonSchema(TIME), Parameter(alias="from", description="ISO 8601 or Unix seconds, instead of window")
]
WindowEnd = Annotated[
    str | None,
    WithJsonSchema(TIME),
    Parameter(alias="to", description="ISO 8601 or Unix seconds; now where it is missing"),
]
Against = Annotated[
    str, WithJsonSchema(WINDOW_OR_VERSION), Parameter(description="5m, 1h, 24h (the default), all, or version:N")
]


ScopeName = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "enum": ["fleet", "replica"]}),
    Parameter(alias="scope", description="fleet, the default where several replicas share statistics, or replica"),
]


Since = Annotated[int, Parameter(ge=0)]


async def _window_query(
    window: WindowName = None, start: WindowStart = None, end: WindowEnd = None, scope: ScopeName = None
) -> WindowQuery:
    return WindowQuery(window, start, end, scope)


async def _present_query(
    window: WindowName = None, start: WindowStart = None, end: WindowEnd = None, scope: ScopeName = None
) -> WindowQuery:
    return WindowQuery(AUTO if window is start is end is None else window, start, end, scope)


Window = Annotated[WindowQuery, Depends(_window_query)]  # all traffic where none is named
PresentWindow = Annotated[WindowQuery, Depends(_present_query)]  # auto where none is named

REST, LONGEST_REST = 3.0, 0.1  # times a question's own time, and seconds, before the next one begins


class Reports:
    """Asks for statistics in threads, one question at a time and at most a quarter of the time.

    The event loop answers predictions meanwhile: a flood of questions must not take its core.
    """

    def __init__(self) -> None:
        self._lock, self._rested = asyncio.Lock(), 0.0

    async def answer(self, statistics: Statistics, query: Query) -> Response:
        """The answer as it comes, JSON; raises AddNormError where there is none."""
        return JSONBytes(await self.ask(statistics, query))

    async def ask(self, statistics: Statistics, query: Query) -> bytes:
        """The answer as it comes; raises AddNormError where there is none."""
        async with self._lock:
            await asyncio.sleep(max(0.0, self._rested - time.monotonic()))
            started = time.monotonic()
            try:
                return await run_in_threadpool(statistics.report, query)
            finally:
                now = time.monotonic()
                self._rested = now + min(REST * (now - started), LONGEST_REST)


def add_exchange(app: FastAPI, models: ModelRegistry) -> None:
    """What peers ask one another: for services that name some, and no stranger's to read elsewhere."""
    exchanges = Reports()  # other replicas wait for no page, and pages for no replica
    known: dict[str, Statistics] = {}  # by digest: also of what was swapped out, for what was counted at the very last

    # Not in the documents: what replicas tell one another has a format of its own (runtime/store/shares.py).
    @app.get("/norm-stats/exchange", include_in_schema=False)
    async def norm_stats_exchange(digest: str, replica: str = "", since: Since = 0) -> Response:
        """What this replica counted since the sequence that it gave, for the other replicas of a fleet."""
        served = {each.manifest.digest: each.collector for each in models}
        retired = [each for each in known if each not in served][-RETIRED:]  # as many as the pool keeps open
        kept = {each: known[each] for each in retired} | served
        known.clear()
        known.update(kept)
        if (collector := known.get(digest)) is None:
            raise UnknownModel(f"This service serves no artifact of digest {digest[:16]!r}.")
        content = await exchanges.ask(collector, Shared(replica, since))
        return Response(content, media_type="application/octet-stream")


def add_statistics(app: FastAPI, models: ModelRegistry, guard: ChangeGuard, reports: Reports) -> None:
    async def of_model(model: ModelName = None, version: ModelVersion = None) -> Statistics:
        return models.find(model, version).collector

    OfModel = Annotated[Statistics, Depends(of_model)]

    @app.get("/norm-stats", responses=ASKED, response_model=NormStatsResponse)
    async def norm_stats_of_all_layers(collector: OfModel, query: PresentWindow) -> Response:
        """What flowed into every normalization layer, beside the baseline, and whether it looks as it did there.

        Of the present, unless a window is named: the last hour, or the last 1,000 requests where that is longer.
        """
        return await reports.answer(collector, AllLayers(query))

    @app.get("/norm-stats/state", responses=ASKED, response_model=dict[str, Any])
    async def norm_stats_state(collector: OfModel, query: Window) -> Response:
        """The mergeable state behind the numbers: `addnorm stats merge` adds up those of several hosts."""
        return await reports.answer(collector, MergeableState(query))

    @app.get("/norm-stats/compare", responses=ASKED, response_model=CompareResponse)
    async def norm_stats_compare(collector: OfModel, query: Window, against: Against = "24h") -> Response:
        """Effect sizes of a window of traffic against another, or against what another version saw."""
        return await reports.answer(collector, Comparison(query, against))

    @app.get("/norm-stats/history", responses=ASKED, response_model=HistoryResponse)
    async def norm_stats_history(collector: OfModel, query: Window) -> Response:
        """A window slice by slice: how far the input, every layer and the output depart in each."""
        return await reports.answer(collector, History(query))

    guarded = [Depends(guard)]

    @app.post("/norm-stats/baseline", responses=ASKED | GUARDED, dependencies=guarded, response_model=BaselineResponse)
    async def take_baseline(collector: OfModel, query: Window) -> Response:
        """Makes a window of live traffic the baseline; the one before is kept, and DELETE goes back to it."""
        return await reports.answer(collector, TakeBaseline(query))

    @app.delete(
        "/norm-stats/baseline",
        responses=OF_MODEL | GUARDED | CONFLICT,
        dependencies=guarded,
        response_model=BaselineResponse,
    )
    async def drop_baseline(collector: OfModel) -> Response:
        """Goes back to the baseline before."""
        return await reports.answer(collector, DropBaseline())

    @app.get("/norm-stats/{layer}", responses=ASKED, response_model=LayerResponse)
    async def norm_stats_of_one_layer(layer: str, collector: OfModel, query: PresentWindow) -> Response:
        """The same for one layer, by its name."""
        return await reports.answer(collector, OneLayer(query, layer))

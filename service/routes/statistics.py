"""The normalization statistics of the default model."""

from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import Response

from service.collector import Asked
from service.history_schemas import HistoryResponse
from service.keys import ApiKeys
from service.models import Models
from service.routes.common import GUARDED, JSONBytes, error
from service.statistics_schemas import BaselineResponse, CompareResponse, LayerResponse, NormStatsResponse

BAD_WINDOW = error(400, "No such window of time")
CONFLICT = error(409, "There is nothing to undo")
UNKNOWN = error(404, "No such layer")
WindowName = Annotated[str | None, Query(alias="window", description="5m, 1h, 24h or all (the default)")]
WindowStart = Annotated[str | None, Query(alias="from", description="ISO 8601 or Unix seconds, instead of window")]
WindowEnd = Annotated[str | None, Query(alias="to", description="ISO 8601 or Unix seconds; now where it is missing")]
Against = Annotated[str, Query(description="5m, 1h, 24h (the default), all, or version:N")]


async def _asked(window: WindowName = None, start: WindowStart = None, end: WindowEnd = None) -> Asked:
    return Asked(window, start, end)


AskedWindow = Annotated[Asked, Depends(_asked)]


def add_statistics(app: FastAPI, models: Models, keys: ApiKeys) -> None:
    """The routes are plain functions: they run in threads, beside the event loop that answers predictions."""

    @app.get("/norm-stats", responses=BAD_WINDOW, response_model=NormStatsResponse)
    def norm_stats_of_all_layers(asked: AskedWindow) -> Response:
        """What flowed into every normalization layer, beside the baseline, and whether it looks as it did there."""
        return JSONBytes(models.default.collector.all_layers(asked))

    @app.get("/norm-stats/state", responses=BAD_WINDOW)
    def norm_stats_state(asked: AskedWindow) -> Response:
        """The mergeable state behind the numbers: `addnorm stats merge` adds up those of several hosts."""
        return JSONBytes(models.default.collector.state(asked))

    @app.get("/norm-stats/compare", responses=BAD_WINDOW, response_model=CompareResponse)
    def norm_stats_compare(asked: AskedWindow, against: Against = "24h") -> Response:
        """Effect sizes of a window of traffic against another, or against what another version saw."""
        return JSONBytes(models.default.collector.compare(asked, against))

    @app.get("/norm-stats/history", responses=BAD_WINDOW, response_model=HistoryResponse)
    def norm_stats_history(asked: AskedWindow) -> Response:
        """A window slice by slice: how far the input, every layer and the output depart in each."""
        return JSONBytes(models.default.collector.history(asked))

    guard = [Depends(keys)]

    @app.post(
        "/norm-stats/baseline", responses=BAD_WINDOW | GUARDED, dependencies=guard, response_model=BaselineResponse
    )
    def take_baseline(asked: AskedWindow) -> Response:
        """Makes a window of live traffic the baseline; the one before is kept, and DELETE goes back to it."""
        return JSONBytes(models.default.collector.take_baseline(asked))

    @app.delete(
        "/norm-stats/baseline", responses=GUARDED | CONFLICT, dependencies=guard, response_model=BaselineResponse
    )
    def drop_baseline() -> Response:
        """Goes back to the baseline before."""
        return JSONBytes(models.default.collector.drop_baseline())

    @app.get("/norm-stats/{layer}", responses=BAD_WINDOW | UNKNOWN, response_model=LayerResponse)
    def norm_stats_of_one_layer(layer: str, asked: AskedWindow) -> Response:
        """The same for one layer, by its name."""
        return JSONBytes(models.default.collector.one_layer(asked, layer))

"""Bodies about windows of traffic: history, comparison, and baselines taken from one."""

from typing import Literal

from pydantic import ConfigDict, Field

from service.schemas.base import Body
from service.schemas.norm_stats import BaselineSource, Window


class Slice(Body):
    """The requests of a slice of time, judged by themselves."""

    start: str = Field(alias="from")
    """UTC, ISO 8601."""
    requests: int
    state: Literal["ok", "mix_shift", "drift", "insufficient_data"]
    departures: list[float] | None
    """Score / threshold of every row: above 1 it departs. Null where there are too few requests to judge."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class HistoryResponse(Body):
    """A window of traffic slice by slice, in slices as short as its traffic can be judged in, at most 60."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    model: str
    version: str
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    slice_seconds: int
    rows: list[str]
    """input, the layers, output, what all layers share, and unlikeness."""
    slices: list[Slice]
    """Oldest first; those without traffic are left out, and all where the baseline cannot judge."""


class LayerComparison(Body):
    """How far one layer's traffic lies from that of another window."""

    name: str
    mean_shift: float | None
    log_variance_ratio: float | None
    wasserstein: float | None
    psi: float | None


class CompareResponse(Body):
    """One window of traffic against another one, or against what another version of the model saw."""

    model: str
    version: str
    window: Window
    against_version: str
    against: Window
    layers: list[LayerComparison]
    """In network order, those that both have; null where one of the windows saw no token."""


class BaselineResponse(Body):
    """The baseline that is in force now."""

    model: str
    version: str
    baseline: BaselineSource
    kept: int
    """Live baselines that can be undone, this one included."""

"""States as JSON: what a service hands out, what hosts merge, what a baseline stores. Histograms are sparse."""

import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from runtime.errors import StateError
from runtime.histogram import BUCKETS
from runtime.manifest import Manifest
from runtime.moments import Moments
from runtime.statistics import NormState, Traffic
from runtime.windows import Span

FORMAT = 1
UNUSABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class StateDocument:
    """A state, the model it belongs to and the time it covers (Unix seconds).

    Attributes:
        digest: of the model's manifest; only states of the same digest merge.
    """

    model: str
    version: str
    digest: str
    covered: Span
    state: NormState

    @classmethod
    def of(cls, manifest: Manifest, covered: Span, state: NormState) -> Self:
        return cls(manifest.name, manifest.version, manifest.digest, covered, state)

    def check(self, manifest: Manifest, source: str) -> Self:
        """This document, if its state is one of `manifest`'s model.

        Raises:
            StateError: it belongs to another model, or its parts have other sizes.
        """
        if self.digest != manifest.digest:
            mine, theirs = f"{manifest.name} version {manifest.version}", f"{self.model} version {self.version}"
            raise StateError(f"{source} is a state of {theirs}, not of this {mine}: give states of one artifact.")
        columns, traffic = 2 * len(manifest.layers), self.state.traffic
        sizes = (len(self.state.histograms), len(traffic.counts), len(traffic.totals))
        if sizes not in ((columns, 0, 0), (columns, len(manifest.labels), columns + 2)):
            raise StateError(f"{source} does not fit the layers and labels of its model: it was altered.")
        return self

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            "from": self.covered.start,
            "to": self.covered.end,
            "state": state_to_dict(self.state),
        }

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Self:
        """Reads a document.

        Args:
            source: where it came from, for the error.

        Raises:
            StateError: it is not a state of this format.
        """
        try:
            raw = json.loads(content)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']}")
            covered, state = Span(float(raw["from"]), float(raw["to"])), state_from_dict(raw["state"])
            return cls(str(raw["model"]), str(raw["version"]), str(raw["digest"]), covered, state)
        except UNUSABLE as error:
            raise StateError(
                f"{source} is not a state of format {FORMAT} ({error}): take one from GET /norm-stats/state."
            ) from error

    def merge(self, other: Self) -> Self:
        """Both together; they belong to one model (`check`)."""
        covered = Span(min(self.covered.start, other.covered.start), max(self.covered.end, other.covered.end))
        return type(self)(self.model, self.version, self.digest, covered, self.state.merge(other.state))


def state_to_dict(state: NormState) -> dict[str, Any]:
    return {
        "requests": state.requests,
        "tokens": state.tokens,
        "moments": moments_to_dict(state.moments),
        "histograms": [{str(i): int(counts[i]) for i in np.flatnonzero(counts)} for counts in state.histograms],
        "features": {str(layer): moments_to_dict(moments) for layer, moments in state.features.items()},
        "traffic": {"counts": state.traffic.counts.tolist(), "totals": state.traffic.totals.tolist()},
    }


def state_from_dict(raw: dict[str, Any]) -> NormState:
    """Raises ValueError, KeyError, TypeError, AttributeError or IndexError where `raw` is not a state."""
    histograms = np.zeros((len(raw["histograms"]), BUCKETS), dtype=np.int64)
    for column, counts in enumerate(raw["histograms"]):
        histograms[column, [int(i) for i in counts]] = list(counts.values())
    moments = moments_from_dict(raw["moments"])
    if len(moments.count) != len(histograms):
        raise ValueError(f"{len(moments.count)} moments for {len(histograms)} histograms")
    traffic = Traffic(
        np.array(raw["traffic"]["counts"], dtype=np.int64), np.array(raw["traffic"]["totals"], dtype=float)
    )
    return NormState(
        int(raw["requests"]),
        int(raw["tokens"]),
        moments,
        histograms,
        {int(layer): moments_from_dict(features) for layer, features in raw["features"].items()},
        traffic,
    )


def moments_to_dict(moments: Moments) -> dict[str, Any]:
    """Infinite extremes, which columns without a value have, become null."""
    lists = {name: getattr(moments, name).tolist() for name in Moments.__slots__}
    return {name: [None if abs(value) == np.inf else value for value in values] for name, values in lists.items()}


def moments_from_dict(raw: dict[str, Any]) -> Moments:
    count = np.array(raw["count"], dtype=np.int64)
    mean, m2 = (np.array(raw[name], dtype=np.float64) for name in ("mean", "m2"))
    low = np.array([np.inf if value is None else value for value in raw["minimum"]], dtype=np.float64)
    high = np.array([-np.inf if value is None else value for value in raw["maximum"]], dtype=np.float64)
    if {len(column) for column in (mean, m2, low, high)} != {len(count)}:
        raise ValueError("moments of different lengths")
    return Moments(count, mean, m2, low, high)

"""States as JSON: what a service hands out, what hosts merge, what a baseline stores. Histograms are sparse."""

import json
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from runtime.errors import StateError
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.state import NormState, SparseState
from runtime.statistics.traffic import Traffic
from runtime.statistics.windows import Span
from runtime.store.checks import (
    UNUSABLE,
    belongs,
    check_counts,
    check_histograms,
    checked_deep,
    checked_moments,
    checked_span,
    checked_traffic,
)

FORMAT, READ = 3, (2, 3)  # what is written, and what can be read: 2 has neither repeats nor sums by class


@dataclass(frozen=True, slots=True)
class StateDocument:
    """A state, the model it belongs to and the time it covers (Unix seconds).

    Attributes:
        digest: of the model's manifest; only states of the same digest merge.
        layers: names of the norms, in network order.
    """

    model: str
    version: str
    digest: str
    layers: list[str]
    covered: Span
    state: NormState
    deep: DeepState | None = None

    @classmethod
    def of(cls, manifest: Manifest, covered: Span, state: NormState, deep: DeepState | None = None) -> Self:
        return cls(manifest.name, manifest.version, manifest.digest, manifest.layer_names, covered, state, deep)

    def check(self, manifest: Manifest, source: str) -> Self:
        """This document, if its state is one of `manifest`'s model.

        Raises:
            StateError: it belongs to another model, or its parts have other sizes.
        """
        if self.digest != manifest.digest:
            mine, theirs = f"{manifest.name} version {manifest.version}", f"{self.model} version {self.version}"
            raise StateError(f"{source} is a state of {theirs}, not of this {mine}: give states of one artifact.")
        if not belongs(self.state, manifest):
            raise StateError(f"{source} does not fit the layers and labels of its model: it was altered.")
        if self.deep is not None and not belongs(self.deep, manifest):
            raise StateError(f"{source} does not fit the features of its model: it was altered.")
        return self

    def head(self) -> dict[str, Any]:
        """All but the states."""
        return {
            "format": FORMAT,
            "model": self.model,
            "version": self.version,
            "digest": self.digest,
            "layers": self.layers,
            "from": self.covered.start,
            "to": self.covered.end,
        }

    def to_dict(self) -> dict[str, Any]:
        deep = deep_to_dict(self.deep) if self.deep else None
        return self.head() | {"state": state_to_dict(self.state), "deep": deep}

    @classmethod
    def from_head(cls, content: bytes, form: int, source: str) -> Self:
        """What `head` gave, as JSON of that format, with an empty state. Raises StateError where it is none."""
        try:
            raw = json.loads(content)
            if raw["format"] != form:
                raise ValueError(f"format {raw['format']}")
            return cls(*_head_of(raw), NormState.empty([]))
        except UNUSABLE as error:
            raise StateError(f"{source} is not a state of format {form} ({error}).") from error

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
            if raw["format"] not in READ:
                raise ValueError(f"format {raw['format']}")
            deep = deep_from_dict(raw["deep"]) if raw["deep"] else None
            return cls(*_head_of(raw), state_from_dict(raw["state"]), deep)
        except UNUSABLE as error:
            raise StateError(
                f"{source} is not a state of format {FORMAT} ({error}): take one from GET /norm-stats/state."
            ) from error

    def merge(self, other: Self) -> Self:
        """Both together; they belong to one model (`check`)."""
        covered = Span(min(self.covered.start, other.covered.start), max(self.covered.end, other.covered.end))
        deep = self.deep.merge(other.deep) if self.deep and other.deep else self.deep or other.deep
        return replace(self, covered=covered, state=self.state.merge(other.state), deep=deep)


def _head_of(raw: dict[str, Any]) -> tuple[str, str, str, list[str], Span]:
    model, version, digest = (str(raw[name]) for name in ("model", "version", "digest"))
    return model, version, digest, [str(name) for name in raw["layers"]], checked_span(raw["from"], raw["to"])


def state_to_dict(state: NormState) -> dict[str, Any]:
    """A histogram's `places` count through all columns: place p is bucket p % BUCKETS of column p // BUCKETS."""
    return sparse_to_dict(SparseState.compress(state))


def sparse_to_dict(state: SparseState) -> dict[str, Any]:
    return {
        "requests": state.requests,
        "tokens": state.tokens,
        "moments": moments_to_dict(state.moments),
        "histograms": {"places": state.places.tolist(), "counts": state.counts.tolist()},
        "features": {str(layer): moments_to_dict(moments) for layer, moments in state.features.items()},
        "traffic": traffic_to_dict(state.traffic),
    }


def state_from_dict(raw: dict[str, Any]) -> NormState:
    """Raises ValueError, KeyError, TypeError, AttributeError or IndexError where `raw` is not a state."""
    return sparse_from_dict(raw).expand()


def sparse_from_dict(raw: dict[str, Any]) -> SparseState:
    """Raises what `state_from_dict` raises."""
    moments = moments_from_dict(raw["moments"])
    places, counts = (np.array(raw["histograms"][name], dtype=np.int64) for name in ("places", "counts"))
    check_histograms(places, counts, len(moments.count))
    traffic = traffic_from_dict(raw["traffic"])
    features = {int(layer): moments_from_dict(features) for layer, features in raw["features"].items()}
    return SparseState(*totals_from_dict(raw), moments, places, counts, features, traffic)


def traffic_to_dict(traffic: Traffic) -> dict[str, Any]:
    content = {name: getattr(traffic, name).tolist() for name in ("counts", "totals", "by_class", "repeats")}
    return content | {"sketched": traffic.sketched}


def traffic_from_dict(raw: dict[str, Any]) -> Traffic:
    """Raises what `state_from_dict` raises."""
    counts, repeats = (np.array(raw.get(name, []), dtype=np.int64) for name in ("counts", "repeats"))
    totals, by_class = (np.array(raw.get(name, []), dtype=np.float64) for name in ("totals", "by_class"))
    return checked_traffic(counts, totals, by_class, repeats, int(raw.get("sketched", 0)))


def totals_from_dict(raw: dict[str, Any]) -> tuple[int, int]:
    """Requests and tokens."""
    requests, tokens = int(raw["requests"]), int(raw["tokens"])
    check_counts(np.array([requests, tokens]))
    return requests, tokens


def bucket_to_dict(content: SparseState | DeepState) -> dict[str, Any]:
    return sparse_to_dict(content) if isinstance(content, SparseState) else deep_to_dict(content)


def bucket_from_dict(ring: str, raw: dict[str, Any], source: str) -> SparseState | DeepState:
    """A time bucket of the ring with that name.

    Raises:
        StateError: it is none.
    """
    try:
        return deep_from_dict(raw) if ring.startswith("deep") else sparse_from_dict(raw)
    except UNUSABLE as error:
        raise StateError(f"{source} holds a time bucket that cannot be read ({error}).") from error


def deep_to_dict(deep: DeepState, digits: int | None = None) -> dict[str, Any]:
    """A deep state; `digits` rounds its numbers, where they are many and need not be exact."""
    largest = deep.largest if digits is None else round_to(deep.largest, digits)
    return {
        "requests": deep.requests,
        "tokens": deep.tokens,
        "outputs": moments_to_dict(deep.outputs, digits),
        "largest": largest.tolist(),
        "adds": moments_to_dict(deep.adds, digits),
    }


def deep_from_dict(raw: dict[str, Any]) -> DeepState:
    """Raises what `state_from_dict` raises where `raw` is not a deep state."""
    outputs, adds = moments_from_dict(raw["outputs"]), moments_from_dict(raw["adds"])
    largest = np.array(raw["largest"], dtype=np.float64)
    return checked_deep(*totals_from_dict(raw), outputs, largest, adds)


def round_to(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Values with `digits` significant decimal digits."""
    return np.array([float(f"{value:.{digits}g}") for value in values.ravel().tolist()]).reshape(values.shape)


def moments_to_dict(moments: Moments, digits: int | None = None) -> dict[str, Any]:
    """Infinite extremes, which columns without a value have, become null."""
    columns = {name: getattr(moments, name) for name in Moments.__slots__}
    if digits is not None:
        columns |= {name: round_to(columns[name], digits) for name in ("mean", "m2", "minimum", "maximum")}
    lists = {name: column.tolist() for name, column in columns.items()}
    return {name: [None if abs(value) == np.inf else value for value in values] for name, values in lists.items()}


def moments_from_dict(raw: dict[str, Any]) -> Moments:
    count = np.array(raw["count"], dtype=np.int64)
    mean, m2 = (np.array(raw[name], dtype=np.float64) for name in ("mean", "m2"))
    low = np.array([np.inf if value is None else value for value in raw["minimum"]], dtype=np.float64)
    high = np.array([-np.inf if value is None else value for value in raw["maximum"]], dtype=np.float64)
    return checked_moments(count, mean, m2, low, high)

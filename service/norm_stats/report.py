"""What the statistics endpoints answer: recorded traffic beside the baseline, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runtime.drift.baseline import Baseline
from runtime.drift.detector import Judgement
from runtime.drift.effects import effect_sizes
from runtime.drift.stretches import Stretch
from runtime.errors import UnknownLayer
from runtime.manifest import Manifest
from runtime.statistics.deep import DeepState
from runtime.statistics.moments import Moments
from runtime.statistics.recorder import Recorded
from runtime.statistics.state import NormState
from runtime.store.document import StateDocument
from runtime.words import listed, quoted
from service.norm_stats.deep import batch_norm_shifts, feature_shifts
from service.norm_stats.ends import (
    EFFECTS,
    INPUT,
    OUTPUT,
    input_statistics,
    output_statistics,
    score_names,
    together_statistics,
    unlikeness_statistics,
)
from service.norm_stats.interface import LayerSnapshot, Snapshot, Status
from service.norm_stats.layer import layer_statistics
from service.norm_stats.verdict import first_departure, judge, verdict
from service.schemas.base import iso
from service.schemas.deep import FeatureShift
from service.schemas.norm_stats import (
    BaselineSource,
    FleetStatus,
    LayerResponse,
    LayerStatistics,
    NormStatsResponse,
    Overhead,
    Window,
)
from service.schemas.windows import CompareResponse, LayerComparison


class Model(Protocol):
    """What explains a state: the layers it is about and what is normal for them."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def baseline(self) -> Baseline: ...


@dataclass(frozen=True, slots=True)
class Observed:
    """Traffic to report.

    Attributes:
        since: when counting began (Unix seconds).
        stretches: how it was judged over time, up to the window's end; none for merged states.
        overhead: what recording it cost; None for merged states.
        fleet: whose traffic it is, where several replicas count.
    """

    recorded: Recorded
    since: float
    stretches: Sequence[Stretch] = ()
    overhead: Overhead | None = None
    fleet: FleetStatus | None = None

    @property
    def state(self) -> NormState:
        return self.recorded.state

    @classmethod
    def of_document(cls, document: StateDocument) -> "Observed":
        """What a state handed out by a service, or kept by one, has seen."""
        nothing = DeepState(0, 0, Moments.empty(0), np.zeros((2, 0)), Moments.empty(0))
        recorded = Recorded(document.covered, document.state, document.deep or nothing, document.state)
        return cls(recorded, document.covered.start)


def all_layers(model: Model, traffic: Observed) -> NormStatsResponse:
    """Every layer, in network order."""
    judgement = judge(model.baseline, traffic.state)
    return NormStatsResponse(
        **_head(model, traffic, judgement),
        input=input_statistics(model.baseline, judgement, traffic.state),
        layers=[_layer(model, traffic, judgement, index) for index in range(len(model.manifest.layers))],
        output=output_statistics(model.baseline, judgement, traffic.state),
        all_layers=together_statistics(model.baseline, judgement),
        unlikeness=unlikeness_statistics(model.baseline, judgement, traffic.state),
    )


def one_layer(model: Model, name: str, traffic: Observed) -> LayerResponse:
    """The layer of that name.

    Raises:
        UnknownLayer: there is none; lists those there are.
    """
    names = model.manifest.layer_names
    if name not in names:
        raise UnknownLayer(f"There is no layer {quoted(name)}, expected one of {listed(names)}.")
    judgement = judge(model.baseline, traffic.state)
    layer = _layer(model, traffic, judgement, names.index(name), every_feature=True)
    return LayerResponse(**_head(model, traffic, judgement), layer=layer)


def compare(
    model: Model, traffic: Observed, against: Observed, version: str | None = None, names: list[str] | None = None
) -> CompareResponse:
    """Effect sizes of one window of traffic against another.

    Args:
        version: of the model that saw `against`, where it is another one.
        names: of that version's layers, in its order.
    """
    theirs = {name: index for index, name in enumerate(names or model.manifest.layer_names)}
    layers = []
    for index, name in enumerate(model.manifest.layer_names):
        if name in theirs:
            both = traffic.state.tokens and against.state.tokens
            sizes = effect_sizes(traffic.state, against.state, index, theirs[name]) if both else None
            layers.append(LayerComparison(name=name, **{effect: getattr(sizes, effect, None) for effect in EFFECTS}))
    return CompareResponse(
        model=model.manifest.name,
        version=model.manifest.version,
        window=_window(traffic),
        against_version=version or model.manifest.version,
        against=_window(against),
        layers=layers,
    )


def baseline_source(baseline: Baseline) -> BaselineSource:
    return BaselineSource(
        source="live" if baseline.taken else "validation",
        requests=baseline.state.requests,
        tokens=baseline.state.tokens,
        taken=iso(baseline.taken.end) if baseline.taken else None,
    )


def _head(model: Model, traffic: Observed, judgement: Judgement | None) -> dict[str, Any]:
    """What every answer begins with."""
    everything = traffic.recorded.everything
    return {
        "model": model.manifest.name,
        "version": model.manifest.version,
        "requests": everything.requests,
        "tokens": everything.tokens,
        "since": iso(traffic.since),
        "baseline": baseline_source(model.baseline),
        "window": _window(traffic),
        "verdict": verdict(
            model.manifest,
            model.baseline,
            traffic.state,
            judgement,
            traffic.stretches,
            _moved(model, traffic, first_departure(judgement)),
        ),
        "overhead_ratio": traffic.overhead,
    } | ({} if traffic.fleet is None else {"fleet": traffic.fleet})


def _moved(model: Model, traffic: Observed, position: int | None) -> list[FeatureShift]:
    """The features that moved most at the score of number `position`, where that is a norm's."""
    index = -1 if position is None else position - 1
    if not 0 <= index < len(model.manifest.layers):
        return []
    if model.baseline.deep is None:
        return batch_norm_shifts(traffic.recorded.state, model.baseline.state, index)
    return feature_shifts(model.manifest, traffic.recorded.deep, model.baseline.deep, index)


def _layer(
    model: Model, traffic: Observed, judgement: Judgement | None, index: int, every_feature: bool = False
) -> LayerStatistics:
    return layer_statistics(model.manifest, model.baseline, traffic.recorded, judgement, index, every_feature)


def _window(traffic: Observed) -> Window:
    covered = traffic.recorded.covered
    return Window(
        start=iso(covered.start), end=iso(covered.end), requests=traffic.state.requests, tokens=traffic.state.tokens
    )


def snapshot(manifest: Manifest, baseline: Baseline, state: NormState, alert: bool, status: Status) -> Snapshot:
    reference = baseline.reference
    names = score_names(manifest, reference) if reference else [INPUT, *manifest.layer_names, OUTPUT]
    judgement = judge(baseline, state)
    judged = judgement is not None and judgement.state != "insufficient_data"
    layers = []
    for position, name in enumerate(names):
        mean = variance = score = threshold = None
        if state.tokens and name in manifest.layer_names:
            mean, variance = state.moments.mean[2 * position - 2 : 2 * position].tolist()
        if judgement is not None and judged:
            score, threshold = float(judgement.scores[position]), float(judgement.thresholds[position])
        layers.append(LayerSnapshot(name, mean, variance, score, threshold))
    if judgement is None:
        return Snapshot("insufficient_data", state.requests, layers, status)
    unlike, accuracy = judgement.unlike, judgement.accuracy
    return Snapshot(judgement.state, state.requests, layers, status, alert, unlike, accuracy)

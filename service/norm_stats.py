"""What the statistics endpoints answer: recorded traffic beside the baseline, layer by layer."""

from dataclasses import dataclass
from typing import Any, Protocol

from runtime.baseline import Baseline
from runtime.drift import Judgement
from runtime.effects import effect_sizes
from runtime.errors import UnknownLayer
from runtime.manifest import Manifest
from runtime.recorder import NormRecorder
from runtime.statistics import NormState
from runtime.windows import Span
from service.statistics_schemas import (
    CompareResponse,
    FeatureMoments,
    LayerComparison,
    LayerResponse,
    LayerState,
    LayerStatistics,
    NormStatsResponse,
    Summary,
    Volume,
    Window,
)
from service.verdict import EFFECTS, judge, layer_drift, output_statistics, verdict
from service.window import iso


class Model(Protocol):
    """What explains a state: the layers it is about and what is normal for them."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def baseline(self) -> Baseline: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Traffic to report.

    Attributes:
        covered: the time that `state` covers.
        everything: all traffic since `since` (Unix seconds).
        recorder: what goes on recording it; None for states of other hosts.
    """

    covered: Span
    state: NormState
    everything: NormState
    since: float
    recorder: NormRecorder | None = None


def seen(recorder: NormRecorder, span: Span | None) -> Seen:
    """The traffic of `span`; None for all of it."""
    since = recorder.since
    if span is None:
        everything = recorder.state()
        return Seen(Span(since, recorder.clock()), everything, everything, since, recorder)
    everything, covered, state = recorder.window(span)
    return Seen(covered, state, everything, since, recorder)


def all_layers(model: Model, traffic: Seen) -> NormStatsResponse:
    """Every layer, in network order."""
    judgement = judge(model.baseline, traffic.state)
    layers = [_layer(model, traffic.state, judgement, index) for index in range(len(model.manifest.layers))]
    output = output_statistics(model.baseline, judgement, traffic.state)
    return NormStatsResponse(**_head(model, traffic, judgement), layers=layers, output=output)


def one_layer(model: Model, name: str, traffic: Seen) -> LayerResponse:
    """The layer of that name.

    Raises:
        UnknownLayer: there is none; lists those there are.
    """
    names = model.manifest.layer_names
    if name not in names:
        raise UnknownLayer(f"There is no layer {name!r}, expected one of {', '.join(names)}.")
    judgement = judge(model.baseline, traffic.state)
    layer = _layer(model, traffic.state, judgement, names.index(name))
    return LayerResponse(**_head(model, traffic, judgement), layer=layer)


def compare(model: Model, traffic: Seen, against: Seen) -> CompareResponse:
    """Effect sizes of one window of traffic against another."""
    layers = []
    for index, name in enumerate(model.manifest.layer_names):
        both = traffic.state.tokens and against.state.tokens
        sizes = effect_sizes(traffic.state, against.state, index) if both else None
        layers.append(LayerComparison(name=name, **{effect: getattr(sizes, effect, None) for effect in EFFECTS}))
    return CompareResponse(
        model=model.manifest.name,
        version=model.manifest.version,
        window=_window(traffic),
        against=_window(against),
        layers=layers,
    )


def _head(model: Model, traffic: Seen, judgement: Judgement | None) -> dict[str, Any]:
    """What every answer begins with."""
    baseline = model.baseline.state
    return {
        "model": model.manifest.name,
        "version": model.manifest.version,
        "requests": traffic.everything.requests,
        "tokens": traffic.everything.tokens,
        "since": iso(traffic.since),
        "baseline": Volume(requests=baseline.requests, tokens=baseline.tokens),
        "window": _window(traffic),
        "verdict": verdict(model.manifest, judgement, _standing_since(traffic, judgement)),
    }


def _standing_since(traffic: Seen, judgement: Judgement | None) -> str | None:
    """Since when traffic is as it is judged to be, where that is worth knowing."""
    if traffic.recorder is None or judgement is None or judgement.state not in ("drift", "mix_shift"):
        return None
    since = traffic.recorder.standing_since(judgement.state)
    return iso(since) if since is not None else None


def _window(traffic: Seen) -> Window:
    return Window(
        start=iso(traffic.covered.start),
        end=iso(traffic.covered.end),
        requests=traffic.state.requests,
        tokens=traffic.state.tokens,
    )


def _layer(model: Model, state: NormState, judgement: Judgement | None, index: int) -> LayerStatistics:
    layer = model.manifest.layers[index]
    statistics = LayerStatistics(
        name=layer.name,
        kind=layer.kind,
        placement=layer.placement,
        d_model=layer.d_model,
        eps=layer.eps,
        live=_state(model.manifest, state, index),
        baseline=_state(model.manifest, model.baseline.state, index),
        drift=layer_drift(model.baseline, judgement, state, index),
    )
    if layer.running_mean is None or layer.running_variance is None:
        return statistics
    running = FeatureMoments(mean=layer.running_mean, variance=layer.running_variance)
    return statistics.model_copy(update={"running": running})


def _state(manifest: Manifest, state: NormState, index: int) -> LayerState:
    description = manifest.layers[index]
    layer = LayerState(
        tokens=state.tokens,
        mean=_summary(state, 2 * index),
        variance=_summary(state, 2 * index + 1),
        residual_norm=state.residual_norm(index, description.d_model),
        saturated=state.saturated(index, description.eps),
        not_finite=state.not_finite(index),
    )
    if (moments := state.features.get(index)) is None:
        return layer
    features = FeatureMoments(mean=moments.mean.tolist(), variance=moments.variance.tolist())
    return layer.model_copy(update={"features": features})


def _summary(state: NormState, column: int) -> Summary | None:
    summary = state.summary(column)
    return Summary(**summary) if summary else None

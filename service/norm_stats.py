"""What GET /norm-stats answers: the recorded state and the baseline, layer by layer."""

from typing import Any

from runtime.drift import Judgement
from runtime.errors import UnknownLayer
from runtime.statistics import NormState
from runtime.windows import Span
from service.engine import Engine
from service.schemas import (
    FeatureMoments,
    LayerResponse,
    LayerState,
    LayerStatistics,
    NormStatsResponse,
    Summary,
    Traffic,
    Window,
)
from service.verdict import judge, layer_drift, output_statistics, verdict
from service.window import iso


def all_layers(engine: Engine, span: Span | None) -> NormStatsResponse:
    """Every layer, in network order, over `span`; None for all traffic."""
    covered, state = _traffic(engine, span)
    judgement = judge(engine, state)
    layers = [_layer(engine, state, judgement, index) for index in range(len(engine.manifest.layers))]
    output = output_statistics(engine, judgement, state)
    return NormStatsResponse(**_head(engine, covered, state, judgement), layers=layers, output=output)


def one_layer(engine: Engine, name: str, span: Span | None) -> LayerResponse:
    """The layer of that name.

    Raises:
        UnknownLayer: there is none; lists those there are.
    """
    names = [layer.name for layer in engine.manifest.layers]
    if name not in names:
        raise UnknownLayer(f"There is no layer {name!r}, expected one of {', '.join(names)}.")
    covered, state = _traffic(engine, span)
    judgement = judge(engine, state)
    layer = _layer(engine, state, judgement, names.index(name))
    return LayerResponse(**_head(engine, covered, state, judgement), layer=layer)


def _traffic(engine: Engine, span: Span | None) -> tuple[Span, NormState]:
    """The traffic that is asked about, and the time that it covers."""
    recorder = engine.recorder
    if span is None:
        return Span(recorder.since, recorder.clock()), recorder.state()
    return recorder.window(span.start, span.end)


def _head(engine: Engine, covered: Span, state: NormState, judgement: Judgement | None) -> dict[str, Any]:
    """What every answer begins with."""
    everything, baseline = engine.recorder.state(), engine.baseline.state
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "requests": everything.requests,
        "tokens": everything.tokens,
        "since": iso(engine.recorder.since),
        "baseline": Traffic(requests=baseline.requests, tokens=baseline.tokens),
        "window": Window(start=iso(covered.start), end=iso(covered.end), requests=state.requests, tokens=state.tokens),
        "verdict": verdict(engine, judgement),
    }


def _layer(engine: Engine, state: NormState, judgement: Judgement | None, index: int) -> LayerStatistics:
    layer = engine.manifest.layers[index]
    statistics = LayerStatistics(
        name=layer.name,
        kind=layer.kind,
        placement=layer.placement,
        d_model=layer.d_model,
        eps=layer.eps,
        live=_state(state, index),
        baseline=_state(engine.baseline.state, index),
        drift=layer_drift(engine, judgement, state, index),
    )
    if layer.running_mean is None or layer.running_variance is None:
        return statistics
    running = FeatureMoments(mean=layer.running_mean, variance=layer.running_variance)
    return statistics.model_copy(update={"running": running})


def _state(state: NormState, index: int) -> LayerState:
    layer = LayerState(tokens=state.tokens, mean=_summary(state, 2 * index), variance=_summary(state, 2 * index + 1))
    if (moments := state.features.get(index)) is None:
        return layer
    features = FeatureMoments(mean=moments.mean.tolist(), variance=moments.variance.tolist())
    return layer.model_copy(update={"features": features})


def _summary(state: NormState, column: int) -> Summary | None:
    summary = state.summary(column)
    return Summary(**summary) if summary else None

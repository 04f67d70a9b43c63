"""What GET /norm-stats answers: the recorded state and the baseline, layer by layer."""

from typing import Any

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
from service.window import iso


def all_layers(engine: Engine, span: Span | None) -> NormStatsResponse:
    """Every layer, in network order, over `span`; None for all traffic."""
    head, state = _head(engine, span)
    layers = [_layer(engine, state, index) for index in range(len(engine.manifest.layers))]
    return NormStatsResponse(**head, layers=layers)


def one_layer(engine: Engine, name: str, span: Span | None) -> LayerResponse:
    """The layer of that name.

    Raises:
        UnknownLayer: there is none; lists those there are.
    """
    names = [layer.name for layer in engine.manifest.layers]
    if name not in names:
        raise UnknownLayer(f"There is no layer {name!r}, expected one of {', '.join(names)}.")
    head, state = _head(engine, span)
    return LayerResponse(**head, layer=_layer(engine, state, names.index(name)))


def _head(engine: Engine, span: Span | None) -> tuple[dict[str, Any], NormState]:
    """What every answer begins with, and the state of the traffic that is asked about."""
    recorder, baseline = engine.recorder, engine.baseline.state
    everything = recorder.state()
    covered, state = Span(recorder.since, recorder.clock()), everything
    if span is not None:
        covered, state = recorder.window(span.start, span.end)
    head = {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "requests": everything.requests,
        "tokens": everything.tokens,
        "since": iso(recorder.since),
        "baseline": Traffic(requests=baseline.requests, tokens=baseline.tokens),
        "window": Window(start=iso(covered.start), end=iso(covered.end), requests=state.requests, tokens=state.tokens),
    }
    return head, state


def _layer(engine: Engine, state: NormState, index: int) -> LayerStatistics:
    layer = engine.manifest.layers[index]
    statistics = LayerStatistics(
        name=layer.name,
        kind=layer.kind,
        placement=layer.placement,
        d_model=layer.d_model,
        eps=layer.eps,
        live=_state(state, index),
        baseline=_state(engine.baseline.state, index),
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

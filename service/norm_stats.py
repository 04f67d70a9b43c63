"""What GET /norm-stats answers: the recorded state and the baseline, layer by layer."""

from runtime.errors import UnknownLayer
from runtime.statistics import NormState
from service.engine import Engine
from service.schemas import (
    FeatureMoments,
    LayerResponse,
    LayerState,
    LayerStatistics,
    NormStatsResponse,
    Summary,
    Traffic,
)


def all_layers(engine: Engine) -> NormStatsResponse:
    """Every layer, in network order."""
    state = engine.recorder.state()
    layers = [_layer(engine, state, index) for index in range(len(engine.manifest.layers))]
    return NormStatsResponse(**_head(engine, state), layers=layers)


def one_layer(engine: Engine, name: str) -> LayerResponse:
    """The layer of that name.

    Raises:
        UnknownLayer: there is none; lists those there are.
    """
    names = [layer.name for layer in engine.manifest.layers]
    if name not in names:
        raise UnknownLayer(f"There is no layer {name!r}, expected one of {', '.join(names)}.")
    state = engine.recorder.state()
    return LayerResponse(**_head(engine, state), layer=_layer(engine, state, names.index(name)))


def _head(engine: Engine, state: NormState) -> dict[str, object]:
    baseline = engine.baseline.state
    return {
        "model": engine.manifest.name,
        "version": engine.manifest.version,
        "requests": state.requests,
        "tokens": state.tokens,
        "since": engine.since.isoformat(timespec="seconds"),
        "baseline": Traffic(requests=baseline.requests, tokens=baseline.tokens),
    }


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

"""The verdict over a window, in words that can be read at three in the morning."""

import numpy as np
from numpy.typing import NDArray

from runtime.drift import MIN_REQUESTS, Judgement
from runtime.effects import effect_sizes
from runtime.statistics import NormState
from service.engine import Engine
from service.schemas import LayerDrift, OutputState, OutputStatistics, Verdict

OUTPUT = "output"


def judge(engine: Engine, state: NormState) -> Judgement | None:
    """The judgement over a window's traffic; None where the baseline cannot judge."""
    reference = engine.baseline.reference
    if reference is None:
        return None
    traffic = state.traffic if len(state.traffic.counts) else reference.no_traffic()
    return reference.judge(traffic)


def verdict(engine: Engine, judgement: Judgement | None) -> Verdict:
    """State, sentence and the first layer that departs."""
    if judgement is None:
        sentence = "The validation data were too few to judge by: export the model with at least 100 of them."
        return Verdict(state="insufficient_data", sentence=sentence, first_layer=None)
    count, first = f"{judgement.requests:,} requests", None
    if judgement.state == "drift":
        first = first_layer(engine, judgement)
        size = judgement.effects[position(engine, first)]
        sentence = f"{count} depart from the validation data, first at {first}, by {size:.2f} sigma of single requests."
    elif judgement.state == "mix_shift":
        sentence = (
            f"{count} have their topics mixed otherwise than the validation data, but each topic looks as it did."
        )
    elif judgement.state == "ok":
        sentence = f"{count} look like the validation data at every layer."
    else:
        sentence = f"{count} are too few to judge, at least {MIN_REQUESTS} are needed."
    return Verdict(state=judgement.state, sentence=sentence, first_layer=first)


def first_layer(engine: Engine, judgement: Judgement) -> str:
    """The first layer, in network order, that departs by itself; where only all agree, the one that departs most."""
    names = [*(layer.name for layer in engine.manifest.layers), OUTPUT]
    fired = judgement.fired[:-1]
    excess = judgement.scores[:-1] / np.maximum(judgement.thresholds[:-1], 1e-12)
    return names[int(fired.argmax() if fired.any() else excess.argmax())]


def position(engine: Engine, name: str) -> int:
    return [*(layer.name for layer in engine.manifest.layers), OUTPUT].index(name)


def layer_drift(engine: Engine, judgement: Judgement | None, state: NormState, index: int) -> LayerDrift:
    """One layer's own state, with its effect sizes."""
    drift = score_of(judgement, index)
    sizes = effect_sizes(state, engine.baseline.state, index)
    if sizes is None:
        return drift
    names = ("mean_shift", "log_variance_ratio", "wasserstein", "psi")
    return drift.model_copy(update={name: getattr(sizes, name) for name in names})


def score_of(judgement: Judgement | None, index: int) -> LayerDrift:
    if judgement is None or judgement.state == "insufficient_data":
        return LayerDrift(state="insufficient_data")
    return LayerDrift(
        state="drift" if judgement.fired[index] else "ok",
        score=float(judgement.scores[index]),
        threshold=float(judgement.thresholds[index]),
        effect=float(judgement.effects[index]),
    )


def output_statistics(engine: Engine, judgement: Judgement | None, state: NormState) -> OutputStatistics | None:
    """The output head as one more layer."""
    reference = engine.baseline.reference
    if reference is None:
        return None
    expected = reference.counts @ reference.class_means / reference.counts.sum()
    requests = int(state.traffic.counts.sum())
    return OutputStatistics(
        name=OUTPUT,
        live=output_state(state.traffic.totals / requests) if requests else None,
        baseline=output_state(expected),
        drift=score_of(judgement, len(engine.manifest.layers)),
    )


def output_state(features: NDArray[np.float64]) -> OutputState:
    surprise, log_sum_exp = features[-2:].tolist()
    return OutputState(surprise=surprise, log_sum_exp=log_sum_exp)

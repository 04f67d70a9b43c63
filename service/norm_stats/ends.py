"""What is judged beside the norms: each layer's own state, the input before them, the output and unlikeness after."""

import numpy as np

from runtime.drift.baseline import Baseline
from runtime.drift.detector import Judgement, Reference
from runtime.drift.effects import effect_sizes
from runtime.drift.numbers import Floats
from runtime.manifest import Manifest
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from service.schemas.input_statistics import (
    InputState,
    InputStatistics,
    OutputState,
    OutputStatistics,
    TogetherStatistics,
    UnlikenessState,
    UnlikenessStatistics,
)
from service.schemas.verdict import LayerDrift

INPUT, OUTPUT, UNLIKENESS = "input", "output", "unlikeness"
TOGETHER = "all layers"  # what they share
EFFECTS = ("mean_shift", "log_variance_ratio", "wasserstein", "psi")


def layer_drift(baseline: Baseline, judgement: Judgement | None, state: NormState, index: int) -> LayerDrift:
    """One layer's own state, with its effect sizes."""
    drift = score_of(judgement, index + 1)  # the first score is the input's
    sizes = effect_sizes(state, baseline.state, index)
    if sizes is None:
        return drift
    return drift.model_copy(update={name: getattr(sizes, name) for name in EFFECTS})


def score_of(judgement: Judgement | None, index: int) -> LayerDrift:
    if judgement is None or judgement.state == "insufficient_data":
        return LayerDrift(state="insufficient_data")
    return LayerDrift(
        state="drift" if judgement.fired[index] else "ok",
        score=float(judgement.scores[index]),
        threshold=float(judgement.thresholds[index]),
        effect=float(judgement.effects[index]),
    )


def input_statistics(baseline: Baseline, judgement: Judgement | None, state: NormState) -> InputStatistics | None:
    """The input as a layer before the first; None where the baseline cannot judge."""
    if (reference := baseline.reference) is None:
        return None
    live, expected = average_request(state.traffic), usual_request(reference)
    return InputStatistics(
        name=INPUT,
        live=input_state(live) if live is not None else None,
        baseline=input_state(expected),
        drift=score_of(judgement, 0),
    )


def output_statistics(baseline: Baseline, judgement: Judgement | None, state: NormState) -> OutputStatistics | None:
    """The output head as one more layer; None where the baseline cannot judge."""
    if (reference := baseline.reference) is None:
        return None
    live, expected = average_request(state.traffic), usual_request(reference)
    return OutputStatistics(
        name=OUTPUT,
        live=output_state(live) if live is not None else None,
        baseline=output_state(expected),
        drift=score_of(judgement, reference.places - 1),
    )


def together_statistics(baseline: Baseline, judgement: Judgement | None) -> TogetherStatistics | None:
    """What all layers share; None where the baseline does not judge it."""
    if (reference := baseline.reference) is None or TOGETHER not in direction_names(reference):
        return None
    return TogetherStatistics(name=TOGETHER, drift=score_of(judgement, reference.places))


def unlikeness_statistics(
    baseline: Baseline, judgement: Judgement | None, state: NormState
) -> UnlikenessStatistics | None:
    """The unlikeness as a layer after the output; None where the baseline does not know it."""
    if (reference := baseline.reference) is None or reference.unlikeness is None:
        return None
    live, expected = average_request(state.traffic), usual_request(reference)
    return UnlikenessStatistics(
        name=UNLIKENESS,
        live=UnlikenessState(average=float(live[-1])) if live is not None else None,
        baseline=UnlikenessState(average=float(expected[-1])),
        drift=score_of(judgement, -1),
    )


def score_names(manifest: Manifest, reference: Reference) -> list[str]:
    """What each score of a judgement is of (runtime/drift/detector.py)."""
    return [INPUT, *manifest.layer_names, OUTPUT, *direction_names(reference)]


def direction_names(reference: Reference) -> list[str]:
    """Older baselines have one of them."""
    if reference.unlikeness is None:
        return [TOGETHER]
    return [TOGETHER, UNLIKENESS][-len(reference.directions) :]


def average_request(traffic: Traffic) -> Floats | None:
    """The average of the requests' numbers [K]; None where there was none."""
    count = traffic.counts.sum()
    return traffic.totals / count if count else None


def usual_request(reference: Reference) -> Floats:
    """What the average is expected to be [K], of classes mixed as in the baseline."""
    usual: Floats = reference.counts @ reference.class_means / reference.counts.sum()
    return usual


def input_state(features: Floats) -> InputState:
    log_tokens, token_length = features[:2].tolist()
    return InputState(tokens=float(np.exp(log_tokens)), token_length=token_length)


def output_state(features: Floats) -> OutputState:
    end = len(features) // 2 * 2  # the unlikeness stands alone
    surprise, log_sum_exp = features[end - 2 : end].tolist()
    return OutputState(surprise=surprise, log_sum_exp=log_sum_exp)

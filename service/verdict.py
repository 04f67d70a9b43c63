"""The verdict over a window, in words that can be read at three in the morning."""

import numpy as np
from numpy.typing import NDArray

from runtime.baseline import Baseline
from runtime.drift import MIN_REQUESTS, Judgement
from runtime.effects import effect_sizes
from runtime.manifest import Manifest
from runtime.statistics import NormState
from service.statistics_schemas import LayerDrift, OutputState, OutputStatistics, Verdict

OUTPUT = "output"
EFFECTS = ("mean_shift", "log_variance_ratio", "wasserstein", "psi")


def judge(baseline: Baseline, state: NormState) -> Judgement | None:
    """The judgement over a window's traffic; None where the baseline cannot judge."""
    reference = baseline.reference
    if reference is None:
        return None
    traffic = state.traffic if len(state.traffic.counts) else reference.no_traffic()
    return reference.judge(traffic)


def verdict(manifest: Manifest, judgement: Judgement | None, since: str | None) -> Verdict:
    """State, sentence, since when, and the first layer that departs."""
    if judgement is None:
        sentence = "The validation data were too few to judge by: export with at least 100, and 4 of every class."
        return Verdict(state="insufficient_data", sentence=sentence, since=None, first_layer=None)
    count, first = f"{judgement.requests:,} requests", None
    if judgement.state == "drift":
        position = first_departure(judgement)
        first = [*manifest.layer_names, OUTPUT][position]
        alone = judgement.fired[position]
        where = f"first at {first}" if alone else f"at all layers together, most at {first}"
        size = judgement.effects[position if alone else -1]
        sentence = f"{count} depart from the validation data, {where}, by {size:.2f} sigma of single requests."
    elif judgement.state == "mix_shift":
        sentence = (
            f"{count} have their topics mixed otherwise than the validation data, but each topic looks as it did."
        )
    elif judgement.state == "ok":
        sentence = f"{count} look like the validation data at every layer."
    else:
        sentence = f"{count} are too few to judge, at least {MIN_REQUESTS} are needed."
    return Verdict(state=judgement.state, sentence=sentence, since=since, first_layer=first)


def first_departure(judgement: Judgement) -> int:
    """The first layer, in network order, that departs by itself; where only all agree, the one that departs most."""
    fired = judgement.fired[:-1]
    excess = judgement.scores[:-1] / np.maximum(judgement.thresholds[:-1], 1e-12)
    return int(fired.argmax() if fired.any() else excess.argmax())


def layer_drift(baseline: Baseline, judgement: Judgement | None, state: NormState, index: int) -> LayerDrift:
    """One layer's own state, with its effect sizes."""
    drift = score_of(judgement, index)
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


def output_statistics(baseline: Baseline, judgement: Judgement | None, state: NormState) -> OutputStatistics | None:
    """The output head as one more layer."""
    reference = baseline.reference
    if reference is None:
        return None
    expected = reference.counts @ reference.class_means / reference.counts.sum()
    requests = int(state.traffic.counts.sum())
    return OutputStatistics(
        name=OUTPUT,
        live=output_state(state.traffic.totals / requests) if requests else None,
        baseline=output_state(expected),
        drift=score_of(judgement, -2),
    )


def output_state(features: NDArray[np.float64]) -> OutputState:
    surprise, log_sum_exp = features[-2:].tolist()
    return OutputState(surprise=surprise, log_sum_exp=log_sum_exp)

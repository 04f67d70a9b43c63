"""The verdict over a window, in words that can be read at three in the morning."""

import numpy as np

from runtime.drift.baseline import Baseline
from runtime.drift.detector import MIN_REQUESTS, Judgement, Reference
from runtime.drift.effects import effect_sizes
from runtime.drift.numbers import Floats
from runtime.manifest import Manifest
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from service.schemas.deep import FeatureShift
from service.schemas.norm_stats import InputState, InputStatistics, LayerDrift, OutputState, OutputStatistics, Verdict

INPUT, OUTPUT = "input", "output"
EFFECTS = ("mean_shift", "log_variance_ratio", "wasserstein", "psi")


def judge(baseline: Baseline, state: NormState) -> Judgement | None:
    """The judgement over a window's traffic; None where the baseline cannot judge."""
    reference = baseline.reference
    if reference is None:
        return None
    traffic = state.traffic if len(state.traffic.counts) else reference.no_traffic()
    return reference.judge(traffic)


def verdict(
    manifest: Manifest,
    judgement: Judgement | None,
    position: int | None,
    since: str | None,
    features: list[FeatureShift],
) -> Verdict:
    """State, sentence, since when, and what departs first.

    Args:
        position: number of the score that departs first.
        features: that moved most there.
    """
    if judgement is None:
        sentence = "The validation data were too few to judge by: export with at least 100, and 4 of every class."
        return Verdict(state="insufficient_data", sentence=sentence, since=None, first_layer=None, features=[])
    first = None if position is None else [INPUT, *manifest.layer_names, OUTPUT][position]
    return Verdict(
        state=judgement.state,
        sentence=sentence_of(judgement, position, first),
        since=since,
        first_layer=first,
        features=features,
    )


def sentence_of(judgement: Judgement, position: int | None, first: str | None) -> str:
    count = f"{judgement.requests:,} requests"
    if position is not None:
        alone = judgement.fired[position]
        where = f"first at {first}" if alone else f"at all layers together, most at {first}"
        size = judgement.effects[position if alone else -1]
        return f"{count} depart from the baseline, {where}, by {size:.2f} sigma of single requests."
    if judgement.state == "mix_shift":
        return f"{count} have their topics mixed otherwise than the baseline, but each topic looks as it did."
    if judgement.state == "ok":
        return f"{count} look like the baseline at every layer."
    few = "request is" if judgement.requests == 1 else "requests are"
    return f"{judgement.requests:,} {few} too few to judge, at least {MIN_REQUESTS} are needed."


def first_departure(judgement: Judgement | None) -> int | None:
    """The number of the first score, in network order, that departs by itself; where only all agree, the one that
    departs most; None where there is no drift."""
    if judgement is None or judgement.state != "drift":
        return None
    fired = judgement.fired[:-1]
    excess = judgement.scores[:-1] / np.maximum(judgement.thresholds[:-1], 1e-12)
    return int(fired.argmax() if fired.any() else excess.argmax())


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
        drift=score_of(judgement, -2),
    )


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

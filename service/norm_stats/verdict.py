"""The verdict over a window, in words that can be read at three in the morning."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from runtime.drift.baseline import Baseline
from runtime.drift.detector import MIN_EFFECTIVE, MIN_REQUESTS, Judgement, Reference, share
from runtime.drift.effects import effect_sizes
from runtime.drift.numbers import Floats
from runtime.drift.stretches import Stretch
from runtime.manifest import Manifest
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from service.schemas.base import iso
from service.schemas.deep import FeatureShift
from service.schemas.norm_stats import InputState, InputStatistics, LayerDrift, OutputState, OutputStatistics
from service.schemas.verdict import Episode, UnlikeClass, Verdict

INPUT, OUTPUT = "input", "output"
HOT = 0.1  # share of one input from which on it is worth telling
MOST_CLASSES = 3
EPISODES = 20
NO_REFERENCE = "The validation data were too few to judge by: export with at least 100, and 4 of every class."
TOLD = ("drift", "mix_shift")
EFFECTS = ("mean_shift", "log_variance_ratio", "wasserstein", "psi")


def judge(baseline: Baseline, state: NormState) -> Judgement | None:
    """The judgement over a window's traffic; None where the baseline cannot judge."""
    reference = baseline.reference
    return reference.judge(traffic_of(reference, state)) if reference else None


def traffic_of(reference: Reference, state: NormState) -> Traffic:
    return state.traffic if len(state.traffic.counts) else reference.no_traffic()


def verdict(
    manifest: Manifest,
    baseline: Baseline,
    state: NormState,
    judgement: Judgement | None,
    stretches: Sequence[Stretch],
    features: list[FeatureShift],
) -> Verdict:
    """State, sentence, since when, what departs first, and what else there is to say of the window.

    Args:
        stretches: how traffic was judged over time, up to the window's end.
        features: that moved most at what departs first.
    """
    reference = baseline.reference
    if judgement is None or reference is None:
        sentence = "The validation data were too few to judge by: export with at least 100, and 4 of every class."
        return Verdict(
            state="insufficient_data", sentence=sentence, since=None, first_layer=None, features=[], alert=False
        )
    position = first_departure(judgement)
    first = None if position is None else [INPUT, *manifest.layer_names, OUTPUT][position]
    repeated = state.traffic.most_repeated if judgement.requests >= MIN_REQUESTS else None
    told = stretch_of(judgement, stretches)
    return Verdict(
        state=judgement.state,
        sentence=sentence_of(judgement, position, first, repeated or 0.0, stretches),
        since=iso(told.start) if told else None,
        since_between=[iso(told.earliest), iso(told.latest)] if told else None,
        until=iso(told.end) if told and told is not stretches[-1] else None,
        alert=bool(stretches) and stretches[-1].state == "drift",
        episodes=[episode(each) for each in stretches[-EPISODES:] if each.state in TOLD],
        first_layer=first,
        features=features,
        unlike=judgement.unlike,
        would_show=judgement.would_show,
        estimated_accuracy=judgement.accuracy,
        effective_requests=judgement.effective,
        most_repeated=repeated,
        classes=unlike_classes(manifest, reference, state.traffic) if judgement.fired[-1:].any() else [],
    )


def stretch_of(judgement: Judgement, stretches: Sequence[Stretch]) -> Stretch | None:
    """The last stretch that was as the window is, where that is worth knowing."""
    alike = [each for each in stretches if each.state == judgement.state]
    return alike[-1] if alike and judgement.state in TOLD else None


def episode(stretch: Stretch) -> Episode:
    return Episode(state=stretch.state, start=iso(stretch.start), end=iso(stretch.end))


def sentence_of(
    judgement: Judgement, position: int | None, first: str | None, repeated: float, stretches: Sequence[Stretch]
) -> str:
    """What the window shows; after it, what else an operator should know."""
    told = [window_sentence(judgement, position, first)]
    if repeated >= HOT:
        told.append(f"One input makes up {repeated:.0%} of them.")
    over = [each for each in stretches[:-1] if each.state == "drift"]
    if judgement.state != "drift" and over:
        told.append(f"There was drift from {clock(over[-1].start)} to {clock(over[-1].end)} UTC.")
    return " ".join(told)


def clock(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%H:%M}"


def window_sentence(judgement: Judgement, position: int | None, first: str | None) -> str:
    count = f"{judgement.requests:,} requests"
    if position is not None:
        if judgement.fired[-1] and judgement.unlike is not None:
            return f"{count} depart from the baseline: about {judgement.unlike:.0%} are unlike it, most at {first}."
        alone = judgement.fired[position]
        where = f"first at {first}" if alone else f"at all layers together, most at {first}"
        size = judgement.effects[position if alone else -1]
        return f"{count} depart from the baseline, {where}, by {size:.2f} sigma of single requests."
    if judgement.state == "insufficient_data":
        return few_sentence(judgement)
    power = ""
    if judgement.would_show is not None:
        power = f" From {math.ceil(100 * judgement.would_show)} % of unlike requests on, it would have shown."
    if judgement.state == "mix_shift":
        return f"{count} have their topics mixed otherwise than the baseline, but each topic looks as it did.{power}"
    return f"{count} look like the baseline at every layer.{power}"


def few_sentence(judgement: Judgement) -> str:
    if judgement.requests >= MIN_REQUESTS:
        return (
            f"{judgement.requests:,} requests say no more than {judgement.effective:.0f} unlike ones, they repeat each "
            f"other: too few to judge, at least {MIN_EFFECTIVE:.0f} are needed."
        )
    few = "request is" if judgement.requests == 1 else "requests are"
    return f"{judgement.requests:,} {few} too few to judge, at least {MIN_REQUESTS} are needed."


def unlike_classes(manifest: Manifest, reference: Reference, traffic: Traffic) -> list[UnlikeClass]:
    """The predicted classes that most of the unlike requests fall into."""
    excess = np.clip(traffic.by_class[0] - traffic.counts * reference.class_means[:, -1], 0.0, None)
    named = manifest.labels or [f"cluster {number}" for number in range(len(excess))]
    most = [number for number in np.argsort(-excess)[:MOST_CLASSES].tolist() if excess[number] > 0]
    counts = traffic.counts.tolist()
    return [UnlikeClass(name=named[n], requests=counts[n], unlike=share(float(excess[n]) / counts[n])) for n in most]


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

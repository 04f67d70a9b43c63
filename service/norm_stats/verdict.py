"""The verdict over a window, in words that can be read at three in the morning."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from runtime.drift.baseline import Baseline
from runtime.drift.detector import MIN_EFFECTIVE, MIN_REQUESTS, Judgement, Reference
from runtime.drift.numbers import Floats
from runtime.drift.stretches import Stretch
from runtime.manifest import Manifest
from runtime.statistics.state import NormState
from runtime.statistics.traffic import Traffic
from service.norm_stats.ends import score_names
from service.schemas.base import iso
from service.schemas.deep import FeatureShift
from service.schemas.verdict import Episode, UnlikeClass, Verdict

HOT = 0.1  # share of one input from which on it is worth telling
MOST_CLASSES = 3
NEARLY_ALL = 0.95  # unlike: the share is no longer told, it may be less
EPISODES = 20
NO_REFERENCE = "The validation data were too few to judge by: export with at least 60, and 4 of every class."
NO_CLUSTERS = "The baseline's texts were too few to judge by: adopt the model with at least 300."
TOLD = ("drift", "mix_shift")


def no_reference(manifest: Manifest) -> str:
    """Why a model has no verdict, and what would give it one."""
    return NO_REFERENCE if manifest.task == "classification" else NO_CLUSTERS


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
        return Verdict(
            state="insufficient_data",
            sentence=no_reference(manifest),
            since=None,
            first_layer=None,
            features=[],
            alert=False,
        )
    position = first_departure(judgement)
    names = score_names(manifest, reference)
    first = None if position is None else names[position]
    repeated = state.traffic.most_repeated if judgement.requests >= MIN_REQUESTS else None
    told = stretch_of(judgement, stretches)
    return Verdict(
        state=judgement.state,
        sentence=sentence_of(judgement, position, first, repeated or 0.0, stretches),
        since=iso(told.start) if told else None,
        since_between=[iso(told.earliest), iso(told.latest)] if told else None,
        until=iso(told.end) if told and told is not stretches[-1] else None,
        alert=alert_of(stretches),
        episodes=[episode(each) for each in stretches[-EPISODES:] if each.state in TOLD],
        first_layer=first,
        strongest=names[int(excess(judgement).argmax())] if position is not None else None,
        features=features,
        unlike=judgement.unlike,
        would_show=judgement.would_show,
        estimated_accuracy=judgement.accuracy,
        effective_requests=judgement.effective,
        most_repeated=repeated,
        classes=unlike_classes(manifest, reference, state.traffic) if judgement.fired[-1:].any() else [],
    )


def alert_of(stretches: Sequence[Stretch]) -> bool:
    """Whether traffic is in drift now, and surely enough to call somebody."""
    return bool(stretches) and stretches[-1].state == "drift" and stretches[-1].sure


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
        alone = judgement.fired[position]
        if judgement.fired[-1] and judgement.unlike is not None:
            some = "most of them" if judgement.unlike >= NEARLY_ALL else f"about {judgement.unlike:.0%}"
            order = "first" if alone else "most"
            return f"{count} depart from the baseline: {some} are unlike it, {order} at {first}."
        where = f"first at {first}" if alone else f"at all layers together, most at {first}"
        size = judgement.effects[position if alone else judgement.places]
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
    if reference.unlikeness is None:
        return []
    excess = np.clip(traffic.by_class[0] - traffic.counts * reference.class_means[:, -1], 0.0, None)
    named = manifest.labels or [f"cluster {number}" for number in range(len(excess))]
    most = [number for number in np.argsort(-excess)[:MOST_CLASSES].tolist() if excess[number] > 0]
    counts = traffic.counts.tolist()
    share = reference.unlikeness.share
    return [UnlikeClass(name=named[n], requests=counts[n], unlike=share(float(excess[n]) / counts[n])) for n in most]


def first_departure(judgement: Judgement | None) -> int | None:
    """The number of the first score, in network order, that departs by itself; where only all agree, the one that
    departs most; None where there is no drift."""
    if judgement is None or judgement.state != "drift":
        return None
    fired = judgement.fired[: judgement.places]
    return int(fired.argmax() if fired.any() else excess(judgement)[: judgement.places].argmax())


def excess(judgement: Judgement) -> Floats:
    """Every score in units of its threshold."""
    found: Floats = judgement.scores / np.maximum(judgement.thresholds, 1e-12)
    return found

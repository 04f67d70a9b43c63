"""A glance at the statistics: the few numbers of the last hour that are worth watching all the time."""

from typing import NamedTuple

from runtime.baseline import Baseline
from runtime.drift import State
from runtime.manifest import Manifest
from runtime.statistics import NormState
from service.statistics_schemas import Overhead
from service.verdict import INPUT, OUTPUT, judge

WINDOW = "1h"


class LayerGlance(NamedTuple):
    """One place in the network.

    Attributes:
        mean, variance: averages over tokens of each token's mean and variance where it enters the norm; None at the two
            ends of the network, and while there was no traffic.
        score, threshold: its drift, and from where on it counts as such; None where nothing can be judged.
    """

    name: str
    mean: float | None
    variance: float | None
    score: float | None
    threshold: float | None


class Glance(NamedTuple):
    """A model's statistics of the last hour.

    Attributes:
        state: the verdict's.
        requests: inputs that it is about.
        layers: input, every norm, output.
        overhead: what the statistics cost.
    """

    state: State
    requests: int
    layers: list[LayerGlance]
    overhead: Overhead


def glance(manifest: Manifest, baseline: Baseline, state: NormState, overhead: Overhead) -> Glance:
    names = [INPUT, *manifest.layer_names, OUTPUT]
    judgement = judge(baseline, state)
    judged = judgement is not None and judgement.state != "insufficient_data"
    layers = []
    for position, name in enumerate(names):
        mean = variance = score = threshold = None
        if state.tokens and name not in (INPUT, OUTPUT):
            mean, variance = state.moments.mean[2 * position - 2 : 2 * position].tolist()
        if judgement is not None and judged:
            score, threshold = float(judgement.scores[position]), float(judgement.thresholds[position])
        layers.append(LayerGlance(name, mean, variance, score, threshold))
    return Glance(judgement.state if judgement else "insufficient_data", state.requests, layers, overhead)

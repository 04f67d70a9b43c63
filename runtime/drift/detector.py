"""Whether a window of traffic still looks like the validation data: ok, mix shift or drift.

Every request gives K numbers: for the input the logarithm of its tokens and their average length, for each norm the
average over its tokens of their mean and of their 1/variance, and for the output -log of the top probability and
log-sum-exp. They are compared with the validation average of the request's
*predicted class*, so that a change of topic mix alone is no drift. docs/drift.md explains and measures it.
"""

# R requests, C classes, L norm layers, S window sizes
# K = 2L + 4 columns: a pair for the input, for each layer, for the output; G = L + 3 scores: one a pair, and consensus

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from runtime.graph.batch import EncodedBatch, row_means
from runtime.statistics.state import Traffic

Floats = NDArray[np.float64]
State = Literal["ok", "mix_shift", "drift", "insufficient_data"]

MIN_REQUESTS = 30  # below this a window is not judged
WINDOW_SIZES = (20, 50, 100, 200, 500, 1000)  # requests, with thresholds of their own; interpolated between
MIX_SIZES = (*WINDOW_SIZES, 2000, 5000, 20000, 100000)
EFFECT_FLOOR = 0.10  # in sigma of single requests: smaller differences are never drift, however sure
FALSE_ALARMS = 0.01  # of null windows
MIX_DRAWS = 2_000  # null windows per size
MIX_FLOOR = 0.10  # total variation between class shares: smaller differences are never a mix shift
RESOLUTION = 1e-9  # of the numbers that an artifact keeps; a column that varies less never varies, and says nothing


def request_features(batch: EncodedBatch) -> tuple[Floats, NDArray[np.int64]]:
    """The K numbers of every request [R, K], and its predicted class [R]."""
    tokens = batch.norm_statistics.astype(np.float64)
    tokens[:, 1::2] **= 2
    surprise = -np.log(batch.scores)
    token_length = row_means(batch.token_lengths.astype(np.float64)[:, None], batch.lengths)
    layers = row_means(tokens, batch.lengths)
    features = np.column_stack([np.log(batch.lengths), token_length, layers, surprise, batch.evidence])
    return features, np.array(batch.classes, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A window's verdict and what it rests on.

    Attributes:
        scores: [G], how far the input, each layer, the output and all layers together depart.
        thresholds: [G], for this window's size; their union fires on 1 % of null windows.
        effects: [G], the same distance in sigma of single requests, whatever the window's size.
        fired: [G].
    """

    state: State
    requests: int
    scores: Floats
    thresholds: Floats
    effects: Floats
    fired: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reference:
    """What traffic is compared with, fitted on the validation data (export/reference.py).

    Attributes:
        bounds: [2, K]; a request's numbers are clipped to them, so that one request cannot make a drift.
        class_means: [C, K], shrunk towards the average of all.
        variance: [K], of single requests around their class.
        class_variance: [C, K], what is not known of each class's mean.
        precision: [K, K], the inverse correlation of each pair's two columns, of single requests around their class.
        direction: [K], the layers' common direction of unsure requests, with unit variance.
        counts: [C], validation requests per predicted class.
        window_thresholds: [G, S].
        mix_thresholds: one per MIX_SIZES.
        center_variance: [K], what is not known of all classes' common place; 0 for the validation data, whose classes
            each have a variance of their own.
    """

    bounds: Floats
    class_means: Floats
    variance: Floats
    class_variance: Floats
    precision: Floats
    direction: Floats
    counts: Floats
    window_thresholds: Floats
    mix_thresholds: Floats
    center_variance: Floats

    def traffic(self, batch: EncodedBatch) -> Traffic:
        """What a batch adds to its window; requests with NaN or infinite numbers add nothing."""
        features, classes = request_features(batch)
        finite = np.isfinite(features).all(1)
        return Traffic.of(np.clip(features[finite], *self.bounds), classes[finite], len(self.counts))

    def no_traffic(self) -> Traffic:
        return Traffic(np.zeros(len(self.counts), dtype=np.int64), np.zeros(len(self.variance)))

    def judge(self, traffic: Traffic) -> Judgement:
        """The verdict over a window."""
        count = float(traffic.counts.sum())
        if count < MIN_REQUESTS:
            none = np.zeros(len(self.window_thresholds))
            return Judgement("insufficient_data", int(count), none, none, none, none.astype(bool))
        residual = self.residual(traffic)
        uncertainty = self.variance / count + np.square(traffic.counts / count) @ self.class_variance
        uncertainty += self.center_variance
        scores = window_scores(residual / np.sqrt(uncertainty), self.precision, self.direction)
        effects = window_scores(residual / np.sqrt(self.variance), self.precision, self.direction)
        effects[:-1] = np.sqrt(effects[:-1])
        thresholds = np.array([interpolate(count, WINDOW_SIZES, row) for row in self.window_thresholds])
        fired = (scores > thresholds) & (effects > EFFECT_FLOOR)
        state: State = "drift" if fired.any() else "mix_shift" if self.mix_shifted(traffic) else "ok"
        return Judgement(state, int(count), scores, thresholds, effects, fired)

    def residual(self, traffic: Traffic) -> Floats:
        """How far the average request lies from what is expected of its class [K]."""
        residual: Floats = (traffic.totals - traffic.counts @ self.class_means) / traffic.counts.sum()
        return residual

    def recentred(self, traffic: Traffic) -> Self:
        """The reference for which this traffic is normal: its place and its mix of classes, at the spread known so far.

        Single requests of live traffic are not kept, so how far they lie apart, and the thresholds that follow from it,
        stay those of the validation data.
        """
        counts, count = traffic.counts.astype(np.float64), float(traffic.counts.sum())
        return replace(
            self,
            class_means=self.class_means + self.residual(traffic),
            counts=counts,
            mix_thresholds=calibrate_mix(counts),
            center_variance=self.variance / count,
        )

    def mix_shifted(self, traffic: Traffic) -> bool:
        """Whether the predicted classes are mixed otherwise than in the validation data."""
        count = float(traffic.counts.sum())
        shares = (self.counts + 0.5) / (self.counts + 0.5).sum()
        distance = np.abs(traffic.counts / count - shares).sum() / 2
        threshold = interpolate(count, MIX_SIZES, self.mix_thresholds)
        return bool(mix_score(traffic.counts, self.counts) > threshold and distance > MIX_FLOOR)

    def to_dict(self) -> dict[str, Any]:
        return {name: np.float32(getattr(self, name)).astype(float).round(9).tolist() for name in self.__slots__}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        kept = {name: np.array(raw[name], dtype=np.float64) for name in cls.__slots__}
        return cls(**kept | {"variance": np.maximum(kept["variance"], RESOLUTION)})


class Standing:
    """Since when traffic has been in the state that it is judged to be in.

    Looked up anew once in a time bucket: going through a day of traffic takes some milliseconds.

    Args:
        history: when each bucket began (Unix seconds) and its traffic, newest first.
        bucket: number of the time bucket that is filling.
    """

    def __init__(self, history: Callable[[], Sequence[tuple[float, Traffic]]], bucket: Callable[[], float]) -> None:
        self.history, self.bucket = history, bucket
        self._last: tuple[tuple[State, int, float], float] | None = None  # the last question, and its answer

    def since(self, reference: Reference | None, state: State) -> float | None:
        """Unix seconds; None where traffic is not in `state` now, or there is no reference."""
        if reference is None:
            return None
        asked = (state, id(reference), self.bucket())
        if self._last is not None and self._last[0] == asked:
            return self._last[1]
        since = standing_since(reference, self.history(), state)
        self._last = (asked, since) if since is not None else None
        return since


def standing_since(reference: Reference, history: Sequence[tuple[float, Traffic]], state: State) -> float | None:
    """When the stretch of time began that reaches to now and is judged to be in `state` throughout.

    Goes back in steps of at least 30 requests and a tenth of the way, which bounds both noise and work.

    Args:
        history: when each bucket began (Unix seconds) and its traffic, newest first.
    """
    since, step = None, Traffic.nothing()
    for start, traffic in history:
        step = step.merge(traffic)
        newest, end = history[0][0], history[0][0] if since is None else since
        if step.counts.sum() < MIN_REQUESTS or (since is not None and end - start < (newest - start) / 10):
            continue
        if reference.judge(step).state != state:
            break
        since, step = start, Traffic.nothing()
    return since


def window_scores(z: Floats, precision: Floats, direction: Floats) -> Floats:
    """Scores [..., G] of standardized mean residuals `z` [..., K].

    For the input, each layer and the output z' R^-1 z over its two columns (Hotelling's T^2); last, all layers'
    agreement in the direction of unsure requests.
    """
    products = z * (z @ precision)
    quadratic = products[..., 0::2] + products[..., 1::2]
    return np.concatenate([quadratic, (z @ direction)[..., None]], axis=-1)


def mix_score(counts: NDArray[Any], expected: Floats) -> Floats:
    """Two-sample chi-square distance of class counts [..., C] from the expected ones, half a request added to each."""
    smoothed = expected + 0.5
    seen, total = counts.sum(-1, keepdims=True), smoothed.sum()
    difference = np.sqrt(total / seen) * counts - np.sqrt(seen / total) * smoothed
    score: Floats = (np.square(difference) / (counts + smoothed)).sum(-1)
    return score


def calibrate_mix(counts: Floats, draws: int = MIX_DRAWS, seed: int = 0) -> Floats:
    """The mix score that FALSE_ALARMS of windows of each of MIX_SIZES exceed, the classes' true shares being uncertain.

    Shares are drawn from a Dirichlet distribution, and windows from their multinomial.
    """
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(counts + 0.5, size=draws)
    scores = [mix_score(rng.multinomial(size, shares), counts) for size in MIX_SIZES]
    return np.array([np.quantile(found, 1 - FALSE_ALARMS) for found in scores])


def interpolate(count: float, sizes: tuple[int, ...], thresholds: Floats) -> float:
    """The threshold for a window of `count` requests, linear in log(count), constant beyond both ends."""
    return float(np.interp(np.log(count), np.log(sizes), thresholds))

"""Whether a window of traffic still looks like the validation data: ok, mix shift or drift.

Every request gives K numbers (runtime/drift/numbers.py). They are compared with the validation average of the
request's *predicted class*, so that a change of topic mix alone is no drift. docs/drift.md explains and measures it.
"""

# R requests, C classes, L norm layers, S window sizes, P = L + 2 pairs
# K = 2L + 5 columns: a pair for the input, for each layer, for the output, and the unlikeness. G = L + 4 scores: one a
# pair, one along each of D = 2 directions: what all layers share, and the unlikeness. Older baselines have one, the
# unlikeness; those before them K = 2L + 4, and what all layers share.

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from runtime.drift.mix import MIX_TRUST, WINDOW_SIZES, calibrate_mix, interpolate, mix_distance, mix_shifted
from runtime.drift.numbers import Floats, Unlikeness, excess_of_parts, request_features, with_unlikeness
from runtime.graph.batch import EncodedBatch
from runtime.statistics.traffic import Traffic

State = Literal["ok", "mix_shift", "drift", "insufficient_data"]

MIN_REQUESTS = 30  # below this a window is not judged
MIN_EFFECTIVE = 10.0  # nor where repeats make so few of many
EFFECT_FLOOR = 0.10  # in sigma of single requests: smaller differences are never drift, however sure
POWER_SIGMA = 1.28  # of a normal distribution: a power of 90 %
SHARE_FLOOR = 0.02  # of unlike requests, the same
KNOWN = 0.4  # share of unlike requests up to which accuracy can be estimated: of others the model is surer than right
KNOWN_EFFECT = 3.0  # sigma of single requests, the same: of broken inputs, too, the model may be sure
RESOLUTION = 1e-9  # of the numbers that an artifact keeps; a column that varies less never varies, and says nothing


@dataclass(frozen=True, slots=True)
class Judgement:
    """A window's verdict and what it rests on.

    Attributes:
        scores: [G], how far the input, each layer and the output depart, then along each direction.
        thresholds: [G], for this window's size; their union fires on 1.2 % of null windows.
        effects: [G], the same distance in sigma of single requests, whatever the window's size.
        fired: [G].
        places: how many of the scores are those of input, layers and output.
        effective: how many requests tell as much, each asked once.
        unlike: about the share of requests that are unlike the baseline; None where the baseline cannot say it.
        would_show: the smallest such share that this window would have shown in nine cases of ten; None likewise.
        accuracy: the estimated share of right answers among requests of known classes; None likewise, where the
            baseline had no labels, and where many requests, or what they have in common, are unlike it.
    """

    state: State
    requests: int
    scores: Floats
    thresholds: Floats
    effects: Floats
    fired: NDArray[np.bool_]
    places: int
    effective: float = 0.0
    unlike: float | None = None
    would_show: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """What traffic is compared with, fitted on the validation data (export/reference.py).

    Attributes:
        bounds: [2, K]; a request's numbers are clipped to them, so that one request cannot make a drift.
        class_means: [C, K], shrunk towards the average of all.
        variance: [K], of single requests around their class.
        class_variance: [C, K], what is not known of each class's mean.
        precision: [P, 2, 2], the inverse correlation of each pair's two columns, of single requests around their class.
        directions: [D, K], the layers' common one of unsure requests, and that of the unlikeness.
        counts: [C], validation requests per predicted class.
        window_thresholds: [G, S].
        mix_thresholds: one per MIX_SIZES.
        center_variance: [K], what is not known of all classes' common place, beside what is not known of each.
        unlikeness: None in older baselines.
        part_excess, part_requests: [K] or [1], of a baseline that was taken from live traffic (`excess_of_parts`).
    """

    bounds: Floats
    class_means: Floats
    variance: Floats
    class_variance: Floats
    precision: Floats
    directions: Floats
    counts: Floats
    window_thresholds: Floats
    mix_thresholds: Floats
    center_variance: Floats
    unlikeness: Unlikeness | None = None
    part_excess: Floats = field(default_factory=lambda: np.zeros(1))
    part_requests: float = 1.0

    def numbers(self, features: Floats) -> Floats:
        """The numbers of requests [R, K] from what the graph says of them (`request_features`)."""
        if self.unlikeness is None:
            return np.clip(features[:, :-1], *self.bounds)
        return np.clip(with_unlikeness(features, self.unlikeness), *self.bounds)

    def traffic(self, batch: EncodedBatch) -> Traffic:
        """What a batch adds to its window; requests with NaN or infinite numbers add nothing."""
        features, classes = request_features(batch)
        finite = np.asarray(np.isfinite(features).all(1))
        identities = [each for each, kept in zip(batch.identities, finite, strict=False) if kept]
        return self.sums(features[finite], classes[finite], identities)

    def sums(self, features: Floats, classes: NDArray[np.int64], identities: Sequence[int] = ()) -> Traffic:
        """The traffic of requests of which the graph says `features`, all of them finite."""
        numbers, size = self.numbers(features), len(self.counts)
        if self.unlikeness is None:
            return Traffic.of(numbers, classes, size, identities)
        right = self.unlikeness.accuracy(features)
        return Traffic.of(numbers, classes, size, identities, np.stack([numbers[:, -1], right]))

    @property
    def places(self) -> int:
        """How many pairs of columns there are: of input, layers and output."""
        return len(self.variance) // 2

    def fits(self, columns: int) -> bool:
        """Whether it is of layers with so many columns [2L], a pair each: input and output have a pair, too."""
        return len(self.variance) == columns + 4 + bool(self.unlikeness) and 2 * len(self.precision) == columns + 4

    def no_traffic(self) -> Traffic:
        return Traffic(np.zeros(len(self.counts), dtype=np.int64), np.zeros(len(self.variance)))

    def would_show(self, requests: int) -> float | None:
        """The smallest share of unlike requests that a window of so many would show in nine cases of ten."""
        counts = self.counts * requests / self.counts.sum()
        usual = Traffic(counts, counts @ self.class_means, np.stack([counts, counts]))
        return self.judge(usual).would_show

    def judge(self, traffic: Traffic) -> Judgement:
        """The verdict over a window."""
        count, effective = traffic.requests, traffic.effective
        if count < MIN_REQUESTS or effective < MIN_EFFECTIVE:
            none = np.zeros(len(self.window_thresholds))
            return Judgement("insufficient_data", count, none, none, none, none.astype(bool), self.places, effective)
        residual, uncertainty = self.residual(traffic), self.uncertainty(traffic)
        scores = window_scores(residual / np.sqrt(uncertainty), self.precision, self.directions)
        effects = window_scores(residual / np.sqrt(self.variance), self.precision, self.directions)
        effects[: self.places] = np.sqrt(effects[: self.places])
        thresholds = interpolate(effective, WINDOW_SIZES, self.window_thresholds)
        large = effects > EFFECT_FLOOR
        unlike = would_show = accuracy = None
        if self.unlikeness is not None:
            unlike = self.unlikeness.share(residual[-1])
            would_show = self.unlikeness.share((thresholds[-1] + POWER_SIGMA) * np.sqrt(uncertainty[-1]))
            known = unlike <= KNOWN and effects[: self.places].max() <= KNOWN_EFFECT and self.unlikeness.knows_right
            accuracy = float(traffic.by_class[1].sum() / count) if known else None
            large[-1] = unlike > SHARE_FLOOR
        fired = (scores > thresholds) & large
        state: State = (
            "drift" if fired.any() else "mix_shift" if mix_shifted(traffic, self.counts, self.mix_thresholds) else "ok"
        )
        evidence = scores, thresholds, effects, fired, self.places
        return Judgement(state, count, *evidence, effective, unlike, would_show, accuracy)

    def uncertainty(self, traffic: Traffic) -> Floats:
        """The variance that a window's residual has while nothing changed [K]: its own, and the baseline's."""
        classes: Floats = np.square(traffic.counts / traffic.requests) @ self.class_variance
        mix = MIX_TRUST * mix_distance(traffic.counts, self.counts)
        return self.sampling(traffic.effective) + self.variance * mix + classes + self.center_variance

    def residual(self, traffic: Traffic) -> Floats:
        """How far the average request lies from what is expected of its class [K]."""
        residual: Floats = (traffic.totals - traffic.counts @ self.class_means) / traffic.counts.sum()
        return residual

    def recentred(self, traffic: Traffic, parts: Sequence[Traffic] = ()) -> Self:
        """The reference for which this traffic is normal: its place, its mix of classes, how far its parts lie apart.

        Single requests of live traffic are not kept: their variance, and the thresholds, stay the validation data's.

        Args:
            parts: of the traffic, one after the other, none of them empty.
        """
        counts = traffic.counts.astype(np.float64)
        sizes, averages = [part.effective for part in parts], [self.residual(part) for part in parts]
        excess, size = excess_of_parts(np.array(sizes), np.array(averages), self.variance)
        moved = replace(self, part_excess=excess, part_requests=size)
        return replace(
            moved,
            class_means=self.class_means + self.residual(traffic),
            counts=counts,
            mix_thresholds=calibrate_mix(counts),
            center_variance=self.center_variance + moved.sampling(traffic.effective),
        )

    def sampling(self, requests: float) -> Floats:
        """The variance of the average of so many requests [K].

        What makes parts lie further apart than single requests do is the same for all requests of a part.
        """
        return self.variance / requests + self.part_excess / max(requests, self.part_requests)

    def to_dict(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name) for name in ARRAYS}
        arrays["precision"] = as_matrix(self.precision, len(self.variance))
        content = {name: np.float32(array).astype(float).round(9).tolist() for name, array in arrays.items()}
        live = {PARTS: self.part_requests} if self.part_excess.any() else {}
        return content | {"unlikeness": self.unlikeness.to_dict() if self.unlikeness else None} | live

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Self:
        kept = {name: np.array(raw[name], dtype=np.float64) for name in ARRAYS if name in raw}
        if "directions" not in raw:
            kept["directions"] = np.array([raw["direction"]], dtype=np.float64)
        kept["precision"] = kept["precision"][pair_places(len(kept["precision"]) // 2)]
        unlikeness = Unlikeness.from_dict(raw["unlikeness"]) if raw.get("unlikeness") else None
        kept["variance"] = np.maximum(kept["variance"], RESOLUTION)
        return cls(**kept, unlikeness=unlikeness, part_requests=float(raw.get(PARTS, 1.0)))


PARTS = "part_requests"
ARRAYS = [each.name for each in fields(Reference) if each.name not in ("unlikeness", PARTS)]


def window_scores(z: Floats, precision: Floats, directions: Floats) -> Floats:
    """Scores [..., G] of standardized mean residuals `z` [..., K], with the pairs' `precision` [P, 2, 2].

    For the input, each layer and the output z' R^-1 z over its two columns (Hotelling's T^2); then what lies along each
    of the `directions` [D, K].
    """
    first, second = z[..., : 2 * len(precision) : 2], z[..., 1 : 2 * len(precision) : 2]
    one, both, two = precision[:, 0, 0], precision[:, 0, 1] + precision[:, 1, 0], precision[:, 1, 1]
    quadratic = first * first * one + second * (first * both + second * two)
    return np.concatenate([quadratic, z @ directions.T], axis=-1)


def pair_places(pairs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the pairs' blocks [P, 2, 2] lie in a matrix over all columns [K, K], which is what files hold."""
    columns = np.arange(2 * pairs).reshape(pairs, 2)
    return columns[:, :, None], columns[:, None, :]


def as_matrix(blocks: Floats, columns: int) -> Floats:
    """The matrix [K, K] whose blocks on the diagonal are these [P, 2, 2], and which is zero elsewhere."""
    matrix = np.zeros((columns, columns))
    matrix[pair_places(len(blocks))] = blocks
    return matrix

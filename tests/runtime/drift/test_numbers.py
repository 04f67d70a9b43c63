"""The unlikeness of requests, and how sure the model is allowed to be."""

import json
from pathlib import Path

import numpy as np
import pytest

from export.reference import fit_reference, fit_unlikeness
from runtime.drift.detector import MIN_REQUESTS, Reference
from runtime.drift.mix import mix_distance
from runtime.drift.numbers import Unlikeness
from runtime.store.document import traffic_from_dict
from tests.runtime.drift.world import CLASSES, world

KEPT = Path(__file__).parents[1] / "kept"


def features(rows: int, seed: int = 0, unsure: float = 0.0) -> np.ndarray:
    """What a graph says: the last three columns are -ln of the top probability, log-sum-exp and entropy."""
    rng = np.random.default_rng(seed)
    entropy = rng.exponential(0.2, rows) + unsure
    return np.column_stack([np.zeros((rows, 4)), entropy / 2, 8 - entropy + rng.normal(0, 0.1, rows), entropy])


@pytest.fixture(scope="module")
def unlikeness() -> Unlikeness:
    return fit_unlikeness(features(2000), None)


def test_the_baselines_own_requests_are_as_usual(unlikeness: Unlikeness):
    assert unlikeness.of(features(2000)).mean() == pytest.approx(unlikeness.usual, rel=0.05)
    assert unlikeness.of(features(2000, seed=1)).mean() == pytest.approx(unlikeness.usual, rel=0.15)


def test_unlikeness_is_a_power_of_the_logarithm_of_a_rank(unlikeness: Unlikeness):
    baseline, asked = np.sort(unlikeness.sums(features(2000))), features(200, seed=2)
    rank = (baseline[None, :] >= unlikeness.sums(asked)[:, None]).mean(1)
    inner = (rank > 0.01) & (rank < 1)
    np.testing.assert_allclose(unlikeness.of(asked)[inner], (-np.log(rank[inner])) ** 1.5, atol=0.15)


def test_the_less_sure_the_more_unlike_up_to_an_end(unlikeness: Unlikeness):
    means = [unlikeness.of(features(500, seed=3, unsure=by)).mean() for by in (0.0, 0.2, 0.5, 1.0)]
    assert means == sorted(means)
    assert unlikeness.of(features(10, unsure=50.0)).tolist() == [unlikeness.values.max()] * 10


def test_a_model_that_is_always_as_sure_says_nothing():
    constant = features(300)
    constant[:, -3:] = 0.0
    found = fit_unlikeness(constant, None)
    assert np.isfinite(found.of(constant)).all() and np.ptp(found.of(constant)) == 0


def test_probabilities_become_those_of_being_right():
    rng = np.random.default_rng(0)
    asked = features(5000)
    right = rng.random(5000) < np.exp(-asked[:, -3]) ** 3  # far less often than it says
    found = fit_unlikeness(asked, right)
    later = features(5000, seed=1, unsure=0.1)
    assert found.accuracy(later).mean() == pytest.approx((np.exp(-later[:, -3]) ** 3).mean(), abs=0.02)


@pytest.mark.parametrize("right", [None, np.ones(2000, dtype=bool)])
def test_without_errors_to_learn_from_probabilities_stay(right: np.ndarray | None):
    asked = features(2000)
    np.testing.assert_allclose(fit_unlikeness(asked, right).accuracy(asked), np.exp(-asked[:, -3]), atol=1e-6)


def test_unlikeness_comes_back_from_its_dictionary(unlikeness: Unlikeness):
    again = Unlikeness.from_dict(unlikeness.to_dict())
    np.testing.assert_allclose(again.of(features(50)), unlikeness.of(features(50)), rtol=1e-4, atol=1e-4)


def test_unlike_requests_are_told_with_their_share(reference: Reference):
    asked, classes = world(600, seed=3)
    asked[:30, -3:] += [3.0, -3.0, 3.0]
    judgement = reference.judge(reference.sums(asked, classes))
    assert judgement.state == "drift" and judgement.fired[-1]
    assert judgement.unlike is not None and 0.02 < judgement.unlike < 0.5
    quiet = reference.judge(reference.sums(*world(600, seed=4)))
    assert quiet.would_show is not None and 0.02 < quiet.would_show < 0.2


def test_a_window_shows_what_it_says_that_it_would(reference: Reference):
    """In nine cases of ten; in more here, since this baseline lies where the traffic does."""
    assert reference.unlikeness is not None
    quiet = reference.judge(reference.sums(*world(400, seed=1)))
    assert quiet.would_show is not None
    more, hits = quiet.would_show * 11, 0
    for seed in range(300):
        traffic = reference.sums(*world(400, seed=seed + 2))
        traffic.totals[-1] += more * traffic.requests
        hits += reference.judge(traffic).fired[-1]
    assert hits / 300 >= 0.85


def test_repeats_are_no_evidence(reference: Reference):
    asked, classes = world(12, seed=5, shift=0.5)
    rows = np.repeat(np.arange(12), 20)
    hashes = np.random.default_rng(0).integers(2**64, size=12, dtype=np.uint64)[rows].tolist()
    alone = reference.judge(reference.sums(asked[rows], classes[rows]))
    known = reference.judge(reference.sums(asked[rows], classes[rows], hashes))
    assert alone.state == "drift" and known.state != "drift"
    one = reference.judge(reference.sums(asked[[0] * 90], classes[[0] * 90], hashes[:1] * 90))
    assert (one.state, one.requests) == ("insufficient_data", 90) and one.effective == pytest.approx(1)


@pytest.mark.parametrize("window", [0, 1])
@pytest.mark.parametrize("kept", ["reference_before_unlikeness", "reference_with_unlikeness_alone"])
def test_baselines_from_before_judge_as_they_did(kept: str, window: int):
    """References and traffic of them, kept from the versions that made them."""
    before = json.loads((KEPT / f"{kept}.json").read_text())
    old, asked = Reference.from_dict(before["reference"]), before["windows"][window]
    judgement = old.judge(traffic_from_dict(asked["traffic"]))
    assert judgement.state == asked["state"]
    np.testing.assert_allclose(judgement.scores, asked["scores"], rtol=0.02, atol=0.02)
    for number in ("unlike", "would_show"):
        said = asked.get(number)
        assert getattr(judgement, number) == (said if said is None else pytest.approx(said, rel=0.1, abs=1e-6))
    now = old.sums(*world(300, seed=1))
    assert len(now.totals) == len(old.variance) and bool(len(now.by_class)) == (old.unlikeness is not None)
    again = old.to_dict()
    assert Reference.from_dict(again).to_dict() == again
    assert again["precision"] == before["reference"]["precision"]  # the whole matrix, of which the pairs are not zero


def test_mixes_differ_by_what_sampling_does_not_explain():
    shares = np.full(CLASSES, 1 / CLASSES)
    rng = np.random.default_rng(0)
    baseline = rng.multinomial(1000, shares).astype(float)
    assert np.mean([mix_distance(rng.multinomial(60, shares), baseline) for _ in range(200)]) < 0.12
    assert mix_distance(np.eye(CLASSES)[0] * 60, baseline) > 0.8
    assert mix_distance(baseline, baseline) == 0
    assert mix_distance(np.eye(CLASSES)[0], np.eye(CLASSES)[1]) == 1.0


def test_the_fit_is_the_same_every_time():
    rows = world(MIN_REQUESTS * 10, seed=0)
    one, other = fit_reference(*rows, CLASSES), fit_reference(*rows, CLASSES)
    assert one is not None and other is not None and one.to_dict() == other.to_dict()

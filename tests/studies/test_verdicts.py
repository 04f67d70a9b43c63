"""Effects on data whose answers are known, and the rules that make verdicts of them."""

import numpy as np
import pytest

from studies.claim import FULL, QUICK, Comparison, Results
from studies.verdicts import Effect, Finding, cliffs_delta, effect, judge, outcome
from tests.studies.toy import TOY

SEEDS = np.arange(10.0)


def found(median: float, low: float, high: float, p: float = 0.002) -> Effect:
    return Effect(median, low, high, 1.0, p, (0, 0))


def question(expected: str, margin: float = 1.0) -> Comparison:
    return Comparison("?", "loss", {}, {}, expected, margin)  # type: ignore[arg-type]


def test_ten_pairs_that_all_differ_alike_have_the_smallest_p_there_is() -> None:
    seen = effect(SEEDS, SEEDS + 1)
    assert (seen.median, seen.low, seen.high) == (1, 1, 1)
    assert seen.p == pytest.approx(2 / 2**10)


def test_wilcoxon_is_the_published_example() -> None:
    """Darwin's fifteen pairs of plants, in eighths of an inch: SciPy's documentation has p = .041."""
    differences = np.array([6.0, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75])
    assert effect(np.zeros(15), differences).p == pytest.approx(0.041, abs=5e-4)


def test_cliffs_delta_counts_pairs() -> None:
    assert cliffs_delta(np.array([1.0, 2, 3]), np.array([4.0, 5])) == 1
    assert cliffs_delta(np.array([1.0, 3]), np.array([2.0, 2])) == 0
    assert cliffs_delta(np.array([1.0, 2, 3, 4]), np.array([0.0, 2])) == pytest.approx((1 - 6) / 8)


def test_the_interval_of_the_median_holds_it_in_95_of_100_samples() -> None:
    rng = np.random.default_rng(0)
    effects = [effect(np.zeros(10), rng.normal(1, 1, 10)) for _ in range(40)]
    assert sum(each.low <= 1 <= each.high for each in effects) >= 34  # the bootstrap of ten is a little narrow


def test_what_diverged_counts_as_beyond_all_others_and_is_told() -> None:
    broken = np.array([np.nan] * 8 + [1.0, 2.0])
    seen = effect(SEEDS, broken)
    assert seen.broken == (0, 8) and seen.median == np.inf and seen.delta > 0.5
    assert effect(broken, broken).p == 1 and effect(broken, broken).median == 0


def test_what_diverged_and_what_overflowed_count_alike() -> None:
    seen = effect(np.full(10, np.nan), np.full(10, np.inf))
    assert (seen.median, seen.delta, seen.p, seen.broken) == (0, 0, 1, (10, 10))


@pytest.mark.parametrize(
    ("expected", "seen", "p", "answer"),
    [
        ("below", found(2, 1, 3), 0.002, "holds"),
        ("below", found(2, 1, 3), 0.2, "unclear"),
        ("below", found(2, -0.1, 3), 0.002, "unclear"),
        ("below", found(0.1, 0.05, 0.2), 0.002, "smaller"),
        ("below", found(-2, -3, -1), 0.002, "opposite"),
        ("below", found(-0.1, -0.2, 0.2), 0.9, "smaller"),
        ("alike", found(0.1, -0.9, 0.9), 0.9, "holds"),
        ("alike", found(0.1, -0.9, 1.1), 0.9, "unclear"),
        ("alike", found(2, 1.1, 3), 0.002, "opposite"),
    ],
)
def test_outcomes(expected: str, seen: Effect, p: float, answer: str) -> None:
    assert outcome(question(expected), seen, p, full=True) == answer


def test_three_seeds_are_judged_without_p_which_could_never_be_small() -> None:
    assert outcome(question("below"), found(2, 1, 3, 0.25), 0.25, full=False) == "holds"


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["holds", "holds"], "supported"),
        (["holds", "opposite"], "conditional"),
        (["holds", "unclear"], "conditional"),
        (["smaller", "unclear"], "contradicted"),
        (["opposite", "opposite"], "contradicted"),
        (["unclear", "unclear"], "unclear"),
    ],
)
def test_verdicts(outcomes: list[str], verdict: str) -> None:
    assert Finding(True, [], [], outcomes).verdict == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize(("seeds", "p"), [(FULL, 2 / 2**10), (QUICK, 0.25)])
def test_a_claim_is_judged_over_its_seeds(seeds: tuple[int, ...], p: float) -> None:
    results = Results({})
    while missing := TOY.missing(results, seeds):
        results.cells.update({cell: TOY.run(cell) for cell in missing})
    finding = judge(TOY, results, seeds)
    assert (finding.verdict, finding.full) == ("supported", seeds == FULL)
    assert finding.effects[0].median == pytest.approx(1) and finding.p == pytest.approx([p])

"""What is missing of a fleet's counts is found, and said in seconds of traffic."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.scaling.clients import Answer, Answers
from benchmarks.scaling.compare import missing_seconds, missing_tokens, worst_moment, wrong_labels
from runtime.statistics.state import NormState

VALUES = np.random.default_rng(0).lognormal(size=(50, 4))
WHOLE = NormState.of(10, VALUES)


def test_classes_are_compared_by_label():
    assert wrong_labels([2, 0, 1], ["a", "b", "c"], Counter(a=2, c=1)) == 0
    assert wrong_labels([2, 0, 1], ["a", "b", "c"], Counter(a=1, b=1, c=1)) == 2
    assert wrong_labels([2, 0], ["a", "b"], Counter(a=2, unheard=1)) == 1


def test_moments_may_differ_by_the_order_of_sums_alone():
    merged = NormState.of(4, VALUES[20:]).merge(NormState.of(6, VALUES[:20]))
    assert worst_moment(merged.moments, WHOLE.moments) < 1e-12
    assert worst_moment(NormState.of(10, 1.001 * VALUES).moments, WHOLE.moments) == pytest.approx(2e-3, rel=0.01)
    assert worst_moment(NormState.of(9, VALUES[1:]).moments, WHOLE.moments) == float("inf")


def test_histograms_may_lack_tokens_but_have_none_too_many():
    assert missing_tokens(WHOLE, WHOLE) == 0
    assert missing_tokens(NormState.of(8, VALUES[7:]), WHOLE) == 7
    assert missing_tokens(WHOLE, NormState.of(8, VALUES[7:])) == float("inf")


def test_missing_answers_are_the_last_ones():
    answers = [Answer(float(when), "a", 1) for when in range(10)]
    assert missing_seconds(answers, 0, 9.5) == missing_seconds(answers, -2, 9.5) == 0.0
    assert missing_seconds(answers, 1, 9.5) == 0.5
    assert missing_seconds(answers, 3, 9.5) == 2.5
    assert missing_seconds(answers, 11, 9.5) == float("inf")


def test_answers_are_counted_in_the_order_of_time():
    answers = Answers()
    answers.add(3, [Answer(5.0, "a", 4), Answer(25.0, "b", 5)], failed=1)
    answers.add(3, [Answer(20.0, "a", 6)], failed=0)
    answers.add(1, [Answer(1.0, "a", 1)], failed=2)
    assert [answer.when for answer in answers.by_replica[3]] == [5.0, 20.0, 25.0]
    assert (answers.tokens, answers.labels, answers.failed) == (16, Counter(a=3, b=1), 3)
    assert answers.tokens_since(3, 10.0) == 11
    assert answers.tokens_since(2, 10.0) == 0

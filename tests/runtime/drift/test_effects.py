import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from runtime.drift.effects import effect_sizes, stability_index, wasserstein
from runtime.manifest import NormLayer
from runtime.statistics.histogram import count_buckets
from runtime.statistics.state import NormState

LAYERS = [NormLayer(name="norm", kind="layer_norm", placement="post", d_model=4, eps=1e-5)]


def drawn(mean: float, variance: float, tokens: int = 20_000, seed: int = 0) -> np.ndarray:
    """Token means and variances [tokens, 2]."""
    rng = np.random.default_rng(seed)
    values = np.column_stack([rng.normal(mean, 0.5, tokens), variance * rng.gamma(20, 1 / 20, tokens)])
    return values.astype(np.float32).astype(np.float64)


def histogram(values: np.ndarray) -> np.ndarray:
    return count_buckets(values.astype(np.float32)[:, None])[0]


def test_equal_traffic_has_no_effect() -> None:
    state = NormState.of(1, drawn(0.2, 1.5))
    sizes = effect_sizes(state, state, 0)
    assert sizes is not None
    assert (sizes.mean_shift, sizes.log_variance_ratio, sizes.wasserstein, sizes.psi) == (0, 0, 0, 0)


def test_effects_have_their_size() -> None:
    sizes = effect_sizes(NormState.of(1, drawn(0.45, 3.0, seed=1)), NormState.of(1, drawn(0.2, 1.5)), 0)
    assert sizes is not None
    assert sizes.mean_shift == pytest.approx(0.5, abs=0.03)
    assert sizes.log_variance_ratio == pytest.approx(np.log(2), abs=0.01)
    assert sizes.psi > 0.25


def test_wasserstein_matches_scipy() -> None:
    live, baseline = drawn(0.5, 2.0, 3000, seed=1), drawn(0.2, 1.5, 4000)
    for column in (0, 1):
        expected = wasserstein_distance(live[:, column], baseline[:, column])
        found = wasserstein(histogram(live[:, column]), histogram(baseline[:, column]))
        assert found == pytest.approx(expected, rel=0.02)


def test_wasserstein_sees_what_widens_from_less_than_a_bucket() -> None:
    rng = np.random.default_rng(0)
    baseline, live = (rng.normal(1, spread, (5000, 2)) for spread in (1e-3, 0.3))
    sizes = effect_sizes(NormState.of(1, live), NormState.of(1, baseline), 0)
    assert sizes is not None
    assert sizes.wasserstein == pytest.approx(wasserstein_distance(live[:, 0], baseline[:, 0]) / 1e-3, rel=0.15)


@pytest.mark.parametrize("center", [1.0, 300.0, 1e-6])
def test_wasserstein_of_what_is_narrower_than_a_bucket_is_the_difference_of_averages(center: float) -> None:
    rng = np.random.default_rng(0)
    baseline, live = (center * (1 + 1e-5 * rng.normal(shift, 1, (5000, 2))) for shift in (0.0, 0.5))
    sizes = effect_sizes(NormState.of(1, live), NormState.of(1, baseline), 0)
    assert sizes is not None
    assert sizes.wasserstein == pytest.approx(wasserstein_distance(live[:, 0], baseline[:, 0]) / 1e-5 / center, rel=0.1)


def test_stability_index_is_symmetric_in_sign_and_grows() -> None:
    baseline = histogram(drawn(0, 1)[:, 0])
    near, far = (histogram(drawn(shift, 1, seed=1)[:, 0]) for shift in (0.05, 0.5))
    assert 0 <= stability_index(near, baseline) < 0.05 < stability_index(far, baseline)


def test_no_tokens_have_no_effect_sizes() -> None:
    assert effect_sizes(NormState.empty(LAYERS), NormState.of(1, drawn(0, 1)), 0) is None

import numpy as np
import pytest
from starlette.testclient import TestClient

from runtime.statistics.state import NormState
from service.norm_stats.layer import BINS, distribution, shares
from tests.helpers import TEXTS


def state(values: np.ndarray, requests: int = 100) -> NormState:
    return NormState.of(requests, np.column_stack([values, values]))


def test_shares_match_numpys_histogram():
    values = np.random.default_rng(0).gamma(4.0, 1.0, 200_000)
    edges = np.linspace(1.0, 9.0, 21)
    expected = np.histogram(values, edges)[0] / len(values)
    np.testing.assert_allclose(shares(state(values).histograms[0], edges), expected, atol=1e-3)


def test_distribution_holds_nearly_all_of_both():
    rng = np.random.default_rng(1)
    found = distribution(state(rng.normal(1, 1, 50_000)), state(rng.normal(-1, 1, 50_000)), 0)
    assert found.live is not None
    assert len(found.edges) == BINS + 1 and len(found.live) == len(found.baseline) == BINS
    assert 0.99 < sum(found.live) <= 1 and 0.99 < sum(found.baseline) <= 1
    middles = (np.array(found.edges[1:]) + found.edges[:-1]) / 2
    assert middles @ found.live == pytest.approx(1, abs=0.1)
    assert middles @ found.baseline == pytest.approx(-1, abs=0.1)


def test_live_shares_of_few_requests_are_withheld():
    values = np.random.default_rng(2).normal(size=5000)
    few = distribution(state(values, requests=29), state(values), 0)
    assert few.live is None and sum(few.baseline) > 0.99
    assert distribution(state(values, requests=30), state(values), 0).live is not None


def test_constant_column_has_a_shape():
    found = distribution(state(np.full(100, 2.0)), state(np.full(100, 2.0)), 0)
    assert found.edges == sorted(set(found.edges))
    assert np.isfinite(found.baseline).all()


def test_distributions_come_with_one_layer_only(client: TestClient):
    for start in range(0, len(TEXTS), 8):
        client.post("/predict", json={"inputs": TEXTS[start : start + 8]}).raise_for_status()
    layers = client.get("/norm-stats").json()["layers"]
    assert not any("distributions" in layer for layer in layers)
    layer = client.get(f"/norm-stats/{layers[0]['name']}").json()["layer"]
    for name in ("mean", "variance"):
        assert sum(layer["distributions"][name]["live"]) > 0.95
        low, high = layer["distributions"][name]["edges"][0], layer["distributions"][name]["edges"][-1]
        assert low < layer["live"][name]["p50"] < high

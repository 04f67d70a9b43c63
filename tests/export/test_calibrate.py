import numpy as np
import pytest

from export.calibrate import RANGE, fit_temperature


def drawn(temperature: float, rows: int = 20_000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (rows, classes))
    labels = (logits / temperature + rng.gumbel(size=logits.shape)).argmax(1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_that_drew_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_perfect_answers_are_not_made_surer() -> None:
    labels = np.arange(400) % 4
    assert fit_temperature(np.eye(4)[labels], labels) == pytest.approx(1.0, abs=1e-3)
    nearly = labels.copy()
    nearly[0] = 3
    assert RANGE[0] <= fit_temperature(np.eye(4)[labels], nearly) < 0.5

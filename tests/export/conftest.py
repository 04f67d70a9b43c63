import pytest

import export.reference


@pytest.fixture(autouse=True)
def few_null_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration by few draws: these tests are about the artifact, others about the verdict."""
    monkeypatch.setattr(export.reference, "DRAWS", 200)
